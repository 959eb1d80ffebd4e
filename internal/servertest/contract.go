package servertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/live/livetest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// contract is openapi.yaml, and the responses in it that the test has seen so far.
type contract struct {
	wiring Wiring
	doc    *openapi3.T
	seen   map[string]bool // "GET /api/agents 200"
}

func (wiring Wiring) newContract(t *testing.T) *contract {
	doc, err := openapi3.NewLoader().LoadFromData(handlers.OpenAPISpec)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	return &contract{wiring, doc, map[string]bool{}}
}

// check fails the test unless the response to a request conforms to the contract. route is the pattern that matched the
// request.
func (c *contract) check(t *testing.T, route string, r *http.Request, w *httptest.ResponseRecorder) {
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

// TestContract sends valid and invalid requests to every route and checks each response against openapi.yaml. It also
// checks that the file and the router have the same routes, and that every response in the file occurred at least once.
func (wiring Wiring) TestContract(t *testing.T) {
	c := wiring.newContract(t)
	s := wiring.newTestServer(t, func(o *store.Options) { o.MaxSessions = 3 })
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
		{"POST", "/webhook/codex?event=Stop", `{"session_id":"1"}`, "X-Dry-Run: true", "/webhook/{client}", 200},
		{"POST", "/webhook/codex", `{}`, "X-Dry-Run: true", "/webhook/{client}", 200},
		{"POST", "/webhook/codex?event=Stop", `{"session_id":"1"}`, "X-Dry-Run: yes", "/webhook/{client}", 400},
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
		{"POST", "/api/agents/b/sessions/1/acknowledge", `{"minutes":5}`, "", "/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", 409},
		{"POST", "/api/agents/b/sessions/2/acknowledge", `{"minutes":5}`, "", "/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", 200},
		{"POST", "/api/agents/b/sessions/2/acknowledge", `{"minutes":-1}`, "", "/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", 400},
		{"POST", "/api/agents/b/sessions/9/acknowledge", "", "", "/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", 404},
		{"POST", "/api/agents/b/sessions/9/acknowledge", strings.Repeat(" ", 65<<10), "", "/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", 413},
		{"POST", "/api/acknowledge", `{"sessions":[{"agent_id":"b","session_topic":"2"}]}`, "", "/api/acknowledge", 200},
		{"POST", "/api/acknowledge", `{"needs":"lost"}`, "", "/api/acknowledge", 200},
		{"POST", "/api/acknowledge", "{}", "", "/api/acknowledge", 400},
		{"POST", "/api/acknowledge", strings.Repeat(" ", 65<<10), "", "/api/acknowledge", 413},
		{"GET", "/api/notifications", "", "", "/api/notifications", 200},
		{"GET", "/api/notifications", "", "If-None-Match: *", "/api/notifications", 304},
		{"GET", "/api/notifications?limit=1", "", "", "/api/notifications", 400},
		{"GET", "/api/notifications/mutes", "", "", "/api/notifications/mutes", 200},
		{"GET", "/api/notifications/mutes", "", "If-None-Match: *", "/api/notifications/mutes", 304},
		{"GET", "/api/notifications/mutes?limit=1", "", "", "/api/notifications/mutes", 400},
		{"POST", "/api/notifications/mutes", `{"minutes":5,"agent_id":"b"}`, "", "/api/notifications/mutes", 200},
		{"POST", "/api/notifications/mutes", `{}`, "", "/api/notifications/mutes", 400},
		{"POST", "/api/notifications/mutes", `{"minutes":5,"agent_id":"nobody"}`, "", "/api/notifications/mutes", 404},
		{"POST", "/api/notifications/mutes", strings.Repeat(" ", 9<<10), "", "/api/notifications/mutes", 413},
		{"DELETE", "/api/notifications/mutes/none?force=true", "", "", "/api/notifications/mutes/{mute_id}", 400},
		{"DELETE", "/api/notifications/mutes/none", "", "", "/api/notifications/mutes/{mute_id}", 404},
		{"POST", "/api/notifications/test", `{}`, "", "/api/notifications/test", 400},
		{"POST", "/api/notifications/test", `{"destination":"phone"}`, "", "/api/notifications/test", 404},
		{"POST", "/api/notifications/test", strings.Repeat(" ", 9<<10), "", "/api/notifications/test", 413},
		{"GET", "/api/agents/b/sessions/2", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 200},
		{"GET", "/api/sessions?needs=waiting&limit=1", "", "", "/api/sessions", 200},
		{"GET", "/api/sessions?needs=rest", "", "", "/api/sessions", 400},
		{"GET", "/api/sessions", "", "If-None-Match: *", "/api/sessions", 304},
		{"GET", "/api/sessions?status=done", "", "", "/api/sessions", 400},
		{"GET", "/api/summary", "", "", "/api/summary", 200},
		{"GET", "/api/summary", "", "If-None-Match: *", "/api/summary", 304},
		{"GET", agent + "?limit=1", "", "", "/api/agents/{agent_id}", 400},
		{"DELETE", agent + "?force=true", "", "", "/api/agents/{agent_id}", 400},
		{"DELETE", session + "?force=true", "", "", "/api/agents/{agent_id}/sessions/{session_topic}", 400},
		{"GET", "/api/summary?status=failed", "", "", "/api/summary", 400},
		{"GET", "/api/backup?since=1", "", "", "/api/backup", 400},
		{"POST", "/api/snapshots?now=true", "", "", "/api/snapshots", 400},
		{"HEAD", "/api/events?agent_id=b&status=pending,failed&lost=true&types=status,expired&since=x", "", "", "/api/events", 200},
		{"GET", "/api/events?types=bye", "", "", "/api/events", 400},
		{"GET", "/api/events?status=done", "", "", "/api/events", 400},
		{"GET", "/api/events?lost=maybe", "", "", "/api/events", 400},
		{"GET", "/api/events?since=" + strings.Repeat("x", 101), "", "", "/api/events", 400},
		{"GET", "/health", "", "", "/health", 200},
		{"GET", "/health/live", "", "", "/health/live", 200},
		{"GET", "/health/ready", "", "", "/health/ready", 200},
		{"GET", "/metrics", "", "", "/metrics", 200},
		{"GET", "/metrics", "", "Accept: application/openmetrics-text", "/metrics", 200},
		{"GET", "/openapi.yaml", "", "", "/openapi.yaml", 200},
		{"GET", "/openapi.yaml", "", "If-None-Match: *", "/openapi.yaml", 304},
		{"GET", "/nowhere", "", "", "", 404},
		{"GET", "/assets/old/main.js", "", "", "", 404},
		{"GET", "/connect/assets/old/connect.js", "", "", "", 404},
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
		c.check(t, test.route, r, w)
		if test.status == 405 {
			assert.NotEmpty(t, w.Header().Get("Allow"))
		}
	}

	c.checkAccess(t)
	c.checkWebhooks(t)
	c.checkJournal(t)
	c.checkEvents(t)
	c.checkNotifications(t)
	c.checkDevices(t)
	c.checkCluster(t)

	inRouter := map[string]bool{}
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		inRouter[method+" "+route] = true
		return nil
	}))
	for _, page := range []string{"GET /", "GET /assets/*", "GET /connect/assets/*", "GET /favicon.svg", "GET /sw.js", "GET /manifest.webmanifest", "GET /icons/{name}", "POST /sign-in", "POST /sign-out", "GET /debug/pprof/*"} { // not part of the API
		delete(inRouter, page)
	}
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			assert.True(t, inRouter[method+" "+path], "the router lacks %s %s", method, path)
			delete(inRouter, method+" "+path)
			for status := range operation.Responses.Map() {
				assert.True(t, c.seen[method+" "+path+" "+status], "this response never occurred: %s %s %s", method, path, status)
			}
		}
	}
	assert.Empty(t, inRouter, "openapi.yaml lacks routes")
}

// fullDisk refuses all writes while it is full.
type fullDisk struct{ full atomic.Bool }

// MaybeError implements errorfs.Injector.
func (d *fullDisk) MaybeError(op errorfs.Op) error {
	if d.full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		return syscall.ENOSPC
	}
	return nil
}

func (d *fullDisk) String() string { return "full disk" }

// checkJournal checks the responses of a server with a data directory: before its journal is read, in normal operation,
// and while the disk is full.
func (c *contract) checkJournal(t *testing.T) {
	disk := new(fullDisk)
	s, _ := c.wiring.newDurableServer(t, errorfs.Wrap(vfs.NewMem(), disk), false)
	report := reportOf("a", "t", "running")
	var detail struct {
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	check := func(method, target, body string, status int, want string) {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%s %s: %s", method, target, w.Body)
		require.Contains(t, w.Body.String(), want)
		require.Equal(t, status == 503, w.Header().Get("Retry-After") != "")
		route, _, _ := strings.Cut(target, "?")
		c.check(t, strings.NewReplacer("/agents/a", "/agents/{agent_id}", "/sessions/t", "/sessions/{session_topic}").Replace(route), r, w)
	}
	check("GET", "/health/live", "", 200, "ok")
	check("GET", "/health/ready", "", 503, "reading its journal")
	check("GET", "/health", "", 503, "reading its journal")
	for _, target := range []string{"/api/agents", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/t", "/api/sessions", "/api/summary"} {
		check("GET", target, "", 503, "reading its journal")
	}
	check("POST", "/webhook/status", report, 503, "reading its journal")

	s.handlers.SetReady()
	check("GET", "/health/ready", "", 200, "ok")
	check("GET", "/health", "", 200, `"storage":"journal","disk_bytes":`)
	for range 150 {
		check("POST", "/webhook/status", report, 200, "success")
	}
	check("GET", "/api/agents/a/sessions/t?limit=120", "", 200, "next_cursor")

	disk.full.Store(true)
	check("POST", "/webhook/status", report, 503, "the disk of DATA_DIR is full")
	check("POST", "/webhook/status", report, 503, "nothing of this request was stored")
	check("POST", "/webhook/status", report+report+"{}", 503, `"accepted":0,"rejected":3`)
	check("POST", "/api/notifications/mutes", `{"minutes":5}`, 503, "the disk of DATA_DIR is full")
	check("POST", allDevices, subscription("a", ""), 503, "the disk of DATA_DIR is full")
	check("GET", "/api/notifications/mutes", "", 200, `"mutes":[]`)
	check("GET", "/health", "", 503, `"cause":"the disk of DATA_DIR is full: `)
	check("GET", "/health/ready", "", 200, "ok")
	check("GET", "/health/live", "", 200, "ok")
	check("GET", "/api/agents", "", 200, `"agent_id":"a"`)
	check("GET", "/api/agents/a/sessions/t?limit=1000", "", 200, `"agent_id":"a"`)
	s.get(t, "/api/agents/a/sessions/t?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 150, "reads still work")
	s.get(t, "/api/agents/a/status?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 150, "reads still work")
	scrape := s.do(http.MethodGet, "/metrics", "").Body.String()
	for _, line := range []string{"kubeagents_journal_writable 0", `kubeagents_reports_total{outcome="stored"} 150`, `kubeagents_reports_total{outcome="unavailable"} 4`} {
		assert.Contains(t, scrape, line)
	}

	disk.full.Store(false)
	for s.do(http.MethodPost, "/webhook/status", report).Code != 200 { //nolint:revive // it recovers soon by itself
	}
	check("GET", "/health", "", 200, `"storage":"journal"`)
	s.get(t, "/api/agents/a/sessions/t?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 151)
}

// TestContractForQuestions checks questions in the responses to reads against the contract, and finds sessions by their
// questions.
func (wiring Wiring) TestContractForQuestions(t *testing.T) {
	s, c := wiring.newTestServer(t, nil), wiring.newContract(t)
	position := s.handlers.Hub.Position()
	event := func(rest string) {
		w := s.do("POST", "/webhook/claude-code", `{"session_id":"t","cwd":"/home/dev/payments",`+rest+`}`, "X-Agent-Host: laptop")
		require.Equal(t, 200, w.Code, w.Body)
	}
	get := func(route, target string) string {
		r := httptest.NewRequest("GET", target, nil)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body)
		c.check(t, route, r, w)
		return w.Body.String()
	}
	const agent, session = "/api/agents/claude-code:payments@laptop", "/api/agents/claude-code:payments@laptop/sessions/t"
	event(`"hook_event_name":"SessionStart","source":"startup"`)
	require.Contains(t, get("/api/sessions", "/api/sessions?idle=true&status=success"), `"idle":true`)
	require.Contains(t, get("/api/summary", "/api/summary"), `"idle":1,"by_status":{"running":0,"pending":0,"success":0,"failed":0}`)
	event(`"hook_event_name":"UserPromptSubmit","prompt":"Colour it"`)
	event(`"hook_event_name":"PreToolUse","tool_name":"AskUserQuestion","tool_use_id":"1","tool_input":{"questions":[{"question":"Which?","options":[{"label":"red"},{"label":"blue"}]}]}`)
	event(`"hook_event_name":"PermissionRequest","agent_id":"sub","tool_name":"Bash","tool_input":{"command":"make"}`)

	require.Contains(t, get("/api/agents", "/api/agents?waiting=true"), `"host":"laptop"`)
	require.Contains(t, get("/api/agents", "/api/agents?waiting=false"), `"agents":[]`)
	require.Contains(t, get("/api/agents/{agent_id}", agent), `"waiting_session_count":1,"lost_session_count":0`)
	require.Contains(t, get("/api/sessions", "/api/sessions?status=pending"), `"open_question_count":2,"question":{"id":"`)
	require.NotContains(t, get("/api/sessions", "/api/sessions?status=pending"), `"choices"`)
	detail := get("/api/agents/{agent_id}/sessions/{session_topic}", session)
	require.Contains(t, detail, `"kind":"choice","text":"Which?"`)
	require.Contains(t, detail, `"choices":["red","blue"]`)
	require.Contains(t, detail, `"kind":"permission","text":"Bash: make","content":"{\"command\":\"make\"}"`)
	require.Contains(t, detail, `"asked_by":"sub"`)

	event(`"hook_event_name":"PostToolUse","tool_name":"AskUserQuestion","tool_use_id":"1","tool_input":{}`)
	event(`"hook_event_name":"Stop"`)
	require.Contains(t, get("/api/agents/{agent_id}/status", agent+"/status"), `"closed_questions":[{"id":"`)
	detail = get("/api/agents/{agent_id}/sessions/{session_topic}", session)
	require.Contains(t, detail, `"text":"Which?","outcome":"answered","by":"PostToolUse"`)
	require.Contains(t, detail, `"outcome":"withdrawn","by":"Stop"`)
	require.NotContains(t, detail, `"questions"`)
	require.NotEmpty(t, position)
}

// checkEvents checks each type of event against the contract.
func (c *contract) checkEvents(t *testing.T) {
	s := c.wiring.newTestServer(t, func(o *store.Options) { o.SessionRetention, o.EventWindow = time.Minute, 100 })
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	events, _ := livetest.Listen(t, server.URL, "?since=another-1")
	next := func(name, schema string) {
		var body any
		e, err := events.Next()
		require.NoError(t, err)
		require.Equal(t, name, e.Name)
		require.NoError(t, json.Unmarshal([]byte(e.Data), &body))
		require.NoError(t, c.doc.Components.Schemas[schema].Value.VisitJSON(body, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation()))
	}
	next("reset", "ReasonEvent")
	s.report(t, `{"agent_id":"a","agent_name":"A","agent_source":"codex","session_topic":"t","session_title":"T","status":"pending","message":"m","ttl_minutes":1}`)
	next("status", "StatusEvent")
	for _, body := range []string{
		`{"hook_event_name":"PermissionRequest","session_id":"t","tool_name":"Bash"}`,
		`{"hook_event_name":"PostToolUse","session_id":"t","tool_name":"Bash"}`,
	} {
		require.Equal(t, 200, s.do("POST", "/webhook/codex?agent_id=a&agent_host=laptop", body).Code)
		next("status", "StatusEvent")
	}
	s.report(t, reportOf("a", "t", "running"))
	next("status", "StatusEvent")
	s.store.Expire(time.Now().Add(90 * time.Second))
	next("expired", "ExpiredEvent")
	require.Equal(t, 200, s.do("POST", "/api/agents/a/sessions/t/acknowledge", "").Code)
	next("acknowledged", "AcknowledgedEvent")
	s.store.Expire(time.Now().Add(time.Hour))
	next("removed", "RemovedEvent")
	s.handlers.Drain()
	next("bye", "ReasonEvent")
	_, err := events.Next()
	require.ErrorIs(t, err, io.EOF)

	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/events", nil)
	c.wiring.newTestServer(t, nil).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	c.check(t, "/api/events", r, w)
}

// checkForeignHost checks the response to a request with a foreign host name against the contract.
func (c *contract) checkForeignHost(t *testing.T, method, route string) {
	if strings.HasPrefix(route, "/health") {
		return
	}
	s := c.wiring.newGuardedServer(t, nil, config.Config{}, nil)
	r := httptest.NewRequest(method, strings.ReplaceAll(route, "{client}", "codex"), strings.NewReader(reportOf("a", "t", "running")))
	r.Host = "evil.example"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 421, w.Code, route)
	c.check(t, route, r, w)
}

// checkWebhooks checks the responses to signed webhooks against the contract.
func (c *contract) checkWebhooks(t *testing.T) {
	s := c.wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, nil)
	for _, test := range []struct {
		route, target, id string
		code              int
	}{
		{"/webhook/status", "/webhook/status", "1", 200},
		{"/webhook/status", "/webhook/status", "1", 200},
		{"/webhook/status", "/webhook/status", "begun", 409},
		{"/webhook/{client}", "/webhook/codex", "begun", 409},
		{"/webhook/{client}", "/webhook/codex?agent_id=x", "2", 400},
	} {
		s.handlers.Access.Deliveries.Begin("begun", time.Now())
		body := reportOf("a", "t", "running")
		r := httptest.NewRequest("POST", test.target, strings.NewReader(body))
		for _, line := range accesstest.Sign(t, accesstest.Secret, test.id, time.Now(), body) {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, test.code, w.Code, w.Body)
		c.check(t, test.route, r, w)
	}
}

// checkAccess checks the responses to clients without access and to clients above a limit against the contract, and
// those to removals.
func (c *contract) checkAccess(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	request := func(s *server, method, route, holder string) int {
		target := strings.NewReplacer("{agent_id}", "a", "{session_topic}", "t", "{client}", "codex", "{mute_id}", "none").Replace(route)
		r := httptest.NewRequest(method, target, strings.NewReader(reportOf("a", "t", "running")))
		if h := holders[holder]; h.Token != "" {
			r.Header.Set("Authorization", "Bearer "+h.Token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		c.check(t, route, r, w)
		return w.Code
	}
	open := c.wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	strict := c.wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, RateLimitReads: 1, RateLimitReports: 1}, nil)
	busy := c.wiring.newGuardedServer(t, nil, config.Config{MaxInFlight: 1}, nil)
	finish := occupy(t, busy)

	exceedLimit := func(method, route, holder string) (status int) { // on a slow machine, some requests are allowed again by now
		for range 50 {
			if status = request(strict, method, route, holder); status == 429 {
				break
			}
		}
		return status
	}
	without := map[any]string{"report": "reads", "read": "reports", "acknowledge": "reads", "admin": "reads"} // holders without the scope
	with := map[any]string{"report": "reports", "read": "reads", "acknowledge": "acknowledges", "admin": "admin"}
	for range 10 {
		request(strict, "POST", "/webhook/status", "reports")
		request(strict, "HEAD", "/api/agents", "reads")
		request(strict, "HEAD", "/api/agents", "reports")
		request(strict, "HEAD", "/connect", "")
		request(strict, "HEAD", "/api/agents", "admin")
	}
	for route, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			c.checkForeignHost(t, method, route)
			scope := operation.Extensions["x-scope"]
			if strings.HasPrefix(route, "/connect") {
				require.Equal(t, 429, exceedLimit(method, route, ""), route)
				continue
			}
			if scope == nil {
				require.True(t, strings.HasPrefix(route, "/health"), route)
				continue
			}
			require.Equal(t, 401, request(open, method, route, ""), route)
			if route == "/mcp" {
				without[scope] = "admin" // the route accepts either of the other two scopes
			}
			require.Equal(t, 403, request(open, method, route, without[scope]), route)
			without["report"] = "reads"
			require.Equal(t, 429, exceedLimit(method, route, with[scope]), route)
			require.Equal(t, 503, request(busy, method, route, ""), route)
			if method == "DELETE" && strings.HasPrefix(route, "/api/agents/") {
				request(open, "POST", "/webhook/status", "reports")
				require.Equal(t, 204, request(open, method, route, "admin"), route)
				require.Equal(t, 404, request(open, method, route, "admin"), route)
			}
		}
	}
	require.Equal(t, 200, request(open, "GET", "/health", ""))
	require.Equal(t, 404, request(open, "GET", "/api/backup", "admin"), "this server has no journal")
	durable, _ := c.wiring.newDurableServer(t, vfs.NewMem(), true)
	durable.handlers.Access = open.handlers.Access
	require.Equal(t, 200, request(durable, "GET", "/api/backup", "admin"))
	require.Equal(t, 200, finish(reportOf("a", "t", "running")))
}
