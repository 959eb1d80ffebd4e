package store

import (
	"math"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// Team is a part of the fleet: the agents whose IDs it covers. Once it was added to a store, lists, counts and changes of a
// team cost what they would if there were no other agents. Teams may overlap.
type Team struct {
	covers  func(agentID string) bool
	number  uint64        // among the teams of its store
	settled atomic.Uint64 // changes after the one with this number say that they are of the team, if they are

	roster // protected by the store's lock
}

// NewTeam returns a team of the agents for whose IDs covers holds, which must always say the same.
func NewTeam(covers func(agentID string) bool) *Team {
	t := &Team{covers: covers}
	t.roster = newRoster(
		&ordered.Member[agent]{Place: (*agent).seenPlace,
			Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return a.teams.in(t) }},
		&ordered.Member[session]{Place: (*session).updatedPlace,
			Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return se.teams.in(t) }})
	return t
}

// Covers reports whether an agent with this ID is of the team. A nil team is the whole fleet.
func (t *Team) Covers(agentID string) bool { return t == nil || t.covers(agentID) }

// Settled returns the number of a change after which every one tells its teams: see [Change.Teams].
func (t *Team) Settled() uint64 { return t.settled.Load() }

// teamSet is the teams that an agent is of. Equal sets are one; nil is none.
type teamSet struct{ all []*Team }

func (set *teamSet) list() []*Team {
	if set == nil {
		return nil
	}
	return set.all
}

// membership is where an item stands in the rosters of its teams; nil where it has none.
type membership[T any] struct {
	set *teamSet
	at  []slotIn[T] // as the teams of the set
}

// slotIn is where an item stands in a roster.
type slotIn[T any] struct {
	leaf *ordered.Leaf[T]
	slot uint8
}

// memberOf returns the membership of an item that is listed nowhere yet.
func memberOf[T any](set *teamSet) *membership[T] {
	if set == nil {
		return nil
	}
	return &membership[T]{set, make([]slotIn[T], len(set.all))}
}

func (m *membership[T]) of() *teamSet {
	if m == nil {
		return nil
	}
	return m.set
}

func (m *membership[T]) all() []*Team { return m.of().list() }

// in returns where the item stands in the roster of t, of which it is.
func (m *membership[T]) in(t *Team) (**ordered.Leaf[T], *uint8) {
	s := &m.at[slices.Index(m.set.all, t)]
	return &s.leaf, &s.slot
}

// teams is what a store knows of teams.
type teams struct {
	all  []*Team
	sets map[string]*teamSet // by the numbers of their teams
	last uint64              // number given
}

// of returns the teams of an agent. The caller holds the store's lock.
func (ts *teams) of(agentID string) *teamSet {
	var some [8]*Team
	mine := some[:0]
	var key []byte
	for _, t := range ts.all {
		if t.covers(agentID) {
			mine = append(mine, t)
			key = append(strconv.AppendUint(key, t.number, 10), ' ')
		}
	}
	if len(mine) == 0 {
		return nil
	}
	set := ts.sets[string(key)]
	if set == nil {
		set = &teamSet{slices.Clone(mine)}
		ts.sets[string(key)] = set
	}
	return set
}

// SetTeams has the store know these teams and no others. It returns once their lists and counts are complete. They can be
// read as long as the team is known; of one that no longer is, lists and counts show less and less. It costs what the store
// holds, with the lock let go again and again. One caller at a time may set teams.
func (s *Store) SetTeams(all []*Team) {
	s.mu.Lock()
	gone := s.teams.replace(all)
	s.mu.Unlock()
	var after *AgentPosition
	for more := true; more; {
		var moved []*agent
		moved, after, more = s.rejoinSome(after)
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.mu.Lock()
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
			a.teams = memberOf[agent](set)
			s.listAgent(a)
			moved = append(moved, a)
		}
	}
	return moved, reached, more
}
