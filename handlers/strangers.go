package handlers

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
)

// Limits for strangers, which are clients that have not been identified yet. They are separate from the limits for
// identified clients.
const (
	maxStrangers          = 128              // concurrent requests
	maxStrangersOfAddress = 16               // concurrent requests of one address
	maxStrangerBytes      = 32 << 20         // of request bodies buffered before the client is identified
	maxBytesOfAddress     = 16 << 20         // the same, of one address
	strangerTimeout       = 10 * time.Second // from the header of a request to the end of its response
	identifiedTimeout     = 30 * time.Second // from the identification of the client to the end of the request
)

// strangers are the requests of strangers. If there are too many of them, or their bodies take too many bytes, a
// request is dropped: the oldest, and so the slowest, of the address that takes the most.
type strangers struct {
	mu     sync.Mutex
	all    []*stranger // oldest first
	bytes  int64
	onDrop func(bound metrics.Bound)
}

// stranger is an unauthenticated request.
type stranger struct {
	of    *strangers
	site  netip.Prefix
	bytes int64 // of its body that are buffered
	drop  func()
}

// The units in which the usage of an address is measured.
func requestsOf(*stranger) int64 { return 1 }
func bytesOf(st *stranger) int64 { return st.bytes }

// enter adds a request. drop may be called at any time until the request leaves, to abort it.
func (s *strangers) enter(site netip.Prefix, drop func()) *stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.takenBy(site, requestsOf) >= maxStrangersOfAddress:
		s.dropOldest(site, requestsOf, metrics.BoundStrangersAddress)
	case len(s.all) >= maxStrangers:
		s.dropOldest(s.greediest(requestsOf), requestsOf, metrics.BoundStrangers)
	}
	st := &stranger{of: s, site: site, drop: drop}
	s.all = append(s.all, st)
	return st
}

// hold counts bytes more of a request's body as buffered.
func (st *stranger) hold(bytes int) {
	s := st.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, st) {
		return // it was dropped
	}
	st.bytes += int64(bytes)
	s.bytes += int64(bytes)
	for s.takenBy(st.site, bytesOf) > maxBytesOfAddress {
		s.dropOldest(st.site, bytesOf, metrics.BoundStrangersBytes)
	}
	for s.bytes > maxStrangerBytes {
		s.dropOldest(s.greediest(bytesOf), bytesOf, metrics.BoundStrangersBytes)
	}
}

// takenBy returns the usage of an address. The caller holds s.mu.
func (s *strangers) takenBy(site netip.Prefix, measure func(*stranger) int64) (taken int64) {
	for _, st := range s.all {
		if st.site == site {
			taken += measure(st)
		}
	}
	return taken
}

// greediest returns the address with the highest usage, the earliest if there are several. The caller holds s.mu.
func (s *strangers) greediest(measure func(*stranger) int64) (site netip.Prefix) {
	taken := make(map[netip.Prefix]int64, len(s.all))
	for _, st := range s.all {
		taken[st.site] += measure(st)
	}
	most := int64(-1)
	for _, st := range s.all {
		if taken[st.site] > most {
			site, most = st.site, taken[st.site]
		}
	}
	return site
}

// dropOldest drops the oldest request of an address whose usage is not zero. The caller holds s.mu.
func (s *strangers) dropOldest(site netip.Prefix, measure func(*stranger) int64, bound metrics.Bound) {
	i := slices.IndexFunc(s.all, func(st *stranger) bool { return st.site == site && measure(st) > 0 })
	s.all[i].drop()
	s.removeAt(i)
	s.onDrop(bound)
}

// count returns the number of requests.
func (s *strangers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// leave removes a request that has ended, or whose client has been identified.
func (st *stranger) leave() {
	s := st.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, st); i >= 0 {
		s.removeAt(i)
	}
}

func (s *strangers) removeAt(i int) {
	s.bytes -= s.all[i].bytes
	s.all = slices.Delete(s.all, i, i+1)
}

// enterStranger adds a request to those of strangers, and sets its deadlines. The caller calls leave when the client is
// identified or the request ends.
func (h *Handler) enterStranger(w http.ResponseWriter, r *http.Request) *stranger {
	control := http.NewResponseController(w)
	end := time.Now().Add(strangerTimeout)
	control.SetReadDeadline(end)  //nolint:errcheck // only in-memory connections have no deadlines
	control.SetWriteDeadline(end) //nolint:errcheck // see above
	return h.strangers.enter(access.NetworkOf(h.clientOf(r)), func() {
		now := time.Now()
		control.SetReadDeadline(now)  //nolint:errcheck // see above
		control.SetWriteDeadline(now) //nolint:errcheck // see above
	})
}

// extendDeadlines gives a request the time of identified clients.
func extendDeadlines(w http.ResponseWriter) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(identifiedTimeout))      //nolint:errcheck // only in-memory connections have no deadlines
	control.SetWriteDeadline(time.Now().Add(2 * identifiedTimeout)) //nolint:errcheck // see above
}

// LimitStrangers applies the limits for strangers to requests that need no token.
func (h *Handler) LimitStrangers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := h.enterStranger(w, r)
		defer st.leave()
		next.ServeHTTP(w, r)
	})
}

// countedReader counts the bytes read from a stranger's body.
type countedReader struct {
	io.Reader
	by *stranger
}

// Read implements io.Reader.
func (c countedReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.by.hold(n)
	return n, err
}
