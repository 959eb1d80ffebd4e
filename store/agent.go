package store

import (
	"iter"
	"math"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

func (a *agent) seenPlace() ordered.Place {
	return ordered.Place{Time: a.lastSeen, Sequence: a.seenSeq}
}

// How agents are indexed by their newest report, in the fleet and in their source.
var (
	agentInFleet = ordered.Member[agent]{Place: (*agent).seenPlace,
		Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return &a.inFleet, &a.slotInFleet }}
	agentInSource = ordered.Member[agent]{Place: (*agent).seenPlace,
		Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return &a.inSource, &a.slotInSource }}
)

// classAndIDLess orders agents by class, then by ID.
func classAndIDLess(a, b *agent) bool {
	if a.class != b.class {
		return a.class < b.class
	}
	return a.id < b.id
}

func seenLater(a, b *agent) bool { return a.seenPlace().Compare(b.seenPlace()) > 0 }

// live returns a, or nil if a is nil or was forgotten with its last session. The caller holds the store's lock.
func (a *agent) live() *agent {
	if a == nil || a.count == 0 {
		return nil
	}
	return a
}

// latest returns the status of a with the greatest (timestamp, sequence). The caller holds the store's lock.
func (a *agent) latest() *status { return a.statuses.Newest() }

// view returns a as the API shows it. The caller holds the store's lock.
func (a *agent) view() models.Agent {
	latest := a.latest()
	return models.Agent{
		ID:                 a.id,
		Name:               a.name,
		Source:             a.source.name,
		Registered:         at(a.registered),
		LastSeen:           at(a.lastSeen),
		Host:               a.host,
		SessionCount:       int(a.count),
		ActiveSessionCount: int(a.active),

		WaitingSessionCount: int(a.waiting),
		LostSessionCount:    int(a.lost),

		LatestStatus:  latest.kind,
		LatestIdle:    latest.kind == models.Idle,
		LatestMessage: latest.message(),
	}
}

// countSession adds n to the counts for a session of class c. The caller holds the store's lock.
func (a *agent) countSession(c class, n int32) {
	if !c.expired() {
		a.active += n
	}
	if c.waiting() {
		a.waiting += n
	}
	if c.lost() {
		a.lost += n
	}
}

// sessionsOf walks the sessions of a in class c after a position, newest update first, or oldest first. The caller
// holds the store's lock.
func (a *agent) sessionsOf(c class, after *SessionPosition, oldest bool) ordered.Walk[session] {
	from := ordered.Place{Group: c.group(), Time: math.MaxInt64, Sequence: math.MaxUint64}
	walk := a.sessions.Before
	if oldest {
		from = ordered.Place{Group: c.group(), Time: math.MinInt64}
		walk = a.sessions.After
	}
	if after != nil {
		from.Time, from.Sequence = after.Updated, after.Sequence
	}
	return walk(&sessionInAgent, &from).While(func(se *session) bool { return se.class == c })
}

// historyFrom walks the statuses of all sessions of a after a position, newest first. The caller holds the store's
// lock.
func (a *agent) historyFrom(after *StatusPosition) iter.Seq[*status] {
	return a.statuses.Before(&statusInAgent, after.place()).All()
}

func (a *agent) position() AgentPosition {
	return AgentPosition{ID: a.id, LastSeen: a.lastSeen, Sequence: a.seenSeq}
}

func (p *AgentPosition) place() *ordered.Place {
	if p == nil {
		return nil
	}
	return &ordered.Place{Time: p.LastSeen, Sequence: p.Sequence}
}
