package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// TestOneHoldOfTheLockDoesALimitedAmountOfWork checks that bulk work handles a limited number of sessions per hold.
// BenchmarkHold measures how long a hold takes.
func TestOneHoldOfTheLockDoesALimitedAmountOfWork(t *testing.T) {
	const sessions = 5000
	s, now := holdStore(sessions)
	l := sessionLister(s, SessionQuery{Search: "nowhere to be found"}, s.view, SessionBytes)
	var page Page[models.Session, SessionPosition]
	var after *SessionPosition
	holds := 0
	for more := true; more; holds++ {
		after, more = l.addTo(&page, &s.mu, after, 100)
	}
	require.GreaterOrEqual(t, holds, sessions/scannedPerLock)

	expired, removed := 0, 0
	for _, at := range []int64{now + int64(90*time.Minute), now + int64(10*time.Hour)} {
		for s.due.Load() <= at {
			e := s.expireSome(at)
			require.LessOrEqual(t, e.Expired+e.Removed, workPerLock/5)
			expired += e.Expired
			removed += e.Removed
		}
	}
	require.Equal(t, []int{sessions, sessions}, []int{expired, removed})
	require.Zero(t, s.Summary())
}

// TestOthersRunBetweenHoldsOfTheLock sends reports while bulk work is under way, all on one processor. Usually one
// report gets through after each hold.
func TestOthersRunBetweenHoldsOfTheLock(t *testing.T) {
	const sessions = 5000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	many := func(now time.Time) []models.StatusReport {
		reports := make([]models.StatusReport, sessions)
		for n := range reports {
			reports[n] = models.StatusReport{AgentID: fmt.Sprintf("host-%06d:claude", n/10), AgentSource: "claude-code",
				SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10), Status: models.Pending, Timestamp: now, Message: "?"}
		}
		return reports
	}
	for name, c := range map[string]struct {
		holds int
		do    func(s *Store, now time.Time)
	}{
		"accept": {sessions * workPerReport / workPerLock, func(s *Store, now time.Time) { s.Accept(nil, many(now), now, nil) }},
		"admit":  {sessions * workPerReport / workPerLock, func(s *Store, now time.Time) { s.Admit(nil, many(now), now, new(Admission)) }},
		"apply": {sessions * workPerReport / workPerLock, func(s *Store, now time.Time) {
			var records []models.Record
			for i, r := range many(now) {
				records = append(records, models.Record{StatusReport: r, Sequence: 1_000_000 + uint64(i), Received: now.Add(time.Duration(i))})
			}
			s.Apply(records...)
		}},
		"expire": {sessions * 6 / workPerLock, func(s *Store, now time.Time) { s.Expire(now.Add(2 * time.Hour)) }},
		"remove": {sessions * 6 / workPerLock, func(s *Store, now time.Time) {
			reports := many(now)
			for i := range reports {
				reports[i].AgentID, reports[i].SessionTopic = "one", fmt.Sprint(i)
			}
			s.Accept(nil, reports, now, nil)
			require.Equal(t, sessions, s.RemoveAgent("one", now))
		}},
		"search": {sessions / scannedPerLock, func(s *Store, _ time.Time) {
			_, err := s.Sessions(context.Background(), SessionQuery{Search: "nowhere to be found"}, nil, 100)
			require.NoError(t, err)
		}},
		"set teams": {sessions / 10, // the sessions of one agent after another
			func(s *Store, _ time.Time) {
				s.SetTeams([]*Team{NewTeam(Share{}, func(string) bool { return true })})
			}},
	} {
		t.Run(name, func(t *testing.T) {
			s, began := holdStore(sessions)
			s.opts.MaxSessions = 3 * sessions
			now := at(began)
			var done atomic.Bool
			others, ended := 0, make(chan struct{})
			go func() {
				defer close(ended)
				for !done.Load() {
					s.Accept(nil, []models.StatusReport{{AgentID: "another", SessionTopic: "t", Status: models.Running}}, now, nil)
					others++
					runtime.Gosched()
				}
			}()
			c.do(s, now)
			done.Store(true)
			<-ended
			require.GreaterOrEqual(t, others, c.holds/2)
		})
	}
}

// BenchmarkHold measures how long bulk work holds the lock at a time. Each hold is one call of an unexported function,
// so it is measured in this package.
func BenchmarkHold(b *testing.B) {
	b.Run("expiry-of-100000", func(b *testing.B) {
		var holds []time.Duration
		for b.Loop() {
			s, now := holdStore(100_000)
			now += int64(90 * time.Minute)
			for s.due.Load() <= now {
				holds = append(holds, timed(func() { s.expireSome(now) }))
			}
			require.Equal(b, 100_000, s.Summary().Sessions.Lost)
		}
		reportHolds(b, holds)
	})
	b.Run("retention-of-100000", func(b *testing.B) {
		var holds []time.Duration
		for b.Loop() {
			s, now := holdStore(100_000)
			s.Expire(at(now + int64(90*time.Minute)))
			now += int64(10 * time.Hour)
			for s.due.Load() <= now {
				holds = append(holds, timed(func() { s.expireSome(now) }))
			}
			require.Zero(b, s.Summary())
		}
		reportHolds(b, holds)
	})
	b.Run("search-of-1000000", func(b *testing.B) {
		s, _ := holdStore(1_000_000)
		l := sessionLister(s, SessionQuery{Search: "nowhere to be found"}, s.view, SessionBytes)
		var holds []time.Duration
		for b.Loop() {
			var page Page[models.Session, SessionPosition]
			var after *SessionPosition
			for more := true; more; {
				holds = append(holds, timed(func() { after, more = l.addTo(&page, &s.mu, after, 100) }))
			}
			require.Empty(b, page.Items)
		}
		reportHolds(b, holds)
	})
}

// holdStore returns a store with this many sessions, all reported at the returned instant.
func holdStore(sessions int) (*Store, int64) {
	s := New(Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 40, MaxSessions: sessions})
	now := time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)
	for n := range sessions {
		s.Accept(nil, []models.StatusReport{{
			AgentID: fmt.Sprintf("host-%06d:claude", n/10), AgentName: "Backend refactor", AgentSource: "claude-code",
			SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10), Status: models.Running,
			Timestamp: now, Message: "Running go test ./...",
		}}, now, nil)
	}
	runtime.GC() // so that garbage from here is not collected during the measurement
	return s, unixNanos(now)
}

func timed(work func()) time.Duration {
	started := time.Now()
	work()
	return time.Since(started)
}

// reportHolds reports the longest hold and the 99.9th percentile. For comparison, it reports the longest of as many
// stretches of work without a lock, each as long as the median hold. This shows how long the machine itself interrupts
// a program.
func reportHolds(b *testing.B, holds []time.Duration) {
	slices.Sort(holds)
	median := holds[len(holds)/2]
	var idle time.Duration
	loops := 0
	for range holds {
		idle = max(idle, timed(func() {
			for started := time.Now(); time.Since(started) < median; loops++ {
				runtime.KeepAlive(loops)
			}
		}))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(holds[len(holds)*999/1000].Seconds()*1000, "ms_p99.9")
	b.ReportMetric(holds[len(holds)-1].Seconds()*1000, "ms_longest")
	b.ReportMetric(idle.Seconds()*1000, "ms_longest_idle")
}

// TestASearchReleasesTheLock searches long texts that almost match everywhere. Each hold searches a limited number of
// bytes.
func TestASearchReleasesTheLock(t *testing.T) {
	s := New(Options{DefaultTTL: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 30, MaxSessions: 10_000, EventWindow: 1})
	const sessions = 1000
	for i := range sessions {
		s.Accept(nil, []models.StatusReport{{AgentID: "a", Status: models.Running, SessionTopic: strings.Repeat("a", 490) + fmt.Sprint(i)}}, at(int64(time.Hour)), nil)
	}
	l := sessionLister(s, SessionQuery{Search: strings.Repeat("a", 250) + "b"}, s.view, SessionBytes)
	var page Page[models.Session, SessionPosition]
	var after *SessionPosition
	holds := 0
	for more := true; more; holds++ {
		after, more = l.addTo(&page, &s.mu, after, 100)
	}
	require.Empty(t, page.Items)
	require.GreaterOrEqual(t, holds, sessions*490/(searchedPerLock+500))
}
