package notify_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// quietHours returns quiet hours from and to a time such as 22:00.
func quietHours(t require.TestingT, zone, from, to string) *notify.Quiet {
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	return &notify.Quiet{From: sinceMidnight(t, from), To: sinceMidnight(t, to), Zone: location}
}

func sinceMidnight(t require.TestingT, clock string) time.Duration {
	at, err := time.Parse("15:04", clock)
	require.NoError(t, err)
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
}

func TestQuietHours(t *testing.T) {
	const (
		berlin, newYork, lordHowe = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
		apia, stJohns             = "Pacific/Apia", "America/St_Johns"
	)
	for name, c := range map[string]struct {
		zone, from, to string
		at, end        string // end is "" if at is not in quiet hours
	}{
		"before they begin":      {berlin, "22:00", "07:00", "2026-01-10T21:59:59+01:00", ""},
		"when they begin":        {berlin, "22:00", "07:00", "2026-01-10T22:00:00+01:00", "2026-01-11T07:00:00+01:00"},
		"before midnight":        {berlin, "22:00", "07:00", "2026-01-10T23:59:59+01:00", "2026-01-11T07:00:00+01:00"},
		"after midnight":         {berlin, "22:00", "07:00", "2026-01-11T00:00:00+01:00", "2026-01-11T07:00:00+01:00"},
		"at the last moment":     {berlin, "22:00", "07:00", "2026-01-11T06:59:59+01:00", "2026-01-11T07:00:00+01:00"},
		"when they end":          {berlin, "22:00", "07:00", "2026-01-11T07:00:00+01:00", ""},
		"across the year's end":  {berlin, "22:00", "07:00", "2026-12-31T22:30:00+01:00", "2027-01-01T07:00:00+01:00"},
		"within a day":           {berlin, "12:00", "13:30", "2026-01-10T13:00:00+01:00", "2026-01-10T13:30:00+01:00"},
		"after those of a day":   {berlin, "12:00", "13:30", "2026-01-10T13:30:00+01:00", ""},
		"until midnight":         {berlin, "20:00", "00:00", "2026-01-10T23:00:00+01:00", "2026-01-11T00:00:00+01:00"},
		"from midnight":          {berlin, "00:00", "06:00", "2026-01-10T00:00:00+01:00", "2026-01-10T06:00:00+01:00"},
		"in another zone's time": {newYork, "22:00", "07:00", "2026-01-11T06:00:00+01:00", "2026-01-11T07:00:00-05:00"},

		// On 29 March 2026, the clock of Berlin goes from 02:00 to 03:00; on 25 October, from 03:00 to 02:00.
		"a night that is an hour shorter":           {berlin, "22:00", "07:00", "2026-03-28T23:00:00+01:00", "2026-03-29T07:00:00+02:00"},
		"the end is skipped":                        {berlin, "22:00", "02:30", "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"},
		"after the end that is skipped":             {berlin, "22:00", "02:30", "2026-03-29T03:00:00+02:00", ""},
		"before the beginning that is skipped":      {berlin, "02:30", "07:00", "2026-03-29T01:59:59+01:00", ""},
		"the beginning is skipped":                  {berlin, "02:30", "07:00", "2026-03-29T03:00:00+02:00", "2026-03-29T07:00:00+02:00"},
		"all of them are skipped":                   {berlin, "02:10", "02:50", "2026-03-29T03:00:00+02:00", ""},
		"a night that is an hour longer":            {berlin, "22:00", "07:00", "2026-10-24T23:00:00+02:00", "2026-10-25T07:00:00+01:00"},
		"the end comes twice":                       {berlin, "22:00", "02:30", "2026-10-25T02:29:00+02:00", "2026-10-25T02:30:00+01:00"},
		"between two ends":                          {berlin, "22:00", "02:30", "2026-10-25T02:45:00+02:00", "2026-10-25T02:30:00+01:00"},
		"after the second end":                      {berlin, "22:00", "02:30", "2026-10-25T02:30:00+01:00", ""},
		"the beginning comes twice":                 {berlin, "02:30", "07:00", "2026-10-25T02:30:00+02:00", "2026-10-25T07:00:00+01:00"},
		"before the second beginning":               {berlin, "02:30", "07:00", "2026-10-25T02:15:00+01:00", "2026-10-25T07:00:00+01:00"},
		"the next day's begin before the last ends": {berlin, "02:45", "02:15", "2026-10-25T02:10:00+02:00", "2026-10-26T02:15:00+01:00"},

		// On 8 March 2026, the clock of New York goes from 02:00 to 03:00; on 1 November, from 02:00 to 01:00.
		"New York in spring":              {newYork, "22:00", "02:30", "2026-03-07T23:00:00-05:00", "2026-03-08T03:00:00-04:00"},
		"New York in autumn":              {newYork, "22:00", "01:30", "2026-11-01T01:45:00-04:00", "2026-11-01T01:30:00-05:00"},
		"New York after that":             {newYork, "22:00", "01:30", "2026-11-01T01:30:00-05:00", ""},
		"seen from Berlin on another day": {newYork, "20:00", "21:00", "2026-11-01T01:59:59+01:00", "2026-10-31T21:00:00-04:00"},

		// On 4 October 2026, the clock of Lord Howe Island goes from 02:00 to 02:30; on 5 April, from 02:00 to 01:30.
		"Lord Howe, the end is skipped":  {lordHowe, "22:00", "02:15", "2026-10-04T01:59:00+10:30", "2026-10-04T02:30:00+11:00"},
		"Lord Howe, after that":          {lordHowe, "22:00", "02:15", "2026-10-04T02:30:00+11:00", ""},
		"Lord Howe, the end comes twice": {lordHowe, "22:00", "01:45", "2026-04-05T01:50:00+11:00", "2026-04-05T01:45:00+10:30"},

		// Samoa had no 30 December 2011: the clock went from the end of the 29th to the beginning of the 31st.
		"a day that is skipped":       {apia, "22:00", "07:00", "2011-12-29T23:00:00-10:00", "2011-12-31T07:00:00+14:00"},
		"after a day that is skipped": {apia, "22:00", "07:00", "2011-12-31T07:00:00+14:00", ""},

		// In Newfoundland, the clock went from 00:01 on 7 November 2010 back to 23:01 on the 6th.
		"a day that begins twice":           {stJohns, "23:50", "23:40", "2010-11-07T00:00:30-02:30", "2010-11-07T23:40:00-03:30"},
		"before a day begins again":         {stJohns, "00:00", "07:00", "2010-11-06T23:30:00-03:30", "2010-11-07T07:00:00-03:30"},
		"after the end on the day before":   {stJohns, "12:00", "23:30", "2010-11-07T00:00:30-02:30", "2010-11-06T23:30:00-03:30"},
		"the end on a day that comes again": {stJohns, "12:00", "23:30", "2010-11-06T23:30:00-03:30", ""},

		// These were set back for good.
		"Moscow, the beginning comes twice": {"Europe/Moscow", "01:30", "07:00", "2014-10-26T01:30:00+04:00", "2014-10-26T07:00:00+03:00"},
		"Caracas, the end comes twice":      {"America/Caracas", "22:00", "02:45", "2007-12-09T02:50:00-04:00", "2007-12-09T02:45:00-04:30"},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.at)
			require.NoError(t, err)
			end, quiet := quietHours(t, c.zone, c.from, c.to).EndOf(at)
			require.Equal(t, c.end != "", quiet)
			if quiet {
				require.Equal(t, c.end, end.Format(time.RFC3339))
			}
		})
	}
}

// TestQuietHoursFollowTheClock compares quiet hours around changes of the clock with what one sees who watches the clock
// minute by minute.
func TestQuietHoursFollowTheClock(t *testing.T) {
	changes := map[string]string{ // an instant near which the clock of a zone changes
		"Europe/Berlin": "2026-03-29T01:00:00Z", "Europe/London": "2026-10-25T01:00:00Z", "America/New_York": "2026-11-01T06:00:00Z",
		"Australia/Lord_Howe": "2026-04-04T15:00:00Z", "America/Havana": "2026-03-08T05:00:00Z", "Asia/Kathmandu": "2026-01-01T00:00:00Z",
		"Europe/Moscow": "2014-10-25T22:00:00Z", "America/Caracas": "2007-12-09T07:00:00Z", "America/St_Johns": "2010-11-07T02:31:00Z",
		"Pacific/Apia": "2011-12-30T10:00:00Z", "Africa/Casablanca": "2026-02-15T02:00:00Z", "UTC": "2026-01-01T00:00:00Z",
	}
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(slices.Sorted(maps.Keys(changes))).Draw(t, "zone")
		change, err := time.Parse(time.RFC3339, changes[zone])
		require.NoError(t, err)
		clock := rapid.OneOf(rapid.IntRange(0, 4*60), rapid.IntRange(0, 24*60-1))
		from, to := clock.Draw(t, "from"), clock.Draw(t, "to")
		if from == to {
			return
		}
		q := quietHours(t, zone, "00:00", "00:00")
		q.From, q.To = time.Duration(from)*time.Minute, time.Duration(to)*time.Minute
		at := change.Add(time.Duration(rapid.IntRange(-30*60, 30*60).Draw(t, "minutes")) * time.Minute)

		watched := watch(q, change)
		want := at
		for watched[want] {
			want = want.Add(time.Minute)
		}
		end, quiet := q.EndOf(at)
		require.Equal(t, watched[at], quiet, "quiet at %s", at.In(q.Zone))
		if quiet {
			require.Equal(t, want.In(q.Zone).String(), end.String(), "end of what is quiet at %s", at.In(q.Zone))
		}
	})
}

// watch returns the minutes within five days of change that are in quiet hours.
func watch(q *notify.Quiet, change time.Time) map[time.Time]bool {
	minutes := map[time.Time]bool{}
	begin := change.Add(-5 * 24 * time.Hour)
	day := begin.In(q.Zone)
	for i := range 10 {
		first := time.Date(day.Year(), day.Month(), day.Day()+i, 0, 0, 0, 0, time.UTC).Add(q.From)
		last := first.Add((q.To - q.From + 24*time.Hour) % (24 * time.Hour))
		var from, to time.Time
		for at := begin; at.Before(change.Add(5 * 24 * time.Hour)); at = at.Add(time.Minute) {
			_, offset := at.In(q.Zone).Zone()
			shown := at.Add(time.Duration(offset) * time.Second)
			if from.IsZero() && !shown.Before(first) {
				from = at
			}
			if shown.Equal(last) || to.IsZero() && shown.After(last) {
				to = at
			}
		}
		for at := from; at.Before(to); at = at.Add(time.Minute) {
			minutes[at] = true
		}
	}
	return minutes
}
