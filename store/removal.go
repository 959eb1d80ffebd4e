package store

import "time"

// RemoveSession forgets a session at the time now, whatever its state. ok is false where there is none. No report may wait
// between [Store.Admit] and [Store.Settle] meanwhile.
func (s *Store) RemoveSession(key SessionKey, now time.Time) (ok bool) {
	defer s.announce()
	s.lock()
	defer s.mu.Unlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	if se == nil {
		return false
	}
	s.now = max(s.now, s.time(now))
	s.removeSession(se)
	return true
}

// RemoveAgent forgets an agent at the time now, with all the sessions that it has by then, and returns how many these are:
// 0 where there is no such agent. What reports begin meanwhile stays. It lets go of the lock again and again. For
// reports that wait, the same holds as for [Store.RemoveSession].
func (s *Store) RemoveAgent(id string, now time.Time) (removed int) {
	s.mu.RLock()
	last := s.received
	s.mu.RUnlock()
	for {
		n := s.removeSome(id, s.time(now), last)
		if n == 0 {
			return removed
		}
		s.announce()
		removed += n
		giveWay()
	}
}

// removeSome forgets some sessions of an agent whose newest report was received at last or before, and returns how many.
func (s *Store) removeSome(id string, now, last int64) (removed int) {
	s.lock()
	defer s.mu.Unlock()
	a := s.agents[id]
	if a == nil {
		return 0
	}
	s.now = max(s.now, now)
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
