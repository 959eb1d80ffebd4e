package main

import (
	"bufio"
	"context"
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

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/store"
)

// event is one server-sent event.
type event struct {
	id, name, data string
	comment, retry string
}

// eventReader reads a stream of server-sent events.
type eventReader struct {
	lines  *bufio.Reader
	lastID string
}

// next returns the next block of lines: an event, or one that has a comment or an ID alone.
func (r *eventReader) next() (e event, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id, r.lastID = value, value
		case "event":
			e.name = value
		case "data":
			e.data += value
		case "retry":
			e.retry = value
		default:
			if line == "\n" {
				return e, nil
			}
			e.comment += value
		}
	}
}

// listen opens a stream over a real connection, which ends with the test or by what it returns. Its first block has been read.
func listen(t *testing.T, address, query string, header ...string) (_ *eventReader, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/api/events"+query, nil)
	require.NoError(t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	leave = func() {
		cancel()
		resp.Body.Close() //nolint:errcheck // nothing of it is asked for
	}
	t.Cleanup(leave)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	events := &eventReader{lines: bufio.NewReader(resp.Body)}
	first, err := events.next()
	require.NoError(t, err)
	require.Equal(t, event{id: first.id, comment: "connected", retry: "2000"}, first)
	return events, leave
}

// requireNext reads the next event and decodes its data.
func (r *eventReader) requireNext(t *testing.T, name string) map[string]any {
	t.Helper()
	e, err := r.next()
	require.NoError(t, err)
	require.Equal(t, name, e.name, "%+v", e)
	require.NotEmpty(t, e.id)
	var data map[string]any
	require.NoError(t, json.Unmarshal([]byte(e.data), &data))
	return data
}

// holdEvents holds each kind of event to the contract.
func (c *contract) holdEvents(t *testing.T) {
	s := newTestServer(t, func(o *store.Options) { o.SessionRetention, o.EventWindow = time.Minute, 100 })
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := listen(t, server.URL, "?since=another-1")
	hold := func(name, schema string) {
		var body any
		e, err := events.next()
		require.NoError(t, err)
		require.Equal(t, name, e.name)
		require.NoError(t, json.Unmarshal([]byte(e.data), &body))
		require.NoError(t, c.doc.Components.Schemas[schema].Value.VisitJSON(body, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation()))
	}
	hold("reset", "ReasonEvent")
	s.report(t, `{"agent_id":"a","agent_name":"A","agent_source":"codex","session_topic":"t","session_title":"T","status":"pending","message":"m","ttl_minutes":1}`)
	hold("status", "StatusEvent")
	for _, body := range []string{
		`{"hook_event_name":"PermissionRequest","session_id":"t","tool_name":"Bash"}`,
		`{"hook_event_name":"PostToolUse","session_id":"t","tool_name":"Bash"}`,
	} {
		require.Equal(t, 200, s.ask("POST", "/webhook/codex?agent_id=a&agent_host=laptop", body).Code)
		hold("status", "StatusEvent")
	}
	s.report(t, reportOf("a", "t", "running"))
	hold("status", "StatusEvent")
	s.store.Expire(time.Now().Add(90 * time.Second))
	hold("expired", "ExpiredEvent")
	s.store.Expire(time.Now().Add(time.Hour))
	hold("removed", "RemovedEvent")
	s.handlers.Drain()
	hold("bye", "ReasonEvent")
	_, err := events.next()
	require.ErrorIs(t, err, io.EOF)

	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/events", nil)
	newTestServer(t, nil).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	c.hold(t, "/api/events", r, w)
}

func TestEventsTellWhatHappened(t *testing.T) {
	s := newTestServer(t, nil)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := listen(t, server.URL, "")
	s.report(t, reportOf("a", "t", "running"))
	data := events.requireNext(t, "status")
	assert.Equal(t, true, data["new"])
	assert.NotContains(t, data, "previous_status")
	s.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","message":"One\nor two?"}`)
	data = events.requireNext(t, "status")
	assert.Equal(t, "pending", data["status"])
	assert.Equal(t, "running", data["previous_status"])
	assert.Equal(t, "One\nor two?", data["message"])
	assert.Equal(t, false, data["new"])
	s.store.Expire(time.Now().Add(time.Hour))
	data = events.requireNext(t, "expired")
	assert.Equal(t, true, data["lost"])
}

func TestEventsAreFiltered(t *testing.T) {
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
		s := newTestServer(t, nil)
		server := httptest.NewServer(s)
		events, leave := listen(t, server.URL, query)
		for _, report := range []string{"a running", "b running", "a pending", "b failed", "c pending"} {
			agent, status, _ := strings.Cut(report, " ")
			s.report(t, strings.TrimSuffix(reportOf(agent, query, status), "}")+`,"ttl_minutes":`+map[bool]string{true: "1", false: "60"}[agent == "c"]+`}`)
		}
		s.store.Expire(time.Now().Add(2 * time.Minute))
		for _, report := range want {
			e, err := events.next()
			require.NoError(t, err)
			var data struct{ AgentID, Status string }
			require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(e.data, "agent_id", "agentid")), &data))
			require.Equal(t, report, data.AgentID+" "+data.Status, query)
		}
		leave()
		server.Close()
	}
}

// TestEventsGoOnWhereAListStands reads a list, has things happen, and opens the stream afterwards; then it loses the
// connection, as an EventSource does that has its parameters still.
func TestEventsGoOnWhereAListStands(t *testing.T) {
	s := newTestServer(t, func(o *store.Options) { o.EventWindow = 1000 })
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.report(t, reportOf("a", "0", "running"))
	for _, target := range []string{"/api/agents", "/api/sessions", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/0", "/api/summary"} {
		require.Equal(t, s.ask("GET", "/api/sessions", "").Header().Get("X-Event-Id"), s.ask("GET", target, "").Header().Get("X-Event-Id"), target)
	}
	position := s.ask("GET", "/api/sessions", "").Header().Get("X-Event-Id")
	for i := range 3 {
		s.report(t, reportOf("a", fmt.Sprint(i+1), "running"))
	}
	events, leave := listen(t, server.URL, "?since="+position)
	for i := range 3 {
		require.Equal(t, fmt.Sprint(i+1), events.requireNext(t, "status")["session_topic"])
	}
	leave()
	s.report(t, reportOf("a", "4", "running"))
	events, leave = listen(t, server.URL, "?since="+position, "Last-Event-ID: "+events.lastID)
	require.Equal(t, "4", events.requireNext(t, "status")["session_topic"])
	leave()
	for i := range 1500 {
		s.report(t, reportOf("a", fmt.Sprint(i+5), "running"))
	}
	events, _ = listen(t, server.URL, "?since="+position, "Last-Event-ID: "+events.lastID)
	require.Contains(t, events.requireNext(t, "reset")["reason"], "no longer kept")
	require.Equal(t, s.ask("GET", "/api/sessions", "").Header().Get("X-Event-Id"), events.lastID)
	s.report(t, reportOf("a", "last", "running"))
	require.Equal(t, "last", events.requireNext(t, "status")["session_topic"])

	r := httptest.NewRequest(http.MethodGet, "/api/sessions", nil)
	r.Header.Set("Origin", "https://dash.example")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "X-Event-Id")
}

func TestSubscribersAreLimited(t *testing.T) {
	p := start(t, "MAX_SUBSCRIBERS=2", "EVENT_WINDOW=100", "SHUTDOWN_TIMEOUT=5s")
	first, _ := listen(t, "http://"+p.address, "")
	listen(t, "http://"+p.address, "?agent_id=a")
	resp, err := http.Get("http://" + p.address + "/api/events")
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read whole
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Contains(t, string(body), "MAX_SUBSCRIBERS")
	// An open stream does not hold up the end: it gets a bye.
	done := make(chan int)
	go func() { done <- p.stop(t) }()
	require.Equal(t, "the server is stopping", first.requireNext(t, "bye")["reason"])
	_, err = first.next()
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, <-done, "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "cut off")
}

// bubbleServer serves s in a synctest bubble. dial opens a connection to it; the server ends with end.
func bubbleServer(s http.Handler) (dial func() net.Conn, end func()) {
	listener := pipeListener{make(chan net.Conn)}
	server := newServer(s, nil, slog.New(slog.DiscardHandler))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) }) //nolint:errcheck // it ends with the listener
	dial = func() net.Conn {
		client, conn := net.Pipe()
		listener.conns <- conn
		return client
	}
	return dial, func() {
		close(listener.conns)
		server.Close() //nolint:errcheck // the listener is none of the network
		serving.Wait()
	}
}

// ask opens a stream over a connection of a bubble.
func askEvents(t *testing.T, conn net.Conn, query string) *eventReader {
	_, err := io.WriteString(conn, "GET /api/events"+query+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // it ends with the connection
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	events := &eventReader{lines: bufio.NewReader(resp.Body)}
	_, err = events.next()
	require.NoError(t, err)
	return events
}

// TestASilentStreamOutlivesTheTimeouts follows an agent that says nothing for an hour.
func TestASilentStreamOutlivesTheTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, nil)
		dial, end := bubbleServer(s)
		conn := dial()
		events := askEvents(t, conn, "?agent_id=a")
		started := time.Now()
		for i := range 240 {
			e, err := events.next()
			require.NoError(t, err)
			require.Equal(t, "keep-alive", e.comment)
			require.Equal(t, time.Duration(i+1)*live.KeepAlive, time.Since(started).Round(time.Millisecond))
		}
		s.report(t, reportOf("a", "t", "running"))
		events.requireNext(t, "status")
		conn.Close() //nolint:errcheck // it is a pipe
		end()
	})
}

// TestAStuckSubscriberHoldsNobodyUp has one that reads nothing any more: it is cut off, and the others get all.
func TestAStuckSubscriberHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, nil)
		dial, end := bubbleServer(s)
		stuck, conn := dial(), dial()
		askEvents(t, stuck, "")
		events := askEvents(t, conn, "")
		for i := range 100 {
			s.report(t, reportOf("a", fmt.Sprint(i), "running"))
			started := time.Now()
			require.Equal(t, fmt.Sprint(i), events.requireNext(t, "status")["session_topic"])
			require.Less(t, time.Since(started), 10*time.Millisecond)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Contains(t, s.ask("GET", "/metrics", "").Body.String(), "kubeagents_subscribers 1\n")
		conn.Close() //nolint:errcheck // it is a pipe
		end()
		_, err := io.ReadAll(stuck)
		require.NoError(t, err, "it ends")
	})
}

// TestManySubscribers has 2,000 subscribers, each to one agent, under 1,000 changes a second for ten seconds: each gets what
// is its agent's, at once.
func TestManySubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const subscribers, perSecond, seconds = 2000, 1000, 10
		s := newTestServer(t, nil)
		dial, end := bubbleServer(s)
		var following sync.WaitGroup
		got := make([]int, subscribers)
		slowest := make([]time.Duration, subscribers)
		conns := make([]net.Conn, subscribers)
		for i := range subscribers {
			conns[i] = dial()
			events := askEvents(t, conns[i], fmt.Sprintf("?agent_id=%d", i))
			following.Go(func() {
				for {
					e, err := events.next()
					if err != nil {
						return
					}
					if e.name == "" {
						continue
					}
					var data struct {
						AgentID     string    `json:"agent_id"`
						LastUpdated time.Time `json:"last_updated"`
					}
					if assert.NoError(t, json.Unmarshal([]byte(e.data), &data)) && assert.Equal(t, fmt.Sprint(i), data.AgentID) {
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
			conn.Close() //nolint:errcheck // it is a pipe
		}
		following.Wait()
		end()
		for i := range subscribers {
			require.Equal(t, perSecond*seconds/subscribers, got[i])
			require.Less(t, slowest[i], 10*time.Millisecond)
		}
	})
}

// TestEventsTellOfQuestions holds that the stream says which question a report opens, and how others closed.
func TestEventsTellOfQuestions(t *testing.T) {
	s := newTestServer(t, nil)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := listen(t, server.URL, "")
	event := func(rest string) map[string]any {
		require.Equal(t, 200, s.ask("POST", "/webhook/opencode?agent_host=laptop", `{"directory":"/home/dev/payments",`+rest+`}`).Code)
		return events.requireNext(t, "status")
	}
	event(`"type":"chat.message","properties":{"sessionID":"t","prompt":"Go"}`)
	asked := event(`"type":"permission.asked","properties":{"id":"p1","sessionID":"t","permission":"bash","patterns":["make"]}`)
	require.Equal(t, "pending", asked["status"])
	require.Equal(t, "laptop", asked["agent_host"])
	require.Equal(t, asked["question"], asked["asked"])
	require.EqualValues(t, 1, asked["open_question_count"])
	second := event(`"type":"permission.asked","properties":{"id":"p2","sessionID":"t","permission":"edit","patterns":["a.go"]}`)
	require.Equal(t, asked["question"], second["question"], "the oldest one is shown")
	require.EqualValues(t, 2, second["open_question_count"])
	require.NotEqual(t, second["question"], second["asked"])
	closed := event(`"type":"permission.replied","properties":{"requestID":"p1","sessionID":"t","reply":"reject"}`)
	require.Equal(t, second["asked"], closed["question"])
	require.Equal(t, []any{map[string]any{"id": asked["asked"].(map[string]any)["id"], "text": "bash: make", "outcome": "denied", "by": "permission.replied"}}, closed["closed_questions"])
	last := event(`"type":"session.idle","properties":{"sessionID":"t"}`)
	require.Equal(t, "success", last["status"])
	require.NotContains(t, last, "question")
}
