package handlers

import (
	"net/http"
	"time"
)

type health struct {
	Status        string    `json:"status"`
	Timestamp     time.Time `json:"timestamp"`
	Version       string    `json:"version"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Storage       string    `json:"storage"`
	Cause         string    `json:"cause,omitzero"` // why reports can't be accepted
}

type probe struct {
	Status string `json:"status"`
	Cause  string `json:"cause,omitzero"`
}

// Drain has /health and /health/ready say from now on that the server stops, and each answer end its
// connection, so that clients open their next one elsewhere.
func (h *Handler) Drain() { h.draining.Store(true) }

// Health says whether reports can be accepted: GET /health.
func (h *Handler) Health(w http.ResponseWriter, _ *http.Request) error {
	p, status := h.ready()
	now := time.Now()
	return writeProbe(w, status, health{
		Status:        p.Status,
		Timestamp:     now.UTC(),
		Version:       h.version,
		UptimeSeconds: int64(now.Sub(h.started).Seconds()),
		Storage:       "memory",
		Cause:         p.Cause,
	})
}

// Live says that the server runs: GET /health/live.
func (h *Handler) Live(w http.ResponseWriter, _ *http.Request) error {
	return writeProbe(w, http.StatusOK, probe{Status: "ok"})
}

// Ready says whether to send requests here: GET /health/ready.
func (h *Handler) Ready(w http.ResponseWriter, _ *http.Request) error {
	p, status := h.ready()
	return writeProbe(w, status, p)
}

func (h *Handler) ready() (probe, int) {
	if h.draining.Load() {
		return probe{Status: "unavailable", Cause: "the server is stopping"}, http.StatusServiceUnavailable
	}
	return probe{Status: "ok"}, http.StatusOK
}

func writeProbe(w http.ResponseWriter, status int, v any) error {
	w.Header()["Cache-Control"] = noStore
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeJSON(w, status, v)
	return nil
}
