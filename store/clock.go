package store

import (
	"math"
	"time"
)

// clockTolerance is how far receipt times, which are unique, may run ahead of the clock.
const clockTolerance = int64(time.Second)

// expiryTime returns now on the expiry clock, in nanoseconds: see Store.shift.
func (s *Store) expiryTime(now time.Time) int64 { return unixNanos(now) + s.shift.Load() }

// wallTime returns the wall-clock time of an instant on the expiry clock.
func (s *Store) wallTime(t int64) time.Time { return at(t - s.shift.Load()) }

// ClockSetBack tells the store that the clock was set back by this much. What would have expired in a minute still
// does. A replicated store has no clock of its own, and ignores it.
func (s *Store) ClockSetBack(by time.Duration) {
	if s.opts.Replicated {
		return
	}
	s.lock()
	defer s.mu.Unlock()
	s.shift.Add(int64(by))
}

// renewedAt returns the start of a session's TTL, on the expiry clock, if its newest record was received at received:
// that instant or, if it is in the future, the latest time known. In a replicated store it is always that instant. The
// caller holds s.mu.
func (s *Store) renewedAt(received int64) int64 {
	if s.opts.Replicated {
		return received
	}
	received += s.shift.Load()
	if s.now > 0 && received > s.now+clockTolerance {
		return s.now
	}
	return received
}

// unixNanos returns t in Unix nanoseconds, clamped to the range of int64.
func unixNanos(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch seconds := t.Unix(); {
	case seconds < -limit:
		return math.MinInt64
	case seconds >= limit:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// at returns the instant ns, in Unix nanoseconds, as a time in UTC.
func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }
