package handlers

import (
	"context"
	"net/http"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Default page sizes.
const (
	defaultAgents        = 1000
	defaultAgentSessions = 1000
	defaultSessions      = 100
	defaultStatuses      = 100
)

type agentList struct {
	Agents     []models.Agent `json:"agents"`
	NextCursor string         `json:"next_cursor,omitzero"`
}

type agentStatus struct {
	models.AgentStatus
	StatusHistory []models.AgentStatus `json:"status_history"`
	NextCursor    string               `json:"next_cursor,omitzero"`
}

// Agents lists agents: GET /api/agents.
func (h *Handler) Agents(w http.ResponseWriter, r *http.Request) error {
	list, bytes, err := h.listAgents(r.Context(), readerOf(w), newParams(r))
	if err != nil {
		return err
	}
	return h.respondPage(w, r, list, list.NextCursor, bytes)
}

// listAgents returns a page of the agents that match p and that the reader may see, and their size in bytes.
func (h *Handler) listAgents(ctx context.Context, who reader, p *params) (list agentList, bytes int, err error) {
	q := store.AgentQuery{
		Team:    who.grant.Team(),
		Status:  p.status("status"),
		Source:  p.text("source", models.MaxAgentSource),
		Active:  p.flag("active"),
		Waiting: p.flag("waiting"),
		Search:  p.text("search", maxSearch),
		BySeen:  p.bySeen(),
		Bytes:   who.most,
	}
	after, limit := p.afterAgent(q), p.limit(defaultAgents)
	if err := p.done(); err != nil {
		return list, 0, err
	}
	if err := h.reserveItems(ctx, who.held, limit); err != nil {
		return list, 0, err
	}
	page, err := h.Store.Agents(ctx, q, after, limit)
	next := cursorOf(page.Next, func(at store.AgentPosition) string { return agentCursor(q, at) })
	return agentList{page.Items, next}, page.Bytes, err
}

// bySeen parses the sort parameter of a list of agents.
func (p *params) bySeen() bool {
	order, ok := p.get("sort")
	if ok && order != "agent_id" && order != "-last_seen" {
		p.fail("sort", "must be agent_id or -last_seen")
	}
	return order == "-last_seen"
}

// Agent returns one agent: GET /api/agents/{agent_id}.
func (h *Handler) Agent(w http.ResponseWriter, r *http.Request) error {
	agentID := pathParam(r, "agent_id")
	if !grantOf(w).Covers(agentID) {
		return models.NotFound("agent")
	}
	agent, ok := h.Store.Agent(agentID)
	if !ok {
		return models.NotFound("agent")
	}
	return respond(w, r, agent)
}

// AgentStatus returns the latest status of an agent and its status history over all sessions: GET
// /api/agents/{agent_id}/status.
func (h *Handler) AgentStatus(w http.ResponseWriter, r *http.Request) error {
	p := newParams(r)
	after, limit := p.afterStatus(), p.limit(defaultStatuses)
	if err := p.done(); err != nil {
		return err
	}
	agentID, who := pathParam(r, "agent_id"), readerOf(w)
	if !who.grant.Covers(agentID) {
		return models.NotFound("agent")
	}
	if err := h.reserveItems(r.Context(), who.held, limit); err != nil {
		return err
	}
	latest, page, ok := h.Store.AgentStatus(agentID, after, limit)
	if !ok {
		return models.NotFound("agent")
	}
	err := h.complete(r.Context(), who, &page, func() error { return h.Journal.CompleteAgent(agentID, &page, after, limit) })
	if err != nil {
		return err
	}
	if latest.ContentDropped && after == nil && len(page.Items) > 0 && page.Items[0].Timestamp.Equal(latest.Timestamp) {
		latest = page.Items[0]
	}
	next := cursorOf(page.Next, statusCursor)
	return h.respondPage(w, r, agentStatus{latest, page.Items, next}, next, page.Bytes+store.StatusBytes(&latest))
}
