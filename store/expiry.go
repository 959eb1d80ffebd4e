package store

import (
	"math"
	"time"
)

// Expiry is what a run of [Store.Expire] did.
type Expiry struct {
	Expired int // sessions that expired
	Lost    int // those of them that were running or pending
	Removed int // expired sessions that were forgotten
}

// Expire brings the state to the time now: sessions past their TTL expire, and those expired for longer
// than the retention are forgotten. It costs what is due; where nothing is, it does not take the lock.
//
// It lets go of the lock again and again, so that many sessions due at once hold nobody up. Safe for
// concurrent use.
func (s *Store) Expire(now time.Time) Expiry {
	var total Expiry
	for s.due.Load() <= instant(now) {
		some := s.expireSome(instant(now))
		s.announce()
		total.Expired += some.Expired
		total.Lost += some.Lost
		total.Removed += some.Removed
	}
	return total
}

func (s *Store) expireSome(now int64) (e Expiry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	for work := 0; work < workPerLock; {
		se := s.deadlines.First()
		if se == nil || se.queuedAt > now {
			s.forgetSome(now, workPerLock-work, &e)
			break
		}
		s.unqueue(se)
		s.moveSession(se, se.source, se.updated, se.updatedSeq)
		s.enqueue(se)
		work++
		if se.class.flag() {
			a := se.agent
			s.moveAgent(a, a.source, a.lastSeen, a.seenSeq)
			s.note(Expired, se, now)
			work += 5
			e.Expired++
			if se.class.lost() {
				e.Lost++
			}
		}
	}
	s.due.Store(s.nextDue())
	s.expiredTotal += uint64(e.Expired)
	s.lostTotal += uint64(e.Lost)
	return e
}

// forgetSome forgets sessions whose retention is over, until it has done the work given or none is left. The
// caller holds s.mu.
func (s *Store) forgetSome(now int64, work int, e *Expiry) {
	for work > 0 {
		se := s.expired.First()
		if se == nil || s.retainedUntil(se) > now {
			return
		}
		work -= 5 + len(se.history)
		s.removeSession(se)
		s.bounds.SessionRetention++
		e.Removed++
	}
}

// retainedUntil returns when se, which is expired, is to be forgotten.
func (s *Store) retainedUntil(se *session) int64 {
	return se.queuedAt + int64(s.opts.SessionRetention)
}

// nextDue returns a lower bound of the next instant at which something is due. The caller holds s.mu.
func (s *Store) nextDue() int64 {
	due := int64(math.MaxInt64)
	if se := s.deadlines.First(); se != nil {
		due = se.queuedAt
	}
	if se := s.expired.First(); se != nil {
		due = min(due, s.retainedUntil(se))
	}
	return due
}

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
	expired := se.class.flag()
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
		s.expired.Insert(se)
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
		s.expired.Remove(se)
	}
	se.queued = inNone
}
