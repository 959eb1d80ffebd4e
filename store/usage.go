package store

import (
	"iter"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// usage is how much of the bounds some agents use up, and how much is kept free for reports of theirs that are admitted.
type usage struct {
	sessions, begun int
	bytes, kept     int64 // of memory
	disk            int64 // bytes on disk, when that was said last, and what was admitted since
}

// holding is what the sessions of the agents of one set of teams can give up.
type holding struct {
	superseded *ordered.List[session] // those with more than their current status; the one silent for longest first
	contents   *ordered.List[session] // those of the others whose current status has content, in the same order
	expired    ordered.Set[session]   // expired sessions, by their expiry
}

func newHolding() holding {
	yields := func(se *session) *ordered.Links[session] { return &se.yields }
	return holding{ordered.NewList(yields), ordered.NewList(yields), ordered.NewSet(queuedEarlier)}
}

// holdingOf returns what the sessions of a set of teams, nil for those of no team, can give up. The caller holds s.mu.
func (s *Store) holdingOf(set *teamSet) *holding {
	if set == nil {
		return &s.rest
	}
	return &set.holding
}

// holdings walks all sets of teams, and nil for the agents of no team. The caller holds s.mu.
func (s *Store) holdings() iter.Seq2[*teamSet, *holding] {
	return func(yield func(*teamSet, *holding) bool) {
		if !yield(nil, &s.rest) {
			return
		}
		for _, set := range s.teams.sets {
			if !yield(set, &set.holding) {
				return
			}
		}
	}
}

// usages walks what the agents of a set of teams are counted in: all that is there, and each of their teams, or everyone.
// The caller holds s.mu.
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

// charge counts n bytes of memory more for an agent. The caller holds s.mu.
func (s *Store) charge(a *agent, n int64) {
	a.bytes += n
	for u := range s.usages(a.teams.of()) {
		u.bytes += n
	}
}

// countSession counts n sessions more of an agent. The caller holds s.mu.
func (s *Store) countSession(a *agent, n int) {
	a.count += int32(n)
	for u := range s.usages(a.teams.of()) {
		u.sessions += n
	}
}

// transfer has an agent be counted in another set of teams. The caller holds s.mu, and gives the agent its teams.
func (s *Store) transfer(a *agent, to *teamSet) {
	for u := range s.usages(a.teams.of()) {
		u.bytes, u.sessions = u.bytes-a.bytes, u.sessions-int(a.count)
	}
	for u := range s.usages(to) {
		u.bytes, u.sessions = u.bytes+a.bytes, u.sessions+int(a.count)
	}
}

// largest returns the greater of the parts of memory, or of the number of sessions, that one of the teams of a set uses up. The
// caller holds s.mu.
func (s *Store) largest(set *teamSet, sessions bool) (most int64) {
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

// settleUsages says that nothing is kept free any more. The caller holds s.mu.
func (s *Store) settleUsages() {
	for _, u := range [...]*usage{&s.used, &s.everyone} {
		u.begun, u.kept = 0, 0
	}
	for _, t := range s.teams.all {
		t.used.begun, t.used.kept = 0, 0
	}
}
