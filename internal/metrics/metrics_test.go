package metrics_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.String()
}

func TestScrape(t *testing.T) {
	st := store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 3})
	m := metrics.New(st, "v1.2.3")
	now := time.Now()
	at := func(agent, topic string, status models.Status) []models.StatusReport {
		return []models.StatusReport{{AgentID: agent, SessionTopic: topic, Status: status}}
	}
	st.Accept(nil, at("a", "lost", models.Pending), now.Add(-2*time.Minute), nil)
	st.Accept(nil, at("a", "done", models.Success), now.Add(-2*time.Minute), nil)
	st.Accept(nil, at("b", "on", models.Running), now, nil)
	st.Accept(nil, at("b", "on", models.Running), now, nil) // drops the previous status
	m.CountReports(metrics.Reports{Stored: 3, Duplicate: 1, Invalid: 2, Refused: 1})
	m.ObserveRequest("/api/agents/{agent_id}", http.MethodGet, http.StatusOK, 3*time.Millisecond)
	m.ObserveRequest("", "BREW", http.StatusNotFound, time.Millisecond)
	m.ObserveExpiry(5 * time.Microsecond)

	require.EqualValues(t, 4, m.Acknowledged())
	text := scrape(t, m)
	for _, line := range []string{
		`kubeagents_build_info{version="v1.2.3"} 1`,
		`kubeagents_agents 2`,
		`kubeagents_sessions{state="active",status="running"} 1`,
		`kubeagents_sessions{state="lost",status="pending"} 1`,
		`kubeagents_sessions{state="expired",status="success"} 1`,
		`kubeagents_sessions{state="active",status="failed"} 0`,
		`kubeagents_sessions_expired_total 2`,
		`kubeagents_sessions_lost_total 1`,
		`kubeagents_history_statuses 3`,
		`kubeagents_bound_hits_total{bound="history_limit"} 1`,
		`kubeagents_bound_hits_total{bound="max_sessions"} 0`,
		`kubeagents_reports_total{outcome="stored"} 3`,
		`kubeagents_reports_total{outcome="duplicate"} 1`,
		`kubeagents_reports_total{outcome="invalid"} 2`,
		`kubeagents_reports_total{outcome="refused"} 1`,
		`kubeagents_batch_size_reports_sum 7`,
		`kubeagents_http_request_duration_seconds_bucket{code="200",method="GET",route="/api/agents/{agent_id}",le="0.005"} 1`,
		`kubeagents_http_request_duration_seconds_count{code="404",method="other",route="none"} 1`,
		`kubeagents_expiry_run_duration_seconds_count 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_resident_memory_bytes ")
}

// TestWaits scrapes while sessions wait, and when they don't any more.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.New(store.Options{DefaultTTL: 24 * time.Hour, HistoryLimit: 2, HistoryMaxBytes: 1 << 20, MaxSessions: 3})
		m := metrics.New(st, "test")
		report := func(topic string, status models.Status) {
			st.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: topic, Status: status}}, time.Now(), nil)
		}
		waits := func() (all []string) {
			return regexp.MustCompile(`(?m)^kubeagents_(?:longest|sessions_waiting).* (\S+)$`).FindAllString(scrape(t, m), -1)
		}
		want := func(longest string, counts ...int) (all []string) {
			all = []string{"kubeagents_longest_wait_seconds " + longest}
			for i, name := range []string{"10m", "1h", "1m", "8h"} {
				all = append(all, fmt.Sprintf(`kubeagents_sessions_waiting{longer_than=%q} %d`, name, counts[i]))
			}
			return all
		}
		require.Equal(t, want("0", 0, 0, 0, 0), waits())
		report("long", models.Pending)
		time.Sleep(50 * time.Minute)
		report("shorter", models.Pending)
		time.Sleep(10 * time.Minute)
		require.Equal(t, want("3600", 1, 0, 2, 0), waits(), "an hour is not longer than an hour")
		time.Sleep(time.Second)
		require.Equal(t, want("3601", 2, 1, 2, 0), waits())
		report("long", models.Running)
		require.Equal(t, want("601", 1, 0, 1, 0), waits())
	})
}

// TestShares scrapes the shares of more teams than are exposed.
func TestShares(t *testing.T) {
	m := metrics.New(store.New(store.Options{}), "test")
	var all []metrics.Share
	m.AddShares(func(atLeast float64) []metrics.Share {
		require.Equal(t, 0.5, atLeast)
		return all
	})
	exposed := func() []string {
		return regexp.MustCompile(`(?m)^kubeagents_team_share_used_ratio\{.*$`).FindAllString(scrape(t, m), -1)
	}
	require.Empty(t, exposed())
	for i := range 60 {
		all = append(all, metrics.Share{Team: fmt.Sprintf("team %d", i), Setting: "MAX_SESSIONS", Used: 0.5 + float64(i)/128})
	}
	require.Len(t, exposed(), 50)
	require.Contains(t, exposed(), `kubeagents_team_share_used_ratio{setting="MAX_SESSIONS",team="team 59"} 0.9609375`)
	require.NotContains(t, strings.Join(exposed(), "\n"), `team 9"`, "ten others use more")
}

// TestServerGauges scrapes what the server tells about itself.
func TestServerGauges(t *testing.T) {
	m := metrics.New(store.New(store.Options{}), "test")
	ready, expires := false, time.Unix(1_800_000_000, 0)
	m.AddReady(func() bool { return ready })
	m.AddCertificate(func() time.Time { return expires })
	m.AddLimits(map[string]int64{"MAX_SESSIONS": 10, "MAX_IN_FLIGHT": 0})
	text := scrape(t, m)
	require.Contains(t, text, "kubeagents_ready 0\n")
	require.Contains(t, text, "kubeagents_certificate_expiry_timestamp_seconds 1.8e+09\n")
	require.Contains(t, text, `kubeagents_limit{setting="MAX_SESSIONS"} 10`+"\n")
	require.NotContains(t, text, `setting="MAX_IN_FLIGHT"`, "0 is no limit")
	ready, expires = true, expires.Add(time.Hour)
	text = scrape(t, m)
	require.Contains(t, text, "kubeagents_ready 1\n")
	require.Contains(t, text, "kubeagents_certificate_expiry_timestamp_seconds 1.8000036e+09\n")
}

// TestFormats scrapes in the formats that clients ask for, compressed and not.
func TestFormats(t *testing.T) {
	m := metrics.New(store.New(store.Options{}), "test")
	m.CountReports(metrics.Reports{Stored: 3})
	const text, openMetrics = "text/plain; version=0.0.4; ", "application/openmetrics-text; version=1.0.0; "
	for name, test := range map[string]struct{ accept, want string }{
		"any format":             {"", text},
		"a browser":              {"text/html,*/*;q=0.8", text},
		"OpenMetrics":            {"application/openmetrics-text", "application/openmetrics-text; version=0.0.1; "},
		"Prometheus":             {"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", openMetrics},
		"OpenMetrics as a guess": {"text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.1", text},
	} {
		for _, encoding := range []string{"", "gzip"} {
			t.Run(strings.TrimSpace(name+" "+encoding), func(t *testing.T) {
				r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				r.Header.Set("Accept", test.accept)
				r.Header.Set("Accept-Encoding", encoding)
				w := httptest.NewRecorder()
				m.Handler().ServeHTTP(w, r)
				require.Equal(t, http.StatusOK, w.Code)
				require.True(t, strings.HasPrefix(w.Header().Get("Content-Type"), test.want), w.Header())
				require.Equal(t, encoding, w.Header().Get("Content-Encoding"))
				require.Contains(t, strings.Join(w.Header().Values("Vary"), ", "), "Accept")
				body := io.Reader(w.Body)
				if encoding == "gzip" {
					unzipped, err := gzip.NewReader(w.Body)
					require.NoError(t, err)
					body = unzipped
				}
				scraped, err := io.ReadAll(body)
				require.NoError(t, err)
				family := "# TYPE kubeagents_reports_total counter\n"
				if test.want != text {
					family = "# TYPE kubeagents_reports counter\n"
				}
				require.Contains(t, string(scraped), family)
				require.Regexp(t, `(?m)^kubeagents_reports_total\{outcome="stored"\} 3(\.0)?$`, string(scraped))
				require.Equal(t, test.want != text, strings.HasSuffix(string(scraped), "\n# EOF\n"))
				require.NotContains(t, string(scraped), "_created")
			})
		}
	}
}

// TestNoLabelIsChosenByAClient sends values of every kind that a client chooses, none of which may show in a scrape.
func TestNoLabelIsChosenByAClient(t *testing.T) {
	st := store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 3})
	m := metrics.New(st, "test")
	st.Accept(nil, []models.StatusReport{{AgentID: "chosen-id", AgentName: "chosen-name", AgentSource: "chosen-source", SessionTopic: "chosen-topic",
		SessionTitle: "chosen-title", Status: models.Running, Message: "chosen-message", Content: "chosen-content", ReportID: "chosen-report"}}, time.Now(), nil)
	m.ObserveRequest("", "CHOSEN-METHOD", http.StatusNotFound, 0)
	require.NotContains(t, strings.ToLower(scrape(t, m)), "chosen")
}

// TestCluster scrapes a server that is one of several, and one that is not.
func TestCluster(t *testing.T) {
	st, now := store.New(store.Options{DefaultTTL: time.Hour, MaxSessions: 10, HistoryLimit: 10, HistoryMaxBytes: 1 << 20,
		Journaled: true, Replicated: true}), time.Now()
	st.Begin(1, now)
	st.Apply(models.Record{StatusReport: models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Pending, Timestamp: now}, Received: now, Sequence: 1})
	st.Begin(2, now.Add(7*time.Minute))
	m := metrics.New(st, "test")
	m.CountSnapshotFailure()
	m.CountPublishFailure(metrics.PublishNoRoom)
	m.ObservePublished(3 * time.Millisecond)
	require.NotContains(t, scrape(t, m), "kubeagents_cluster_")
	m.AddCluster(func() metrics.Cluster {
		return metrics.Cluster{Position: 12, Behind: 3, Age: 1500 * time.Millisecond, Writable: true, Servers: 2, StreamMessages: 10, StreamBytes: 2048,
			SnapshotPosition: 7, SnapshotWritten: time.UnixMilli(1_800_000_000_500)}
	})
	text := scrape(t, m)
	require.Contains(t, text, "kubeagents_longest_wait_seconds 420\n", "by the clock of sessions")
	for _, line := range []string{
		"position 12", "messages_behind 3", "data_age_seconds 1.5", "writable 1", "lease_held 0", "servers 2", "stream_messages 10", "stream_bytes 2048",
		"snapshot_position 7", "snapshot_timestamp_seconds 1.8000000005e+09", "snapshot_failures_total 1",
		`publish_failures_total{cause="no_room"} 1`, `publish_failures_total{cause="timeout"} 0`, `publish_duration_seconds_bucket{le="0.005"} 1`,
	} {
		require.Contains(t, text, "kubeagents_cluster_"+line+"\n")
	}
}
