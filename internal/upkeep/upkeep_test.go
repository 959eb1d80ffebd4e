package upkeep

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 10})
		st.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		m := metrics.New(st, "test")
		jobs := Jobs{Store: st, Recorder: recorder.New(st, nil, m), Metrics: m, Logger: slog.New(slog.DiscardHandler)}
		wg.Go(func() { jobs.Expire(ctx, time.Second) })
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, st.Summary().Sessions.Active)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, st.Summary().Sessions.Lost)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, st.Summary())
		cancel()
		wg.Wait()
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Contains(t, w.Body.String(), "kubeagents_expiry_run_duration_seconds_count 3661\n", "one per second")
	})
}

func TestClockSetBack(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		to            time.Time
		elapsed, want time.Duration
	}{
		"it advanced normally":                          {noon.Add(time.Second), time.Second, 0},
		"it was adjusted slightly":                      {noon.Add(100 * time.Millisecond), time.Second, 0},
		"it was set forward":                            {noon.Add(time.Hour), time.Second, 0},
		"it was set back by an hour":                    {noon.Add(time.Second - time.Hour), time.Second, time.Hour},
		"it was set back by less than the elapsed time": {noon.Add(time.Second), 3 * time.Second, 2 * time.Second},
		"it advanced while the machine was asleep":      {noon.Add(8 * time.Hour), time.Second, 0},
	} {
		require.Equal(t, test.want, clockSetBack(noon, test.to, test.elapsed), name)
	}
}
