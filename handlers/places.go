package handlers

import (
	"net/http"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// places counts the admitted requests in flight. There are MaxInFlight places in total, and each team may take no more
// than its share.
type places struct {
	mu    sync.Mutex
	taken int
	teams map[*store.Team]int // the nil key is the team that covers every agent
}

// take takes a place for a request with this grant. If there is none, it returns the limit that has been reached,
// otherwise "".
func (p *places) take(grant *access.Grant, most int) (bound metrics.Bound) {
	team, share := grant.Team(), grant.Share()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case share.IsLimited() && int64(p.teams[team]) >= share.Of(int64(most)):
		return metrics.BoundInFlightShare
	case p.taken >= most:
		return metrics.BoundInFlight
	}
	if p.teams == nil {
		p.teams = map[*store.Team]int{}
	}
	p.taken++
	p.teams[team]++
	return ""
}

// leave releases a place.
func (p *places) leave(grant *access.Grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	team := grant.Team()
	p.taken--
	if p.teams[team]--; p.teams[team] == 0 {
		delete(p.teams, team)
	}
}

// admit takes a place for a request whose client has been identified. The error is a *models.Error.
func (h *Handler) admit(w http.ResponseWriter, env *envelope) error {
	most := h.Access.MaxInFlight
	if most == 0 {
		return nil
	}
	if bound := h.inFlight.take(env.grant, most); bound != "" {
		setRateLimit(w.Header(), most, time.Second)
		return h.full(env, bound)
	}
	env.counted = true
	return nil
}

// fullMessages are the messages for the limits that can be reached.
var fullMessages = map[metrics.Bound]string{
	metrics.BoundInFlight:         "requests in flight have reached MAX_IN_FLIGHT",
	metrics.BoundInFlightShare:    "this team's requests in flight have reached its share of MAX_IN_FLIGHT (TEAM_SHARE, or share on the token's line)",
	metrics.BoundSubscribers:      "event streams have reached MAX_SUBSCRIBERS",
	metrics.BoundSubscribersShare: "this team's event streams have reached its share of MAX_SUBSCRIBERS (TEAM_SHARE, or share on the token's line)",
	metrics.BoundBodies:           "request bodies in memory have reached BODIES_MAX_BYTES: try again later, or send less at a time",
	metrics.BoundBodiesShare:      "the request bodies of this token's team have reached its share of BODIES_MAX_BYTES: try again later, or send less at a time (TEAM_SHARE, or share on the token's line)",
}

// full records that a request is refused because a limit is reached, and returns the error, a *models.Error.
func (h *Handler) full(env *envelope, bound metrics.Bound) error {
	h.Metrics.CountBound(bound)
	if env != nil {
		env.refused = fullMessages[bound]
	}
	return models.Unavailable(fullMessages[bound])
}

// leave releases a request's place. Call it when the request has been answered, or continues as an event stream.
func (h *Handler) leave(env *envelope) {
	if env != nil && env.counted {
		env.counted = false
		h.inFlight.leave(env.grant)
	}
}
