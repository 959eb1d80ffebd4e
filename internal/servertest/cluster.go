package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// messageID is the ID of every message of a fakeCluster.
const messageID = "k3xq9wz2abcdefgh"

// fakeCluster is what a server knows of a stream that tests control.
type fakeCluster struct {
	ahead time.Duration // of the stream's clock

	mu      sync.Mutex
	state   cluster.State
	changed chan struct{} // closed when the state changes
	asked   func()        // called before the state is returned; nil for nothing
	others  func() error  // called by CatchUp; nil for nothing

	snapshot cluster.Snapshot // that is written
	failure  error            // why none is written
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{changed: make(chan struct{}), state: cluster.State{Caught: true, Server: "one", LeaseHolder: "two",
		Servers: []string{"one", "two", "three"}, Position: cluster.Position{Sequence: 7, ID: messageID}}}
}

// set changes the state.
func (f *fakeCluster) set(change func(*cluster.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	close(f.changed)
	f.changed = make(chan struct{})
}

// State implements handlers.Cluster.
func (f *fakeCluster) State() cluster.State {
	if f.asked != nil {
		f.asked()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Await implements handlers.Cluster.
func (f *fakeCluster) Await(ctx context.Context, p cluster.Position) error {
	for {
		f.mu.Lock()
		at, changed := f.state.Position, f.changed
		f.mu.Unlock()
		switch {
		case at.Sequence >= p.Sequence && p.ID != at.ID:
			return cluster.ErrOtherMessage
		case at.Sequence >= p.Sequence:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CatchUp implements handlers.Cluster.
func (f *fakeCluster) CatchUp(context.Context) error {
	if f.others == nil {
		return nil
	}
	return f.others()
}

// Now implements handlers.Cluster.
func (f *fakeCluster) Snapshot(context.Context) (cluster.Snapshot, error) {
	return f.snapshot, f.failure
}

func (f *fakeCluster) Now() time.Time { return time.Now().Add(f.ahead) }

// newClusterServer returns a server that is one of several.
func (wiring Wiring) newClusterServer(t testing.TB, cfg config.Config) (*server, *fakeCluster) {
	f := newFakeCluster()
	s := wiring.newGuardedServer(t, nil, cfg, func(o *handlers.Options) {
		o.Cluster = f
		o.Hub = startHub(t, o.Store, metrics.New(o.Store, "test"), live.Options{MaxSubscribers: 10, QueueSize: 100, Stream: "stream"})
	})
	require.Contains(t, s.do("GET", "/api/summary", "").Body.String(), "the server is starting")
	s.handlers.SetReady()
	return s, f
}

// clusterReads are the reads that can wait for a position, by their routes.
var clusterReads = map[string]string{
	"/api/agents": "/api/agents", "/api/agents/a": "/api/agents/{agent_id}", "/api/agents/a/status": "/api/agents/{agent_id}/status",
	"/api/agents/a/sessions": "/api/agents/{agent_id}/sessions", "/api/agents/a/sessions/t": "/api/agents/{agent_id}/sessions/{session_topic}",
	"/api/sessions": "/api/sessions", "/api/summary": "/api/summary", "/api/notifications": "/api/notifications",
	"/api/notifications/mutes": "/api/notifications/mutes", "/api/notifications/devices": "/api/notifications/devices", "/api/events": "/api/events",
}

// checkCluster checks the responses of a server that is one of several against the contract.
func (c *contract) checkCluster(t *testing.T) {
	s, f := c.wiring.newClusterServer(t, config.Config{})
	s.report(t, reportOf("a", "t", "running"))
	check := func(target, route string, status int) *httptest.ResponseRecorder {
		method := http.MethodGet
		if route == "/api/events" && status == http.StatusOK {
			method = http.MethodHead // the stream would go on
		}
		r, w := httptest.NewRequest(method, target, nil), httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%s: %s", target, w.Body)
		c.check(t, route, r, w)
		return w
	}
	f.set(func(s *cluster.State) { s.Age = 1500 * time.Millisecond })
	for target, route := range clusterReads {
		w := check(target+"?after=7-"+messageID, route, 200)
		require.Equal(t, "7-"+messageID, w.Header().Get("X-Position"), target)
		require.Equal(t, "2", w.Header().Get("X-Data-Age"), target)
		w = check(target+"?after=7-another", route, 409)
		require.Contains(t, w.Body.String(), `"field":"after"`)
		require.Contains(t, w.Body.String(), "read without after")
		check(target+"?after=7", route, 400)
	}
	w := check("/health", "/health", 200)
	require.Contains(t, w.Body.String(), `"storage":"stream","cluster":{"server":"one","position":"7-k3xq9wz2abcdefgh","behind":0,"data_age_seconds":2,"lease_holder":"two","servers":["one","two","three"]}`)
	f.set(func(s *cluster.State) {
		*s = cluster.State{Cause: "it is catching up", Refuses: "NATS can't be reached", Behind: 12}
	})
	w = check("/health", "/health", 503)
	require.Contains(t, w.Body.String(), `"cause":"NATS can't be reached"`)
	require.Contains(t, w.Body.String(), `"position":"0-","behind":12,"data_age_seconds":0,"servers":[]`)
	w = check("/health/ready", "/health/ready", 503)
	require.JSONEq(t, `{"status":"unavailable","cause":"it is catching up"}`, w.Body.String())
	require.False(t, s.handlers.IsReady())
	check("/api/sessions", "/api/sessions", 200) // it still reads

	f.set(func(s *cluster.State) { s.Refuses = "" })
	check("/health", "/health", 200)
	f.set(func(s *cluster.State) { s.Cause = "" })
	check("/health/ready", "/health/ready", 200)
	require.True(t, s.handlers.IsReady())
	c.checkSnapshots(t, s, f)
}

// checkSnapshots checks the responses to requests for a snapshot against the contract.
func (c *contract) checkSnapshots(t *testing.T, s *server, f *fakeCluster) {
	snapshot := func(status int, want string) {
		r, w := httptest.NewRequest(http.MethodPost, "/api/snapshots", nil), httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%s", w.Body)
		require.Contains(t, w.Body.String(), want)
		c.check(t, "/api/snapshots", r, w)
	}
	f.snapshot = cluster.Snapshot{Position: cluster.Position{Sequence: 7, ID: messageID}, Size: 1234, Written: time.Unix(0, 0)}
	snapshot(http.StatusCreated, `{"position":"7-k3xq9wz2abcdefgh","bytes":1234,"written":"1970-01-01T00:00:00Z"}`)
	f.failure = cluster.ErrSnapshotUnderWay
	snapshot(http.StatusConflict, "this server is writing a snapshot already")
	f.failure = &recorder.Unavailable{Cause: "NATS can't be reached"}
	snapshot(http.StatusServiceUnavailable, "NATS can't be reached")
	s = c.wiring.newTestServer(t, nil)
	snapshot(http.StatusNotFound, "snapshots need a cluster")
}

// TestAServerByItselfHasNoPosition sends requests to a server that is not one of several.
func (wiring Wiring) TestAServerByItselfHasNoPosition(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	w := s.do("POST", "/webhook/status", reportOf("a", "t", "running"))
	require.Empty(t, w.Header().Get("X-Position"))
	for target := range clusterReads {
		if target != "/api/events" {
			w := s.do("GET", target, "")
			require.Equal(t, 200, w.Code)
			for _, name := range []string{"X-Position", "X-Data-Age", "Date"} {
				require.Empty(t, w.Header().Get(name), target)
			}
		}
		w := s.do("GET", target+"?after=7-"+messageID, "")
		require.Equal(t, 400, w.Code, target)
		require.Contains(t, w.Body.String(), "after is not a parameter of this route")
	}
	require.NotContains(t, s.do("GET", "/health", "").Body.String(), "cluster")
	require.Equal(t, 200, s.do("GET", "/?after=x", "").Code)
}

// TestReadsWaitForAPosition reads with positions that the server has not reached.
func (wiring Wiring) TestReadsWaitForAPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := wiring.newClusterServer(t, config.Config{MaxInFlight: 1})
		s.report(t, reportOf("a", "t", "pending"))
		take := func(target string, reached time.Duration) (*httptest.ResponseRecorder, time.Duration) {
			f.set(func(s *cluster.State) { s.Position.Sequence = 7 })
			started := time.Now()
			var reading sync.WaitGroup
			var w *httptest.ResponseRecorder
			reading.Go(func() { w = s.do("GET", target, "") })
			synctest.Wait()
			require.Equal(t, 503, s.do("GET", "/api/summary", "").Code, "a request that waits is one in flight")
			time.Sleep(reached)
			f.set(func(s *cluster.State) { s.Position.Sequence = 8 })
			reading.Wait()
			return w, time.Since(started)
		}
		targets := []string{"/"}
		for target := range clusterReads {
			if target != "/api/events" {
				targets = append(targets, target)
			}
		}
		for _, target := range targets {
			w, took := take(target+"?after=8-"+messageID, time.Second)
			require.Equal(t, 200, w.Code, "%s: %s", target, w.Body)
			require.Equal(t, time.Second, took)
			require.Equal(t, "8-"+messageID, w.Header().Get("X-Position"))
		}
		require.Contains(t, s.do("GET", "/?after=8-"+messageID, "").Body.String(), `id="group-pending"`, "the page shows the view of the address without after")

		f.set(func(s *cluster.State) { s.Behind = 3 })
		w, took := take("/api/sessions?after=8-"+messageID, 6*time.Second)
		require.Equal(t, 503, w.Code)
		require.Equal(t, 6*time.Second, took)
		require.Contains(t, w.Body.String(), "this server has not reached the position in after within 5 seconds: 3 messages of the stream are not applied yet")
		require.Equal(t, "5", w.Header().Get("Retry-After"))
		f.set(func(s *cluster.State) { s.Cause = "NATS can't be reached" })
		w, _ = take("/?after=8-"+messageID, 6*time.Second)
		require.Equal(t, 503, w.Code)
		require.Contains(t, w.Body.String(), "within 5 seconds: NATS can't be reached")

		ctx, leave := context.WithCancel(t.Context())
		gone := httptest.NewRecorder()
		var reading sync.WaitGroup
		reading.Go(func() {
			s.ServeHTTP(gone, httptest.NewRequest("GET", "/api/sessions?after=9-"+messageID, nil).WithContext(ctx))
		})
		synctest.Wait()
		leave()
		reading.Wait()
		require.Equal(t, 499, gone.Code)
	})
}

// TestAfterIsAParameterOfReadsOnly checks which requests may name a position, and how the others are refused.
func (wiring Wiring) TestAfterIsAParameterOfReadsOnly(t *testing.T) {
	s, _ := wiring.newClusterServer(t, config.Config{})
	s.report(t, reportOf("a", "t", "pending"))
	const after = "after=7-" + messageID
	for _, request := range [][3]string{
		{"GET", "/api/summary?x=1&" + after, "x is not a parameter of this route: the parameters are after"},
		{"GET", "/api/agents?x=1&" + after, "x is not a parameter of this route: the parameters are active, after, cursor, limit, search, sort, source, status, waiting"},
		{"GET", "/api/events?afer=1", "did you mean after?"},
		{"GET", "/api/sessions?" + after + "&" + after, "after must not occur twice"},
		{"GET", "/api/sessions?after=", "after must be the X-Position of an earlier response, such as 81231-k3xq9wz2abcdefgh"},
		{"POST", "/api/acknowledge?" + after, "after is not a parameter of this route: it has none"},
		{"POST", "/api/agents/a/sessions/t/acknowledge?" + after, "after is not a parameter of this route: it has none"},
		{"DELETE", "/api/agents/a?" + after, "after is not a parameter of this route: it has none"},
		{"GET", "/api/backup?" + after, "after is not a parameter of this route: it has none"},
	} {
		w := s.do(request[0], request[1], "")
		require.Equal(t, 400, w.Code, request)
		require.Contains(t, w.Body.String(), request[2])
	}
	s.report(t, reportOf("b", "t", "pending"))
	link := s.do("GET", "/api/sessions?limit=1&"+after, "").Header().Get("Link")
	require.Contains(t, link, "cursor=")
	require.Contains(t, link, after, "the next page is as new as this one")
}

// TestPositionsIncludeWhatTheyName has something else change whenever the server looks up its position: a read includes
// the changes before that, and a change is before it.
func (wiring Wiring) TestPositionsIncludeWhatTheyName(t *testing.T) {
	s, f := wiring.newClusterServer(t, config.Config{})
	sequence := func() uint64 { return s.store.EventPosition() }
	n := 0
	f.asked = func() {
		n++
		s.store.Accept(nil, []models.StatusReport{{AgentID: "other", SessionTopic: strconv.Itoa(n), Status: models.Running}}, time.Now(), nil)
		f.set(func(s *cluster.State) { s.Position.Sequence = sequence() })
	}
	positionIn := func(header http.Header) uint64 {
		p, err := cluster.ParsePosition(header.Get("X-Position"))
		require.NoError(t, err)
		return p.Sequence
	}
	var summary models.Summary
	w := s.get(t, "/api/summary", &summary)
	require.EqualValues(t, summary.Sessions.Total, positionIn(w.Header()), "the session that began when the position was looked up is included")
	w = s.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_sessions","arguments":{}}}`, "Content-Type: application/json", "Accept: application/json, text/event-stream")
	require.Equal(t, 200, w.Code, w.Body)
	require.EqualValues(t, strings.Count(w.Body.String(), `"created"`), positionIn(w.Header()))
	before := sequence()
	w = s.do("POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"kubeagents://agents/other/sessions/1"}}`, "Content-Type: application/json", "Accept: application/json, text/event-stream")
	require.Contains(t, w.Body.String(), "contents")
	require.Equal(t, before+1, positionIn(w.Header()), "the position was looked up before the session was read, and once")

	for _, change := range [][3]string{
		{"POST", "/webhook/status", reportOf("a", "t", "pending")},
		{"POST", "/webhook/status", "[" + reportOf("a", "t", "failed") + ",{}]"},
		{"POST", "/webhook/codex?event=Stop", `{"session_id":"s"}`},
		{"POST", "/api/agents/a/sessions/t/acknowledge", ""},
		{"POST", "/webhook/status", reportOf("a", "t", "pending")},
		{"POST", "/api/acknowledge", `{"needs":"waiting"}`},
		{"POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"report_status","arguments":{"agent_id":"a","session_topic":"t","status":"running"}}}`},
		{"DELETE", "/api/agents/a/sessions/t", ""},
		{"POST", "/webhook/status", reportOf("a", "t", "pending")},
		{"DELETE", "/api/agents/a", ""},
		{"POST", "/webhook/status", reportOf("a", "t", "pending")},
		{"POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":5}`},
	} {
		w := s.do(change[0], change[1], change[2], "Content-Type: application/json", "Accept: application/json, text/event-stream")
		require.Contains(t, []int{200, 204, 207}, w.Code, "%s: %s", change, w.Body)
		require.Equal(t, sequence(), positionIn(w.Header()), "%s", change)
		if change[1] != "/mcp" && change[1] != "/api/notifications/mutes" {
			own, _ := s.store.Changes(sequence()-2, make([]store.Change, 0, 2))
			require.NotEqual(t, "other", own[0].Session.AgentID, "%s: the position was looked up after the change, and once", change)
		}
	}
	w = s.do("POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":5}`)
	var mute struct{ ID string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &mute))
	for _, change := range [][3]string{{"DELETE", "/api/notifications/mutes/" + mute.ID, ""}, {"POST", allDevices, subscription("a", "")}} {
		w := s.do(change[0], change[1], change[2])
		require.Less(t, w.Code, 300, w.Body)
		require.Equal(t, sequence(), positionIn(w.Header()), "%s", change)
	}
}

// TestChangesThatRestOnEarlierOnes at a server that does not know these yet: another server has just taken them.
func (wiring Wiring) TestChangesThatRestOnEarlierOnes(t *testing.T) {
	s, f := wiring.newClusterServer(t, config.Config{})
	taken := func(method, target, body string, status int) *httptest.ResponseRecorder {
		t.Helper()
		w := s.do(method, target, body)
		require.Equal(t, status, w.Code, "%s %s: %s", method, target, w.Body)
		return w
	}
	applies := func(earlier func()) {
		f.others = func() error {
			f.others = nil
			earlier()
			return nil
		}
	}
	applies(func() { s.report(t, reportOf("a", "t", "running")) })
	taken("POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":5}`, 200)
	applies(func() { taken("POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":7}`, 200) })
	taken("POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":9}`, 200)
	require.Len(t, s.handlers.Notifier.Mutes(), 1, "it takes the place of the other one")

	applies(func() { taken("POST", allDevices, subscription("old", ""), 201) })
	taken("POST", allDevices, subscription("new", `,"renews":"https://push.example.com/old"`), 201)
	applies(func() { s.report(t, reportOf("a", "waits", "pending")) })
	require.JSONEq(t, `{"acknowledged":1,"more":false}`, taken("POST", "/api/acknowledge", `{"needs":"waiting"}`, 200).Body.String())

	f.others = func() error { return errors.New("away") }
	for _, change := range [][3]string{
		{"POST", "/api/notifications/mutes", `{"agent_id":"a","minutes":5}`}, {"DELETE", "/api/notifications/mutes/x", ""},
		{"POST", "/api/acknowledge", `{"needs":"waiting"}`}, {"POST", allDevices, subscription("a", "")}, {"DELETE", allDevices + "/x", ""}, {"POST", allDevices + "/x/test", ""},
	} {
		require.Contains(t, taken(change[0], change[1], change[2], 503).Body.String(), "send the request again")
	}
}

// TestTheClockOfACluster has the clock of the stream differ from that of the server: reads expire nothing, and whatever
// is compared with times of reports and sessions is compared with the time of the stream.
func (wiring Wiring) TestTheClockOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := wiring.newClusterServer(t, config.Config{})
		f.ahead = -time.Hour
		began := f.Now()
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","ttl_minutes":1}`)
		list := func() models.FleetSession {
			all := s.sessions(t, "")
			require.Len(t, all, 1)
			return all[0]
		}
		require.True(t, list().Created.Equal(began))
		w := s.do("POST", "/webhook/status", `{"agent_id":"b","session_topic":"t","status":"running","timestamp":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), "timestamp")
		w = s.do("POST", "/api/agents/a/sessions/t/acknowledge", `{"minutes":30}`)
		require.Equal(t, 200, w.Code, w.Body)
		require.True(t, list().Acknowledged.Until.Equal(began.Add(30*time.Minute)))
		w = s.do("POST", "/api/notifications/mutes", `{"until":"`+f.Now().Add(time.Minute).UTC().Format(time.RFC3339)+`"}`)
		require.Equal(t, 200, w.Code, "it is in the future of the stream: %s", w.Body)
		require.Equal(t, 400, s.do("POST", "/api/notifications/mutes", `{"until":"`+f.Now().Add(31*24*time.Hour).UTC().Format(time.RFC3339)+`"}`).Code)

		time.Sleep(3 * time.Minute)
		w = s.do("GET", "/api/sessions", "")
		require.Equal(t, f.Now().UTC().Format(http.TimeFormat), w.Header().Get("Date"))
		for _, call := range []string{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_sessions","arguments":{}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"kubeagents://agents/a/sessions/t"}}`} {
			w = s.do("POST", "/mcp", call, "Content-Type: application/json", "Accept: application/json, text/event-stream")
			require.Contains(t, w.Body.String(), `expired`)
		}
		s.do("GET", "/", "")
		require.False(t, list().Expired, "no read expires a session")
		s.report(t, `{"agent_id":"c","session_topic":"t","status":"pending"}`)
		require.Contains(t, s.do("GET", "/", "").Body.String(), "for 0s", "ages are those of the stream")

		s.store.Expire(f.Now())
		require.True(t, s.sessions(t, "agent_id=a")[0].Lost)
		f.ahead = 25 * time.Hour
		var summary models.Summary
		s.get(t, "/api/summary", &summary)
		require.Equal(t, 1, summary.Needs.LostOverADay)
	})
}

// TestAStreamGoesOnAtAnotherServer opens the event stream with the ID of an event that another server sent, at one that
// has not reached it yet.
func (wiring Wiring) TestAStreamGoesOnAtAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := wiring.newClusterServer(t, config.Config{})
		apply := func(message uint64, topics ...string) {
			s.store.Begin(message, time.Now())
			for _, topic := range topics {
				s.store.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: topic, Status: models.Running}}, time.Now(), nil)
			}
		}
		apply(1, "1")
		require.Equal(t, "stream-1-1", s.do("GET", "/api/sessions", "").Header().Get("X-Event-Id"))
		ctx, leave := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		var following sync.WaitGroup
		following.Go(func() {
			s.ServeHTTP(w, httptest.NewRequest("GET", "/api/events?since=stream-2-2", nil).WithContext(ctx))
		})
		synctest.Wait()
		apply(2, "2", "3", "4")
		time.Sleep(time.Second)
		apply(3, "5")
		time.Sleep(time.Second)
		leave()
		following.Wait()
		stream := w.Body.String()
		require.True(t, strings.HasPrefix(stream, ": connected\nretry: 2000\nid: stream-2-2\n\nid: stream-2-3\nevent: status\n"), stream)
		require.Contains(t, stream, "id: stream-3-1\nevent: status\n")
		require.Equal(t, 2, strings.Count(stream, "event: "))
	})
}
