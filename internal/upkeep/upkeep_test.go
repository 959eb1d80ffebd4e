package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// testJobs are jobs, and a client that reports.
type testJobs struct{ Jobs }

// newJobs returns jobs for a store with some options, and the journal on fs that they have. Without fs, there is none.
func newJobs(t *testing.T, opts store.Options, fs vfs.FS) (testJobs, *journal.Journal) {
	opts.HistoryLimit, opts.HistoryMaxBytes, opts.Journaled = 10, 64<<20, fs != nil
	opts.MaxSessions = cmp.Or(opts.MaxSessions, 10)
	st, logger := store.New(opts), slog.New(slog.DiscardHandler)
	m := metrics.New(st, "test")
	var j *journal.Journal
	if fs != nil {
		var err error
		j, err = journal.Open(journal.Options{Dir: "data", FS: fs, Logger: logger})
		require.NoError(t, err)
		require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, time.Now(), func(journal.Progress) {}))
		t.Cleanup(func() { require.NoError(t, j.Close()) })
	}
	return testJobs{Jobs{Store: st, Recorder: recorder.New(st, j, m), Metrics: m, Logger: logger}}, j
}

// report reports that a session is running.
func (j testJobs) report(t *testing.T, topic string) store.Outcome {
	t.Helper()
	outcomes, err := j.Recorder.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: topic, Status: models.Running}}, time.Now(), nil)
	require.NoError(t, err)
	return outcomes[0]
}

// start runs a job until stop is called.
func start(t *testing.T, job func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { job(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs, _ := newJobs(t, store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour}, nil)
		jobs.report(t, "t")
		stop := start(t, func(ctx context.Context) { jobs.Expire(ctx, time.Second) })
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, jobs.Store.Summary().Sessions.Active)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, jobs.Store.Summary().Sessions.Lost)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, jobs.Store.Summary())
		stop()
		w := httptest.NewRecorder()
		jobs.Metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Contains(t, w.Body.String(), "kubeagents_expiry_run_duration_seconds_count 3661\n", "one per second")
	})
}

// TestSessionsExpireThoughTheClockWasSetBack sets the clock back by an hour while a session has 50 seconds left.
func TestSessionsExpireThoughTheClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		jobs, _ := newJobs(t, store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour}, nil)
		jobs.Logger = slog.New(slog.NewTextHandler(&log, nil))
		jobs.report(t, "t")
		setBack := time.Now().Add(10 * time.Second)
		jobs.clock = func(now time.Time) time.Time {
			if now.Before(setBack) {
				return now
			}
			return now.Add(-time.Hour)
		}
		stop := start(t, func(ctx context.Context) { jobs.Expire(ctx, time.Second) })
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, jobs.Store.Summary().Sessions.Active)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, jobs.Store.Summary().Sessions.Lost)
		stop()
		require.Equal(t, 1, bytes.Count(log.Bytes(), []byte(`msg="the clock was set back: sessions expire as if it had not been" by=1h0m0s`)), &log)
	})
}

// TestForgottenSessionsGoFromDisk has memory forget a session for lack of room. The journal must keep it until its
// retention is over, and no longer.
func TestForgottenSessionsGoFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs, j := newJobs(t, store.Options{DefaultTTL: time.Minute, SessionRetention: 2 * time.Hour, MaxSessions: 1}, vfs.NewMem())
		jobs.report(t, "forgotten")
		time.Sleep(2 * time.Minute)
		jobs.Recorder.Expire(time.Now())
		jobs.report(t, "kept")
		require.False(t, jobs.Store.Has(store.SessionKey{AgentID: "a", Topic: "forgotten"}))
		require.NoError(t, j.File())
		onDisk := func() (topics []string) {
			require.NoError(t, j.EachFiled(t.Context(), func(f journal.Filed) error {
				topics = slices.AppendSeq(topics, maps.Keys(f.Sessions))
				return nil
			}))
			slices.Sort(topics)
			return topics
		}
		stop := start(t, func(ctx context.Context) { jobs.TrimHistory(ctx, 100*time.Minute) }) // once a minute
		time.Sleep(2*time.Hour - 2*time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"forgotten", "kept"}, onDisk())
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"kept"}, onDisk())
		stop()
	})
}

// TestDiskUseIsMeasured checks when the use of the disk is measured: at the start and every five seconds.
func TestDiskUseIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 256 << 20
		jobs, _ := newJobs(t, store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour, DataMaxBytes: bound}, vfs.NewMem())
		measured := func() bool {
			outcome := jobs.report(t, "t")
			jobs.Store.SetDiskUse(store.DiskUse{Total: bound}) // until the next measurement
			return outcome == store.Stored
		}
		measured()
		require.False(t, measured())
		stop := start(t, jobs.MeasureDisk)
		synctest.Wait()
		require.True(t, measured(), "at the start")
		for range 3 {
			time.Sleep(5*time.Second - time.Millisecond)
			synctest.Wait()
			require.False(t, measured(), "not yet")
			time.Sleep(time.Millisecond)
			synctest.Wait()
			require.True(t, measured())
		}
		stop()
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
