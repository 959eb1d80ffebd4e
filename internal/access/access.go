// Package access says who may do what, and how much of it: tokens and what they allow, the sign-ins of people, signatures of
// webhooks, and limits of rates.
package access

import (
	"context"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/store"
)

// Scope is one or more things that a token may allow.
type Scope uint8

const (
	// Report allows to send status reports.
	Report Scope = 1 << iota
	// Read allows to see the state: the API, the event stream, the dashboard.
	Read
	// Admin allows to remove sessions and agents, to back the state up, and to profile the server.
	Admin
)

var scopeNames = []struct {
	scope Scope
	name  string
}{{Report, "report"}, {Read, "read"}, {Admin, "admin"}}

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

// Grant is what somebody may do: everything, for a nil grant. It never changes, but that it ends.
type Grant struct {
	name    string
	scopes  Scope
	team    *store.Team     // nil for every agent
	share   store.Share     // of each bound
	expires time.Time       // zero for never
	ended   context.Context // ends when the grant does
	reports *rate.Limiter   // nil where there is no limit
	reads   *rate.Limiter
	person  bool // who signed in
}

// Name returns the name of the token that the grant is of; "" for a nil grant.
func (g *Grant) Name() string {
	if g == nil {
		return ""
	}
	return g.name
}

// SignedIn reports whether the grant is that of somebody who signed in.
func (g *Grant) SignedIn() bool { return g != nil && g.person }

// Allows reports whether the grant has a scope.
func (g *Grant) Allows(scope Scope) bool { return g == nil || g.scopes&scope == scope }

// Team returns the agents that the grant is for; nil for every agent.
func (g *Grant) Team() *store.Team {
	if g == nil {
		return nil
	}
	return g.team
}

// Share returns how much of each bound whoever has the grant may use up, along with all others of the same team.
func (g *Grant) Share() store.Share {
	if g == nil {
		return store.Share{}
	}
	return g.share
}

// Covers reports whether the grant is for an agent with this ID.
func (g *Grant) Covers(agentID string) bool { return g.Team().Covers(agentID) }

// Ended returns a context that ends when the grant does: its token expires or is no longer known, or somebody signs out.
func (g *Grant) Ended() context.Context {
	if g == nil {
		return context.Background()
	}
	return g.ended
}

// holds reports whether the grant has not ended.
func (g *Grant) holds() bool { return g.ended.Err() == nil && !g.expired() }

// expired reports whether its time is over; its context ends a moment later.
func (g *Grant) expired() bool { return !g.expires.IsZero() && !time.Now().Before(g.expires) }
