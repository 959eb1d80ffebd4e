package store

import (
	"math"
	"time"
)

// RemoveSession forgets a session at the time now, whatever its state. ok is false if there is no such session. No
// report may be between [Store.Admit] and [Store.Settle] during the call. A replicated store ignores now.
func (s *Store) RemoveSession(key SessionKey, now time.Time) (ok bool) {
	defer s.announce()
	s.lock()
	defer s.mu.Unlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	if se == nil {
		return false
	}
	s.advance(now)
	s.removeSession(se)
	return true
}

// RemoveAgent forgets an agent at the time now, with all the sessions that it has by then, and returns their number: 0
// if there is no such agent. Sessions that begin meanwhile stay. It releases the lock regularly. No report may be
// between [Store.Admit] and [Store.Settle] during the call. A replicated store ignores now.
func (s *Store) RemoveAgent(id string, now time.Time) (removed int) {
	s.mu.RLock()
	last := s.received
	s.mu.RUnlock()
	if s.opts.Replicated {
		last = math.MaxInt64 // no session begins while a message is applied
	}
	for {
		n := s.removeSome(id, now, last)
		if n == 0 {
			return removed
		}
		s.announce()
		removed += n
		yieldToWaiters()
	}
}

// removeSome forgets some sessions of an agent whose newest report was received at last or earlier, and returns their
// number.
func (s *Store) removeSome(id string, now time.Time, last int64) (removed int) {
	s.lock()
	defer s.mu.Unlock()
	a := s.agents[id]
	if a == nil {
		return 0
	}
	s.advance(now)
	var some []*session
	next := a.sessions.Before(&sessionInAgent, nil)
	for work := 0; work < workPerLock; {
		se := next()
		if se == nil {
			break
		}
		if se.updated <= last {
			some = append(some, se)
			work += 5 + len(se.history)
		}
	}
	for _, se := range some {
		s.removeSession(se)
	}
	return len(some)
}
