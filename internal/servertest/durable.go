package servertest

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// newDurableServer is newTestServer with a journal on fs, which is closed when the test ends or closeJournal is called.
// The server is ready for requests if replayed is true.
func (wiring Wiring) newDurableServer(t testing.TB, fs vfs.FS, replayed bool) (s *server, closeJournal func()) {
	t.Helper()
	st := store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: 168 * time.Hour, HistoryLimit: 100,
		HistoryMaxBytes: 512 << 20, MaxSessions: 1_000_000, EventWindow: 10_000, Journaled: true})
	logger := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: logger})
	require.NoError(t, err)
	m := metrics.New(st, "test")
	m.AddJournal(j)
	hub := startHub(t, st, m, live.Options{MaxSubscribers: 10_000, QueueSize: 5000})
	parts := handlers.Options{Store: st, Recorder: recorder.New(st, j, m), Journal: j, Hub: hub, Metrics: m, Logger: logger, Version: "test",
		Dashboard: newDashboard(t, st), Notifier: notify.New(notify.Options{Store: st, Box: j, Metrics: m, Logger: logger})}
	parts.Devices = newDevices(t, &parts, j, browsers{&phone{}})
	h := handlers.New(parts)
	require.NoError(t, j.Replay(t.Context(), st, 100, time.Now(), func(journal.Progress) {}))
	if replayed {
		h.SetReady()
	}
	closeJournal = sync.OnceFunc(func() { require.NoError(t, j.Close()) })
	t.Cleanup(closeJournal)
	return &server{store: st, handlers: h, Handler: wiring.Router(h, m, config.Config{CORSAllowedOrigins: config.Origins{"*"}})}, closeJournal
}

// TestPagingIntoTheJournal reads all pages of a history that is much longer than memory holds, while new reports
// arrive. Every entry must occur exactly once.
func (wiring Wiring) TestPagingIntoTheJournal(t *testing.T) {
	s, _ := wiring.newDurableServer(t, vfs.NewMem(), true)
	const entries = 5000
	number := 0
	more := func(n int) {
		var body bytes.Buffer
		for range n {
			fmt.Fprintf(&body, `{"agent_id":"a","session_topic":"t","status":"running","message":"%d"}`, number)
			number++
		}
		s.report(t, body.String())
	}
	for number < entries {
		more(500)
	}
	s.report(t, `{"agent_id":"a","session_topic":"other","status":"running","timestamp":"2001-01-01T00:00:00Z","message":"late"}`)
	for _, target := range []string{"/api/agents/a/sessions/t?limit=73", "/api/agents/a/status?limit=73"} {
		first := number
		var messages []string
		for target != "" {
			var page struct {
				StatusHistory []models.AgentStatus `json:"status_history"`
			}
			w := s.get(t, target, &page)
			for _, st := range page.StatusHistory {
				messages = append(messages, st.Message)
			}
			target = nextOf(w.Header())
			more(3)
		}
		if messages[len(messages)-1] == "late" {
			messages = messages[:len(messages)-1]
		}
		require.Len(t, messages, first)
		for i, message := range messages {
			require.Equal(t, strconv.Itoa(first-1-i), message)
		}
	}
}

// nextOf returns the target in the Link header, "" without one.
func nextOf(header http.Header) string {
	target, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	return target
}

// TestStartAfterDowntimeOrClockChange opens the journal of a server that accepted a report at another time and ran for
// one more minute. It checks the log, and when the session expires.
func (wiring Wiring) TestStartAfterDowntimeOrClockChange(t *testing.T) {
	for name, test := range map[string]struct {
		reported time.Duration // relative to the start
		log      string
		expires  time.Duration // relative to the start
	}{
		"the server was down for a minute":          {-2 * time.Minute, "", 28 * time.Minute},
		"the TTL ran out while the server was down": {-time.Hour, "sessions whose TTL ran out while the server was down get more time to report\" sessions=1", 10 * time.Minute},
		"the clock was set back by an hour":         {time.Hour, "the clock was set back: some sessions were last updated in the future; their TTL counts from now\" sessions=1", 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			fs, started := vfs.NewMem(), time.Now()
			open := func() (*store.Store, *journal.Journal) {
				j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(t, err)
				return store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 20, MaxSessions: 10, Journaled: true}), j
			}
			reported := started.Add(test.reported)
			st, j := open()
			require.NoError(t, j.Replay(t.Context(), st, 10, reported, func(journal.Progress) {}))
			_, err := recorder.New(st, j, metrics.New(st, "test")).Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, reported, nil)
			require.NoError(t, err)
			j.MarkAlive(reported.Add(time.Minute))
			require.NoError(t, j.Close())

			st, j = open()
			var log bytes.Buffer
			require.NoError(t, wiring.Replay(t.Context(), j, st, config.Config{HistoryLimit: 10}, slog.New(slog.NewTextHandler(&log, nil))))
			require.NoError(t, j.Close())
			for _, line := range []string{"more time", "set back"} {
				require.Equal(t, strings.Contains(test.log, line), strings.Contains(log.String(), line), log.String())
			}
			require.Contains(t, log.String(), test.log)
			se, _, ok := st.Session("a", "t", nil, 1)
			require.True(t, ok)
			require.False(t, se.Expired)
			require.WithinDuration(t, started.Add(test.expires), se.ExpiresAt, 10*time.Second)
		})
	}
}

// TestRenewalsSurviveARestart renews a session, alone and in a batch, before and after the server starts again. Each
// renewal counts, and none adds an entry.
func (wiring Wiring) TestRenewalsSurviveARestart(t *testing.T) {
	fs := vfs.NewMem()
	s, stop := wiring.newDurableServer(t, fs, true)
	report := func(more string) string {
		return `{"agent_id":"a","session_topic":"t","status":"running","message":"Go","report_id":"1"` + more + `}`
	}
	other := `{"agent_id":"a","session_topic":"other","status":"running"}`
	requireRenewed := func(body string, ttl int) {
		t.Helper()
		before := s.inFull(t).Session.LastUpdated
		w := s.do(http.MethodPost, "/webhook/status", body)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Empty(t, w.Header().Get("X-Ignored-Fields"))
		after := s.inFull(t)
		require.True(t, after.Session.LastUpdated.After(before))
		require.Equal(t, ttl, after.Session.TTLMinutes)
		require.Len(t, after.StatusHistory, 1)
	}
	s.report(t, report(`,"ttl_minutes":10`))
	requireRenewed(report(`,"renew":true,"ttl_minutes":20`), 20)
	requireRenewed("["+other+","+report(`,"renew":true,"ttl_minutes":30,"timestamp":"2001-01-01T00:00:00Z"`)+"]", 30)
	before := s.inFull(t)
	stop()
	s, _ = wiring.newDurableServer(t, fs, true)
	require.Equal(t, before, s.inFull(t))
	requireRenewed(report(`,"renew":true`), 30)
	w := s.do(http.MethodPost, "/webhook/status", report(`,"renew":"yes"`))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "renew must be true or false, not a string")
}

// sessionInFull is a session with its history.
type sessionInFull struct {
	Session       models.Session
	StatusHistory []models.AgentStatus `json:"status_history"`
}

// inFull returns the session "t" of the agent "a".
func (s *server) inFull(t testing.TB) (full sessionInFull) {
	t.Helper()
	s.get(t, "/api/agents/a/sessions/t", &full)
	return full
}
