package notify

import (
	"slices"
	"time"
	_ "time/tzdata" // for machines without a time zone database, such as an empty container
)

// Quiet are hours of each day in which a rule does not notify anybody.
//
// They begin when the clock of the zone first shows From, and end when it last shows To. If the clock skips one of the
// two, as it does when daylight saving time begins, the time of the change takes its place.
type Quiet struct {
	From, To time.Duration // since midnight on the clock; To is exclusive, and on the next day if it is not after From
	Zone     *time.Location
	Drop     bool // notifications are dropped; otherwise they are held, and sent as one summary when the hours end
}

// EndOf reports whether at is in quiet hours, and when these end.
func (q *Quiet) EndOf(at time.Time) (end time.Time, quiet bool) {
	year, month, day := at.In(q.Zone).Date()
	for i := -1; i <= 1; i++ { // those of tomorrow count if the clock was set back at midnight
		from, to := q.hours(year, month, day+i)
		continues := quiet && !from.After(end) // the clock was set back between the hours of two days
		if !from.After(at) && at.Before(to) || continues {
			end, quiet = to, true
		}
	}
	return end, quiet
}

// hours returns the quiet hours that begin on a day: from is the first instant, to the first one after them.
func (q *Quiet) hours(year int, month time.Month, day int) (from, to time.Time) {
	from, _ = q.instants(year, month, day, q.From)
	if q.To <= q.From {
		day++
	}
	_, to = q.instants(year, month, day, q.To)
	return from, to
}

// instants returns the first and the last instant at which the clock of the zone shows a time. They differ if the clock
// is set back at that time. If the clock skips the time, both are the instant at which it does.
func (q *Quiet) instants(year int, month time.Month, day int, clock time.Duration) (first, last time.Time) {
	wanted := time.Date(year, month, day, 0, 0, int(clock.Seconds()), 0, time.UTC)
	near := time.Date(year, month, day, 0, 0, int(clock.Seconds()), 0, q.Zone)
	start, end := near.ZoneBounds()
	var shown []time.Time
	for _, at := range []time.Time{start.Add(-1), near, end} { // one with each offset that may be in force
		_, offset := at.In(q.Zone).Zone()
		if at := wanted.Add(-time.Duration(offset) * time.Second).In(q.Zone); wallClock(at).Equal(wanted) {
			shown = append(shown, at)
		}
	}
	switch {
	case len(shown) > 0:
		return slices.MinFunc(shown, time.Time.Compare), slices.MaxFunc(shown, time.Time.Compare)
	case wallClock(near).After(wanted):
		return start, start
	}
	return end, end
}

// wallClock returns what a clock shows at t, as if it were UTC.
func wallClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
