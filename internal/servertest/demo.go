package servertest

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/demo/workday"
	"github.com/kubeagents/kubeagents/models"
)

// TestTheDemo watches an hour of the demo's fleet. Every event must be accepted, and known to the adapter of its tool.
// Each minute, the API must show what package workday promises.
func (wiring Wiring) TestTheDemo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
		opens := time.Now()
		day := workday.New(1, opens)
		require.NoError(t, day.Record(s.handlers.Recorder, opens))
		e, sent := day.Next(), 0
		for minute := range 61 {
			for now := opens.Add(time.Duration(minute) * time.Minute); !e.At.After(now); e = day.Next() {
				time.Sleep(time.Until(e.At))
				w := s.do(http.MethodPost, e.Path, string(e.Body), "X-Agent-Host: "+e.Host)
				require.Equal(t, http.StatusOK, w.Code, "%s %s: %s", e.Path, e.Body, w.Body)
				require.Empty(t, w.Header().Get("X-Ignored-Fields"))
				sent++
			}
			time.Sleep(time.Until(opens.Add(time.Duration(minute) * time.Minute)))
			s.requireBelievable(t, minute)
		}
		require.Greater(t, sent, 1000)
		require.NotContains(t, s.do(http.MethodGet, "/metrics", "").Body.String(), `effect="unknown"`)
	})
}

// requireBelievable fails the test unless some sessions are running, two to four wait, and one or two are lost and have
// failed.
func (s *server) requireBelievable(t *testing.T, minute int) {
	t.Helper()
	var summary models.Summary
	s.get(t, "/api/summary", &summary)
	of := summary.Sessions
	require.Equal(t, 13, summary.Agents)
	require.Positive(t, of.ByStatus.Running, "minute %d", minute)
	require.Greater(t, of.ByStatus.Success, 20, "minute %d", minute)
	require.Contains(t, []int{2, 3, 4}, of.ByStatus.Pending, "minute %d", minute)
	require.Contains(t, []int{1, 2}, of.Lost, "minute %d", minute)
	require.Contains(t, []int{1, 2}, of.ByStatus.Failed, "minute %d", minute)
	asked := 0
	for _, se := range s.sessions(t, "status=pending&expired=false") {
		if se.Question != nil {
			asked++
			require.NotEmpty(t, se.Title)
		}
	}
	require.GreaterOrEqual(t, asked, 2, "minute %d: real questions", minute)
}
