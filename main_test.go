package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/fleet"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// programVariable has the test binary be the program, so that tests run it as a process of its own.
const programVariable = "KUBEAGENTS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// server is the program's router over a store, answering in process.
type server struct {
	store    *store.Store
	handlers *handlers.Handler
	http.Handler
}

func newTestServer(t testing.TB, change func(*store.Options)) *server {
	t.Helper()
	return newGuardedServer(t, change, config.Config{CORSAllowedOrigins: config.Origins{"*"}}, nil)
}

// newGuardedServer is newTestServer with the settings in cfg that say who is let in, which guard may change before the server
// begins; its log is discarded otherwise.
func newGuardedServer(t testing.TB, change func(*store.Options), cfg config.Config, guard func(*handlers.Parts)) *server {
	t.Helper()
	opts := store.Options{
		DefaultTTL:       30 * time.Minute,
		SessionRetention: 168 * time.Hour,
		HistoryLimit:     100,
		HistoryMaxBytes:  512 << 20,
		MaxSessions:      1_000_000,
		EventWindow:      10_000,
	}
	if change != nil {
		change(&opts)
	}
	st := store.New(opts)
	m := metrics.New(st, "test")
	hub := startHub(t, st, m, live.Options{MaxSubscribers: 10_000, Buffer: 5000})
	logger := slog.New(slog.DiscardHandler)
	entry, _, err := openAccess(cfg, st, m, logger)
	require.NoError(t, err)
	if entry.Hosts != nil {
		entry.Hosts.Names = append(entry.Hosts.Names, "example.com") // where httptest's requests go
	}
	parts := handlers.Parts{PublicURL: cfg.PublicURL.URL, Store: st, Recorder: recorder.New(st, nil, m), Hub: hub, Metrics: m,
		Logger: logger, Version: "test", Dashboard: newDashboard(t, st), Access: entry, Capture: cfg.Capture}
	if guard != nil {
		guard(&parts)
	}
	h := handlers.New(parts)
	return &server{st, h, router(h, m, cfg)}
}

func newDashboard(t testing.TB, st *store.Store) *dashboard.Dashboard {
	page, err := dashboard.New(st)
	require.NoError(t, err)
	return page
}

// startHub starts a hub that ends with the test.
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

// ask sends a request; header lines are "Name: value".
func (s *server) ask(method, target, body string, header ...string) *httptest.ResponseRecorder {
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
	w := s.ask(http.MethodGet, target, "")
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), into))
	return w
}

func (s *server) report(t testing.TB, body string) {
	t.Helper()
	w := s.ask(http.MethodPost, "/webhook/status", body)
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", body, w.Body)
}

func reportOf(agent, topic, status string) string {
	b, _ := json.Marshal(map[string]string{"agent_id": agent, "session_topic": topic, "status": status})
	return string(b)
}

// contract is openapi.yaml, and what of it the answers seen so far have shown.
type contract struct {
	doc  *openapi3.T
	seen map[string]bool // "GET /api/agents 200"
}

func newContract(t *testing.T) *contract {
	doc, err := openapi3.NewLoader().LoadFromData(handlers.OpenAPISpec)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	return &contract{doc, map[string]bool{}}
}

// hold fails the test unless the answer to a request is as the contract says. route is the pattern that took
// it.
func (c *contract) hold(t *testing.T, route string, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	require.NotEmpty(t, w.Header().Get("X-Request-Id"))
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	item := c.doc.Paths.Value(route)
	if item == nil || item.GetOperation(method) == nil {
		schema := c.doc.Components.Schemas["Error"].Value
		var body any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body)
		require.NoError(t, schema.VisitJSON(body, openapi3.EnableJSONSchema2020()))
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	c.seen[fmt.Sprintf("%s %s %d", method, route, w.Code)] = true
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r,
			Route: &routers.Route{Spec: c.doc, Path: route, PathItem: item, Method: method,
				Operation: item.GetOperation(method)},
		},
		Status: w.Code,
		Header: w.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: w.Code == http.StatusNotModified ||
			!strings.HasPrefix(w.Header().Get("Content-Type"), "application/json")},
	}
	input.SetBodyBytes(w.Body.Bytes())
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), input), "%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
	if !input.Options.ExcludeResponseBody {
		schema := item.GetOperation(method).Responses.Status(w.Code).Value.Content.Get("application/json").Schema.Value
		var body any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.NoError(t, schema.VisitJSON(body, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation()))
	}
}

// TestContract walks every route with good and bad input, holds each answer to openapi.yaml, and sees to it
// that the file lacks no route, the router none of the file's, and the walk none of its answers.
func TestContract(t *testing.T) {
	c := newContract(t)
	s := newTestServer(t, func(o *store.Options) { o.MaxSessions = 3 })
	full := `{"agent_id":"a/ü %25","agent_name":"N","agent_source":"cursor","session_topic":"t?#","session_title":"T","status":"running",` +
		`"timestamp":"2026-11-20T07:01:18.4Z","message":"m","content":"c","ttl_minutes":5,"report_id":"r"}`
	agent := "/api/agents/" + url.PathEscape("a/ü %25")
	session := agent + "/sessions/" + url.PathEscape("t?#")

	for _, test := range []struct {
		method, target, body, header string
		route                        string
		status                       int
	}{
		{"POST", "/webhook/status", full, "", "/webhook/status", 200},
		{"POST", "/webhook/status", full, "", "/webhook/status", 200}, // a retry
		{"POST", "/webhook/status", reportOf("b", "1", "failed") + reportOf("b", "1", "success"), "", "/webhook/status", 200},
		{"POST", "/webhook/status", "[" + reportOf("b", "2", "pending") + `,{"agent_id":"b"}]`, "", "/webhook/status", 207},
		{"POST", "/webhook/status", "[" + reportOf("b", "2", "pending") + "," + reportOf("b", "4", "pending") + "]", "", "/webhook/status", 207},
		{"POST", "/webhook/status", `{"agent_id":"b"}`, "", "/webhook/status", 400},
		{"POST", "/webhook/status", `[{"agent_id":"b"},7]`, "", "/webhook/status", 400},
		{"POST", "/webhook/status", `{`, "", "/webhook/status", 400},
		{"POST", "/webhook/status", full, "Idempotency-Key: " + strings.Repeat("k", 101), "/webhook/status", 400},
		{"POST", "/webhook/status", strings.Repeat(" ", 9<<20), "", "/webhook/status", 413},
		{"POST", "/webhook/status", full, "Content-Encoding: br", "/webhook/status", 415},
		{"POST", "/webhook/status", `[]`, "Content-Type: application/cloudevents-batch+avro", "/webhook/status", 415},
		{"POST", "/webhook/status", reportOf("b", "3", "running"), "", "/webhook/status", 503},
		{"POST", "/webhook/status", "[" + reportOf("b", "3", "running") + "]", "", "/webhook/status", 503},
		{"POST", "/webhook/status", `{"specversion":"1.0","id":"1","source":"s","type":"t","data":` + reportOf("b", "1", "failed") + `}`, "Content-Type: application/cloudevents+json", "/webhook/status", 200},
		{"POST", "/webhook/status", `[{"specversion":"1.0","id":"1","source":"s","type":"t","data":` + reportOf("b", "1", "failed") + `},7]`, "Content-Type: application/cloudevents-batch+json", "/webhook/status", 207},
		{"POST", "/webhook/codex?event=Stop", `{"session_id":"1"}`, "X-Agent-Id: b", "/webhook/{client}", 200},
		{"POST", "/webhook/codex", `[]`, "", "/webhook/{client}", 400},
		{"POST", "/webhook/nobody", `{}`, "", "/webhook/{client}", 404},
		{"POST", "/webhook/codex", strings.Repeat(" ", 65<<20), "", "/webhook/{client}", 413},
		{"POST", "/webhook/codex", `{}`, "Content-Encoding: br", "/webhook/{client}", 415},
		{"POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Accept: application/json, text/event-stream", "/mcp", 200},
		{"POST", "/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Accept: application/json, text/event-stream", "/mcp", 202},
		{"POST", "/mcp", `{}`, "", "/mcp", 400},
		{"POST", "/mcp", strings.Repeat(" ", 2<<20), "Accept: application/json, text/event-stream", "/mcp", 413},
		{"POST", "/mcp", `{}`, "Content-Type: text/plain", "/mcp", 415},
		{"GET", "/connect", "", "", "/connect", 200},
		{"GET", "/connect/", "", "", "/connect", 308},
		{"GET", "/connect/", "", "Accept: */*", "/connect", 200},
		{"GET", "/connect", "", "Host: $(x)", "/connect", 400},
		{"GET", "/connect/codex", "", "", "/connect/{client}", 200},
		{"GET", "/connect/codex", "", "Host: $(x)", "/connect/{client}", 400},
		{"GET", "/connect/nobody", "", "", "/connect/{client}", 404},
		{"GET", "/webhook/status", "", "", "", 405},
		{"GET", "/api/agents", "", "", "/api/agents", 200},
		{"HEAD", "/api/agents", "", "", "/api/agents", 200},
		{"GET", "/api/agents?limit=1&sort=-last_seen&status=running&source=cursor&search=n&active=true", "", "", "/api/agents", 200},
		{"GET", "/api/agents?limit=1", "", "", "/api/agents", 200},
		{"GET", "/api/agents", "", "If-None-Match: *", "/api/agents", 304},
		{"GET", "/api/agents?limit=0", "", "", "/api/agents", 400},
		{"DELETE", "/api/agents", "", "", "", 405},
		{"GET", agent, "", "", "/api/agents/{agent_id}", 200},
		{"GET", agent, "", "If-None-Match: *", "/api/agents/{agent_id}", 304},
		{"GET", "/api/agents/nobody", "", "", "/api/agents/{agent_id}", 404},
		{"GET", agent + "/status", "", "", "/api/agents/{agent_id}/status", 200},
		{"GET", "/api/agents/b/status?limit=1", "", "", "/api/agents/{agent_id}/status", 200},
		{"GET", agent + "/status", "", "If-None-Match: *", "/api/agents/{agent_id}/status", 304},
		{"GET", agent + "/status?cursor=x", "", "", "/api/agents/{agent_id}/status", 400},
		{"GET", "/api/agents/nobody/status", "", "", "/api/agents/{agent_id}/status", 404},
		{"GET", agent + "/sessions", "", "", "/api/agents/{agent_id}/sessions", 200},
		{"GET", "/api/agents/b/sessions?limit=1", "", "", "/api/agents/{agent_id}/sessions", 200},
		{"GET", agent + "/sessions", "", "If-None-Match: *", "/api/agents/{agent_id}/sessions", 304},
		{"GET", agent + "/sessions?expired=maybe", "", "", "/api/agents/{agent_id}/sessions", 400},
		{"GET", "/api/agents/nobody/sessions", "", "", "/api/agents/{agent_id}/sessions", 404},
		{"GET", session, "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 200},
		{"GET", "/api/agents/b/sessions/1?limit=1", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 200},
		{"GET", session, "", "If-None-Match: *", "/api/agents/{agent_id}/sessions/{session_topic}", 304},
		{"GET", session + "?limit=1001", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 400},
		{"GET", agent + "/sessions/none", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 404},
		{"GET", "/api/sessions?limit=1", "", "", "/api/sessions", 200},
		{"GET", "/api/sessions?status=pending&expired=false&lost=false&agent_id=b&source=x&search=y", "", "", "/api/sessions", 200},
		{"GET", "/api/sessions?sort=last_updated&limit=1", "", "", "/api/sessions", 200},
		{"GET", "/api/sessions", "", "If-None-Match: *", "/api/sessions", 304},
		{"GET", "/api/sessions?status=done", "", "", "/api/sessions", 400},
		{"GET", "/api/summary", "", "", "/api/summary", 200},
		{"GET", "/api/summary", "", "If-None-Match: *", "/api/summary", 304},
		{"GET", agent + "?limit=1", "", "", "/api/agents/{agent_id}", 400},
		{"DELETE", agent + "?force=true", "", "", "/api/agents/{agent_id}", 400},
		{"DELETE", session + "?force=true", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 400},
		{"GET", "/api/summary?status=failed", "", "", "/api/summary", 400},
		{"GET", "/api/backup?since=1", "", "", "/api/backup", 400},
		{"HEAD", "/api/events?agent_id=b&status=pending,failed&lost=true&types=status,expired&since=x", "", "", "/api/events", 200},
		{"GET", "/api/events?types=bye", "", "", "/api/events", 400},
		{"GET", "/api/events?status=done", "", "", "/api/events", 400},
		{"GET", "/api/events?lost=maybe", "", "", "/api/events", 400},
		{"GET", "/api/events?since=" + strings.Repeat("x", 101), "", "", "/api/events", 400},
		{"GET", "/health", "", "", "/health", 200},
		{"GET", "/health/live", "", "", "/health/live", 200},
		{"GET", "/health/ready", "", "", "/health/ready", 200},
		{"GET", "/metrics", "", "", "/metrics", 200},
		{"GET", "/openapi.yaml", "", "", "/openapi.yaml", 200},
		{"GET", "/openapi.yaml", "", "If-None-Match: *", "/openapi.yaml", 304},
		{"GET", "/nowhere", "", "", "", 404},
		{"GET", "/assets/old/main.js", "", "", "", 404},
		{"GET", "/api/agents/", "", "", "/api/agents", 200},
		{"DRAIN", "", "", "", "", 0},
		{"GET", "/health", "", "", "/health", 503},
		{"GET", "/health/live", "", "", "/health/live", 200},
		{"GET", "/health/ready", "", "", "/health/ready", 503},
		{"GET", "/api/events", "", "", "/api/events", 503},
	} {
		if test.method == "DRAIN" {
			s.handlers.Drain()
			continue
		}
		r := httptest.NewRequest(test.method, test.target, strings.NewReader(test.body))
		if strings.HasPrefix(test.target, "/mcp") {
			r.Header.Set("Content-Type", "application/json")
		}
		if name, value, ok := strings.Cut(test.header, ": "); ok {
			if r.Header.Set(name, value); name == "Host" {
				r.Host = value
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, test.status, w.Code, "%s %s: %s", test.method, test.target, w.Body)
		c.hold(t, test.route, r, w)
		if test.status == 405 {
			assert.NotEmpty(t, w.Header().Get("Allow"))
		}
	}

	c.holdAccess(t)
	c.holdWebhooks(t)
	c.holdJournal(t)
	c.holdEvents(t)

	inRouter := map[string]bool{}
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		inRouter[method+" "+route] = true
		return nil
	}))
	for _, page := range []string{"GET /", "GET /assets/*", "GET /favicon.svg", "POST /sign-in", "POST /sign-out", "GET /debug/pprof/*"} { // not of the API
		delete(inRouter, page)
	}
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			assert.True(t, inRouter[method+" "+path], "the router lacks %s %s", method, path)
			delete(inRouter, method+" "+path)
			for status := range operation.Responses.Map() {
				assert.True(t, c.seen[method+" "+path+" "+status], "not seen: %s %s %s", method, path, status)
			}
		}
	}
	assert.Empty(t, inRouter, "openapi.yaml lacks routes")
}

// requireDay holds every read to the state that the recorded day leads to.
func requireDay(t *testing.T, s *server) {
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

// requireDayCounted holds the counts of reports to the recorded day.
func requireDayCounted(t *testing.T, s *server) {
	t.Helper()
	want, err := fleet.Expected()
	require.NoError(t, err)
	scrape := s.ask(http.MethodGet, "/metrics", "").Body.String()
	assert.Contains(t, scrape, fmt.Sprintf(`kubeagents_reports_total{outcome="stored"} %d`, want.Stored))
	assert.Contains(t, scrape, fmt.Sprintf(`kubeagents_reports_total{outcome="duplicate"} %d`, want.Duplicates))
}

// historyOf reads a session and its history by the paths of the API.
func historyOf(t *testing.T, s *server, se models.Session) fleet.Session {
	t.Helper()
	var detail struct {
		Session       models.Session
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	s.get(t, "/api/agents/"+url.PathEscape(se.AgentID)+"/sessions/"+url.PathEscape(se.Topic), &detail)
	require.Equal(t, se, detail.Session)
	of := fleet.Session{AgentID: se.AgentID, Topic: se.Topic, CurrentStatus: se.CurrentStatus.String(),
		CurrentMessage: se.CurrentMessage, TTLMinutes: se.TTLMinutes}
	for _, st := range detail.StatusHistory {
		of.History = append(of.History, [3]string{st.Timestamp.Format(time.RFC3339Nano), st.Status.String(), st.Message})
	}
	return of
}

func TestRecordedDay(t *testing.T) {
	reports := fleet.Reports()
	t.Run("one by one", func(t *testing.T) {
		s := newTestServer(t, nil)
		for _, r := range reports {
			s.report(t, string(r))
		}
		requireDay(t, s)
		requireDayCounted(t, s)
	})
	for _, size := range []int{2, 100, 777, len(reports)} {
		t.Run(fmt.Sprintf("in batches of %d", size), func(t *testing.T) {
			s := newTestServer(t, nil)
			for batch := range slices.Chunk(reports, size) {
				s.report(t, string(bytes.Join(batch, []byte("\n"))))
			}
			requireDay(t, s)
			requireDayCounted(t, s)
		})
		t.Run(fmt.Sprintf("in arrays of %d", size), func(t *testing.T) {
			s := newTestServer(t, nil)
			for batch := range slices.Chunk(reports, size) {
				s.report(t, "["+string(bytes.Join(batch, []byte(",")))+"]")
			}
			requireDay(t, s)
			requireDayCounted(t, s)
		})
	}
	t.Run("by parallel clients", func(t *testing.T) {
		s := newTestServer(t, nil)
		const clients = 8
		var of [clients][][]byte
		for _, r := range reports {
			var id struct {
				AgentID string `json:"agent_id"`
			}
			require.NoError(t, json.Unmarshal(r, &id))
			n := 0
			for _, c := range id.AgentID {
				n += int(c)
			}
			of[n%clients] = append(of[n%clients], r)
		}
		var wg sync.WaitGroup
		for _, list := range of {
			wg.Go(func() {
				for _, r := range list {
					s.report(t, string(r))
				}
			})
		}
		wg.Wait()
		requireDay(t, s)
		requireDayCounted(t, s)
	})
}

// TestExpiryTellsTheTruth follows a session through its life with no ticker running: reads alone see it
// expire, be lost, be revived, and be forgotten.
func TestExpiryTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(o *store.Options) { o.SessionRetention = time.Hour })
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"running","ttl_minutes":5}`)
		var page struct{ Sessions []models.FleetSession }
		look := func(query string) []models.FleetSession {
			page.Sessions = nil
			s.get(t, "/api/sessions?"+query, &page)
			return page.Sessions
		}
		started := time.Now()
		time.Sleep(5*time.Minute - time.Nanosecond)
		require.Len(t, look("expired=false"), 1)
		time.Sleep(time.Nanosecond)
		require.Empty(t, look("expired=false"))
		lost := look("lost=true&status=running")
		require.Len(t, lost, 1)
		require.True(t, lost[0].Lost && lost[0].Expired)
		require.True(t, lost[0].ExpiredAt.Equal(started.Add(5*time.Minute)))
		var summary models.Summary
		s.get(t, "/api/summary", &summary)
		require.Equal(t, models.Summary{Agents: 1, Sessions: models.SessionCounts{Total: 1, Expired: 1, Lost: 1}}, summary)

		s.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","timestamp":"`+time.Now().UTC().Format(time.RFC3339)+`"}`)
		require.Len(t, look("expired=false&status=pending"), 1)
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"failed","timestamp":"1999-01-01T00:00:00+05:00"}`)
		revived := look("")[0]
		require.Equal(t, models.Pending, revived.CurrentStatus, "a late report leaves the current status alone")
		require.Equal(t, 5, revived.TTLMinutes)
		s.report(t, `{"agent_id":"a","session_topic":"t","status":"success"}`)
		time.Sleep(65*time.Minute - time.Microsecond)
		done := look("expired=true&lost=false")
		require.Len(t, done, 1)
		time.Sleep(2 * time.Microsecond)
		require.Empty(t, look(""))
		require.Equal(t, http.StatusNotFound, s.ask(http.MethodGet, "/api/agents/a", "").Code)
	})
}

// TestExpiryTicker runs the ticker of the program.
func TestExpiryTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 10})
		st.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		m := metrics.New(st, "test")
		wg.Go(func() { expire(ctx, st, recorder.New(st, nil, m), m, slog.New(slog.DiscardHandler), time.Second) })
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, st.Summary().Sessions.Active)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, st.Summary().Sessions.Lost)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, st.Summary())
		cancel()
		wg.Wait()
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Contains(t, w.Body.String(), "kubeagents_expiry_run_duration_seconds_count 3661\n", "one each second")
	})
}

func TestETagChangesWithWhatIsShown(t *testing.T) {
	s := newTestServer(t, nil)
	s.report(t, reportOf("a", "t", "running"))
	for _, target := range []string{"/api/agents", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/t", "/api/sessions", "/api/summary"} {
		etag := s.ask(http.MethodGet, target, "").Header().Get("ETag")
		w := s.ask(http.MethodGet, target, "", `If-None-Match: "other", W/`+etag)
		require.Equal(t, http.StatusNotModified, w.Code, target)
		require.Empty(t, w.Body.String())
		s.report(t, reportOf("a", "t", "running"))
		s.report(t, reportOf("a", fmt.Sprint(etag), "pending"))
		require.Equal(t, http.StatusOK, s.ask(http.MethodGet, target, "", "If-None-Match: "+etag).Code, target)
	}
}

func TestIDsOfAnyScriptRoundTrip(t *testing.T) {
	s := newTestServer(t, nil)
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

func TestSlashesThatAreDoubledOrAtTheEnd(t *testing.T) {
	s := newTestServer(t, nil)
	for _, id := range []string{"a", "a/b", "/", "a//b/", "//", "gone/"} {
		s.report(t, reportOf(id, "t/", "running"))
	}
	for name, test := range map[string]struct {
		method, target, body string
		status               int
		says                 string
	}{
		"a report finds its route":                        {"POST", "/webhook/status/", reportOf("a", "2", "running"), 200, "successfully"},
		"a report finds its route by doubled slashes":     {"POST", "//webhook//status", reportOf("a", "2", "running"), 200, "successfully"},
		"a report finds its route by many":                {"POST", "///webhook////status//?x=/", reportOf("a", "2", "running"), 200, "successfully"},
		"an event finds its route":                        {"POST", "/webhook/claude-code/", `{"session_id":"s","hook_event_name":"Stop"}`, 200, ""},
		"an event of an unknown client does not":          {"POST", "/webhook/nobody/", `{}`, 404, "no such client"},
		"a message of MCP finds its route":                {"POST", "/mcp/", `{}`, 415, ""},
		"a list finds its route":                          {"GET", "/api/agents/", "", 200, `"agents":[`},
		"an ID with a slash at its end stays as it is":    {"GET", "/api/agents/a%2F%2Fb%2F", "", 200, `"agent_id":"a//b/"`},
		"an ID before a slash at the end":                 {"GET", "/api/agents/a%2Fb/", "", 200, `"agent_id":"a/b"`},
		"an ID of a slash":                                {"GET", "//api/agents/%2f/", "", 200, `"agent_id":"/"`},
		"an ID of slashes":                                {"GET", "/api//agents/%2F%2F", "", 200, `"agent_id":"//"`},
		"a topic with a slash at its end":                 {"GET", "/api/agents/a//sessions/t%2F/", "", 200, `"session_topic":"t/"`},
		"a name that is encoded is no route":              {"POST", "/webhook%2Fstatus", reportOf("a", "2", "running"), 404, "no such route"},
		"an encoded slash at the end is of the client":    {"POST", "/webhook/status%2F", reportOf("a", "2", "running"), 404, "no such client"},
		"a method that is not taken is said to be so":     {"GET", "/webhook/status/", "", 405, "this path takes POST"},
		"health is seen":                                  {"GET", "/health/", "", 200, `"status":"ok"`},
		"the page is seen":                                {"GET", "//", "", 200, "<!doctype html>"},
		"of the profiles the list stays where it was":     {"GET", "/debug/pprof/", "", 404, "no such route"},
		"there are no files without a name":               {"GET", "/assets/", "", 404, "no such file"},
		"removal finds its route":                         {"DELETE", "/api/agents/gone%2F/", "", 204, ""},
		"removal of a session does not remove its agent":  {"DELETE", "/api/agents/a/sessions/", "", 405, ""},
		"removal of nobody's session does not find agent": {"DELETE", "/api/agents//sessions/t", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.ask(test.method, test.target, test.body)
			require.Equal(t, test.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), test.says)
			require.Empty(t, w.Header().Get("Location"))
		})
	}
	page := s.ask("GET", "/", "").Body.String()
	asset := regexp.MustCompile(`assets/[^"]+/main.js`).FindString(page)
	require.Equal(t, 200, s.ask("GET", "//"+asset, "").Code, "a browser at // asks for this")
	for target, location := range map[string]string{"/connect/": "../connect", "//connect///": "../../../connect"} {
		w := s.ask("GET", target, "")
		require.Equal(t, 308, w.Code, "else the links of the page lead nowhere")
		require.Equal(t, location, w.Header().Get("Location"))
		base, err := url.Parse("http://hub/prefix" + target)
		require.NoError(t, err)
		page, err := base.Parse(location)
		require.NoError(t, err)
		require.Equal(t, 200, s.ask("GET", strings.TrimPrefix(page.Path, "/prefix"), "").Code)
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	s := newTestServer(t, nil)
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
		w := s.ask(http.MethodGet, target, "")
		var e models.Error
		require.Equal(t, http.StatusBadRequest, w.Code, target)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.Equal(t, field, e.Field, target)
		require.Contains(t, e.Message, field)
	}
}

func TestRequestIDAndCORS(t *testing.T) {
	s := newTestServer(t, nil)
	require.Equal(t, "mine-1", s.ask(http.MethodGet, "/health", "", "X-Request-Id: mine-1").Header().Get("X-Request-Id"))
	for _, unfit := range []string{"a b", strings.Repeat("x", 129), "ü"} {
		id := s.ask(http.MethodGet, "/health", "", "X-Request-Id: "+unfit).Header().Get("X-Request-Id")
		require.NotEmpty(t, id)
		require.NotEqual(t, unfit, id)
	}
	w := s.ask(http.MethodOptions, "/webhook/status", "", "Origin: https://dash.example", "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: content-type, idempotency-key")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"), "never with *")
	require.Equal(t, "600", w.Header().Get("Access-Control-Max-Age"))

	h := s.handlers
	only := router(h, metrics.New(store.New(store.Options{}), "test"), config.Config{CORSAllowedOrigins: config.Origins{"https://dash.example"}})
	for origin, allowed := range map[string]string{"https://dash.example": "https://dash.example", "https://evil.example": ""} {
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		only.ServeHTTP(w, r)
		require.Equal(t, allowed, w.Header().Get("Access-Control-Allow-Origin"))
	}
}

// TestAnswersAreCompressed asks for a list as browsers do, and again with the ETag that it got.
func TestAnswersAreCompressed(t *testing.T) {
	s := newTestServer(t, nil)
	for i := range 50 {
		s.report(t, reportOf("a", fmt.Sprint(i), "running"))
	}
	plain := s.ask("GET", "/api/sessions", "")
	w := s.ask("GET", "/api/sessions", "", "Accept-Encoding: br, gzip")
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
	require.Contains(t, w.Header().Values("Vary"), "Accept-Encoding")
	require.Less(t, w.Body.Len(), plain.Body.Len()/4)
	unzipped, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	body, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	require.Equal(t, plain.Body.String(), string(body))
	require.NotEqual(t, plain.Header().Get("ETag"), w.Header().Get("ETag"), "they are other bytes")
	for _, etag := range []string{plain.Header().Get("ETag"), w.Header().Get("ETag")} {
		require.Equal(t, http.StatusNotModified, s.ask("GET", "/api/sessions", "", "Accept-Encoding: gzip", "If-None-Match: "+etag).Code)
	}
	require.Empty(t, s.ask("GET", "/api/summary", "", "Accept-Encoding: gzip").Header().Get("Content-Encoding"), "too small to gain")
}

// pipeListener is a listener in memory, which time in a synctest bubble can pass over.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowClientsAreCutOff sends requests that stop halfway, and one that asks for nothing more.
func TestSlowClientsAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		sent   string
		wait   time.Duration // before the client reads
		answer string        // its first line
		after  time.Duration // the server hangs up
	}{
		"half a header": {"GET /health HTTP/1.1\r\nHost:", 0, "", 10 * time.Second},
		"half a body": {"POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
			0, "HTTP/1.1 400 Bad Request", 30 * time.Second},
		"no further request":          {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 0, "HTTP/1.1 200 OK", 2 * time.Minute},
		"an answer that nobody takes": {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 60 * time.Second, "", 60 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := pipeListener{make(chan net.Conn)}
				server := newServer(newTestServer(t, nil), nil, slog.New(slog.DiscardHandler))
				var serving sync.WaitGroup
				serving.Go(func() { server.Serve(listener) }) //nolint:errcheck // it ends with the listener
				client, conn := net.Pipe()
				listener.conns <- conn
				started := time.Now()
				_, err := io.WriteString(client, test.sent)
				require.NoError(t, err)
				time.Sleep(test.wait)
				synctest.Wait()
				answer, err := io.ReadAll(client) // until the server hangs up
				require.NoError(t, err)
				require.Equal(t, test.after, time.Since(started).Round(time.Second))
				first, _, _ := strings.Cut(string(answer), "\r\n")
				require.Equal(t, test.answer, first)
				close(listener.conns)
				serving.Wait()
			})
		})
	}
}

// process is the program, running.
type process struct {
	cmd     *exec.Cmd
	address string
	stderr  *bytes.Buffer
	read    chan struct{} // closed once all of stderr is read
}

// start runs the program on a free port of the loopback.
func start(t *testing.T, environment ...string) *process {
	t.Helper()
	return startAs(t, os.Args[0], nil, environment...)
}

// startAs runs a copy of the program, as another user if one is given.
func startAs(t *testing.T, program string, user *syscall.Credential, environment ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program), stderr: new(bytes.Buffer), read: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	p.cmd.Env = append(os.Environ(), append([]string{programVariable + "=1", "HOST=127.0.0.1", "PORT=0", "LOG_FORMAT=json",
		"RATE_LIMIT_REPORTS=0", "RATE_LIMIT_READS=0", "SHUTDOWN_TIMEOUT=2s"}, environment...)...)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.cmd.Process.Kill() }) //nolint:errcheck // it mostly has ended
	lines := bufio.NewReader(stderr)
	for p.address == "" {
		line, err := lines.ReadBytes('\n')
		require.NoError(t, err, "%s", p.stderr)
		p.stderr.Write(line)
		var entry struct{ Address string }
		require.NoError(t, json.Unmarshal(line, &entry))
		p.address = entry.Address
	}
	go func() {
		defer close(p.read)
		io.Copy(p.stderr, lines) //nolint:errcheck // ends with the process
	}()
	return p
}

// stop sends SIGTERM and returns the exit status.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.read
	p.cmd.Wait() //nolint:errcheck // its exit status is what is asked for
	return p.cmd.ProcessState.ExitCode()
}

// TestProgramStopsInTheMiddleOfLoad ends the program with SIGTERM while clients report, one of them with a
// request half sent: what got a 200 is counted, readiness turns, open requests finish, and the exit status
// is 0.
func TestProgramStopsInTheMiddleOfLoad(t *testing.T) {
	p := start(t, "SHUTDOWN_TIMEOUT=20s")
	reports := fleet.Reports()
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	half := make(chan struct{})
	for c := range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := c; i < len(reports); i += 8 {
				if i > len(reports)/4 && c == 0 {
					select {
					case <-half:
					default:
						close(half)
					}
				}
				resp, err := client.Post("http://"+p.address+"/webhook/status", "application/json", bytes.NewReader(reports[i]))
				if err != nil {
					return // the server has stopped listening
				}
				if resp.StatusCode == http.StatusOK {
					acknowledged.Add(1)
				}
				io.Copy(io.Discard, resp.Body) //nolint:errcheck
				resp.Body.Close()              //nolint:errcheck
			}
		})
	}
	<-half

	open, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer open.Close() //nolint:errcheck
	body := reportOf("slow", "t", "running")
	_, err = fmt.Fprintf(open, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	require.NoError(t, err)
	answers := bufio.NewReader(open)
	line, err := answers.ReadString('\n') // the handler waits for the body now
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	_, err = answers.ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { // while what is open finishes
		resp, err := http.Get("http://" + p.address + "/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close() //nolint:errcheck
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Close
	}, 10*time.Second, time.Millisecond)
	wg.Wait()
	_, err = io.WriteString(open, body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	resp.Body.Close() //nolint:errcheck // only its status is asked for
	require.Equal(t, http.StatusOK, resp.StatusCode, "an open request finishes")

	<-p.read
	p.cmd.Wait() //nolint:errcheck
	require.Zero(t, p.cmd.ProcessState.ExitCode(), "%s", p.stderr)
	require.Positive(t, acknowledged.Load())
	require.Contains(t, p.stderr.String(), fmt.Sprintf(`"accepted":%d`, acknowledged.Load()+1))
}

func TestProgramRefusesBadSettings(t *testing.T) {
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), programVariable+"=1", "PORT=http", "MAX_SESSIONS=0", "LOG_LEVEL=loud")
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	require.Equal(t, command.ExitUsage, cmd.ProcessState.ExitCode())
	for _, part := range []string{`PORT is "http"`, "0 to 65535", `MAX_SESSIONS is "0"`, `LOG_LEVEL is "loud"`, "debug, info, warn or error"} {
		require.Contains(t, stderr.String(), part)
	}
}

func TestProgramCutsOffRequestsAfterTheTimeout(t *testing.T) {
	p := start(t, "SHUTDOWN_TIMEOUT=300ms")
	conn, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck
	fmt.Fprintf(conn, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), "cut off")
}

// TestRun holds which exit status the server's errors lead to.
func TestRun(t *testing.T) {
	var out, errOut bytes.Buffer
	require.Equal(t, command.ExitOK, run(t.Context(), []string{"version"}, nil, &out, &errOut))
	require.NotEmpty(t, out.String())
	require.Equal(t, command.ExitFailure, run(t.Context(), nil, map[string]string{"HOST": "203.0.113.1", "PORT": "0"}, &out, &errOut))
	require.Contains(t, errOut.String(), "listen on HOST and PORT")
	require.Equal(t, command.ExitUsage, run(t.Context(), []string{"serve"}, map[string]string{"PORT": "http"}, &out, &errOut))
}

// BenchmarkReads measures what each read costs in a fleet of 200,000 sessions, as a multiple of what it costs
// in one of 2,000: the median of pairs. In both, four sessions are pending, five lost and none failed.
func BenchmarkReads(b *testing.B) {
	small, large := newFleet(b, 2_000, config.Config{}), newFleet(b, 200_000, config.Config{})
	for _, read := range []fleetRead{
		{"agents", always("/api/agents?limit=100")},
		{"agents-last-seen", always("/api/agents?limit=100&sort=-last_seen")},
		{"agents-pending", always("/api/agents?limit=100&status=pending")},
		{"agents-failed", always("/api/agents?limit=100&status=failed")},
		{"agents-of-source", always("/api/agents?limit=100&source=cursor")},
		{"agents-inactive", always("/api/agents?limit=100&active=false")},
		{"agents-on-from-the-middle", func(_, agents int) string { return "/api/agents?limit=100&cursor=" + cursorAfter(agents/2-1) }},
		{"agent", func(n, _ int) string { return "/api/agents/" + benchAgent(n) }},
		{"agent-status", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/status?limit=100" }},
		{"agent-sessions", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions?limit=100" }},
		{"agent-sessions-failed", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions?status=failed" }},
		{"session", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions/3?limit=100" }},
		{"sessions", always("/api/sessions?limit=100")},
		{"sessions-pending", always("/api/sessions?limit=100&status=pending&expired=false")},
		{"sessions-failed", always("/api/sessions?limit=100&status=failed")},
		{"sessions-lost", always("/api/sessions?limit=100&lost=true")},
		{"sessions-of-agent", func(n, _ int) string { return "/api/sessions?limit=100&agent_id=" + benchAgent(n) }},
		{"sessions-of-source-pending", always("/api/sessions?limit=100&source=cursor&status=pending")},
		{"summary", always("/api/summary")},
	} {
		read.compare(b, small, large)
	}
}

// BenchmarkReadsOfATeam compares what reads cost with a token for 100 agents, of a fleet of 20,000 agents and of one of 200.
func BenchmarkReadsOfATeam(b *testing.B) {
	path, holders := tokensFile(b, map[string]access.Entry{"team": {Scopes: []string{"read"}, Agents: []string{"host-000*"}}})
	small, large := newFleet(b, 2_000, config.Config{TokensFile: path}), newFleet(b, 200_000, config.Config{TokensFile: path})
	for _, f := range []*fleetServer{small, large} {
		f.header = http.Header{"Authorization": {"Bearer " + holders["team"].token}}
	}
	for _, read := range []fleetRead{
		{"agents", always("/api/agents?limit=100")},
		{"agents-last-seen", always("/api/agents?limit=100&sort=-last_seen")},
		{"agents-of-source", always("/api/agents?limit=50&source=cursor")},
		{"sessions", always("/api/sessions?limit=100")},
		{"sessions-failed", always("/api/sessions?limit=100&status=failed")},
		{"sessions-of-source", always("/api/sessions?limit=100&source=cursor")},
		{"sessions-of-a-search", always("/api/sessions?limit=100&search=00099")},
		{"summary", always("/api/summary")},
	} {
		read.compare(b, small, large)
	}
}

// fleetRead is a read whose cost two fleets are compared by.
type fleetRead struct {
	name   string
	target func(n, agents int) string // for the n-th of so many agents, which have ten sessions each
}

// compare reports the median of what a read costs in the large fleet, and of its ratio to that in the small one.
func (read fleetRead) compare(b *testing.B, small, large *fleetServer) {
	b.Run(read.name, func(b *testing.B) {
		var ratios, costs []float64
		for b.Loop() {
			cost := large.cost(b, read.target)
			ratios = append(ratios, cost.Seconds()/small.cost(b, read.target).Seconds())
			costs = append(costs, cost.Seconds()*1e6)
		}
		slices.Sort(ratios)
		slices.Sort(costs)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ratios[len(ratios)/2], "x_small")
		b.ReportMetric(costs[len(costs)/2], "us")
	})
}

func always(target string) func(int, int) string { return func(int, int) string { return target } }

func benchAgent(n int) string { return fmt.Sprintf("host-%05d:claude", n) }

// cursorAfter returns the cursor of the page that follows an agent.
func cursorAfter(n int) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{'a', 0, 0}, benchAgent(n)...))
}

// fleetServer is a server with a fleet of a number of agents.
type fleetServer struct {
	*server
	agents int
	header http.Header // of requests
}

func newFleet(b *testing.B, sessions int, cfg config.Config) *fleetServer {
	s := newGuardedServer(b, nil, cfg, nil)
	now := time.Now()
	of := func(n int, st models.Status) models.StatusReport {
		return models.StatusReport{
			AgentID: benchAgent(n / 10), AgentName: "Backend refactor", AgentSource: []string{"claude-code", "cursor"}[n/10%2],
			SessionTopic: fmt.Sprint(n % 10), Status: st, Timestamp: now, TTLMinutes: 60,
			Message: "Running go test ./...", Content: "Reading the repository",
		}
	}
	for n := range 5 { // on their way to be lost
		s.store.Accept(nil, []models.StatusReport{of(n*sessions/5, models.Running)}, now.Add(-2*time.Hour), nil)
	}
	for n := range sessions {
		st := models.Running
		switch {
		case n%(sessions/5) == 0:
			continue
		case n%(sessions/4) == 1:
			st = models.Pending
		}
		s.store.Accept(nil, []models.StatusReport{of(n, st)}, now, nil)
	}
	summary := s.store.Summary().Sessions
	require.Equal(b, []int{sessions, 5, 4}, []int{summary.Total, summary.Lost, summary.ByStatus.Pending})
	return &fleetServer{s, sessions / 10, nil}
}

// cost returns how long an answer takes, over 64 requests spread over the fleet.
func (f *fleetServer) cost(b *testing.B, target func(n, agents int) string) time.Duration {
	const requests = 64
	var list [requests]*http.Request
	for i := range list {
		list[i] = httptest.NewRequest(http.MethodGet, target(i*f.agents/requests, f.agents), nil)
		maps.Copy(list[i].Header, f.header)
	}
	w := &discard{header: http.Header{}}
	started := time.Now()
	for _, r := range list {
		f.ServeHTTP(w, r)
	}
	took := time.Since(started)
	require.Equal(b, http.StatusOK, w.status)
	return took / requests
}

// discard is an http.ResponseWriter that keeps nothing but the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
