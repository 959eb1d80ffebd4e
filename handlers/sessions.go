package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

type sessionList[S any] struct {
	Sessions   []S    `json:"sessions"`
	NextCursor string `json:"next_cursor,omitzero"`
}

type sessionDetail struct {
	Session       models.FleetSession  `json:"session"`
	Questions     []models.Question    `json:"questions,omitempty"` // those that are open, oldest first
	StatusHistory []models.AgentStatus `json:"status_history"`
	NextCursor    string               `json:"next_cursor,omitzero"`
}

// Sessions lists sessions over the whole fleet: GET /api/sessions.
func (h *Handler) Sessions(w http.ResponseWriter, r *http.Request) error {
	list, err := h.listSessions(r.Context(), grantOf(w), newParams(r))
	if err != nil {
		return err
	}
	return h.respondPage(w, r, list, list.NextCursor)
}

// listSessions returns a page of the sessions that a grant is for and that p asks for.
func (h *Handler) listSessions(ctx context.Context, grant *access.Grant, p *params) (list sessionList[models.FleetSession], err error) {
	q := store.SessionQuery{
		Team:    grant.Team(),
		AgentID: p.text("agent_id", models.MaxAgentID),
		Source:  p.text("source", models.MaxAgentSource),
		Status:  p.status("status"),
		Expired: p.flag("expired"),
		Lost:    p.flag("lost"),
		Idle:    p.flag("idle"),
		Search:  p.text("search", maxSearch),
		Oldest:  p.oldest(),
	}
	after, limit := p.afterSession(q), p.limit(defaultSessions)
	if p.err != nil {
		return list, p.err
	}
	page, err := h.Store.Sessions(ctx, q, after, limit)
	next := cursorOf(page.Next, func(at store.SessionPosition) string { return sessionCursor(q, at) })
	return sessionList[models.FleetSession]{page.Items, next}, err
}

// oldest reads the order of a list of sessions.
func (p *params) oldest() bool {
	order, ok := p.get("sort")
	if ok && order != "-last_updated" && order != "last_updated" {
		p.fail("sort", "must be -last_updated or last_updated")
	}
	return order == "last_updated"
}

// AgentSessions lists the sessions of an agent: GET /api/agents/{agent_id}/sessions.
func (h *Handler) AgentSessions(w http.ResponseWriter, r *http.Request) error {
	p := newParams(r)
	q := store.SessionQuery{
		Team:    grantOf(w).Team(),
		AgentID: pathParam(r, "agent_id"),
		Status:  p.status("status"),
		Expired: p.flag("expired"),
		Idle:    p.flag("idle"),
	}
	after, limit := p.afterSession(q), p.limit(defaultAgentSessions)
	if p.err != nil {
		return p.err
	}
	page, ok, err := h.Store.AgentSessions(r.Context(), q, after, limit)
	if err != nil {
		return err
	}
	if !ok {
		return models.NotFound("agent")
	}
	next := cursorOf(page.Next, func(at store.SessionPosition) string { return sessionCursor(q, at) })
	return h.respondPage(w, r, sessionList[models.Session]{page.Items, next}, next)
}

// Session shows a session and its status history: GET /api/agents/{agent_id}/sessions/{session_topic}.
func (h *Handler) Session(w http.ResponseWriter, r *http.Request) error {
	key := store.SessionKey{AgentID: pathParam(r, "agent_id"), Topic: pathParam(r, "session_topic")}
	detail, err := h.readSession(grantOf(w), key, newParams(r))
	if err != nil {
		return err
	}
	return h.respondPage(w, r, detail, detail.NextCursor)
}

// readSession returns a session, if a grant is for it, and the page of its history that p asks for.
func (h *Handler) readSession(grant *access.Grant, key store.SessionKey, p *params) (detail sessionDetail, err error) {
	after, limit := p.afterStatus(), p.limit(defaultStatuses)
	if p.err != nil {
		return detail, p.err
	}
	if !grant.Covers(key.AgentID) {
		return detail, models.NotFound("session")
	}
	session, questions, page, ok := h.Store.SessionInFull(key.AgentID, key.Topic, after, limit)
	if !ok {
		if session, questions, page, ok, err = h.coldSession(key, after, limit); err != nil {
			return detail, err
		}
	}
	if !ok {
		return detail, models.NotFound("session")
	}
	if page.Journaled > 0 {
		if err := h.Journal.CompleteSession(key, &page, after, limit); err != nil {
			return detail, err
		}
	}
	return sessionDetail{session, questions, page.Items, cursorOf(page.Next, statusCursor)}, nil
}

// coldSession returns a session that memory forgot and the journal holds. ok is false where there is none.
func (h *Handler) coldSession(key store.SessionKey, after *store.StatusPosition, limit int) (
	session models.FleetSession, questions []models.Question, page store.HistoryPage, ok bool, err error) {
	if h.Journal == nil {
		return session, nil, page, false, nil
	}
	restored, err := h.Journal.Cold(key, limit)
	if restored == nil || err != nil {
		return session, nil, page, false, err
	}
	session, questions, page, ok = h.Store.Preview(restored, after, limit, time.Now())
	return session, questions, page, ok, nil
}

// Summary counts the fleet: GET /api/summary.
func (h *Handler) Summary(w http.ResponseWriter, r *http.Request) error {
	return respond(w, r, h.Store.TeamSummary(grantOf(w).Team()))
}
