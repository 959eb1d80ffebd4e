package notify_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// heapInUse returns the number of reachable bytes on the heap.
func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkTimers measures the memory that a notification takes that is not due yet, with a question of each of many
// sessions. It leaves out the session itself.
func BenchmarkTimers(b *testing.B) {
	sessions := 1_000_000
	if testing.Short() {
		sessions /= 50
	}
	for b.Loop() {
		st := store.New(store.Options{DefaultTTL: 24 * time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 1, HistoryMaxBytes: 64 << 30, MaxSessions: 2 * sessions, EventWindow: 100})
		n := notify.New(notify.Options{Store: st, Metrics: metrics.New(st, "test"), Logger: slog.New(slog.DiscardHandler), Link: func(store.SessionKey) string { return "" }})
		phone := &phone{}
		n.SetConfig(&notify.Config{Rules: []notify.Rule{rule(time.Hour, notify.Waits)}, Destinations: map[string]*notify.Destination{"phone": {Name: "phone", Sender: phone}}})
		reports := make([]models.StatusReport, 1)
		for i := range sessions {
			reports[0] = models.StatusReport{AgentID: fmt.Sprint("agent-", i/10), SessionTopic: fmt.Sprint("session-", i), Status: models.Pending}
			st.Accept(nil, reports, time.Now(), nil)
		}
		before := heapInUse()
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() {
			n.Run(ctx)
			close(done)
		}()
		require.Eventually(b, func() bool { return n.Planned() == sessions }, time.Minute, 10*time.Millisecond)
		b.ReportMetric(float64(heapInUse()-before)/float64(sessions), "B/timer")
		stop()
		<-done
		runtime.KeepAlive(st)
	}
	b.ReportMetric(0, "ns/op")
}
