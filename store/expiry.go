package store

import (
	"time"
)

// Expiry is what one call of [Store.Expire] did.
type Expiry struct {
	Expired int // sessions that expired
	Lost    int // those of Expired that were running or pending
	Removed int // expired sessions that were forgotten
}

// Expire brings the state up to the time now: sessions past their TTL expire, and sessions expired for longer than the
// retention are forgotten. Its cost depends only on what is due; if nothing is, it does not take the lock. It has no
// effect on a replicated store, whose time is that of its messages.
//
// It releases the lock regularly, so that many sessions due at once don't block others. Safe for concurrent use.
func (s *Store) Expire(now time.Time) Expiry {
	if s.opts.Replicated {
		return Expiry{}
	}
	return s.expire(now)
}

func (s *Store) expire(now time.Time) Expiry {
	var total Expiry
	for s.due.Load() <= s.expiryTime(now) {
		some := s.expireSome(s.expiryTime(now))
		s.announce()
		total.Expired += some.Expired
		total.Lost += some.Lost
		total.Removed += some.Removed
		yieldToWaiters()
	}
	return total
}

// expireSome deals with sessions in the order of their deadlines. A session that is queued for an earlier instant than
// its deadline is queued again.
func (s *Store) expireSome(now int64) (e Expiry) {
	s.lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	for work := 0; work < workPerLock; work++ {
		se := s.deadlines.First()
		if se == nil || se.queuedAt > now {
			s.forgetSome(now, workPerLock-work, &e)
			break
		}
		if s.unqueue(se); s.deadline(se) > se.queuedAt {
			s.enqueue(se)
			continue
		}
		if s.reach(se, now); se.class.expired() {
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

// reach deals with a session whose deadline is reached: it expires, or its snooze ends. The caller holds s.mu, and has
// taken se out of its queue.
func (s *Store) reach(se *session, now int64) {
	snoozed := se.snoozeEnd() <= now
	s.moveSession(se, se.source, se.updated, se.updatedSeq)
	if snoozed {
		se.turn.snoozeOver = true
	}
	s.enqueue(se)
	switch {
	case se.class.expired():
		a := se.agent
		s.moveAgent(a, a.source, a.lastSeen, a.seenSeq)
		s.addChange(Expired, se, s.wallTime(now))
	case snoozed && se.attention != nil:
		s.addChange(Acknowledged, se, s.wallTime(now))
	}
}

// forgetSome forgets sessions whose retention has ended, until the given amount of work is done or none is left. The
// caller holds s.mu.
func (s *Store) forgetSome(now int64, work int, e *Expiry) {
	for work > 0 {
		se := s.firstExpired()
		if se == nil || s.retainedUntil(se) > now {
			return
		}
		work -= 5 + len(se.history) + len(s.teams.sets)/64
		s.removeSession(se)
		s.bounds.SessionRetention++
		e.Removed++
	}
}
