package store_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

const million = 1_000_000

// scaled returns n, or a twentieth of it with go test -short, which only checks that the benchmarks run.
func scaled(n int) int {
	if testing.Short() {
		return n / 20
	}
	return n
}

// fill makes st accept one report of about 300 bytes for each session, with perAgent sessions per agent. It spreads
// them over time, so that they don't all expire at once.
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
		st.Accept(nil, reports, now, nil)
	}
	return now
}

// BenchmarkMemory measures the live heap per session, among a million sessions with one report each.
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

// turnOfEvents returns the reports of the events of one turn of a tool: a prompt, a call and an answer.
func turnOfEvents(agent, id string, call uint64) []models.StatusReport {
	event := func(name string, status models.Status, message string, e models.Event) models.StatusReport {
		e.Name, e.FindByToolID, e.FirstName, e.FirstTitle = name, true, true, true
		return models.StatusReport{AgentID: agent, AgentName: "payments", AgentSource: "claude-code", AgentHost: "laptop", SessionTopic: id,
			Status: status, Message: message, Content: message, TTLMinutes: 60, Event: &e}
	}
	reports := []models.StatusReport{
		event("SessionStart", models.Idle, "Session started", models.Event{AppliesIn: models.Unknown}),
		event("UserPromptSubmit", models.Running, "Fix the flaky test in payment/checkout_test.go", models.Event{AppliesIn: models.Anywhere, Closes: models.ClosesAll}),
		event("PreToolUse", models.Running, "Bash: go test ./payment", models.Event{AppliesIn: models.Anywhere, CallIDHash: call, InputHash: 7, ResultHash: 7, Stage: models.CallStarts}),
		event("PostToolUse", models.Running, "Bash: go test ./payment", models.Event{AppliesIn: models.AtWork, CallIDHash: call, InputHash: 7, ResultHash: 7, Stage: models.CallEnds, Closes: models.ClosesOwn}),
		event("Stop", models.Success, "The test waited for a goroutine that nobody had started; it is fixed.", models.Event{AppliesIn: models.Anywhere, Closes: models.ClosesAll}),
	}
	reports[1].SessionTitle = reports[1].Message
	return reports
}

// BenchmarkMemoryOfEvents measures the live heap per session that a tool's events began, after one turn without a
// question.
func BenchmarkMemoryOfEvents(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		st := newStore(nil)
		now, random := epoch, rand.New(rand.NewPCG(1, 2))
		for n := range scaled(million) {
			id := fmt.Sprintf("%08x-5c1e-4a5e-9d2b-%012x", random.Uint32(), n)
			for _, report := range turnOfEvents(fmt.Sprintf("claude-code:payments-%d@laptop", n/10), id, uint64(n+1)) {
				st.Accept(nil, []models.StatusReport{report}, now, nil)
			}
			if n%1000 == 0 {
				now = now.Add(time.Minute / 1000)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(scaled(million)), "B/session")
		runtime.KeepAlive(st)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkExpireNoneDue measures a tick among a million sessions when none is due.
func BenchmarkExpireNoneDue(b *testing.B) {
	st := newStore(nil)
	now := fill(st, scaled(million), 10)
	for b.Loop() {
		st.Expire(now)
	}
}

// BenchmarkAcceptAmong measures reports to random sessions of a fleet, in batches of 100.
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
					n = (n + 7919) % sessions // far from the previous one
					batch[i] = models.StatusReport{AgentID: fmt.Sprintf("host-%06d:claude", n/10),
						SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10),
						Status:       models.Running, Timestamp: now, Message: "Running go test ./..."}
				}
				outcomes = st.Accept(nil, batch, now, outcomes[:0])
				stored += len(outcomes)
			}
			b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}

// BenchmarkRoom measures finding room for reports to random sessions of a fleet and giving it back, in batches of 100,
// beside admitting and settling the same reports in a replicated store. It leaves out making them durable and applying
// them.
func BenchmarkRoom(b *testing.B) {
	const sessions = 200_000
	steps := map[string]func(st *store.Store, batch []models.StatusReport){
		"room": func(st *store.Store, batch []models.StatusReport) {
			_, reservation := st.Room(nil, batch, nil)
			reservation.Release()
		},
		"admit": func(st *store.Store, batch []models.StatusReport) {
			var ad store.Admission
			st.Admit(nil, batch, epoch, &ad)
			st.Settle()
		},
	}
	for _, name := range []string{"room", "admit"} {
		b.Run(name, func(b *testing.B) {
			st := newReplicated(nil)
			now := fill(st, scaled(sessions), 10)
			batch := make([]models.StatusReport, 100)
			n, found := 0, 0
			for b.Loop() {
				for i := range batch {
					n = (n + 7919) % scaled(sessions) // far from the previous one
					batch[i] = models.StatusReport{AgentID: fmt.Sprintf("host-%06d:claude", n/10),
						SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10),
						Status:       models.Running, Timestamp: now, Message: fmt.Sprint("Running go test ", found)}
				}
				steps[name](st, batch)
				found += len(batch)
			}
			b.ReportMetric(float64(found)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}
