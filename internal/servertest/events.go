package servertest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/live/livetest"
	"github.com/kubeagents/kubeagents/store"
)

func (wiring Wiring) TestEventStream(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := livetest.Listen(t, server.URL, "")
	s.report(t, reportOf("a", "t", "running"))
	data := events.RequireNext(t, "status")
	assert.Equal(t, true, data["new"])
	assert.NotContains(t, data, "previous_status")
	s.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","message":"One\nor two?"}`)
	data = events.RequireNext(t, "status")
	assert.Equal(t, "pending", data["status"])
	assert.Equal(t, "running", data["previous_status"])
	assert.Equal(t, "One\nor two?", data["message"])
	assert.Equal(t, false, data["new"])
	s.store.Expire(time.Now().Add(time.Hour))
	data = events.RequireNext(t, "expired")
	assert.Equal(t, true, data["lost"])
}

func (wiring Wiring) TestEventFilters(t *testing.T) {
	for query, want := range map[string][]string{
		"?agent_id=b":                      {"b running", "b failed"},
		"?status=pending,failed":           {"a pending", "b failed", "c pending", "c pending"},
		"?agent_id=a&status=pending":       {"a pending"},
		"?lost=true":                       {"c pending"},
		"?types=expired,removed&lost=true": {"c pending"},
		"?types=status&status=running":     {"a running", "b running"},
		"?agent_id=&status=&types=&since=": {"a running", "b running", "a pending", "b failed", "c pending", "c pending"},
		"?types=removed":                   {},
		"?types=expired&lost=false&_=1":    {},
	} {
		s := wiring.newTestServer(t, nil)
		server := httptest.NewServer(s)
		events, hangUp := livetest.Listen(t, server.URL, query)
		for _, report := range []string{"a running", "b running", "a pending", "b failed", "c pending"} {
			agent, status, _ := strings.Cut(report, " ")
			s.report(t, strings.TrimSuffix(reportOf(agent, query, status), "}")+`,"ttl_minutes":`+map[bool]string{true: "1", false: "60"}[agent == "c"]+`}`)
		}
		s.store.Expire(time.Now().Add(2 * time.Minute))
		for _, report := range want {
			e, err := events.Next()
			require.NoError(t, err)
			var data struct{ AgentID, Status string }
			require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(e.Data, "agent_id", "agentid")), &data))
			require.Equal(t, report, data.AgentID+" "+data.Status, query)
		}
		hangUp()
		server.Close()
	}
}

// TestEventsContinueFromAList reads a list, reports, and then opens the stream from the position of the list. It then
// reconnects like an EventSource, which keeps its original parameters.
func (wiring Wiring) TestEventsContinueFromAList(t *testing.T) {
	s := wiring.newTestServer(t, func(o *store.Options) { o.EventWindow = 1000 })
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.report(t, reportOf("a", "0", "running"))
	for _, target := range []string{"/api/agents", "/api/sessions", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/0", "/api/summary"} {
		require.Equal(t, s.do("GET", "/api/sessions", "").Header().Get("X-Event-Id"), s.do("GET", target, "").Header().Get("X-Event-Id"), target)
	}
	position := s.do("GET", "/api/sessions", "").Header().Get("X-Event-Id")
	for i := range 3 {
		s.report(t, reportOf("a", fmt.Sprint(i+1), "running"))
	}
	events, hangUp := livetest.Listen(t, server.URL, "?since="+position)
	for i := range 3 {
		require.Equal(t, fmt.Sprint(i+1), events.RequireNext(t, "status")["session_topic"])
	}
	hangUp()
	s.report(t, reportOf("a", "4", "running"))
	events, hangUp = livetest.Listen(t, server.URL, "?since="+position, "Last-Event-ID: "+events.LastID)
	require.Equal(t, "4", events.RequireNext(t, "status")["session_topic"])
	hangUp()
	for i := range 1500 {
		s.report(t, reportOf("a", fmt.Sprint(i+5), "running"))
	}
	events, _ = livetest.Listen(t, server.URL, "?since="+position, "Last-Event-ID: "+events.LastID)
	require.Contains(t, events.RequireNext(t, "reset")["reason"], "no longer kept")
	require.Equal(t, s.do("GET", "/api/sessions", "").Header().Get("X-Event-Id"), events.LastID)
	s.report(t, reportOf("a", "last", "running"))
	require.Equal(t, "last", events.RequireNext(t, "status")["session_topic"])

	r := httptest.NewRequest(http.MethodGet, "/api/sessions", nil)
	r.Header.Set("Origin", "https://dash.example")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "X-Event-Id")
}

// bubbleServer serves s in a synctest bubble. dial opens a connection to the server, and stop stops it.
func (wiring Wiring) bubbleServer(s http.Handler) (dial func() net.Conn, stop func()) {
	listener := pipeListener{make(chan net.Conn)}
	server := wiring.NewServer(s, nil, slog.New(slog.DiscardHandler))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) }) //nolint:errcheck // it returns when the listener is closed
	dial = func() net.Conn {
		client, conn := net.Pipe()
		listener.conns <- conn
		return client
	}
	return dial, func() {
		close(listener.conns)
		server.Close() //nolint:errcheck // the listener is in memory
		serving.Wait()
	}
}

// openEvents opens an event stream on a connection from bubbleServer.
func openEvents(t *testing.T, conn net.Conn, query string) *livetest.Reader {
	_, err := io.WriteString(conn, "GET /api/events"+query+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // it is closed with the connection
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	events := livetest.NewReader(resp.Body)
	_, err = events.Next()
	require.NoError(t, err)
	return events
}

// TestIdleStreamOutlivesTheTimeouts follows an agent that does not report for an hour.
func (wiring Wiring) TestIdleStreamOutlivesTheTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
		dial, stop := wiring.bubbleServer(s)
		conn := dial()
		events := openEvents(t, conn, "?agent_id=a")
		started := time.Now()
		for i := range 240 {
			e, err := events.Next()
			require.NoError(t, err)
			require.Equal(t, "keep-alive", e.Comment)
			require.Equal(t, time.Duration(i+1)*live.KeepAlive, time.Since(started).Round(time.Millisecond))
		}
		s.report(t, reportOf("a", "t", "running"))
		events.RequireNext(t, "status")
		conn.Close() //nolint:errcheck // closing a pipe never fails
		stop()
	})
}

// TestStuckSubscriberDelaysNoOthers checks that a subscriber that stops reading is cut off, and that another one gets
// every event at once.
func (wiring Wiring) TestStuckSubscriberDelaysNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
		dial, stop := wiring.bubbleServer(s)
		stuck, conn := dial(), dial()
		openEvents(t, stuck, "")
		events := openEvents(t, conn, "")
		for i := range 100 {
			s.report(t, reportOf("a", fmt.Sprint(i), "running"))
			started := time.Now()
			require.Equal(t, fmt.Sprint(i), events.RequireNext(t, "status")["session_topic"])
			require.Less(t, time.Since(started), 10*time.Millisecond)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Contains(t, s.do("GET", "/metrics", "").Body.String(), "kubeagents_subscribers 1\n")
		conn.Close() //nolint:errcheck // closing a pipe never fails
		stop()
		_, err := io.ReadAll(stuck)
		require.NoError(t, err, "the stuck connection is closed")
	})
}

// TestManySubscribers sends 1,000 changes per second for ten seconds to 2,000 subscribers, each of which follows one
// agent. Each must get the events of its agent within 10 ms.
func (wiring Wiring) TestManySubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const subscribers, perSecond, seconds = 2000, 1000, 10
		s := wiring.newTestServer(t, nil)
		dial, stop := wiring.bubbleServer(s)
		var following sync.WaitGroup
		got := make([]int, subscribers)
		slowest := make([]time.Duration, subscribers)
		conns := make([]net.Conn, subscribers)
		for i := range subscribers {
			conns[i] = dial()
			events := openEvents(t, conns[i], fmt.Sprintf("?agent_id=%d", i))
			following.Go(func() {
				for {
					e, err := events.Next()
					if err != nil {
						return
					}
					if e.Name == "" {
						continue
					}
					var data struct {
						AgentID     string    `json:"agent_id"`
						LastUpdated time.Time `json:"last_updated"`
					}
					if assert.NoError(t, json.Unmarshal([]byte(e.Data), &data)) && assert.Equal(t, fmt.Sprint(i), data.AgentID) {
						got[i]++
						slowest[i] = max(slowest[i], time.Since(data.LastUpdated))
					}
				}
			})
		}
		for n := range perSecond * seconds {
			s.report(t, reportOf(fmt.Sprint(n%subscribers), "t", "running"))
			time.Sleep(time.Second / perSecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, conn := range conns {
			conn.Close() //nolint:errcheck // closing a pipe never fails
		}
		following.Wait()
		stop()
		for i := range subscribers {
			require.Equal(t, perSecond*seconds/subscribers, got[i])
			require.Less(t, slowest[i], 10*time.Millisecond)
		}
	})
}

// TestQuestionsInEvents checks that an event names the question that it opens, and how earlier questions were closed.
func (wiring Wiring) TestQuestionsInEvents(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := livetest.Listen(t, server.URL, "")
	event := func(rest string) map[string]any {
		require.Equal(t, 200, s.do("POST", "/webhook/opencode?agent_host=laptop", `{"directory":"/home/dev/payments",`+rest+`}`).Code)
		return events.RequireNext(t, "status")
	}
	event(`"type":"chat.message","properties":{"sessionID":"t","prompt":"Go"}`)
	asked := event(`"type":"permission.asked","properties":{"id":"p1","sessionID":"t","permission":"bash","patterns":["make"]}`)
	require.Equal(t, "pending", asked["status"])
	require.Equal(t, "laptop", asked["agent_host"])
	require.Equal(t, asked["question"], asked["asked"])
	require.EqualValues(t, 1, asked["open_question_count"])
	second := event(`"type":"permission.asked","properties":{"id":"p2","sessionID":"t","permission":"edit","patterns":["a.go"]}`)
	require.Equal(t, asked["question"], second["question"], "the oldest question is shown")
	require.EqualValues(t, 2, second["open_question_count"])
	require.NotEqual(t, second["question"], second["asked"])
	closed := event(`"type":"permission.replied","properties":{"requestID":"p1","sessionID":"t","reply":"reject"}`)
	require.Equal(t, second["asked"], closed["question"])
	require.Equal(t, []any{map[string]any{"id": asked["asked"].(map[string]any)["id"], "text": "bash: make", "outcome": "denied", "by": "permission.replied"}}, closed["closed_questions"])
	last := event(`"type":"session.idle","properties":{"sessionID":"t"}`)
	require.Equal(t, "success", last["status"])
	require.NotContains(t, last, "question")
}
