package store

import (
	"math"
	"slices"
)

// SetTeams replaces the teams that the store knows. It returns once their lists and counts are complete. They can be
// read as long as the store knows the team; those of a removed team become more and more incomplete. The cost grows
// with what the store holds; SetTeams releases the lock regularly. Only one caller may set teams at a time.
func (s *Store) SetTeams(all []*Team) {
	s.lock()
	gone := s.teams.replace(all)
	s.mu.Unlock()
	var after *AgentPosition
	for more := true; more; {
		var moved []*agent
		moved, after, more = s.rejoinSome(after)
		for _, a := range moved {
			s.moveSessions(a, s.sourceAfterRejoining)
		}
		yieldToWaiters()
	}
	s.settleTeams(all, gone)
	s.shrink()
}

// SetEveryone sets the share of each bound that agents without a team may use.
func (s *Store) SetEveryone(share Share) {
	s.lock()
	s.share = share
	s.mu.Unlock()
	s.shrink()
}

// settleTeams finishes SetTeams once every agent and session has joined and left teams.
func (s *Store) settleTeams(all, gone []*Team) {
	s.lock()
	defer s.mu.Unlock()
	for _, src := range s.sources {
		if slices.ContainsFunc(src.chargedTo.list(), func(t *Team) bool { return slices.Contains(gone, t) }) {
			s.chargeSource(src, -1)
			src.chargedTo = nil
			s.chargeSource(src, 1)
		}
	}
	for key, set := range s.teams.sets {
		if slices.ContainsFunc(set.all, func(t *Team) bool { return slices.Contains(gone, t) }) {
			delete(s.teams.sets, key)
		}
	}
	for _, t := range all {
		if t.settled.Load() == math.MaxUint64 {
			t.settled.Store(s.changes.count.Load())
		}
	}
}

// shrink drops data until every share and bound is kept, as far as possible.
func (s *Store) shrink() {
	for s.shrinkSome() {
		yieldToWaiters()
	}
}

// shrinkSome does as much of shrink as fits into one hold of the lock. It reports whether there is more to do.
func (s *Store) shrinkSome() (more bool) {
	s.lock()
	defer s.mu.Unlock()
	for _, t := range s.teams.all {
		s.shrinkTo(teamQuota(t))
	}
	if s.share.IsLimited() {
		s.shrinkTo(s.everyoneQuota())
	}
	s.shrinkTo(s.storeQuota(nil))
	return s.work >= workPerLock
}

// shrinkTo drops data until a quota is kept, as far as possible under one hold of the lock. A replicated store drops no
// sessions: see [Store.Overflow]. The caller holds s.mu.
func (s *Store) shrinkTo(q quota) {
	evicts := !s.opts.Replicated
	for evicts && s.work < workPerLock && !q.fitsSessions(s, 0) && s.evictOne(q, &s.bounds.MaxSessions) {
	}
	for s.work < workPerLock && !q.fitsBytes(s, 0) && (s.dropOne(q) || evicts && s.evictOne(q, &s.bounds.HistoryMaxBytes)) {
	}
}

// replace sets the known teams to all, and returns those that are no longer known. The caller holds the store's lock.
func (ts *teams) replace(all []*Team) (gone []*Team) {
	for _, t := range ts.all {
		if !slices.Contains(all, t) {
			gone = append(gone, t)
		}
	}
	for _, t := range all {
		if !slices.Contains(ts.all, t) {
			ts.last++
			t.number = ts.last
			t.settled.Store(math.MaxUint64)
		}
	}
	ts.all = slices.Clone(all)
	if ts.sets == nil {
		ts.sets = map[string]*teamSet{}
	}
	return gone
}

// rejoinSome updates the teams of some agents, starting after a position, and returns those whose sessions must follow.
func (s *Store) rejoinSome(after *AgentPosition) (moved []*agent, reached *AgentPosition, more bool) {
	s.lock()
	defer s.mu.Unlock()
	var some []*agent
	for a := range s.agentsFrom(AgentQuery{}, after) {
		if len(some) == workPerLock {
			more = true
			break
		}
		some = append(some, a)
		position := a.position()
		reached = &position
	}
	for _, a := range some {
		if set := s.teams.of(a.id); set != a.teams.of() {
			s.unlistAgent(a)
			more := len(set.list()) - len(a.teams.all())
			s.transfer(a, set)
			a.teams = memberOf[agent](set)
			s.charge(a, int64(more)*int64(1+a.count)*teamOverhead)
			s.listAgent(a)
			moved = append(moved, a)
		}
	}
	return moved, reached, more
}
