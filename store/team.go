package store

import (
	"slices"
	"strconv"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// NewTeam returns a team of the agents for whose IDs covers returns true, with its share of the bounds. For one ID,
// covers must always return the same.
func NewTeam(share Share, covers func(agentID string) bool) *Team {
	t := &Team{covers: covers, share: share}
	t.roster = newRoster(
		&ordered.Member[agent]{Place: (*agent).seenPlace,
			Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return a.teams.in(t) }},
		&ordered.Member[session]{Place: (*session).updatedPlace,
			Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return se.teams.in(t) }})
	t.tools = map[*source]*toolUse{}
	return t
}

// Covers reports whether the agent with this ID belongs to the team. A nil team is the whole fleet.
func (t *Team) Covers(agentID string) bool { return t == nil || t.covers(agentID) }

// SetPatterns sets what [Team.Patterns] returns. Call it before the team is used.
func (t *Team) SetPatterns(patterns []string) { t.patterns = patterns }

// Patterns returns the patterns of agent IDs by which other servers find the team's agents. It is nil for the whole
// fleet, and for a team that no other server needs to know.
func (t *Team) Patterns() []string {
	if t == nil {
		return nil
	}
	return t.patterns
}

// Share returns the team's share of the bounds. A nil team is the whole fleet, which has no share.
func (t *Team) Share() Share {
	if t == nil {
		return Share{}
	}
	return t.share
}

// CompleteAfter returns the number of the last change that may not name the team: see [Change.Teams].
func (t *Team) CompleteAfter() uint64 { return t.settled.Load() }

func (set *teamSet) list() []*Team {
	if set == nil {
		return nil
	}
	return set.all
}

// memberOf returns the membership of an item that is not listed yet.
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

// in returns the position of the item in the roster of t, which must be one of its teams.
func (m *membership[T]) in(t *Team) (**ordered.Leaf[T], *uint8) {
	s := &m.at[slices.Index(m.set.all, t)]
	return &s.leaf, &s.slot
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
		set = &teamSet{slices.Clone(mine), newHolding()}
		ts.sets[string(key)] = set
	}
	return set
}
