// Package access decides who may do what, and how much of it: tokens and what they allow, people's sign-ins, webhook
// signatures and rate limits.
package access

import (
	"context"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/store"
)

// Scope is a set of permissions that a token may grant.
type Scope uint8

const (
	// Report allows sending status reports.
	Report Scope = 1 << iota
	// Read allows reading the state: the API, the event stream, the dashboard.
	Read
	// Acknowledge allows acknowledging and snoozing sessions that need attention, and muting their notifications.
	Acknowledge
	// Admin allows removing sessions and agents, backing up the state, and profiling the server.
	Admin
)

var scopeNames = []struct {
	scope Scope
	name  string
}{{Report, "report"}, {Read, "read"}, {Acknowledge, "acknowledge"}, {Admin, "admin"}}

// String returns the names of the scopes, separated by commas.
func (s Scope) String() string {
	var names []string
	for _, known := range scopeNames {
		if s&known.scope != 0 {
			names = append(names, known.name)
		}
	}
	return strings.Join(names, ",")
}

func parseScope(name string) (Scope, bool) {
	for _, known := range scopeNames {
		if known.name == name {
			return known.scope, true
		}
	}
	return 0, false
}

// Grant is what a client may do. A nil grant allows everything. A grant is immutable, except that it ends.
type Grant struct {
	name    string
	token   string // of the token, see [Grant.Token]
	line    string // identifies what the token's line in the tokens file says
	scopes  Scope
	team    *store.Team     // nil for every agent
	share   store.Share     // of each limit
	expires time.Time       // zero for never
	ended   context.Context // ends when the grant does
	reports *rate.Limiter   // nil for no limit
	reads   *rate.Limiter
	person  bool // a person who signed in
	manages bool // see ManagesNotifications
}

// Name returns the name of the grant's token, "" for a nil grant.
func (g *Grant) Name() string {
	if g == nil {
		return ""
	}
	return g.name
}

// Token identifies the grant's token: it stays the same through restarts, and says nothing about the token itself. It is
// "" for a nil grant.
func (g *Grant) Token() string {
	if g == nil {
		return ""
	}
	return g.token
}

// SignedIn reports whether the grant belongs to a person who signed in.
func (g *Grant) SignedIn() bool { return g != nil && g.person }

// ManagesNotifications reports whether the client may see the rules and destinations of notifications, test destinations,
// and mute rules, every agent, or all notifications. The token must have Admin for every agent. Unlike Admin itself, a
// person who signed in with it keeps this.
func (g *Grant) ManagesNotifications() bool { return g == nil || g.manages }

// Allows reports whether the grant includes scope.
func (g *Grant) Allows(scope Scope) bool { return g == nil || g.scopes&scope == scope }

// Team returns the team of agents that the grant covers, nil for every agent.
func (g *Grant) Team() *store.Team {
	if g == nil {
		return nil
	}
	return g.team
}

// Share returns the share of each limit that the grant's team may use. All grants for the same team use it up together.
func (g *Grant) Share() store.Share {
	if g == nil {
		return store.Share{}
	}
	return g.share
}

// Covers reports whether the grant covers the agent with this ID.
func (g *Grant) Covers(agentID string) bool { return g.Team().Covers(agentID) }

// Ended returns a context that is canceled when the grant ends: its token expires or is removed, or the person signs
// out.
func (g *Grant) Ended() context.Context {
	if g == nil {
		return context.Background()
	}
	return g.ended
}

// valid reports whether the grant has not ended.
func (g *Grant) valid() bool { return g.ended.Err() == nil && !g.expired() }

// expired reports whether the grant has expired. Its context ends a moment later.
func (g *Grant) expired() bool { return !g.expires.IsZero() && !time.Now().Before(g.expires) }
