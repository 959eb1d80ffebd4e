//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// secretName is a token that a client sends as the name of a parameter, such as /api/agents?ka_….
const secretName = "ka_ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ"

// TestUnknownParametersAreRefused sends a request with an unknown parameter to every route of the API. Parameters whose
// names begin with _, for clients that make each URL unique, must be accepted.
func TestUnknownParametersAreRefused(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"all": {Scopes: []string{"report", "read", "acknowledge", "admin"}}, "report": {Scopes: []string{"report"}}})
	p := start(t, "TOKENS_FILE="+path, "DATA_DIR="+t.TempDir(), "SHUTDOWN_TIMEOUT=100ms")
	request := func(method, target string) (int, string) {
		status, body := teamClient{holders["all"], p}.do(t, method, target, "")
		return status, string(body)
	}
	routes := 0
	contract, err := openapi3.NewLoader().LoadFromData(handlers.OpenAPISpec)
	require.NoError(t, err)
	for route, item := range contract.Paths.Map() {
		if !strings.HasPrefix(route, "/api/") {
			continue
		}
		route = strings.NewReplacer("{agent_id}", "a", "{session_topic}", "t", "{mute_id}", "none", "{device_id}", "none").Replace(route)
		for method := range item.Operations() {
			routes++
			status, body := request(method, route+"?_=1&xyzzy=2")
			require.Equal(t, http.StatusBadRequest, status, "%s %s: %s", method, route, body)
			require.Contains(t, body, `"field":"xyzzy"`, route)
			require.Contains(t, body, "xyzzy is not a parameter of this route", route)
			if route != "/api/events" && route != "/api/backup" && route != "/api/acknowledge" && route != "/api/presence" && !strings.HasPrefix(route, "/api/notifications/") { // which go on, or want a body
				status, body = request(method, route+"?_=1")
				require.NotEqual(t, http.StatusBadRequest, status, "%s %s: %s", method, route, body)
			}
		}
	}
	require.Equal(t, 24, routes)
	for target, want := range map[string]string{
		"/api/sessions?statsu=failed":         "statsu is not a parameter of this route: did you mean status?",
		"/api/agents?lim=1":                   "the parameters are active, cursor, limit, search, sort, source, status, waiting",
		"/api/summary?status=failed":          "status is not a parameter of this route: it has none",
		"/api/sessions?a%0Ab=1":               "a%0Ab is not a parameter",
		"/api/sessions?limit=0&statsu=failed": "limit must be a whole number",
		"/api/agents?" + secretName + "&z=1":  "the name of a query parameter looks like a secret, so it is not repeated here: send tokens in the Authorization header",
		"/api/summary?" + secretName:          "the name of a query parameter looks like a secret",
	} {
		status, body := request("GET", target)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Contains(t, body, want)
		require.NotContains(t, body, secretName[:10])
	}
	status, _ := teamClient{holders["report"], p}.do(t, "GET", "/api/sessions?statsu=failed", "")
	require.Equal(t, http.StatusForbidden, status, "without the scope read, the error does not mention parameters")
	require.Zero(t, p.stop(t))
}

// TestWebhooksNameIgnoredFields checks that webhooks accept unknown fields of reports and unknown parameters, and name
// them in headers.
func TestWebhooksNameIgnoredFields(t *testing.T) {
	s := start(t)
	report := func(more string) string {
		return strings.TrimSuffix(reportOf("a", "t", "running"), "}") + more + "}"
	}
	var many string
	for i := range 100 {
		many += fmt.Sprintf(`,"m%02d":{"x":[%d]}`, i, i)
	}
	long, err := json.Marshal(strings.Repeat("é", 1000))
	require.NoError(t, err)
	for name, c := range map[string]struct{ target, body, fields, parameters string }{
		"nothing unknown":           {"/webhook/status", report(""), "", ""},
		"a field":                   {"/webhook/status", report(`,"titel":"x"`), "titel", ""},
		"the same field in a batch": {"/webhook/status", "[" + report(`,"titel":1`) + "," + report(`,"titel":2,"x":3`) + "]", "titel, x", ""},
		"a parameter":               {"/webhook/status?agent=b&_=1", report(""), "", "agent"},
		"both":                      {"/webhook/status?z&agent=b", report(`,"x":1`), "x", "agent, z"},
		"in the order of the body":  {"/webhook/status", "[" + report(`,"z":1,"c":2`) + "," + report(`,"b":1,"z":2,"a":3`) + "]", "z, c, b, a", ""},
		"parameters in any order":   {"/webhook/status?z&c=1&b&z&a", report(""), "", "a, b, c, z"},
		"line breaks":               {"/webhook/status?a%0D%0ASet-Cookie:x=1", report(`,"b\r\nSet-Cookie: y":1`), "b%0D%0ASet-Cookie:%20y", "a%0D%0ASet-Cookie:x"},
		"many":                      {"/webhook/status", report(many), "m00, m01, m02, m03, m04, m05, m06, m07, m08, m09", ""},
		"a long name":               {"/webhook/status", report("," + string(long) + ":1"), strings.Repeat("%C3%A9", 32), ""},
		"a tool's event":            {"/webhook/claude-code?agent_nmae=x&agent_host=h", `{"session_id":"s","cwd":"/w","hook_event_name":"Stop"}`, "", "agent_nmae"},
		"secrets as names": {"/webhook/status?" + secretName + "&MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=1&z", report(`,"` + secretName + `":1,"x":2,"Bearer ` + secretName + `":3`),
			"(hidden), x", "(hidden), z"},
		"a secret as a parameter of a tool's event": {"/webhook/claude-code?" + secretName, `{"session_id":"s","cwd":"/w","hook_event_name":"Stop"}`, "", "(hidden)"},
		"nothing unknown after that":                {"/webhook/status", report(""), "", ""},
		"a CloudEvent's report":                     {"/webhook/status", `{"specversion":"1.0","id":"1","source":"s","type":"t","data":` + report(`,"x":1`) + "}", "x", ""},
	} {
		header := []string{}
		if strings.Contains(c.body, "specversion") {
			header = append(header, "Content-Type: application/cloudevents+json")
		}
		w := s.do("POST", c.target, c.body, header...)
		require.Equal(t, 200, w.Code, "%s: %s", name, w.Body)
		require.Equal(t, c.fields, w.Header().Get("X-Ignored-Fields"), name)
		require.Equal(t, c.parameters, w.Header().Get("X-Ignored-Parameters"), name)
	}
	w := s.do("POST", "/webhook/status", `{"agent_id":"a","topic":"t","status":"running"}`)
	require.Equal(t, 400, w.Code)
	require.Equal(t, "topic", w.Header().Get("X-Ignored-Fields"), "in addition to the error for the missing field")
}

// TestTooManyParametersAreRefused sends one more query parameter than net/url accepts: beyond that, it ignores all of
// them, such as the name of an event's agent.
func TestTooManyParametersAreRefused(t *testing.T) {
	tokens, holders := accesstest.TokensFile(t, map[string]access.Entry{"all": {Scopes: []string{"report", "read"}}})
	p := start(t, "TOKENS_FILE="+tokens)
	query := func(n int) string { return "?" + strings.Repeat("_&", n-1) }
	for _, request := range [][3]string{
		{"POST", "/webhook/status", reportOf("a", "t", "running")},
		{"POST", "/webhook/claude-code", `{"session_id":"s","cwd":"/w","hook_event_name":"UserPromptSubmit","prompt":"x"}`},
		{"GET", "/api/agents", ""},
		{"GET", "/api/summary", ""},
	} {
		method, path, body := request[0], request[1], request[2]
		parameter := map[string]string{"/webhook/claude-code": "agent_id=named", "/webhook/status": "unknown"}[path]
		w := p.do(method, path+query(10_000)+parameter, body, holders["all"].Header()...)
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		if path == "/webhook/status" {
			require.Equal(t, "unknown", w.Header().Get("X-Ignored-Parameters"))
		}
		w = p.do(method, path+query(10_001)+parameter, body, holders["all"].Header()...)
		require.Equal(t, 400, w.Code, path)
		require.JSONEq(t, `{"error":"bad_request","message":"the URL has too many query parameters: at most 10000 are allowed"}`, w.Body.String())
	}
	w := p.do("POST", "/webhook/status"+query(10_001)+"access_token="+holders["all"].Token, reportOf("b", "t", "running"))
	require.Equal(t, 400, w.Code, "not a request without a token")
	require.Contains(t, w.Body.String(), "at most 10000 are allowed")
	w = p.do("GET", "/api/agents", "", holders["all"].Header()...)
	require.Contains(t, w.Body.String(), `"agent_id":"named"`)
	require.Contains(t, w.Body.String(), `"agent_id":"a"`)
	require.Equal(t, 2, strings.Count(w.Body.String(), `"agent_id"`))
	require.Zero(t, p.stop(t))
}
