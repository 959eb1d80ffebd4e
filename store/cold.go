package store

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// cold is what the store keeps about cold sessions: those that memory has evicted but the journal still holds.
//
// A cold session is in no list and no count. It is read from the journal by its ID, comes back with a new report, and
// is deleted from the journal at the end of its retention. Until the journal has filed all of its records, the session
// is cooling: the store keeps its state.
type cold struct {
	evicted atomic.Uint64 // sessions evicted since the store was created, or since it was known that none is cold
	filedTo uint64        // sequence up to which the journal has filed every record
	rounds  []*coolingRound

	recalled map[string]AgentState // what the journal knows of agents that reports are about to begin
}

// coolingRound holds the sessions and agents evicted between two rounds of filing.
type coolingRound struct {
	sessions map[SessionKey]SessionState
	agents   map[string]AgentState
	last     uint64 // greatest sequence of a record of any of them
	bytes    int64
}

// HasCold reports whether the journal may hold sessions that memory does not.
func (s *Store) HasCold() bool { return s.cold.evicted.Load() > 0 }

// ColdMark returns a mark of the current state of [Store.HasCold], for [Store.ClearCold].
func (s *Store) ColdMark() uint64 { return s.cold.evicted.Load() }

// ClearCold declares that the journal held no cold session. It has no effect if a session was evicted since the mark.
func (s *Store) ClearCold(mark uint64) { s.cold.evicted.CompareAndSwap(mark, 0) }

// cool counts se as evicted, and keeps its state if the journal has not filed all of it. The journal has never filed
// all of it if the store is replicated, since the eviction itself is filed. The caller holds s.mu.
func (s *Store) cool(se *session) {
	s.cold.evicted.Add(1)
	a := se.agent
	last := max(se.updatedSeq, se.current().sequence, se.turnSeq)
	if s.opts.Replicated {
		last = max(last, s.evictionSequence())
	}
	if last > s.cold.filedTo {
		r := s.cold.round()
		r.last = max(r.last, last, a.seenSeq)
		state := se.state()
		state.Cold = s.opts.Replicated
		r.sessions[SessionKey{a.id, se.topic}] = state
		r.agents[a.id] = a.state()
		n := se.size() + a.size() + se.turn.size()
		r.bytes += n
		s.used.bytes += n
	}
}

// coolAgent keeps the state of a, whose session was removed, if that was the last one in memory. A replicated store needs
// it as long as a session of the agent is cold, and the journal may not have filed it. The caller holds s.mu.
func (s *Store) coolAgent(a *agent) {
	if !s.opts.Replicated || a.count > 0 || !s.HasCold() {
		return
	}
	r := s.cold.round()
	r.last = max(r.last, s.evictionSequence())
	r.agents[a.id] = a.state()
	r.bytes += a.size()
	s.used.bytes += a.size()
}

// round returns the current round.
func (c *cold) round() *coolingRound {
	if len(c.rounds) == 0 {
		c.rounds = append(c.rounds, &coolingRound{sessions: map[SessionKey]SessionState{}, agents: map[string]AgentState{}})
	}
	return c.rounds[len(c.rounds)-1]
}

// session returns the state of a cooling session.
func (c *cold) session(key SessionKey) (state SessionState, ok bool) {
	for _, r := range c.rounds {
		if known, found := r.sessions[key]; found && (!ok || known.UpdatedSequence >= state.UpdatedSequence) {
			state, ok = known, true
		}
	}
	return state, ok
}

// agent returns the state of the agent of a cooling session.
func (c *cold) agent(id string) (state AgentState, ok bool) {
	for _, r := range c.rounds {
		if known, found := r.agents[id]; found && (!ok || known.LastSeenSequence >= state.LastSeenSequence) {
			state, ok = known, true
		}
	}
	return state, ok
}

// earlier returns what is known from before of an agent that begins. ok is false if nothing is.
func (c *cold) earlier(id string) (state AgentState, ok bool) {
	if state, ok = c.agent(id); !ok {
		state, ok = c.recalled[id]
	}
	return state, ok
}

// drop removes what is kept of a session.
func (c *cold) drop(key SessionKey) {
	for _, r := range c.rounds {
		delete(r.sessions, key)
	}
}

// dropAgent removes what is kept of an agent and all its sessions.
func (c *cold) dropAgent(id string) {
	delete(c.recalled, id)
	for _, r := range c.rounds {
		delete(r.agents, id)
		maps.DeleteFunc(r.sessions, func(key SessionKey, _ SessionState) bool { return key.AgentID == id })
	}
}

// setFiled records how far the history of a session is filed.
func (c *cold) setFiled(key SessionKey, newest StatusPosition) {
	for _, r := range c.rounds {
		if known, ok := r.sessions[key]; ok {
			known.Filed = known.Filed.newest(newest)
			r.sessions[key] = known
		}
	}
}

// setAgentFiled records how far the history of an agent is filed.
func (c *cold) setAgentFiled(id string, newest StatusPosition) {
	for _, r := range c.rounds {
		if known, ok := r.agents[id]; ok {
			known.Filed = known.Filed.newest(newest)
			r.agents[id] = known
		}
	}
}

// SetFiledTo tells the store that the journal has filed every record up to a sequence.
func (s *Store) SetFiledTo(sequence uint64) {
	s.lock()
	defer s.mu.Unlock()
	c := &s.cold
	c.filedTo = max(c.filedTo, sequence)
	kept := c.rounds[:0]
	for _, r := range c.rounds {
		if r.last > c.filedTo {
			kept = append(kept, r)
			continue
		}
		s.used.bytes -= r.bytes
	}
	clear(c.rounds[len(kept):])
	c.rounds = kept
	if len(kept) > 0 { // start a new round, so that this one ends even if sessions are evicted all the time
		c.rounds = append(c.rounds, &coolingRound{sessions: map[SessionKey]SessionState{}, agents: map[string]AgentState{}})
	}
}

// IsCooling reports whether a session is cooling: memory has evicted it, and the journal has not filed all of it.
func (s *Store) IsCooling(key SessionKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.cold.session(key)
	return ok
}

// RecallAgent tells the store what the journal knows of an agent that memory does not have, and that reports are about
// to begin. It is in effect until [Store.Settle]. In a replicated store, only this counts as known of an agent that
// begins: recall it if and only if a session of the agent is cold. The state that the store keeps of an agent comes
// before that of the journal, which may not have filed it.
func (s *Store) RecallAgent(id string, state AgentState) {
	s.lock()
	defer s.mu.Unlock()
	if s.cold.recalled == nil {
		s.cold.recalled = map[string]AgentState{}
	}
	if known, ok := s.cold.agent(id); ok && s.opts.Replicated {
		state = known
	}
	s.cold.recalled[id] = state
}

// AgentIsCooling reports whether an agent has a cooling session, and whether memory has the agent.
func (s *Store) AgentIsCooling(id string) (cools, known bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, cools = s.cold.agent(id)
	return cools, s.agents[id] != nil
}

// CoolingCount returns the number of cooling sessions, which the journal has yet to file.
func (s *Store) CoolingCount() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.cold.rounds {
		n += len(r.sessions)
	}
	return n
}

// Preview returns what [Store.SessionInFull] would return at the time now for a session that the journal holds. ok is
// false if the session's retention has ended. In a replicated store, the time is that of the store.
func (s *Store) Preview(r *Restored, after *StatusPosition, limit int, now time.Time) (models.FleetSession, []models.Question, HistoryPage, bool) {
	lifetimes := s.Lifetimes()
	alone := New(Options{
		DefaultTTL: lifetimes.DefaultTTL, SessionRetention: lifetimes.SessionRetention, Journaled: s.opts.Journaled, Replicated: s.opts.Replicated,
		HistoryLimit: max(s.opts.HistoryLimit, len(r.Records)), HistoryMaxBytes: 1 << 40, MaxSessions: 1, EventWindow: 1,
	})
	if s.opts.Replicated {
		now = s.Time()
		alone.SetPauses(s.Pauses())
		alone.BeginLoading(now)
		warm := *r
		warm.Session.Cold = false
		if state, ok := s.AgentState(r.AgentID); ok { // the journal may not have filed it yet
			warm.Agent = state
		}
		r = &warm
	}
	alone.Restore(r, now)
	alone.expire(now)
	return alone.SessionInFull(r.AgentID, r.Topic, after, limit)
}

// RetainedUntil returns when the retention of a session with this state ends. The state does not say what status the
// session has: in a replicated store, a pause counts as if it was running.
func (s *Store) RetainedUntil(state SessionState) time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return at(s.expiryOf(&state) + int64(s.lifetimes.SessionRetention))
}

// expiryOf returns when a session with this state expires. The caller holds the store's lock.
func (s *Store) expiryOf(state *SessionState) int64 {
	ttl := time.Duration(state.TTLMinutes) * time.Minute
	if state.Turn != nil && len(state.Turn.Open) > 0 {
		ttl = max(ttl, models.QuestionTTL)
	}
	expiry := state.Updated + int64(ttl)
	if s.opts.Replicated {
		expiry = s.pausedExpiry(expiry, int64(ttl))
	}
	return expiry
}
