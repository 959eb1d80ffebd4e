package store

import (
	"math"
	"time"
)

// clockTolerance is how far receipts, which never come twice, may be ahead of the clock that gives them.
const clockTolerance = int64(time.Second)

// time returns the instant that expiry goes by at the time now, in nanoseconds.
func (s *Store) time(now time.Time) int64 { return instant(now) + s.shift.Load() }

// wall returns the time of the clock at an instant that expiry goes by.
func (s *Store) wall(t int64) time.Time { return at(t - s.shift.Load()) }

// ClockSetBack says that the clock was set back by so much: what was to expire in a minute still does.
func (s *Store) ClockSetBack(by time.Duration) {
	s.lock()
	defer s.mu.Unlock()
	s.shift.Add(int64(by))
}

// renewedAt returns the instant from which on the expiry of a session counts whose newest record was received then: the earlier of
// that and the time known. The caller holds s.mu.
func (s *Store) renewedAt(received int64) int64 {
	received += s.shift.Load()
	if s.now > 0 && received > s.now+clockTolerance {
		return s.now
	}
	return received
}

// instant returns t in Unix nanoseconds, held within what they can express.
func instant(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch seconds := t.Unix(); {
	case seconds < -limit:
		return math.MinInt64
	case seconds >= limit:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// at returns the instant ns as a time in UTC.
func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }
