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
	UptimeSeconds int64     `json:"uptime_seconds"`
	Storage       string    `json:"storage"`             // memory or journal
	DiskBytes     int64     `json:"disk_bytes,omitzero"` // that the journal takes
	Cause         string    `json:"cause,omitzero"`      // why reports can't be accepted
}

type probe struct {
	Status string `json:"status"`
	Cause  string `json:"cause,omitzero"`
}

// Drain has /health and /health/ready say from now on that the server stops, and each answer end its
// connection, so that clients open their next one elsewhere. Event streams end.
func (h *Handler) Drain() {
	h.draining.Store(true)
	h.Hub.Close()
}

// Health says whether reports can be accepted: GET /health.
//
// Where there are tokens, those who may not read all learn no more than that; where there are none, those who ask under a foreign name.
func (h *Handler) Health(w http.ResponseWriter, r *http.Request) error {
	p, status := h.ready()
	now := time.Now()
	answer := health{
		Timestamp:     now.UTC(),
		Version:       h.Version,
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
	if h.stranger(w, r) {
		return writeProbe(w, status, probe{Status: p.Status})
	}
	answer.Status, answer.Cause = p.Status, p.Cause
	return writeProbe(w, status, answer)
}

// stranger reports whether whoever asks may not read what is about every agent.
func (h *Handler) stranger(w http.ResponseWriter, r *http.Request) bool {
	if h.Access.Tokens == nil {
		_, foreign := h.foreignHost(r)
		return foreign
	}
	if r.Header.Get("Authorization") == "" && len(h.secretsOf(r)) == 0 {
		return true
	}
	if h.limitReads(nil, h.clientOf(r)) != nil { // or somebody could guess here
		return true
	}
	grant, err := h.identify(w, r, access.Read)
	w.Header().Del("WWW-Authenticate")
	if err != nil {
		return true
	}
	return !grant.Allows(access.Read) || grant.Team() != nil
}

// Live says that the server runs: GET /health/live.
func (h *Handler) Live(w http.ResponseWriter, _ *http.Request) error {
	return writeProbe(w, http.StatusOK, probe{Status: "ok"})
}

// Ready says whether to send requests here: GET /health/ready. A journal that can't be written makes no difference:
// reads go on.
func (h *Handler) Ready(w http.ResponseWriter, r *http.Request) error {
	p, status := h.ready()
	if p.Cause != "" && h.stranger(w, r) {
		p.Cause = ""
	}
	return writeProbe(w, status, p)
}

func (h *Handler) ready() (probe, int) {
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
