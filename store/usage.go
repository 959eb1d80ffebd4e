package store

import (
	"iter"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// usage is how much of each limit a group of agents uses, and how much is reserved for their admitted reports.
type usage struct {
	sessions, reservedSessions int
	bytes, reserved            int64 // of memory
	disk                       int64 // bytes on disk as last set, plus what was admitted since
	reservedDisk               int64 // bytes on disk; only in a replicated store
}

// diskWith returns the bytes on disk once n more are used.
func (u *usage) diskWith(n int64) int64 { return u.disk + u.reservedDisk + n }

// holding is what can be dropped from the sessions of agents with one set of teams.
type holding struct {
	superseded *ordered.List[session] // sessions with more than their current status, silent for the longest first
	contents   *ordered.List[session] // the others whose current status has content, in the same order
	expired    ordered.Set[session]   // by expiry
}

func newHolding() holding {
	yields := func(se *session) *ordered.Links[session] { return &se.dropLinks }
	return holding{ordered.NewList(yields), ordered.NewList(yields), ordered.NewSet(queuedEarlier)}
}

// holdingOf returns the holding of a set of teams, which is nil for agents without a team. The caller holds s.mu.
func (s *Store) holdingOf(set *teamSet) *holding {
	if set == nil {
		return &s.unteamed
	}
	return &set.holding
}

// holdings yields every set of teams with its holding; the set is nil for agents without a team. The caller holds s.mu.
func (s *Store) holdings() iter.Seq2[*teamSet, *holding] {
	return func(yield func(*teamSet, *holding) bool) {
		if !yield(nil, &s.unteamed) {
			return
		}
		for _, set := range s.teams.sets {
			if !yield(set, &set.holding) {
				return
			}
		}
	}
}

// usages yields the usages that agents with a set of teams count toward: that of the store, and those of their teams,
// or else of everyone. The caller holds s.mu.
func (s *Store) usages(set *teamSet) iter.Seq[*usage] {
	return func(yield func(*usage) bool) {
		if !yield(&s.used) {
			return
		}
		if set == nil {
			yield(&s.everyone)
			return
		}
		for _, t := range set.all {
			if !yield(&t.used) {
				return
			}
		}
	}
}

// charge adds n bytes of memory to the usage of an agent. The caller holds s.mu.
func (s *Store) charge(a *agent, n int64) {
	a.bytes += n
	for u := range s.usages(a.teams.of()) {
		u.bytes += n
	}
}

// countSession adds n sessions to the usage of an agent. The caller holds s.mu.
func (s *Store) countSession(a *agent, n int) {
	a.count += int32(n)
	for u := range s.usages(a.teams.of()) {
		u.sessions += n
	}
}

// transfer moves the usage of an agent to another set of teams. The caller holds s.mu, and sets the agent's teams.
func (s *Store) transfer(a *agent, to *teamSet) {
	for u := range s.usages(a.teams.of()) {
		u.bytes, u.sessions = u.bytes-a.bytes, u.sessions-int(a.count)
	}
	for u := range s.usages(to) {
		u.bytes, u.sessions = u.bytes+a.bytes, u.sessions+int(a.count)
	}
}

// largestUse returns the largest use by one of the teams of a set: of sessions, or else of bytes of memory. The caller
// holds s.mu.
func (s *Store) largestUse(set *teamSet, sessions bool) (most int64) {
	for u := range s.usages(set) {
		switch {
		case u == &s.used:
		case sessions:
			most = max(most, int64(u.sessions))
		default:
			most = max(most, u.bytes)
		}
	}
	return most
}

// settleUsages clears all reservations. The caller holds s.mu.
func (s *Store) settleUsages() {
	for _, u := range [...]*usage{&s.used, &s.everyone} {
		u.reservedSessions, u.reserved = 0, 0
	}
	for _, t := range s.teams.all {
		t.used.reservedSessions, t.used.reserved = 0, 0
	}
}
