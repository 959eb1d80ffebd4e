package store

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// cold is what the store knows of sessions that memory forgot, and the journal did not.
//
// Such a session is in no list and no count. It is read from the journal by its ID, comes back with a new report, and is deleted from the
// journal once its retention is over. As long as the journal has not filed all of it, the store keeps what it knew of it.
type cold struct {
	evicted atomic.Uint64 // how many sessions memory forgot since the store was made, or since there is none any more
	filedTo uint64        // the sequence up to which the journal has filed everything
	rounds  []*coolingRound

	recalled map[string]AgentState // what the journal knows of agents that reports are about to begin
}

// coolingRound is the sessions and agents that memory forgot between two rounds of filing.
type coolingRound struct {
	sessions map[SessionKey]SessionState
	agents   map[string]AgentState
	last     uint64 // the greatest sequence that tells of any of them
	bytes    int64
}

// HasCold reports whether the journal may hold sessions that memory does not.
func (s *Store) HasCold() bool { return s.cold.evicted.Load() > 0 }

// ColdMark identifies what [Store.HasCold] says: see [Store.NoneCold].
func (s *Store) ColdMark() uint64 { return s.cold.evicted.Load() }

// NoneCold says that the journal held no session that memory does not, where none was forgotten since mark.
func (s *Store) NoneCold(mark uint64) { s.cold.evicted.CompareAndSwap(mark, 0) }

// chill has memory forget what it knows of se, and keep what the journal may yet ask of that. The caller holds s.mu.
func (s *Store) chill(se *session) {
	s.cold.evicted.Add(1)
	a := se.agent
	if last := max(se.updatedSeq, se.current().sequence, se.turnSeq); last > s.cold.filedTo {
		r := s.cold.round()
		r.last = max(r.last, last, a.seenSeq)
		r.sessions[SessionKey{a.id, se.topic}] = se.state()
		r.agents[a.id] = a.state()
		n := se.size() + a.size() + se.turn.size()
		r.bytes += n
		s.used.bytes += n
	}
}

// round returns the round that goes on.
func (c *cold) round() *coolingRound {
	if len(c.rounds) == 0 {
		c.rounds = append(c.rounds, &coolingRound{sessions: map[SessionKey]SessionState{}, agents: map[string]AgentState{}})
	}
	return c.rounds[len(c.rounds)-1]
}

// session returns what is known of a session that is not filed as a whole.
func (c *cold) session(key SessionKey) (state SessionState, ok bool) {
	for _, r := range c.rounds {
		if known, found := r.sessions[key]; found && (!ok || known.UpdatedSequence >= state.UpdatedSequence) {
			state, ok = known, true
		}
	}
	return state, ok
}

// agent returns what is known of the agent of such a session.
func (c *cold) agent(id string) (state AgentState, ok bool) {
	for _, r := range c.rounds {
		if known, found := r.agents[id]; found && (!ok || known.LastSeenSequence >= state.LastSeenSequence) {
			state, ok = known, true
		}
	}
	return state, ok
}

// earlier returns what was known of an agent that begins, if anything.
func (c *cold) earlier(id string) (state AgentState, ok bool) {
	if state, ok = c.agent(id); !ok {
		state, ok = c.recalled[id]
	}
	return state, ok
}

// drop forgets what is known of a session.
func (c *cold) drop(key SessionKey) {
	for _, r := range c.rounds {
		delete(r.sessions, key)
	}
}

// dropAgent forgets what is known of an agent and all its sessions.
func (c *cold) dropAgent(id string) {
	delete(c.recalled, id)
	for _, r := range c.rounds {
		delete(r.agents, id)
		maps.DeleteFunc(r.sessions, func(key SessionKey, _ SessionState) bool { return key.AgentID == id })
	}
}

// setFiled notes how far the history of a session is filed.
func (c *cold) setFiled(key SessionKey, newest StatusPosition) {
	for _, r := range c.rounds {
		if known, ok := r.sessions[key]; ok {
			known.Filed = known.Filed.newest(newest)
			r.sessions[key] = known
		}
	}
}

// setAgentFiled is setFiled for an agent.
func (c *cold) setAgentFiled(id string, newest StatusPosition) {
	for _, r := range c.rounds {
		if known, ok := r.agents[id]; ok {
			known.Filed = known.Filed.newest(newest)
			r.agents[id] = known
		}
	}
}

// Filed says that the journal has filed every record up to a sequence.
func (s *Store) Filed(sequence uint64) {
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
	if len(kept) > 0 { // so that it is done with even where sessions are forgotten all the time
		c.rounds = append(c.rounds, &coolingRound{sessions: map[SessionKey]SessionState{}, agents: map[string]AgentState{}})
	}
}

// Cools reports whether memory forgot a session that the journal has not filed as a whole.
func (s *Store) Cools(key SessionKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.cold.session(key)
	return ok
}

// RecallAgent says what the journal knows of an agent that memory does not know, and that reports are about to begin. It holds until
// [Store.Settle].
func (s *Store) RecallAgent(id string, state AgentState) {
	s.lock()
	defer s.mu.Unlock()
	if s.cold.recalled == nil {
		s.cold.recalled = map[string]AgentState{}
	}
	s.cold.recalled[id] = state
}

// CoolsAgent reports whether memory forgot an agent that the journal has not filed as a whole, and whether memory knows it.
func (s *Store) CoolsAgent(id string) (cools, known bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, cools = s.cold.agent(id)
	return cools, s.agents[id] != nil
}

// Cooling returns how many sessions the journal has to file before the store can do without them.
func (s *Store) Cooling() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.cold.rounds {
		n += len(r.sessions)
	}
	return n
}

// Preview returns what [Store.SessionInFull] would of a session that the journal holds, at the time now. ok is false where its retention is
// over.
func (s *Store) Preview(r *Restored, after *StatusPosition, limit int, now time.Time) (models.FleetSession, []models.Question, HistoryPage, bool) {
	alone := New(Options{
		DefaultTTL: s.opts.DefaultTTL, SessionRetention: s.opts.SessionRetention, Journaled: s.opts.Journaled,
		HistoryLimit: max(s.opts.HistoryLimit, len(r.Records)), HistoryMaxBytes: 1 << 40, MaxSessions: 1, EventWindow: 1,
	})
	alone.Restore(r, now)
	alone.Expire(now)
	return alone.SessionInFull(r.AgentID, r.Topic, after, limit)
}

// RetainedUntil returns until when a session with this state is remembered.
func (s *Store) RetainedUntil(state SessionState) time.Time {
	ttl := time.Duration(state.TTLMinutes) * time.Minute
	if state.Turn != nil && len(state.Turn.Open) > 0 {
		ttl = max(ttl, models.QuestionTTL)
	}
	return at(state.Updated).Add(ttl + s.opts.SessionRetention)
}
