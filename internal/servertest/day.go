package servertest

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/fleet"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
)

// requireRecordedDay checks that every read shows the expected state at the end of the recorded day.
func requireRecordedDay(t *testing.T, s *server) {
	t.Helper()
	want, err := fleet.Expected()
	require.NoError(t, err)

	var agents struct{ Agents []models.Agent }
	s.get(t, "/api/agents", &agents)
	got := map[string]fleet.Agent{}
	for _, a := range agents.Agents {
		got[a.ID] = fleet.Agent{Name: a.Name, Source: a.Source, SessionCount: a.SessionCount,
			LatestStatus: a.LatestStatus.String(), LatestMessage: a.LatestMessage}
	}
	require.Equal(t, want.Agents, got)

	byStatus := map[string]int{}
	var sessions []fleet.Session
	for target := "/api/sessions?limit=97"; target != ""; {
		var page struct{ Sessions []models.FleetSession }
		w := s.get(t, target, &page)
		for _, se := range page.Sessions {
			byStatus[se.CurrentStatus.String()]++
			sessions = append(sessions, historyOf(t, s, se.Session))
		}
		target = nextOf(w.Header())
	}
	order := func(a, b fleet.Session) int { return strings.Compare(a.AgentID+"\n"+a.Topic, b.AgentID+"\n"+b.Topic) }
	slices.SortFunc(want.Sessions, order)
	slices.SortFunc(sessions, order)
	require.Equal(t, want.Sessions, sessions)
	require.Equal(t, want.ByStatus, byStatus)
}

// requireRecordedDayCounts checks the metrics that count reports after the recorded day.
func requireRecordedDayCounts(t *testing.T, s *server) {
	t.Helper()
	want, err := fleet.Expected()
	require.NoError(t, err)
	assert.Equal(t, want.Stored, s.count(t, `kubeagents_reports_total{outcome="stored"}`))
	assert.Equal(t, want.Duplicates, s.count(t, `kubeagents_reports_total{outcome="duplicate"}`))
}

// historyOf reads a session and its history through the API.
func historyOf(t *testing.T, s *server, se models.Session) fleet.Session {
	t.Helper()
	var detail struct {
		Session       models.Session
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	s.get(t, "/api/agents/"+url.PathEscape(se.AgentID)+"/sessions/"+url.PathEscape(se.Topic), &detail)
	require.Equal(t, se, detail.Session)
	result := fleet.Session{AgentID: se.AgentID, Topic: se.Topic, CurrentStatus: se.CurrentStatus.String(),
		CurrentMessage: se.CurrentMessage, TTLMinutes: se.TTLMinutes}
	for _, st := range detail.StatusHistory {
		result.History = append(result.History, [3]string{st.Timestamp.Format(time.RFC3339Nano), st.Status.String(), st.Message})
	}
	return result
}

// TestRecordedDay sends the reports of the recorded day in several ways.
func (wiring Wiring) TestRecordedDay(t *testing.T) {
	reports := fleet.Reports()
	for way, send := range map[string]func(t *testing.T, s *server){
		"one by one":          func(t *testing.T, s *server) { s.reportBatches(t, reports, 1) },
		"in batches of 2":     func(t *testing.T, s *server) { s.reportBatches(t, reports, 2) },
		"in batches of 100":   func(t *testing.T, s *server) { s.reportBatches(t, reports, 100) },
		"in batches of 777":   func(t *testing.T, s *server) { s.reportBatches(t, reports, 777) },
		"in a single batch":   func(t *testing.T, s *server) { s.reportBatches(t, reports, len(reports)) },
		"in arrays of 2":      func(t *testing.T, s *server) { s.reportArrays(t, reports, 2) },
		"in arrays of 100":    func(t *testing.T, s *server) { s.reportArrays(t, reports, 100) },
		"in arrays of 777":    func(t *testing.T, s *server) { s.reportArrays(t, reports, 777) },
		"in a single array":   func(t *testing.T, s *server) { s.reportArrays(t, reports, len(reports)) },
		"by parallel clients": func(t *testing.T, s *server) { s.reportInParallel(t, reports) },
	} {
		t.Run(way, func(t *testing.T) {
			if wiring.three && way != "one by one" {
				natstest.Long(t)
			}
			wiring.inBubble(t, func(t *testing.T) {
				time.Sleep(time.Until(fleet.End)) // simulated; that time is over outside of a bubble
				s := wiring.newTestServer(t, nil)
				send(t, s)
				requireRecordedDay(t, s)
				requireRecordedDayCounts(t, s)
			})
		})
	}
}

// TestRecordedDayOnThree is TestRecordedDay for three servers.
func (wiring Wiring) TestRecordedDayOnThree(t *testing.T) { wiring.onThree().TestRecordedDay(t) }

func (s *server) reportBatches(t *testing.T, reports [][]byte, size int) {
	for batch := range slices.Chunk(reports, size) {
		s.report(t, string(bytes.Join(batch, []byte("\n"))))
	}
}

func (s *server) reportArrays(t *testing.T, reports [][]byte, size int) {
	for batch := range slices.Chunk(reports, size) {
		s.report(t, "["+string(bytes.Join(batch, []byte(",")))+"]")
	}
}

// reportInParallel has several clients report. The reports of an agent come from one of them.
func (s *server) reportInParallel(t *testing.T, reports [][]byte) {
	const clients = 8
	var reportsOf [clients][][]byte
	for _, r := range reports {
		var id struct {
			AgentID string `json:"agent_id"`
		}
		require.NoError(t, json.Unmarshal(r, &id))
		n := 0
		for _, c := range id.AgentID {
			n += int(c)
		}
		reportsOf[n%clients] = append(reportsOf[n%clients], r)
	}
	var wg sync.WaitGroup
	for _, list := range reportsOf {
		wg.Go(func() { s.reportBatches(t, list, 1) })
	}
	wg.Wait()
}

func (wiring Wiring) TestRecordedDayWithRestarts(t *testing.T) {
	fs, stop := vfs.NewMem(), func() {}
	var s *server
	for batch := range slices.Chunk(fleet.Reports(), 500) {
		stop()
		s, stop = wiring.newDurableServer(t, fs, true)
		for part := range slices.Chunk(batch, 7) {
			s.report(t, string(bytes.Join(part, []byte("\n"))))
		}
	}
	requireRecordedDay(t, s)
	stop()
	s, _ = wiring.newDurableServer(t, fs, true)
	requireRecordedDay(t, s)
}
