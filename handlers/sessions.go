package handlers

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

type sessionList[S any] struct {
	Sessions   []S    `json:"sessions"`
	NextCursor string `json:"next_cursor,omitzero"`
}

type sessionDetail struct {
	Session       models.FleetSession  `json:"session"`
	Questions     []models.Question    `json:"questions,omitempty"`    // open questions, oldest first
	NextQuestion  string               `json:"next_question,omitzero"` // the ID of the next open question, if not all are listed
	StatusHistory []models.AgentStatus `json:"status_history"`
	NextCursor    string               `json:"next_cursor,omitzero"`
}

// Sessions lists the sessions of all agents: GET /api/sessions.
func (h *Handler) Sessions(w http.ResponseWriter, r *http.Request) error {
	list, bytes, err := h.listSessions(r.Context(), readerOf(w), newParams(r))
	if err != nil {
		return err
	}
	return h.respondPage(w, r, list, list.NextCursor, bytes)
}

type fleetSessions = sessionList[models.FleetSession]

// listSessions returns a page of the sessions that match p and that the reader may see, and their size in bytes.
func (h *Handler) listSessions(ctx context.Context, who reader, p *params) (list fleetSessions, bytes int, err error) {
	q := store.SessionQuery{
		Team:    who.grant.Team(),
		AgentID: p.text("agent_id", models.MaxAgentID),
		Source:  p.text("source", models.MaxAgentSource),
		Status:  p.status("status"),
		Expired: p.flag("expired"),
		Lost:    p.flag("lost"),
		Idle:    p.flag("idle"),
		Search:  p.text("search", maxSearch),
		Need:    p.need(),
		Oldest:  p.oldest(),
		Bytes:   who.most,
	}
	after, limit := p.afterSession(q), p.limit(defaultSessions)
	if err := p.done(); err != nil {
		return list, 0, err
	}
	if err := h.reserveItems(ctx, who.held, limit); err != nil {
		return list, 0, err
	}
	page, err := h.Store.Sessions(ctx, q, after, limit)
	next := cursorOf(page.Next, func(at store.SessionPosition) string { return sessionCursor(q, at) })
	return fleetSessions{page.Items, next}, page.Bytes, err
}

// need parses the needs parameter of a list of sessions.
func (p *params) need() models.Need {
	name, _ := p.get("needs")
	if name == "" {
		return 0
	}
	need, ok := models.ParseNeed(name)
	if !ok {
		p.fail("needs", "must be one of "+strings.Join(models.NeedNames[:], ", "))
	}
	for _, other := range []string{"sort", "agent_id"} {
		if value, _ := p.get(other); value != "" {
			p.fail(other, "must not be set together with needs")
		}
	}
	return need
}

// oldest parses the sort parameter of a list of sessions.
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
	if err := p.done(); err != nil {
		return err
	}
	if !q.Team.Covers(q.AgentID) {
		return models.NotFound("agent")
	}
	if err := h.reserveItems(r.Context(), heldOf(w), limit); err != nil {
		return err
	}
	page, ok, err := h.Store.AgentSessions(r.Context(), q, after, limit)
	if err != nil {
		return err
	}
	if !ok {
		return models.NotFound("agent")
	}
	next := cursorOf(page.Next, func(at store.SessionPosition) string { return sessionCursor(q, at) })
	return h.respondPage(w, r, sessionList[models.Session]{page.Items, next}, next, page.Bytes)
}

// Session returns a session and its status history: GET /api/agents/{agent_id}/sessions/{session_topic}.
func (h *Handler) Session(w http.ResponseWriter, r *http.Request) error {
	key := store.SessionKey{AgentID: pathParam(r, "agent_id"), Topic: pathParam(r, "session_topic")}
	detail, bytes, err := h.readSession(r.Context(), readerOf(w), key, newParams(r))
	if err != nil {
		return err
	}
	return h.respondPage(w, r, detail, detail.NextCursor, bytes)
}

// readSession returns a session with its open questions and the page of its history that p selects, and their size in
// bytes. Questions take at most half of the maximum size, and the history the rest. If the reader may not see the
// session, the error is not found.
func (h *Handler) readSession(ctx context.Context, who reader, key store.SessionKey, p *params) (
	detail sessionDetail, bytes int, err error,
) {
	after, limit, from := p.afterStatus(), p.limit(defaultStatuses), p.questionsFrom()
	if err := p.done(); err != nil {
		return detail, 0, err
	}
	if !who.grant.Covers(key.AgentID) {
		return detail, 0, models.NotFound("session")
	}
	if err := h.reserveItems(ctx, who.held, limit); err != nil {
		return detail, 0, err
	}
	session, questions, page, ok := h.Store.SessionInFull(key.AgentID, key.Topic, after, limit)
	if !ok {
		if session, questions, page, ok, err = h.coldSession(key, after, limit); err != nil {
			return detail, 0, err
		}
	}
	if !ok {
		return detail, 0, models.NotFound("session")
	}
	err = h.complete(ctx, who, &page, func() error { return h.Journal.CompleteSession(key, &page, after, limit) })
	if err != nil {
		return detail, 0, err
	}
	most := cmp.Or(who.most, store.PageBytes)
	questions, next, taken := pageOfQuestions(questions, from, most/2)
	page.TruncateTo(most - taken)
	detail = sessionDetail{session, questions, next, page.Items, cursorOf(page.Next, statusCursor)}
	return detail, taken + page.Bytes + store.FleetSessionBytes(&session), nil
}

// complete calls read to add entries from the journal to a page of a history, if any are missing.
func (h *Handler) complete(ctx context.Context, who reader, page *store.HistoryPage, read func() error) error {
	if page.Journaled == 0 {
		return nil
	}
	if err := h.grow(ctx, who.held, store.PageBytes); err != nil {
		return err
	}
	return read()
}

// questionsFrom parses the parameter that selects the first open question to list, and returns its number, 0 for the
// oldest.
func (p *params) questionsFrom() uint64 {
	id, ok := p.get("questions_from")
	if !ok || id == "" {
		return 0
	}
	number, valid := models.QuestionNumber(id)
	if !valid {
		p.fail("questions_from", "must be the next_question of an earlier response")
	}
	return number
}

// pageOfQuestions returns the questions with number from and above, oldest first, that fit into most bytes, but at
// least one. It also returns the ID of the next question, "" if there is none, and the size of the returned questions
// in bytes.
func pageOfQuestions(all []models.Question, from uint64, most int) (some []models.Question, next string, bytes int) {
	some = []models.Question{}
	for i := range all {
		if number, _ := models.QuestionNumber(all[i].ID); number < from {
			continue
		}
		n := store.QuestionBytes(&all[i])
		if len(some) > 0 && bytes+n > most {
			return some, all[i].ID, bytes
		}
		some, bytes = append(some, all[i]), bytes+n
	}
	return some, "", bytes
}

// coldSession returns a session that is no longer in memory, from the journal. ok is false if there is none.
func (h *Handler) coldSession(key store.SessionKey, after *store.StatusPosition, limit int) (
	session models.FleetSession, questions []models.Question, page store.HistoryPage, ok bool, err error) {
	if h.Journal == nil {
		return session, nil, page, false, nil
	}
	restored, err := h.Journal.Cold(key, limit)
	if restored == nil || err != nil {
		return session, nil, page, false, err
	}
	session, questions, page, ok = h.Store.Preview(restored, after, limit, h.now())
	return session, questions, page, ok, nil
}

// Summary returns the numbers of agents and sessions: GET /api/summary.
func (h *Handler) Summary(w http.ResponseWriter, r *http.Request) error {
	return respond(w, r, h.Store.TeamSummary(grantOf(w).Team(), h.now()))
}
