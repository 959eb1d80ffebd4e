package servertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
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
	scrape := s.do(http.MethodGet, "/metrics", "").Body.String()
	assert.Contains(t, scrape, fmt.Sprintf(`kubeagents_reports_total{outcome="stored"} %d`, want.Stored))
	assert.Contains(t, scrape, fmt.Sprintf(`kubeagents_reports_total{outcome="duplicate"} %d`, want.Duplicates))
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

func (wiring Wiring) TestRecordedDay(t *testing.T) {
	reports := fleet.Reports()
	t.Run("one by one", func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
		for _, r := range reports {
			s.report(t, string(r))
		}
		requireRecordedDay(t, s)
		requireRecordedDayCounts(t, s)
	})
	for _, size := range []int{2, 100, 777, len(reports)} {
		t.Run(fmt.Sprintf("in batches of %d", size), func(t *testing.T) {
			s := wiring.newTestServer(t, nil)
			for batch := range slices.Chunk(reports, size) {
				s.report(t, string(bytes.Join(batch, []byte("\n"))))
			}
			requireRecordedDay(t, s)
			requireRecordedDayCounts(t, s)
		})
		t.Run(fmt.Sprintf("in arrays of %d", size), func(t *testing.T) {
			s := wiring.newTestServer(t, nil)
			for batch := range slices.Chunk(reports, size) {
				s.report(t, "["+string(bytes.Join(batch, []byte(",")))+"]")
			}
			requireRecordedDay(t, s)
			requireRecordedDayCounts(t, s)
		})
	}
	t.Run("by parallel clients", func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
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
			wg.Go(func() {
				for _, r := range list {
					s.report(t, string(r))
				}
			})
		}
		wg.Wait()
		requireRecordedDay(t, s)
		requireRecordedDayCounts(t, s)
	})
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
