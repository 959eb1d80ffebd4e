package handlers

import (
	"net/http"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
)

type health struct {
	Status        string    `json:"status"`
	Timestamp     time.Time `json:"timestamp"`
	Version       string    `json:"version"`
	Commit        string    `json:"commit,omitzero"` // the revision that the program was built from
	UptimeSeconds int64     `json:"uptime_seconds"`
	Storage       string    `json:"storage"`             // memory, journal or stream
	DiskBytes     int64     `json:"disk_bytes,omitzero"` // size of the journal
	Cause         string    `json:"cause,omitzero"`      // why reports can't be accepted

	Cluster *clusterHealth `json:"cluster,omitempty"`
}

// clusterHealth is how far the server is with the stream that several servers share, and which these are.
type clusterHealth struct {
	Server         string   `json:"server"`
	Position       string   `json:"position"`
	Behind         uint64   `json:"behind"` // messages
	DataAgeSeconds int      `json:"data_age_seconds"`
	LeaseHolder    string   `json:"lease_holder,omitzero"`
	Servers        []string `json:"servers"`
}

type probe struct {
	Status string `json:"status"`
	Cause  string `json:"cause,omitzero"`
}

// Drain prepares for shutdown. From now on, /health and /health/ready report that the server is stopping, and each
// response closes its connection, so that clients connect elsewhere. Event streams end.
func (h *Handler) Drain() {
	h.draining.Store(true)
	h.Hub.Close()
}

// Health reports whether the server can accept reports: GET /health.
//
// Clients that may not see details get the status only: see hidesDetails.
func (h *Handler) Health(w http.ResponseWriter, r *http.Request) error {
	p, status := h.running()
	now := time.Now()
	answer := health{
		Timestamp:     now.UTC(),
		Version:       h.Version,
		Commit:        h.Commit,
		UptimeSeconds: int64(now.Sub(h.started).Seconds()),
		Storage:       "memory",
	}
	if h.Journal != nil {
		answer.Storage = "journal"
		answer.DiskBytes = h.Journal.Stats().DiskBytes
		if failure := h.Journal.Failure(); failure != nil && status == http.StatusOK {
			p, status = unavailable(failure.Cause)
		}
	}
	if h.Cluster != nil {
		state := h.Cluster.State()
		answer.Storage, answer.Cluster = "stream", &clusterHealth{
			Server: state.Server, Position: state.Position.String(), Behind: state.Behind, DataAgeSeconds: wholeSeconds(state.Age),
			LeaseHolder: state.LeaseHolder, Servers: append([]string{}, state.Servers...),
		}
		if state.Refuses != "" && status == http.StatusOK {
			p, status = unavailable(state.Refuses)
		}
	}
	if h.hidesDetails(w, r) {
		return writeProbe(w, status, probe{Status: p.Status})
	}
	answer.Status, answer.Cause = p.Status, p.Cause
	return writeProbe(w, status, answer)
}

// hidesDetails reports whether details of the server's health must be hidden from the client. With tokens, only clients
// that may read the state of every agent see them. Without tokens, requests under a foreign host name don't.
func (h *Handler) hidesDetails(w http.ResponseWriter, r *http.Request) bool {
	if h.Access.Tokens == nil {
		_, foreign := h.foreignHost(r)
		return foreign
	}
	if r.Header.Get("Authorization") == "" && len(h.secretsOf(r)) == 0 {
		return true
	}
	if h.limitReads(nil, h.clientOf(r)) != nil { // otherwise tokens could be guessed here
		return true
	}
	grant, err := h.identify(w, r, access.Read)
	w.Header().Del("WWW-Authenticate")
	if err != nil {
		return true
	}
	return !grant.Allows(access.Read) || grant.Team() != nil
}

// Live reports that the server is running: GET /health/live.
func (h *Handler) Live(w http.ResponseWriter, _ *http.Request) error {
	return writeProbe(w, http.StatusOK, probe{Status: "ok"})
}

// Ready reports whether the server can take requests: GET /health/ready. It stays ready if the journal can't be
// written, since reads still work. In a cluster, it is not ready until it has caught up with the other servers.
func (h *Handler) Ready(w http.ResponseWriter, r *http.Request) error {
	p, status := h.ready()
	if p.Cause != "" && h.hidesDetails(w, r) {
		p.Cause = ""
	}
	return writeProbe(w, status, p)
}

func (h *Handler) ready() (probe, int) {
	p, status := h.running()
	if h.Cluster != nil && status == http.StatusOK {
		if cause := h.Cluster.State().Cause; cause != "" {
			return unavailable(cause)
		}
	}
	return p, status
}

// running is ready without regard to other servers.
func (h *Handler) running() (probe, int) {
	switch {
	case h.draining.Load():
		return unavailable("the server is stopping")
	case !h.replayed.Load():
		return unavailable(errReplaying.Message)
	}
	return probe{Status: "ok"}, http.StatusOK
}

func unavailable(cause string) (probe, int) {
	return probe{Status: "unavailable", Cause: cause}, http.StatusServiceUnavailable
}

func writeProbe(w http.ResponseWriter, status int, v any) error {
	w.Header()["Cache-Control"] = noStore
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeJSON(w, status, v)
	return nil
}
