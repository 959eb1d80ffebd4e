package store

import (
	"math"
	"slices"
)

// SetTeams has the store know these teams and no others. It returns once their lists and counts are complete. They can be
// read as long as the team is known; of one that no longer is, lists and counts show less and less. It costs what the store
// holds, with the lock let go again and again. One caller at a time may set teams.
func (s *Store) SetTeams(all []*Team) {
	s.lock()
	gone := s.teams.replace(all)
	s.mu.Unlock()
	var after *AgentPosition
	for more := true; more; {
		var moved []*agent
		moved, after, more = s.rejoinSome(after)
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
		giveWay()
	}
	s.settleTeams(all, gone)
	s.shrink()
}

// SetEveryone says how much of each bound the agents may use up that are of no team.
func (s *Store) SetEveryone(share Share) {
	s.lock()
	s.share = share
	s.mu.Unlock()
	s.shrink()
}

// settleTeams says that every agent and session has joined and left teams.
func (s *Store) settleTeams(all, gone []*Team) {
	s.lock()
	defer s.mu.Unlock()
	for _, src := range s.sources {
		if slices.ContainsFunc(src.payer.list(), func(t *Team) bool { return slices.Contains(gone, t) }) {
			s.chargeSource(src, -1)
			src.payer = nil
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

// shrink has those give something up who use up more than their share, or than there is.
func (s *Store) shrink() {
	for s.shrinkSome() {
		giveWay()
	}
}

// shrinkSome is shrink as far as one hold of the lock has time for. It reports whether there is more to do.
func (s *Store) shrinkSome() (more bool) {
	s.lock()
	defer s.mu.Unlock()
	for _, t := range s.teams.all {
		s.shrinkTo(ofTeam(t))
	}
	if s.share.Caps() {
		s.shrinkTo(s.ofEveryone())
	}
	s.shrinkTo(s.ofAll(nil))
	return s.work >= workPerLock
}

// shrinkTo has those whom a quota is of give something up, as far as they can at once. The caller holds s.mu.
func (s *Store) shrinkTo(q quota) {
	for s.work < workPerLock && !q.fitsSessions(s, 0) && s.evictOne(q, &s.bounds.MaxSessions) {
	}
	for s.work < workPerLock && !q.fitsBytes(s, 0) && (s.giveUpOne(q) || s.evictOne(q, &s.bounds.HistoryMaxBytes)) {
	}
}

// replace returns the teams that were known before and are not among all. The caller holds the store's lock.
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

// rejoinSome has some agents join and leave teams, those after a position first, and returns the ones whose sessions have to.
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
