package handlers

import (
	"net/http"
	"strconv"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// RemoveAgent removes an agent and all its sessions: DELETE /api/agents/{agent_id}.
func (h *Handler) RemoveAgent(w http.ResponseWriter, r *http.Request) error {
	agentID := pathParam(r, "agent_id")
	return h.remove(w, r, agentID, "agent", func() (int, error) { return h.Recorder.RemoveAgent(r.Context(), agentID, h.now()) })
}

// RemoveSession removes a session: DELETE /api/agents/{agent_id}/sessions/{session_topic}.
func (h *Handler) RemoveSession(w http.ResponseWriter, r *http.Request) error {
	key := store.SessionKey{AgentID: pathParam(r, "agent_id"), Topic: pathParam(r, "session_topic")}
	return h.remove(w, r, key.AgentID, "session", func() (int, error) { return h.Recorder.RemoveSession(key, h.now()) })
}

// remove removes an agent or one of its sessions with the function remove, and responds with 204. what names it in a
// 404 error, which is the same for what the token does not cover.
func (h *Handler) remove(w http.ResponseWriter, r *http.Request, agentID, what string, remove func() (sessions int, err error)) error {
	missing := models.NotFound(what + ": it may have been removed already")
	if !grantOf(w).Covers(agentID) {
		return missing
	}
	sessions, err := remove()
	if err != nil {
		return err
	}
	if sessions == 0 {
		return missing
	}
	h.setPosition(w)
	w.WriteHeader(http.StatusNoContent)
	if env := envelopeOf(w); env != nil {
		h.audit(r, env, "removed", strconv.Itoa(sessions)+" sessions")
	}
	return nil
}
