package servertest

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// server is the program's router and its store, in the process of the test.
type server struct {
	store    *store.Store // nil for a trio
	handlers *handlers.Handler
	http.Handler
	trio *trio // nil for one server
}

func (wiring Wiring) newTestServer(t testing.TB, changeOptions func(*store.Options)) *server {
	t.Helper()
	return wiring.newGuardedServer(t, changeOptions, config.Config{CORSAllowedOrigins: config.Origins{"*"}}, nil)
}

// newGuardedServer is newTestServer with the access settings in cfg. changeParts, if not nil, may change the handler's
// parts before the server is created, such as its logger, which discards everything by default.
func (wiring Wiring) newGuardedServer(t testing.TB, changeOptions func(*store.Options), cfg config.Config, changeParts func(*handlers.Options)) *server {
	t.Helper()
	opts := store.Options{
		DefaultTTL:       30 * time.Minute,
		SessionRetention: 168 * time.Hour,
		HistoryLimit:     100,
		HistoryMaxBytes:  512 << 20,
		MaxSessions:      1_000_000,
		EventWindow:      10_000,
	}
	if changeOptions != nil {
		changeOptions(&opts)
	}
	if changeParts == nil {
		changeParts = func(*handlers.Options) {}
	}
	if wiring.three {
		return wiring.newTrio(t, opts, cfg, changeParts).server
	}
	parts := wiring.newParts(t, opts, cfg, "")
	parts.Recorder = recorder.New(parts.Store, nil, parts.Metrics)
	parts.Notifier = notify.New(notify.Options{Store: parts.Store, Metrics: parts.Metrics, Logger: parts.Logger, Link: func(store.SessionKey) string { return "" }})
	parts.Devices = newDevices(t, &parts, nil, browsers{&phone{}})
	changeParts(&parts)
	return wiring.assemble(parts, cfg)
}

// newParts returns the parts of a server that do not depend on whether it is one of several. stream identifies what the
// servers share, if there are several.
func (wiring Wiring) newParts(t testing.TB, opts store.Options, cfg config.Config, stream string) handlers.Options {
	t.Helper()
	st := store.New(opts)
	m := metrics.New(st, "test")
	logger := slog.New(slog.DiscardHandler)
	guard, _, err := wiring.OpenAccess(cfg, st, m, logger)
	require.NoError(t, err)
	if guard.Hosts != nil {
		guard.Hosts.Names = append(guard.Hosts.Names, "example.com") // the host of httptest's requests
	}
	return handlers.Options{PublicURL: cfg.PublicURL.URL, Store: st, Metrics: m, Logger: logger, Version: "test", Dashboard: newDashboard(t, st),
		Hub: startHub(t, st, m, live.Options{MaxSubscribers: 10_000, QueueSize: 5000, Stream: stream}), Access: guard, Capture: cfg.Capture}
}

// assemble returns the server with these parts.
func (wiring Wiring) assemble(parts handlers.Options, cfg config.Config) *server {
	h := handlers.New(parts)
	return &server{store: parts.Store, handlers: h, Handler: wiring.Router(h, parts.Metrics, cfg)}
}

func newDashboard(t testing.TB, st *store.Store) *dashboard.Dashboard {
	page, err := dashboard.New(st)
	require.NoError(t, err)
	return page
}

// startHub starts a hub that is stopped when the test ends.
func startHub(t testing.TB, st *store.Store, m *metrics.Metrics, opts live.Options) *live.Hub {
	hub := live.New(st, m, opts)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return hub
}

// do sends a request and returns the response. Header lines have the form "Name: value".
func (s *server) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func (s *server) get(t testing.TB, target string, into any) *httptest.ResponseRecorder {
	t.Helper()
	w := s.do(http.MethodGet, target, "")
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), into))
	return w
}

func (s *server) report(t testing.TB, body string) {
	t.Helper()
	w := s.do(http.MethodPost, "/webhook/status", body)
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", body, w.Body)
}

// servers returns the server, or those of a trio that run.
func (s *server) servers() []*server {
	if s.trio == nil {
		return []*server{s}
	}
	var all []*server
	for _, h := range s.trio.running() {
		all = append(all, h.server)
	}
	return all
}

// count returns the value of a metric, or the sum of those of a trio.
func (s *server) count(t testing.TB, metric string) (count int) {
	t.Helper()
	for _, one := range s.servers() {
		_, value, found := strings.Cut(one.do(http.MethodGet, "/metrics", "").Body.String(), "\n"+metric+" ")
		require.True(t, found, "no such metric: %s", metric)
		value, _, _ = strings.Cut(value, "\n")
		n, err := strconv.Atoi(value)
		require.NoError(t, err)
		count += n
	}
	return count
}

// sessions returns the sessions in the response to GET /api/sessions with a query.
func (s *server) sessions(t testing.TB, query string) []models.FleetSession {
	t.Helper()
	var list struct{ Sessions []models.FleetSession }
	s.get(t, "/api/sessions?"+query, &list)
	return list.Sessions
}

func reportOf(agent, topic, status string) string {
	b, _ := json.Marshal(map[string]string{"agent_id": agent, "session_topic": topic, "status": status})
	return string(b)
}

// TestReadsShowExpiryWithoutTicker follows a session through its life while no ticker calls Expire: reads show it as
// expired, as lost, as active again, and no longer once it is forgotten.
func (wiring Wiring) TestReadsShowExpiryWithoutTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, func(o *store.Options) { o.SessionRetention = time.Hour })
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"running","ttl_minutes":5}`)
		var page struct{ Sessions []models.FleetSession }
		list := func(query string) []models.FleetSession {
			page.Sessions = nil
			s.get(t, "/api/sessions?"+query, &page)
			return page.Sessions
		}
		started := time.Now()
		time.Sleep(5*time.Minute - time.Nanosecond)
		require.Len(t, list("expired=false"), 1)
		time.Sleep(time.Nanosecond)
		require.Empty(t, list("expired=false"))
		lost := list("lost=true&status=running")
		require.Len(t, lost, 1)
		require.True(t, lost[0].Lost && lost[0].Expired)
		require.True(t, lost[0].ExpiredAt.Equal(started.Add(5*time.Minute)))
		var summary models.Summary
		s.get(t, "/api/summary", &summary)
		require.Equal(t, models.Summary{Agents: 1, Sessions: models.SessionCounts{Total: 1, Expired: 1, Lost: 1}, Needs: models.NeedCounts{Lost: 1}}, summary)

		s.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","timestamp":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
		require.Len(t, list("expired=false&status=pending"), 1)
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"failed","timestamp":"1999-01-01T00:00:00+05:00"}`)
		revived := list("")[0]
		require.Equal(t, models.Pending, revived.CurrentStatus, "a late report does not change the current status")
		require.Equal(t, 5, revived.TTLMinutes)
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"success"}`)
		time.Sleep(65*time.Minute - time.Microsecond)
		done := list("expired=true&lost=false")
		require.Len(t, done, 1)
		time.Sleep(2 * time.Microsecond)
		require.Empty(t, list(""))
		require.Equal(t, http.StatusNotFound, s.do(http.MethodGet, "/api/agents/a", "").Code)
	})
}

func (wiring Wiring) TestETagChangesWithTheContent(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	s.report(t, reportOf("a", "t", "running"))
	for _, target := range []string{"/api/agents", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/t", "/api/sessions", "/api/summary"} {
		etag := s.do(http.MethodGet, target, "").Header().Get("ETag")
		w := s.do(http.MethodGet, target, "", `If-None-Match: "other", W/`+etag)
		require.Equal(t, http.StatusNotModified, w.Code, target)
		require.Empty(t, w.Body.String())
		s.report(t, reportOf("a", "t", "running"))
		s.report(t, reportOf("a", fmt.Sprint(etag), "pending"))
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, target, "", "If-None-Match: "+etag).Code, target)
	}
}

func (wiring Wiring) TestIDsOfAnyScriptRoundTrip(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	for _, id := range []string{"a/b", "//", "100%", "%2F", "%25", "a?b#c&d=e", "ü代理🤖", "مساعد", "a b", "+", "...", `"\`, ";:@", "status", "sessions"} {
		body, err := json.Marshal(map[string]string{"agent_id": id, "session_topic": id, "status": "running"})
		require.NoError(t, err)
		s.report(t, string(body))
		var agent models.Agent
		s.get(t, "/api/agents/"+url.PathEscape(id), &agent)
		require.Equal(t, id, agent.ID)
		var detail struct{ Session models.Session }
		s.get(t, "/api/agents/"+url.PathEscape(id)+"/sessions/"+url.PathEscape(id), &detail)
		require.Equal(t, id, detail.Session.Topic)
		var page struct{ Sessions []models.Session }
		s.get(t, "/api/agents/"+url.PathEscape(id)+"/sessions", &page)
		require.Len(t, page.Sessions, 1)
		s.get(t, "/api/sessions?agent_id="+url.QueryEscape(id), &page)
		require.Len(t, page.Sessions, 1)
		s.get(t, "/api/agents/"+url.PathEscape(id)+"/status", &struct{}{})
	}
}

func (wiring Wiring) TestDoubledAndTrailingSlashes(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	for _, id := range []string{"a", "a/b", "/", "a//b/", "//", "gone/"} {
		s.report(t, reportOf(id, "t/", "running"))
	}
	for name, test := range map[string]struct {
		method, target, body string
		status               int
		want                 string
	}{
		"a report with a trailing slash":                            {"POST", "/webhook/status/", reportOf("a", "2", "running"), 200, "successfully"},
		"a report with doubled slashes":                             {"POST", "//webhook//status", reportOf("a", "2", "running"), 200, "successfully"},
		"a report with many slashes":                                {"POST", "///webhook////status//?x=/", reportOf("a", "2", "running"), 200, "successfully"},
		"an event with a trailing slash":                            {"POST", "/webhook/claude-code/", `{"session_id":"s","hook_event_name":"Stop"}`, 200, ""},
		"an event of an unknown client":                             {"POST", "/webhook/nobody/", `{}`, 404, "no such client"},
		"an MCP message with a trailing slash":                      {"POST", "/mcp/", `{}`, 415, ""},
		"a list with a trailing slash":                              {"GET", "/api/agents/", "", 200, `"agents":[`},
		"an ID that ends with an encoded slash":                     {"GET", "/api/agents/a%2F%2Fb%2F", "", 200, `"agent_id":"a//b/"`},
		"an ID before a trailing slash":                             {"GET", "/api/agents/a%2Fb/", "", 200, `"agent_id":"a/b"`},
		"an ID that is a slash":                                     {"GET", "//api/agents/%2f/", "", 200, `"agent_id":"/"`},
		"an ID of two slashes":                                      {"GET", "/api//agents/%2F%2F", "", 200, `"agent_id":"//"`},
		"a topic that ends with an encoded slash":                   {"GET", "/api/agents/a//sessions/t%2F/", "", 200, `"session_topic":"t/"`},
		"an encoded slash does not separate parts of a route":       {"POST", "/webhook%2Fstatus", reportOf("a", "2", "running"), 404, "no such route"},
		"an encoded trailing slash belongs to the client name":      {"POST", "/webhook/status%2F", reportOf("a", "2", "running"), 404, "no such client"},
		"a method that the route does not support":                  {"GET", "/webhook/status/", "", 405, "this path only supports POST"},
		"health with a trailing slash":                              {"GET", "/health/", "", 200, `"status":"ok"`},
		"the dashboard with a doubled slash":                        {"GET", "//", "", 200, "<!doctype html>"},
		"the list of profiles is not a route":                       {"GET", "/debug/pprof/", "", 404, "no such route"},
		"an asset without a name":                                   {"GET", "/assets/", "", 404, "no such file"},
		"a removal with a trailing slash":                           {"DELETE", "/api/agents/gone%2F/", "", 204, ""},
		"the removal of a session without a topic removes no agent": {"DELETE", "/api/agents/a/sessions/", "", 405, ""},
		"the removal of a session without an agent":                 {"DELETE", "/api/agents//sessions/t", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.do(test.method, test.target, test.body)
			require.Equal(t, test.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), test.want)
			require.Empty(t, w.Header().Get("Location"))
		})
	}
	page := s.do("GET", "/", "").Body.String()
	asset := regexp.MustCompile(`assets/[^"]+/main.js`).FindString(page)
	require.Equal(t, 200, s.do("GET", "//"+asset, "").Code, "the path that a browser requests for the page at //")
	for target, location := range map[string]string{"/connect/": "../connect", "//connect///": "../../../connect"} {
		w := s.do("GET", target, "")
		require.Equal(t, 308, w.Code, "relative links on the page need the path without a trailing slash")
		require.Equal(t, location, w.Header().Get("Location"))
		base, err := url.Parse("http://hub/prefix" + target)
		require.NoError(t, err)
		page, err := base.Parse(location)
		require.NoError(t, err)
		require.Equal(t, 200, s.do("GET", strings.TrimPrefix(page.Path, "/prefix"), "").Code)
	}
}

func (wiring Wiring) TestErrorsNameInvalidParameters(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	s.report(t, reportOf("a", "t", "running"))
	cursor := "YQ"
	for target, field := range map[string]string{
		"/api/agents?limit=0": "limit", "/api/agents?limit=1001": "limit", "/api/agents?limit=x": "limit", "/api/agents?limit=": "limit",
		"/api/agents?status=done": "status", "/api/agents?active=yes": "active", "/api/agents?sort=name": "sort", "/api/sessions?sort=title": "sort",
		"/api/agents?cursor=!": "cursor", "/api/sessions?cursor=" + cursor: "cursor", "/api/agents?limit=1&limit=2": "limit",
		"/api/sessions?expired=1": "expired", "/api/sessions?lost=": "lost", "/api/sessions?search=%FF": "search",
		"/api/sessions?search=" + strings.Repeat("x", 501): "search", "/api/agents/a/sessions?status=": "status",
		"/api/agents/a/status?limit=-1": "limit", "/api/agents/a/sessions/t?cursor=zzz": "cursor",
	} {
		w := s.do(http.MethodGet, target, "")
		var e models.Error
		require.Equal(t, http.StatusBadRequest, w.Code, target)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.Equal(t, field, e.Field, target)
		require.Contains(t, e.Message, field)
	}
}

func (wiring Wiring) TestRequestIDAndCORS(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	require.Equal(t, "mine-1", s.do(http.MethodGet, "/health", "", "X-Request-Id: mine-1").Header().Get("X-Request-Id"))
	for _, invalid := range []string{"a b", strings.Repeat("x", 129), "ü"} {
		id := s.do(http.MethodGet, "/health", "", "X-Request-Id: "+invalid).Header().Get("X-Request-Id")
		require.NotEmpty(t, id)
		require.NotEqual(t, invalid, id)
	}
	w := s.do(http.MethodOptions, "/webhook/status", "", "Origin: https://dash.example", "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: content-type, idempotency-key")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"), "never with *")
	require.Equal(t, "600", w.Header().Get("Access-Control-Max-Age"))

	h := s.handlers
	restricted := wiring.Router(h, metrics.New(store.New(store.Options{}), "test"), config.Config{CORSAllowedOrigins: config.Origins{"https://dash.example"}})
	for origin, allowed := range map[string]string{"https://dash.example": "https://dash.example", "https://evil.example": ""} {
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		restricted.ServeHTTP(w, r)
		require.Equal(t, allowed, w.Header().Get("Access-Control-Allow-Origin"))
	}
}

// TestResponsesAreCompressed requests a list with the Accept-Encoding header of a browser, and again with the ETag of
// the response.
func (wiring Wiring) TestResponsesAreCompressed(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	for i := range 50 {
		s.report(t, reportOf("a", fmt.Sprint(i), "running"))
	}
	plain := s.do("GET", "/api/sessions", "")
	w := s.do("GET", "/api/sessions", "", "Accept-Encoding: br, gzip")
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
	require.Contains(t, w.Header().Values("Vary"), "Accept-Encoding")
	require.Less(t, w.Body.Len(), plain.Body.Len()/4)
	unzipped, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	body, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	require.Equal(t, plain.Body.String(), string(body))
	require.NotEqual(t, plain.Header().Get("ETag"), w.Header().Get("ETag"), "the bytes differ, so the ETags must differ")
	for _, etag := range []string{plain.Header().Get("ETag"), w.Header().Get("ETag")} {
		require.Equal(t, http.StatusNotModified, s.do("GET", "/api/sessions", "", "Accept-Encoding: gzip", "If-None-Match: "+etag).Code)
	}
	require.Empty(t, s.do("GET", "/api/summary", "", "Accept-Encoding: gzip").Header().Get("Content-Encoding"), "too small to compress")
}

// pipeListener is an in-memory listener. Unlike a network listener, it lets time advance in a synctest bubble.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowClientsAreCutOff sends requests that stop halfway, an idle connection, and a request whose response is not
// read.
func (wiring Wiring) TestSlowClientsAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		sent  string
		wait  time.Duration // before the client reads
		first string        // first line of the response
		after time.Duration // time until the server hangs up
	}{
		"half a header": {"GET /health HTTP/1.1\r\nHost:", 0, "", 10 * time.Second},
		"half a body": {"POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
			0, "HTTP/1.1 400 Bad Request", 30 * time.Second},
		"no further request":          {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 0, "HTTP/1.1 200 OK", 2 * time.Minute},
		"a response that is not read": {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 60 * time.Second, "", 60 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := pipeListener{make(chan net.Conn)}
				server := wiring.NewServer(wiring.newTestServer(t, nil), nil, slog.New(slog.DiscardHandler))
				var serving sync.WaitGroup
				serving.Go(func() { server.Serve(listener) }) //nolint:errcheck // it returns when the listener is closed
				client, conn := net.Pipe()
				listener.conns <- conn
				started := time.Now()
				_, err := io.WriteString(client, test.sent)
				require.NoError(t, err)
				time.Sleep(test.wait)
				synctest.Wait()
				response, err := io.ReadAll(client) // until the server hangs up
				require.NoError(t, err)
				require.Equal(t, test.after, time.Since(started).Round(time.Second))
				first, _, _ := strings.Cut(string(response), "\r\n")
				require.Equal(t, test.first, first)
				close(listener.conns)
				serving.Wait()
			})
		})
	}
}

// TestSlowReadersAreCutOff requests a page of 1 MiB and reads it at different rates, or not at all.
func (wiring Wiring) TestSlowReadersAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		take, every time.Duration
		bytes       int
		after       time.Duration // time until the response is cut off; 0 for never
	}{
		"nothing":         {bytes: 0, every: time.Minute, after: 10 * time.Second},
		"too little":      {bytes: 1 << 10, every: time.Second, after: 10 * time.Second},
		"enough at first": {bytes: 12 << 10, every: time.Second, after: 60 * time.Second},
		"enough":          {bytes: 64 << 10, every: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := wiring.newTestServer(t, nil)
				for i := range 30 {
					s.report(t, fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","message":"%d","content":%q}`, i, strings.Repeat("𝕏", models.MaxContent)))
				}
				listener := pipeListener{make(chan net.Conn)}
				server := wiring.NewServer(s, nil, slog.New(slog.DiscardHandler))
				var serving sync.WaitGroup
				serving.Go(func() { server.Serve(listener) }) //nolint:errcheck // it returns when the listener is closed
				client, conn := net.Pipe()
				listener.conns <- conn
				started := time.Now()
				_, err := io.WriteString(client, "GET /api/agents/a/sessions/t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				require.NoError(t, err)
				for piece := make([]byte, max(test.bytes, 1)); err == nil; {
					if test.bytes > 0 {
						_, err = io.ReadFull(client, piece)
					} else if s.handlers.Responses.Held() == 0 && time.Since(started) > 0 {
						_, err = io.ReadAll(client)
						require.NoError(t, err)
						break
					}
					if err == nil {
						time.Sleep(min(test.every, time.Second))
						synctest.Wait()
					}
				}
				took := time.Since(started)
				if test.after > 0 {
					require.InDelta(t, test.after.Seconds(), took.Seconds(), 2)
				}
				synctest.Wait()
				require.Zero(t, s.handlers.Responses.Held(), "the memory of the response is released")
				cut := strings.Contains(s.do("GET", "/metrics", "").Body.String(), "kubeagents_answers_cut_off_total 1")
				require.Equal(t, test.after > 0, cut)
				client.Close() //nolint:errcheck // the server may have closed it already
				close(listener.conns)
				serving.Wait()
			})
		})
	}
}
