// Package store keeps the state of the fleet in memory: agents, their sessions and the statuses that they
// reported.
//
// # Invariants
//
// Applying records is order-independent and idempotent: the same records, in any order and with any
// repeated, lead to the same state. A session's current status is the one with the greatest (timestamp,
// sequence); what was created or registered first is a least receipt time, what was updated or seen last
// a greatest; a name, a source, a title and a TTL are those of the greatest sequence that carries one.
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// workPerLock is how much work one hold of the lock does at most, where work comes in bulk. A unit is about
// one move within an index: some 3 µs among a million sessions, so that nobody waits much longer than a
// millisecond.
const workPerLock = 512

// Options are the bounds of a store and the TTL of sessions that name none.
type Options struct {
	DefaultTTL       time.Duration // of a session whose reports carry no TTL; whole minutes
	SessionRetention time.Duration // how long an expired session is remembered
	HistoryLimit     int           // statuses kept for one session, at least 1
	HistoryMaxBytes  int64         // bytes of all statuses kept
	MaxSessions      int           // sessions kept
	EventWindow      int           // changes kept for those who follow them, at least 1

	// Journaled says that a journal holds what memory drops. The store then tells where a history goes on there,
	// and which sessions it forgot; see [Store.AgentStatus], [Store.Session] and [Store.TakeForgotten].
	Journaled bool
}

// Store is the state of the fleet. All its methods are safe for concurrent use.
type Store struct {
	opts Options

	// due is a lower bound of the instant at which something has to expire or to be forgotten, in Unix
	// nanoseconds. It is written under mu and read without.
	due atomic.Int64

	mu sync.RWMutex // protects all that follows, and everything reachable from it

	agents   map[string]*agent
	sessions map[sessionID]*session
	sources  map[string]*source

	fleet     roster
	teams     teams
	deadlines ordered.Set[session] // active sessions, by a lower bound of their expiry
	expired   ordered.Set[session] // expired sessions, by their expiry

	trimmable    *ordered.List[session] // those that hold more than their current status, by their newest report
	statuses     int                    // in all histories
	historyBytes int64
	bounds       Bounds
	expiredTotal uint64
	lostTotal    uint64

	changes   changes
	admitted  admitted
	forgotten []Forgotten // since the last TakeForgotten, where there is a journal

	sequence uint64 // the greatest one known
	received int64  // the latest receipt time given, in Unix nanoseconds; each is later than the one before
	now      int64  // the latest time known, in Unix nanoseconds; never goes back
}

// New returns an empty store.
func New(opts Options) *Store {
	s := &Store{
		opts:      opts,
		agents:    make(map[string]*agent),
		sessions:  make(map[sessionID]*session),
		sources:   make(map[string]*source),
		fleet:     newRoster(&agentInFleet, &sessionInFleet),
		deadlines: ordered.NewSet(queuedEarlier),
		expired:   ordered.NewSet(queuedEarlier),
		trimmable: ordered.NewList(func(se *session) *ordered.Links[session] { return &se.trimmable }),
	}
	s.changes.ring = make([]change, 0, max(1, opts.EventWindow))
	s.changes.wake = make(chan struct{}, 1)
	s.due.Store(math.MaxInt64)
	return s
}

// Bounds counts how often each bound of memory took effect since the store was made.
type Bounds struct {
	HistoryLimit     uint64 // statuses dropped because their session has newer ones enough
	HistoryMaxBytes  uint64 // statuses dropped, and expired sessions forgotten, to make room for newer ones
	MaxSessions      uint64 // expired sessions forgotten early to make room for new ones
	Refused          uint64 // reports of new sessions refused because there was no room
	SessionRetention uint64 // expired sessions forgotten in due time
}

// Stats is what a store holds and how often its bounds took effect.
type Stats struct {
	models.Summary
	ExpiredByStatus models.StatusCounts
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
		ExpiredTotal:    s.expiredTotal,
		LostTotal:       s.lostTotal,
		Statuses:        s.statuses,
		HistoryBytes:    s.historyBytes,
		Bounds:          s.bounds,
	}
}

// instant returns t in Unix nanoseconds, held within what they can express.
func instant(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch seconds := t.Unix(); {
	case seconds < -limit:
		return math.MinInt64
	case seconds >= limit:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// at returns the instant ns as a time in UTC.
func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }
