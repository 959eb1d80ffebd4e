package store

import "math"

// queuedEarlier orders the sessions of a queue by the instant at which they are queued. Agent and topic, which never
// change, tell apart those of the same instant.
func queuedEarlier(a, b *session) bool {
	if a.queuedAt != b.queuedAt {
		return a.queuedAt < b.queuedAt
	}
	if a.agent != b.agent {
		return a.agent.id < b.agent.id
	}
	return a.topic < b.topic
}

// enqueue puts se where its expiry is seen to. A renewed session keeps its place in the deadlines, which
// comes too early then: it finds its new one when that is reached, so that most reports need not move
// it. A pinned session that is expired stands in no queue, so that nothing forgets it. The caller holds s.mu.
func (s *Store) enqueue(se *session) {
	expiry := se.expiry()
	expired := se.class.expired()
	if se.queued == inDeadlines && !expired && se.queuedAt <= expiry || se.queued == inExpired && expired && se.queuedAt == expiry {
		return
	}
	s.unqueue(se)
	if expired && se.pinned {
		return // until Settle
	}
	se.queuedAt = expiry
	due := expiry
	if expired {
		se.queued = inExpired
		s.holdingOf(se.teams.of()).expired.Insert(se)
		due = s.retainedUntil(se)
	} else {
		se.queued = inDeadlines
		s.deadlines.Insert(se)
	}
	if due < s.due.Load() {
		s.due.Store(due)
	}
}

// unqueue takes se out of its queue. The caller holds s.mu.
func (s *Store) unqueue(se *session) {
	switch se.queued {
	case inDeadlines:
		s.deadlines.Remove(se)
	case inExpired:
		s.holdingOf(se.teams.of()).expired.Remove(se)
	}
	se.queued = inNone
}

// nextDue returns a lower bound of the next instant at which something is due. The caller holds s.mu.
func (s *Store) nextDue() int64 {
	due := int64(math.MaxInt64)
	if se := s.deadlines.First(); se != nil {
		due = se.queuedAt
	}
	if se := s.firstExpired(); se != nil {
		due = min(due, s.retainedUntil(se))
	}
	return due
}

// firstExpired returns the session that expired longest ago, nil where none has. The caller holds s.mu.
func (s *Store) firstExpired() (first *session) {
	for _, h := range s.holdings() {
		if se := h.expired.First(); se != nil && (first == nil || queuedEarlier(se, first)) {
			first = se
		}
	}
	return first
}

// retainedUntil returns when se, which is expired, is to be forgotten.
func (s *Store) retainedUntil(se *session) int64 {
	return se.queuedAt + int64(s.opts.SessionRetention)
}
