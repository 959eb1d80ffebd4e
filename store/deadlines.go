package store

import "math"

// queuedEarlier orders the sessions of a queue by the instant at which they are queued, then by agent and topic, which
// never change.
func queuedEarlier(a, b *session) bool {
	if a.queuedAt != b.queuedAt {
		return a.queuedAt < b.queuedAt
	}
	if a.agent != b.agent {
		return a.agent.id < b.agent.id
	}
	return a.topic < b.topic
}

// enqueue puts se into the queue for its next deadline. A renewed session keeps its earlier place in the deadlines, and
// moves only when that is reached, so that most reports don't move it. A pinned session that has expired is in no
// queue, so that it can't be forgotten. The caller holds s.mu.
func (s *Store) enqueue(se *session) {
	deadline := s.deadline(se)
	expired := se.class.expired()
	if se.queued == inDeadlines && !expired && se.queuedAt <= deadline || se.queued == inExpired && expired && se.queuedAt == deadline {
		return
	}
	s.unqueue(se)
	if expired && se.pinned {
		return // Settle enqueues it
	}
	se.queuedAt = deadline
	due := deadline
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

// deadline returns when the state of se changes by itself: when it expires or has expired or, if that is earlier, when
// its snooze ends. It does not depend on the time. The caller holds s.mu.
func (s *Store) deadline(se *session) int64 {
	if se.class.expired() {
		return se.expiry()
	}
	return min(se.expiry(), se.snoozeEnd())
}

// snoozeEnd returns when the snooze of se ends, or the maximum if there is none or its end has been dealt with.
func (se *session) snoozeEnd() int64 {
	t := se.turn
	if t == nil || t.acknowledged == nil || t.snoozedUntil == 0 || t.snoozeOver || t.acknowledged.Need != se.class.need() {
		return math.MaxInt64
	}
	return t.snoozedUntil
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

// firstExpired returns the session that expired longest ago, nil if there is none. The caller holds s.mu.
func (s *Store) firstExpired() (first *session) {
	for _, h := range s.holdings() {
		if se := h.expired.First(); se != nil && (first == nil || queuedEarlier(se, first)) {
			first = se
		}
	}
	return first
}

// retainedUntil returns when the retention of se, which has expired, ends. The caller holds the store's lock.
func (s *Store) retainedUntil(se *session) int64 {
	return se.queuedAt + int64(s.lifetimes.SessionRetention)
}
