package store

import "time"

// ToolUse says how many agents run in a tool, and when one of them reported last.
type ToolUse struct {
	Agents int
	Last   time.Time // UTC; zero without agents
}

// toolUse is a [ToolUse] that is kept for a team. last does not go back when an agent is removed.
type toolUse struct {
	agents int
	last   int64
	stale  bool // the agent that reported last may have been removed
}

// ToolUse returns the use of the tool with this name by the agents of a team; a nil team is the whole fleet. It costs
// the same however many agents there are.
func (s *Store) ToolUse(team *Team, tool string) ToolUse {
	s.mu.RLock()
	defer s.mu.RUnlock()
	src := s.sources[tool]
	if src == nil {
		return ToolUse{}
	}
	use := src.use()
	if team != nil {
		use = team.tools[src]
		if use != nil && use.stale && s.opts.Replicated {
			use = &toolUse{agents: use.agents, last: src.lastOf(team)}
		}
	}
	if use == nil || use.agents == 0 {
		return ToolUse{}
	}
	return ToolUse{use.agents, at(use.last)}
}

// use returns the use of src by the whole fleet. The caller holds the store's lock.
func (src *source) use() *toolUse {
	use := &toolUse{agents: src.byID.Len()}
	for i := range src.seen {
		if a := src.seen[i].Newest(); a != nil {
			use.last = max(use.last, a.lastSeen)
		}
	}
	return use
}

// lastOf returns when one of the agents of a team with the source reported last. The caller holds the store's lock.
func (src *source) lastOf(team *Team) (last int64) {
	for i := range src.seen {
		for a := range src.seen[i].Before(src.agentIn, nil).All() {
			if team.Covers(a.id) {
				last = max(last, a.lastSeen)
				break
			}
		}
	}
	return last
}

// countTool adds n agents with the source of a to the use of that tool, if the roster is that of a team. The caller
// holds the store's lock.
func (r *roster) countTool(a *agent, n int) {
	if r.tools == nil {
		return
	}
	use := r.tools[a.source]
	if use == nil {
		use = &toolUse{}
		r.tools[a.source] = use
	}
	use.agents += n
	if a.lastSeen >= use.last {
		use.last, use.stale = a.lastSeen, n < 0
	}
	if use.agents == 0 {
		delete(r.tools, a.source)
	}
}
