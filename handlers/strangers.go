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

// What strangers may use up: those of whom it is not known yet whether they may do anything. It is apart from what is for those who may.
const (
	mostStrangers     = 128              // requests at a time
	mostOfOneAddress  = 16               // requests at a time of one address
	strangersBytes    = 32 << 20         // of bodies that are held until it is known whose they are
	bytesOfOneAddress = 16 << 20         // of these, of one address
	strangerTimeout   = 10 * time.Second // from a request's head to the end of its answer
	letInTimeout      = 30 * time.Second // from then on that it is known who asks to the end of the request
)

// strangers are the requests of strangers, in the order in which they came. One more than there may be, or a byte more of their bodies, has
// one dropped: of the address that takes the most, the oldest, which is the slowest.
type strangers struct {
	mu     sync.Mutex
	all    []*stranger
	bytes  int64
	onDrop func(bound metrics.Bound)
}

// stranger is a request of a stranger.
type stranger struct {
	of    *strangers
	site  netip.Prefix
	bytes int64 // of its body that are held
	drop  func()
}

// What an address takes is measured in one of these.
func requestsOf(*stranger) int64 { return 1 }
func bytesOf(st *stranger) int64 { return st.bytes }

// enter has a request be among those of strangers, until it leaves. drop is called, at any time before that, to have it end.
func (s *strangers) enter(site netip.Prefix, drop func()) *stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.takenBy(site, requestsOf) >= mostOfOneAddress:
		s.dropOldest(site, requestsOf, metrics.BoundStrangersAddress)
	case len(s.all) >= mostStrangers:
		s.dropOldest(s.greediest(requestsOf), requestsOf, metrics.BoundStrangers)
	}
	st := &stranger{of: s, site: site, drop: drop}
	s.all = append(s.all, st)
	return st
}

// hold counts bytes more of the body of a request that are held.
func (st *stranger) hold(bytes int) {
	s := st.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, st) {
		return // it was dropped
	}
	st.bytes += int64(bytes)
	s.bytes += int64(bytes)
	for s.takenBy(st.site, bytesOf) > bytesOfOneAddress {
		s.dropOldest(st.site, bytesOf, metrics.BoundStrangersBytes)
	}
	for s.bytes > strangersBytes {
		s.dropOldest(s.greediest(bytesOf), bytesOf, metrics.BoundStrangersBytes)
	}
}

// takenBy returns what an address takes. The caller holds s.mu.
func (s *strangers) takenBy(site netip.Prefix, measure func(*stranger) int64) (taken int64) {
	for _, st := range s.all {
		if st.site == site {
			taken += measure(st)
		}
	}
	return taken
}

// greediest returns the address that takes the most; of several, the one that came first. The caller holds s.mu.
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

// dropOldest has the oldest request of an address end that takes anything. The caller holds s.mu.
func (s *strangers) dropOldest(site netip.Prefix, measure func(*stranger) int64, bound metrics.Bound) {
	i := slices.IndexFunc(s.all, func(st *stranger) bool { return st.site == site && measure(st) > 0 })
	s.all[i].drop()
	s.removeAt(i)
	s.onDrop(bound)
}

// count returns how many there are.
func (s *strangers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// leave says that a request ended, or that it is known who asks.
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

// enterStranger has a request be among those of strangers. It is to leave once it is known who asks, or at its end.
func (h *Handler) enterStranger(w http.ResponseWriter, r *http.Request) *stranger {
	control := http.NewResponseController(w)
	end := time.Now().Add(strangerTimeout)
	control.SetReadDeadline(end)  //nolint:errcheck // a connection without deadlines is in memory
	control.SetWriteDeadline(end) //nolint:errcheck // see above
	return h.strangers.enter(access.SiteOf(h.clientOf(r)), func() {
		now := time.Now()
		control.SetReadDeadline(now)  //nolint:errcheck // see above
		control.SetWriteDeadline(now) //nolint:errcheck // see above
	})
}

// letIn gives a request the time of those who may ask.
func letIn(w http.ResponseWriter) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(letInTimeout))      //nolint:errcheck // a connection without deadlines is in memory
	control.SetWriteDeadline(time.Now().Add(2 * letInTimeout)) //nolint:errcheck // see above
}

// Strangers lets requests through that anybody may send, as far as they leave something to others.
func (h *Handler) Strangers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := h.enterStranger(w, r)
		defer st.leave()
		next.ServeHTTP(w, r)
	})
}

// held counts what is read of a stranger's body.
type held struct {
	io.Reader
	by *stranger
}

// Read implements io.Reader.
func (b held) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.by.hold(n)
	return n, err
}
