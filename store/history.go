package store

import "slices"

// add inserts st into the history of its session at index i. If the history is full, its oldest status is dropped,
// which may be st itself. If statuses were dropped before, a status older than all that are left is dropped as well, so
// that the history has no gap. The caller holds s.mu.
func (s *Store) add(st *status, i int, idHash uint32) {
	se := st.session
	if s.opts.Replicated && i == len(se.history) && (i == 0 || se.current().kind != st.kind) {
		se.sinceSec, se.sinceNanos = st.sec, st.nsec
	}
	full := len(se.history) >= s.opts.HistoryLimit
	switch older := i == 0 && len(se.history) > 0; {
	case older && full:
		s.bounds.HistoryLimit++
		se.recordDropped(st)
		return
	case older && se.dropped > 0:
		s.bounds.HistoryMaxBytes++
		se.recordDropped(st)
		return
	case full:
		s.bounds.HistoryLimit++
		s.dropOldest(se)
		i--
	}
	se.history = slices.Insert(se.history, i, historyRef{st, idHash})
	se.updateRun(i)
	s.setDroppable(se, true)
	se.agent.statuses.Insert(&statusInAgent, st)
	s.statuses++
	s.charge(se.agent, st.size())
}

// dropOldest drops the oldest status from the history of se, which may be empty for a moment after that. The caller
// holds s.mu.
func (s *Store) dropOldest(se *session) {
	se.recordDropped(se.history[0].status)
	s.forget(se.history[0].status)
	se.history[0] = historyRef{}
	se.history = se.history[1:] // append allocates a new array once this one is used up
	se.runLength = min(se.runLength, uint16(len(se.history)))
}

// recordDropped records that st is missing from the history. The caller holds the store's lock.
func (se *session) recordDropped(st *status) {
	se.dropped = max(se.dropped, st.sequence)
	a := se.agent
	if a.dropped == 0 || st.place().Compare(a.floor) > 0 {
		a.floor = st.place()
	}
	a.dropped = max(a.dropped, st.sequence)
}

// forget removes st from everything except the history of its session. The caller holds s.mu.
func (s *Store) forget(st *status) {
	st.session.agent.statuses.Remove(&statusInAgent, st)
	s.statuses--
	s.charge(st.session.agent, -st.size())
}
