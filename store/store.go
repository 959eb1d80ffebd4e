// Package store keeps the state of the fleet in memory: the agents, their sessions, and the statuses that they
// reported.
//
// # The path of a report
//
// The package reads in one direction. Each step uses those below it, and none above:
//
//	admit.go      admits a report: alone, in a batch, or ahead of the journal
//	decide.go     decides what to record; for an event, settle.go does, once
//	find.go       finds its session
//	apply.go      applies the record to agent, session, questions and history
//	turn.go       keeps the questions and calls that a session has under way
//	history.go    keeps the statuses of a session; status.go defines a status
//	lists.go      updates lists and counts; roster.go holds those of the fleet or of a part of it, tools.go those by tool
//	changes.go    publishes the change
//	state.go      defines the types that all of these use
//
// In addition, expiry.go and removal.go end sessions, bounds.go makes room, durable.go restores the state of an earlier
// run, rejoin.go moves agents between teams, and read.go serves reads. replicated.go says what differs in a store that
// is one of several; room.go reserves room in it, overflow.go evicts from it, and pauses.go keeps the times in which
// nobody could report.
//
// # Invariants
//
// Applying records is order-independent and idempotent: the same records, in any order and any number of times, lead to
// the same state. A session's current status is the one with the greatest (timestamp, sequence). The time at which
// something was created or registered is the least receipt time; the time at which it was updated or last seen is the
// greatest. A name, a host, a source, a title, a TTL and what is under way are taken from the record with the greatest
// sequence that carries one. In a replicated store, when the current status of a session began depends on the order,
// which is that of the messages: see [Store.since]. Decisions that depend on the state, such as whether an event closes
// a question, are made under the lock when a report is admitted.
//
// A session fed only by events is pending exactly while one of its questions is open. Its current status is always the
// newest entry of its history.
//
// No read costs more because the fleet is bigger: counts are updated with every change, and every list is a range of an
// ordered index. Only [Store.moveSession] and [Store.moveAgent] change what an index orders by; they also update the
// counts.
//
// Memory is bounded by [Options]; [Stats] counts how often each bound took effect.
//
// Everything that the store returns is a value that shares no mutable memory with it.
package store

import (
	"math"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// workPerLock is the maximum amount of bulk work under one hold of the lock. A unit is about one move within an index:
// some 3 µs among a million sessions, so that nobody waits much longer than a millisecond.
const workPerLock = 512

// New returns an empty store.
func New(opts Options) *Store {
	s := &Store{
		opts:      opts,
		lifetimes: Lifetimes{opts.DefaultTTL, opts.SessionRetention},
		agents:    make(map[string]*agent),
		sessions:  make(map[sessionID]*session),
		sources:   make(map[string]*source),
		tools:     ordered.NewSet(toolLess),
		fleet:     newRoster(&agentInFleet, &sessionInFleet),
		deadlines: ordered.NewSet(queuedEarlier),
		unteamed:  newHolding(),
	}
	s.changes.ring = make([]change, 0, max(1, opts.EventWindow))
	s.changes.maxBytes = max(opts.HistoryMaxBytes/16, 64<<10)
	wake := make(chan struct{})
	s.changes.wake.Store(&wake)
	s.due.Store(math.MaxInt64)
	return s
}

// Stats is what a store holds, and how often its bounds took effect.
type Stats struct {
	models.Summary
	ExpiredByStatus models.StatusCounts
	ExpiredIdle     int               // expired sessions that had done nothing
	ExpiredTotal    uint64            // sessions that expired since the store was created
	LostTotal       uint64            // those of ExpiredTotal that were running or pending
	Acknowledged    models.NeedCounts // sessions that need no attention because they were acknowledged or snoozed
	Statuses        int
	HistoryBytes    int64
	Bounds          Bounds

	Acknowledgements Acknowledgements // since the store was created
}

// Summary returns the counts of the fleet that do not depend on the time.
func (s *Store) Summary() models.Summary {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fleet.summary()
}

// TeamSummary returns the counts of a team at the time now; a nil team is the whole fleet. In a replicated store, the
// time is that of the store.
func (s *Store) TeamSummary(t *Team, now time.Time) models.Summary {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.rosterOf(t)
	summary := r.summary()
	if s.opts.Replicated {
		now = s.wallTime(s.now)
	}
	summary.Needs.LostOverADay = r.lostBefore(s.expiryTime(now.Add(-24 * time.Hour)))
	return summary
}

// rosterOf returns the roster of a team; a nil team is the whole fleet. The caller holds s.mu.
func (s *Store) rosterOf(t *Team) *roster {
	if t == nil {
		return &s.fleet
	}
	return &t.roster
}

// Stats returns what the store holds, and how often its bounds took effect.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{
		Summary:         s.fleet.summary(),
		ExpiredByStatus: s.fleet.byStatus(true),
		ExpiredIdle:     s.fleet.counts[classOf(models.Idle, true)],
		ExpiredTotal:    s.expiredTotal,
		LostTotal:       s.lostTotal,
		Acknowledged:    s.fleet.acknowledged(),
		Statuses:        s.statuses,
		HistoryBytes:    s.used.bytes,
		Bounds:          s.bounds,

		Acknowledgements: s.acknowledgements,
	}
}
