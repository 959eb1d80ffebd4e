package recorder_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// BenchmarkApply measures how fast a server decodes and applies the messages of a stream, to a store and to a journal on
// the disk: messages of 10 and of 1,000 reports of 20,000 sessions in random order. It leaves out NATS, and the rest of
// the server.
func BenchmarkApply(b *testing.B) {
	const sessions = 20_000
	for _, size := range []int{10, 1000} {
		b.Run(fmt.Sprint(size, "-a-message"), func(b *testing.B) {
			reports := 200_000
			if testing.Short() {
				reports /= 20
			}
			opts := store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 40, MaxSessions: 1 << 20, Journaled: true, Replicated: true}
			st := store.New(opts)
			j, err := journal.Open(journal.Options{Dir: filepath.Join(b.TempDir(), "data"), Logger: slog.New(slog.DiscardHandler)})
			require.NoError(b, err)
			defer j.Close() //nolint:errcheck // what it holds does not matter
			require.NoError(b, j.Replay(background, st, opts.HistoryLimit, time.Now(), func(journal.Progress) {}))
			applier := recorder.NewApplier(recorder.NewSettler(st, j, metrics.New(st, "test")), journal.Position{}, recorder.ApplierOptions{
				Teams: func([]string) *store.Team { return nil }, Notes: func([]journal.Note) {}, Trouble: func(error) {},
			})
			sequence, now, rng := uint64(0), time.Now(), rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				b.StopTimer()
				var messages []string
				for range reports / size {
					messages = append(messages, message(rng, size, sessions, now))
				}
				b.StartTimer()
				for _, text := range messages {
					m, err := journal.DecodeMessage(text, journal.MessageVersion)
					require.NoError(b, err)
					sequence++
					now = now.Add(time.Millisecond)
					_, err = applier.Apply(background, m, journal.Position{Sequence: sequence, ID: fmt.Sprint(sequence), Time: now})
					require.NoError(b, err)
				}
			}
			b.ReportMetric(float64(b.N*reports)/b.Elapsed().Seconds(), "reports/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// message returns a message with reports of random sessions.
func message(rng *rand.Rand, size, sessions int, now time.Time) string {
	reports := make([]models.StatusReport, size)
	for i := range reports {
		n := rng.IntN(sessions)
		reports[i] = models.StatusReport{
			AgentID: fmt.Sprintf("host-%05d:claude", n/10), AgentName: "Backend refactor", AgentSource: "claude-code",
			SessionTopic: fmt.Sprintf("Fix flaky test in payment/checkout_test.go (%d)", n%10), Status: models.Running, Timestamp: now,
			Message: fmt.Sprintf("Running go test ./... (%d)", rng.IntN(1000)), TTLMinutes: 60,
			Content: strings.Repeat(fmt.Sprintf("Reading payment/checkout_test.go:%d\n", rng.IntN(2000)), rng.IntN(8)),
		}
	}
	m := journal.Message{Server: "hub", Requests: []journal.Request{{Reports: reports}}}
	return string(m.Encode(journal.MessageVersion))
}
