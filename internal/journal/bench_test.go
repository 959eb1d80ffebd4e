package journal

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// reportBytes is the length of the JSON of a report as benchRecord makes it.
const reportBytes = 330

// scaled returns n, or a tenth of it with go test -short, which only checks that the benchmarks run.
func scaled(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// benchRecord returns the n-th report of a session. Each agent has ten sessions. Each session reports once a minute,
// and within a minute the sessions report in order.
func benchRecord(session, n int) models.Record {
	at := epoch.Add(time.Duration(n)*time.Minute + time.Duration(session)*time.Microsecond)
	return models.Record{Received: at, StatusReport: models.StatusReport{
		AgentID: fmt.Sprintf("host-%05d:claude", session/10), AgentName: "Backend refactor", AgentSource: "claude-code",
		SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", session%10), Status: models.Running, Timestamp: at,
		Message: fmt.Sprintf("Running go test ./... (%d)", n), Content: "Reading the repository\nWriting a regression test", TTLMinutes: 60,
	}}
}

// writeJournal creates a journal with a number of records for each session, and files them. It records the first report
// of all sessions, then the second of all sessions, and so on.
func writeJournal(b *testing.B, dir string, sessions, each int) {
	b.Helper()
	j, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	st := store.New(opts)
	require.NoError(b, j.Replay(b.Context(), st, 1, epoch, func(Progress) {}))
	records := make([]models.Record, 0, 1000)
	for n := range each {
		for session := range sessions {
			records = append(records, benchRecord(session, n))
			if len(records) == cap(records) || session == sessions-1 {
				require.NoError(b, j.Append(Commit{Records: records}, func() { st.Apply(records...) }))
				records = records[:0]
			}
		}
	}
	require.NoError(b, j.fileUpTo(uint64(sessions*each)))
	require.NoError(b, j.Close())
}

// BenchmarkStart measures how long it takes to open the journal and load it into a store, with ten reports in each of
// 25,000 and of 100,000 sessions.
func BenchmarkStart(b *testing.B) {
	var each [2]float64 // seconds per record
	for i, sessions := range []int{scaled(25_000), scaled(100_000)} {
		b.Run(fmt.Sprintf("%d-reports-of-%d-sessions", 10*sessions, sessions), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "data")
			writeJournal(b, dir, sessions, 10)
			for b.Loop() {
				st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 40, MaxSessions: 1 << 20, Journaled: true})
				j, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(b, err)
				require.NoError(b, j.Replay(b.Context(), st, 100, epoch, func(Progress) {}))
				b.StopTimer()
				require.Equal(b, 10*sessions, st.Stats().Statuses)
				require.NoError(b, j.Close())
				b.StartTimer()
			}
			each[i] = b.Elapsed().Seconds() / float64(b.N) / float64(10*sessions)
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
			b.ReportMetric(0, "ns/op")
			if i == 1 {
				b.ReportMetric(each[1]/each[0], "x_a_quarter") // 1 if the time is linear
			}
		})
	}
}

// BenchmarkPage measures reading a page of 100 entries: the first page after the records in memory, and one near the
// end of the history. It reads the history of a session with 100,000 records, and that of its agent, which has ten such
// sessions.
func BenchmarkPage(b *testing.B) {
	entries := scaled(100_000)
	dir := filepath.Join(b.TempDir(), "data")
	writeJournal(b, dir, 10, entries)
	j, st, err := openAndReplay(b, nil, dir)
	require.NoError(b, err)
	for _, of := range []string{"session", "agent"} {
		page := func(after *store.StatusPosition) *store.StatusPosition {
			var page store.HistoryPage
			page.Journaled = 1
			if of == "agent" {
				require.NoError(b, j.CompleteAgent("host-00000:claude", &page, after, 100))
			} else {
				require.NoError(b, j.CompleteSession(store.SessionKey{AgentID: "host-00000:claude", Topic: benchRecord(3, 0).SessionTopic}, &page, after, 100))
			}
			require.Len(b, page.Items, 100)
			return page.Next
		}
		first := func(n int) *store.StatusPosition { r := benchRecord(3, n); p := placeOf(&r); return &p }
		var took [2]float64
		for i, n := range []int{entries - 11, 500} {
			b.Run(of+[]string{"-first", "-last"}[i], func(b *testing.B) {
				for b.Loop() {
					page(first(n))
				}
				took[i] = b.Elapsed().Seconds() / float64(b.N)
				if i == 1 {
					b.ReportMetric(took[1]/took[0], "x_first")
				}
			})
		}
	}
	require.NotZero(b, st.Summary().Agents)
	require.NoError(b, j.Close())
}

// BenchmarkWriteAmplification measures how many bytes are written to disk per byte of report, until everything is filed
// and the engine has finished its compactions. It records 100 reports of each of 10,000 sessions, in commits of 100.
func BenchmarkWriteAmplification(b *testing.B) {
	sessions, each := scaled(10_000), 100
	for b.Loop() {
		j, st, err := openAndReplay(b, nil, filepath.Join(b.TempDir(), "data"))
		require.NoError(b, err)
		records := make([]models.Record, 0, 100)
		for n := range each {
			for session := range sessions {
				if records = append(records, benchRecord(session, n)); len(records) == cap(records) {
					record(b, j, st, records...)
					records = records[:0]
				}
			}
		}
		require.NoError(b, j.fileUpTo(uint64(sessions*each)))
		require.NoError(b, j.engine.db.Flush())
		for m := j.engine.db.Metrics(); m.Compact.NumInProgress > 0; m = j.engine.db.Metrics() {
			time.Sleep(10 * time.Millisecond)
		}
		stats := j.Stats()
		b.ReportMetric(float64(stats.WrittenBytes)/float64(sessions*each*reportBytes), "x_report")
		b.ReportMetric(float64(j.engine.db.Metrics().Total().TablesSize)/float64(sessions*each), "disk_B/report")
		require.NoError(b, j.Close())
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPresent measures what each commit pays to check that its directory and its log are still in place.
func BenchmarkPresent(b *testing.B) {
	j, _, err := openAndReplay(b, nil, b.TempDir())
	require.NoError(b, err)
	defer j.Close() //nolint:errcheck // nothing was written
	for b.Loop() {
		if err := j.engine.checkPresent(); err != nil {
			b.Fatal(err)
		}
	}
}
