package store

import (
	"math"
	"slices"
	"sort"
	"time"
)

// Pause is a time in which no report could reach the servers.
type Pause struct{ From, To time.Time }

// pause is a Pause in Unix nanoseconds.
type pause struct{ from, to int64 }

// maxPauses is the maximum number of pauses that are kept.
const maxPauses = 256

// Pause tells a replicated store that nobody could report between two messages: from is the time of the last message,
// and to is that of the next one. Running and pending sessions whose TTL runs out in between get their TTL from its end
// on, at most 10 minutes, and count as lost only after that. Pause publishes no [Change].
//
// The newest 256 pauses are kept. A session that an older one gave more time loses that time.
func (s *Store) Pause(from, to time.Time) {
	p, dropped := s.addPause(pause{unixNanos(from), unixNanos(to)})
	var start *session
	for more := true; more; yieldToWaiters() {
		start, more = s.extendSome(p, start)
	}
	if dropped == (pause{}) {
		return
	}
	var position *SessionPosition
	for more := true; more; yieldToWaiters() {
		position, more = s.shortenSome(dropped, position)
	}
}

// Pauses returns the pauses that are kept, in order.
func (s *Store) Pauses() (all []Pause) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.pauses {
		all = append(all, Pause{at(p.from), at(p.to)})
	}
	return all
}

// SetPauses sets the pauses of a replicated store that is about to be loaded, as [Store.Pauses] returned them.
func (s *Store) SetPauses(all []Pause) {
	s.lock()
	defer s.mu.Unlock()
	s.pauses = nil
	for _, p := range all {
		s.pauses = append(s.pauses, pause{unixNanos(p.From), unixNanos(p.To)})
	}
}

// addPause adds p, and returns it without the time in which sessions have expired already. If there are too many, it
// drops the oldest one and returns it too.
func (s *Store) addPause(p pause) (added, dropped pause) {
	s.lock()
	defer s.mu.Unlock()
	p.from = max(p.from, s.now)
	if p.to <= p.from {
		return p, pause{}
	}
	if n := len(s.pauses); n > 0 && s.pauses[n-1].to == p.to { // known from before the store was loaded
		return p, pause{}
	}
	if s.pauses = append(s.pauses, p); len(s.pauses) > maxPauses {
		dropped = s.pauses[0]
		s.pauses = slices.Delete(s.pauses, 0, 1)
	}
	return p, dropped
}

// pausedExpiry returns when a running or pending session expires that would do so at this instant without pauses. The
// caller holds s.mu.
func (s *Store) pausedExpiry(expiry, lifetime int64) int64 {
	first := sort.Search(len(s.pauses), func(i int) bool { return s.pauses[i].to >= expiry })
	for _, p := range s.pauses[first:] {
		if expiry <= p.from {
			break
		}
		if expiry <= p.to {
			expiry = p.to + min(lifetime, int64(downtimeGrace))
		}
	}
	return expiry
}

// pausedRenewal returns the start of the TTL of se, which was updated at this instant. It depends on nothing but the
// state of the session and the pauses, so it is the same if the session is restored. The caller holds s.mu.
func (s *Store) pausedRenewal(se *session, updated int64) int64 {
	n := len(s.pauses)
	if n == 0 || updated >= s.pauses[n-1].to || !se.current().kind.Unfinished() {
		return updated
	}
	lifetime := se.lifetime()
	return s.pausedExpiry(updated+lifetime, lifetime) - lifetime
}

// extendSome gives more time to some of the sessions whose TTL runs out in p, in the order of their deadlines, starting
// at a place in that order, nil for the beginning, under one hold of the lock. It returns the place after the last
// session examined, and whether there may be more. A place is a session that is in no queue.
func (s *Store) extendSome(p pause, start *session) (_ *session, more bool) {
	s.lock()
	defer s.mu.Unlock()
	if start == nil {
		start = &session{queuedAt: math.MinInt64, agent: new(agent)}
	}
	some := make([]*session, 0, workPerLock)
	next := s.deadlines.From(start)
	for se := next(); se != nil && se.queuedAt <= p.to && len(some) < workPerLock; se = next() {
		some = append(some, se)
	}
	if len(some) == 0 {
		return nil, false
	}
	last := some[len(some)-1]
	start = &session{queuedAt: last.queuedAt, agent: last.agent, topic: last.topic + "\x00"}
	for _, se := range some {
		if expiry := se.expiry(); p.from < expiry && expiry <= p.to {
			s.renewAgain(se)
		}
	}
	return start, true
}

// shortenSome takes the time back that a dropped pause gave to some sessions, in the order of their updates, starting
// after a position, under one hold of the lock. It returns the position reached, and whether there may be more.
func (s *Store) shortenSome(dropped pause, after *SessionPosition) (_ *SessionPosition, more bool) {
	s.lock()
	defer s.mu.Unlock()
	some := make([]*session, 0, workPerLock)
	for se := range s.sessionsFrom(SessionQuery{Oldest: true}, after) {
		if se.updated >= dropped.to || len(some) == workPerLock {
			break
		}
		some = append(some, se)
	}
	if len(some) == 0 {
		return nil, false
	}
	position := some[len(some)-1].position()
	for _, se := range some {
		s.renewAgain(se)
	}
	return &position, true
}

// renewAgain computes the start of the TTL of se anew. It does not expire se: the next message does. The caller holds
// s.mu.
func (s *Store) renewAgain(se *session) {
	renewed := s.pausedRenewal(se, se.updated)
	if renewed == se.renewed {
		return
	}
	se.renewed = renewed
	if se.class.expired() {
		s.moveSession(se, se.source, se.updated, se.updatedSeq)
	}
	s.unqueue(se)
	s.enqueue(se)
}
