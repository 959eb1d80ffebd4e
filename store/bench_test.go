package store_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

const million = 1_000_000

// scaled returns n, or a twentieth where a benchmark runs to see that it does (go test -short).
func scaled(n int) int {
	if testing.Short() {
		return n / 20
	}
	return n
}

// fill has st accept one report of some 300 bytes for each of as many sessions, perAgent of them for an
// agent, a minute's worth at a time so that they do not all expire at once.
func fill(st *store.Store, sessions, perAgent int) (now time.Time) {
	now = epoch
	reports := make([]models.StatusReport, 0, 1000)
	for n := 0; n < sessions; {
		reports = reports[:0]
		for ; len(reports) < cap(reports) && n < sessions; n++ {
			reports = append(reports, models.StatusReport{
				AgentID:      fmt.Sprintf("host-%06d:claude", n/perAgent),
				AgentName:    "Backend refactor",
				AgentSource:  "claude-code",
				SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%perAgent),
				Status:       models.Running,
				Timestamp:    now,
				Message:      "Running go test ./...",
				Content:      "Reading the repository\nWriting a regression test",
				TTLMinutes:   60,
			})
		}
		st.Accept(reports, now, nil)
	}
	return now
}

// BenchmarkMemory measures what a session with one report takes, of the live heap, among a million.
func BenchmarkMemory(b *testing.B) {
	for _, perAgent := range []int{10, 1} {
		b.Run(fmt.Sprintf("%d-sessions-an-agent", perAgent), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				st := newStore(nil)
				fill(st, scaled(million), perAgent)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(scaled(million)), "B/session")
				runtime.KeepAlive(st)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkExpireNoneDue measures a tick among a million sessions of which none is due.
func BenchmarkExpireNoneDue(b *testing.B) {
	st := newStore(nil)
	now := fill(st, scaled(million), 10)
	for b.Loop() {
		st.Expire(now)
	}
}

// BenchmarkAcceptAmong measures a report to any session of a fleet, in batches of 100.
func BenchmarkAcceptAmong(b *testing.B) {
	for _, sessions := range []int{2_000, scaled(200_000), scaled(million)} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			st := newStore(nil)
			now := fill(st, sessions, 10)
			batch := make([]models.StatusReport, 100)
			n, stored := 0, 0
			var outcomes []store.Outcome
			for b.Loop() {
				for i := range batch {
					n = (n + 7919) % sessions // far from the one before
					batch[i] = models.StatusReport{AgentID: fmt.Sprintf("host-%06d:claude", n/10),
						SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10),
						Status:       models.Running, Timestamp: now, Message: "Running go test ./..."}
				}
				outcomes = st.Accept(batch, now, outcomes[:0])
				stored += len(outcomes)
			}
			b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}
