// Package store keeps the state of the fleet in memory: agents, their sessions and the statuses that they
// reported.
//
// # The way of a report
//
// The package reads in one direction. Each step knows those below it, and none above:
//
//	admit.go      a report is let in: alone, in a batch, or ahead of the journal
//	decide.go     what is to be recorded of it; of an event, settle.go settles that, once
//	find.go       which session it is of
//	apply.go      the record is applied to agent, session, questions and history
//	turn.go       the questions and calls that a session has under way
//	history.go    the statuses of a session; status.go is one of them
//	lists.go      the lists and the counts follow; roster.go is the lists of the fleet or a part of it
//	changes.go    whoever follows changes is told
//	state.go      what all of these work on
//
// Beside it, expiry.go and removal.go end sessions, bounds.go makes room, durable.go takes over what an earlier run knew, rejoin.go
// has agents join teams, and read.go answers.
//
// # Invariants
//
// Applying records is order-independent and idempotent: the same records, in any order and with any
// repeated, lead to the same state. A session's current status is the one with the greatest (timestamp,
// sequence); what was created or registered first is a least receipt time, what was updated or seen last
// a greatest; a name, a host, a source, a title, a TTL and what is under way are those of the greatest sequence that carries one.
// What depends on the state, such as whether an event closes a question, is settled under the lock as a report is let in.
//
// A session that events alone tell of is pending exactly while one of its questions is open. Its current status is always the newest
// entry of its history.
//
// No read costs more because the fleet is bigger: counts are kept as they change, and every list is a
// range of an ordered index. What an index orders by changes in one place alone, [Store.moveSession] and
// [Store.moveAgent], which keep the counts as well.
//
// Memory is bounded by the settings in [Options]; [Stats] counts how often each bound took effect.
//
// What leaves the store is a value; it shares no memory that changes.
package store

import (
	"math"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// workPerLock is how much work one hold of the lock does at most, where work comes in bulk. A unit is about
// one move within an index: some 3 µs among a million sessions, so that nobody waits much longer than a
// millisecond.
const workPerLock = 512

// New returns an empty store.
func New(opts Options) *Store {
	s := &Store{
		opts:      opts,
		agents:    make(map[string]*agent),
		sessions:  make(map[sessionID]*session),
		sources:   make(map[string]*source),
		tools:     ordered.NewSet(foundEarlier),
		fleet:     newRoster(&agentInFleet, &sessionInFleet),
		deadlines: ordered.NewSet(queuedEarlier),
		rest:      newHolding(),
	}
	s.changes.ring = make([]change, 0, max(1, opts.EventWindow))
	s.changes.most = max(opts.HistoryMaxBytes/16, 64<<10)
	s.changes.wake = make(chan struct{}, 1)
	s.due.Store(math.MaxInt64)
	return s
}

// Stats is what a store holds and how often its bounds took effect.
type Stats struct {
	models.Summary
	ExpiredByStatus models.StatusCounts
	ExpiredIdle     int    // expired sessions that had done nothing
	ExpiredTotal    uint64 // sessions that expired since the store was made
	LostTotal       uint64 // those of them that were running or pending
	Statuses        int
	HistoryBytes    int64
	Bounds          Bounds
}

// Summary counts the fleet.
func (s *Store) Summary() models.Summary { return s.TeamSummary(nil) }

// TeamSummary counts a team; nil is the whole fleet.
func (s *Store) TeamSummary(t *Team) models.Summary {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rosterOf(t).summary()
}

// rosterOf returns the roster of a team, or that of the fleet for nil. The caller holds s.mu.
func (s *Store) rosterOf(t *Team) *roster {
	if t == nil {
		return &s.fleet
	}
	return &t.roster
}

// Stats returns what the store holds and how often its bounds took effect.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{
		Summary:         s.fleet.summary(),
		ExpiredByStatus: s.fleet.byStatus(true),
		ExpiredIdle:     s.fleet.counts[classOf(models.Idle, true)],
		ExpiredTotal:    s.expiredTotal,
		LostTotal:       s.lostTotal,
		Statuses:        s.statuses,
		HistoryBytes:    s.used.bytes,
		Bounds:          s.bounds,
	}
}
