package store

import "slices"

// add puts st into the history of its session, at place i. A status beyond the limit of the history is
// dropped: the oldest one, which may be st itself. Where statuses were dropped before, one that is older than
// all that are left is dropped too, so that the history has no gap. The caller holds s.mu.
func (s *Store) add(st *status, i int, idHash uint32) {
	se := st.session
	full := len(se.history) >= s.opts.HistoryLimit
	switch older := i == 0 && len(se.history) > 0; {
	case older && full:
		s.bounds.HistoryLimit++
		se.missing(st)
		return
	case older && se.dropped > 0:
		s.bounds.HistoryMaxBytes++
		se.missing(st)
		return
	case full:
		s.bounds.HistoryLimit++
		s.dropOldest(se)
		i--
	}
	se.history = slices.Insert(se.history, i, historyRef{st, idHash})
	se.countRun(i)
	s.setYield(se, true)
	se.agent.statuses.Insert(&statusInAgent, st)
	s.statuses++
	s.charge(se.agent, st.size())
}

// dropOldest takes the oldest status out of the history of se, which may be the only one for a moment.
// The caller holds s.mu.
func (s *Store) dropOldest(se *session) {
	se.missing(se.history[0].status)
	s.forget(se.history[0].status)
	se.history[0] = historyRef{}
	se.history = se.history[1:] // append makes a new array when this one is used up
	se.run = min(se.run, uint16(len(se.history)))
}

// missing notes that the history does not hold st, which it was to. The caller holds the store's lock.
func (se *session) missing(st *status) {
	se.dropped = max(se.dropped, st.sequence)
	a := se.agent
	if a.dropped == 0 || st.place().Compare(a.floor) > 0 {
		a.floor = st.place()
	}
	a.dropped = max(a.dropped, st.sequence)
}

// forget takes st out of everything but the history of its session. The caller holds s.mu.
func (s *Store) forget(st *status) {
	st.session.agent.statuses.Remove(&statusInAgent, st)
	s.statuses--
	s.charge(st.session.agent, -st.size())
}
