//go:build unix

package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// bearer is an http.RoundTripper that adds a token to requests, and sends them through another one.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

// connectMCP connects the client of the MCP SDK to a server over HTTP.
func connectMCP(t testing.TB, s *process, token string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + s.address + "/mcp",
		HTTPClient: &http.Client{Transport: bearer{token, http.DefaultTransport}}, DisableStandaloneSSE: true}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, session.Close()) })
	return session
}

// call calls a tool and decodes what it returns into result. It returns the text of the tool's error, "" if there is
// none.
func call(t testing.TB, session *mcp.ClientSession, tool string, args map[string]any, result any) (errorText string) {
	t.Helper()
	response, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	require.NoError(t, err)
	if response.IsError {
		return response.Content[0].(*mcp.TextContent).Text
	}
	text, err := json.Marshal(response.StructuredContent)
	require.NoError(t, err)
	require.JSONEq(t, string(text), response.Content[0].(*mcp.TextContent).Text)
	if result != nil {
		require.NoError(t, json.Unmarshal(text, result))
	}
	return ""
}

type object = map[string]any

func TestMCP(t *testing.T) {
	s := start(t)
	session := connectMCP(t, s, "")
	require.Equal(t, "2026-07-28", session.InitializeResult().ProtocolVersion, "the newest version")
	require.Contains(t, session.InitializeResult().Instructions, "start_session")

	tools, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	names := map[string]bool{}
	for _, tool := range tools.Tools {
		names[tool.Name] = tool.Annotations.ReadOnlyHint
		require.NotEmpty(t, tool.Title)
		require.Less(t, len(tool.Description), 200)
		require.False(t, *tool.Annotations.OpenWorldHint)
		require.NotNil(t, tool.OutputSchema, tool.Name)
		if !tool.Annotations.ReadOnlyHint {
			require.False(t, *tool.Annotations.DestructiveHint)
			require.True(t, tool.Annotations.IdempotentHint)
		}
		if strings.Contains(tool.Name, "report") || strings.HasSuffix(tool.Name, "session") && !tool.Annotations.ReadOnlyHint {
			schema, err := json.Marshal(tool.InputSchema)
			require.NoError(t, err)
			require.Contains(t, string(schema), `"enum":["running","pending","success","failed"]`)
			require.Contains(t, string(schema), `"maxLength":1000`)
		}
	}
	require.Equal(t, map[string]bool{"start_session": false, "report_status": false, "end_session": false,
		"list_agents": true, "list_sessions": true, "get_session": true, "who_needs_me": true, "acknowledge": false, "mute": false, "unmute": false}, names)

	var reported struct {
		Status    string
		ExpiresAt string `json:"expires_at"`
	}
	task := object{"agent_id": "worker/1", "session_topic": "tidy up", "agent_name": "Worker", "agent_source": "own", "session_title": "Tidy up the tests",
		"ttl_minutes": 5, "message": "begins", "content": "all of them"}
	require.Empty(t, call(t, session, "start_session", task, &reported))
	require.Equal(t, "running", reported.Status)
	require.NotEmpty(t, reported.ExpiresAt)
	require.Equal(t, listedSession{"worker/1", "Worker", "own", "tidy up", "Tidy up the tests", "running", "begins", 5}, sessionsOf(t, s, "")[0])
	short := object{"agent_id": "worker/1", "session_topic": "tidy up", "status": "pending", "message": "Which tests?"}
	require.Empty(t, call(t, session, "report_status", short, &reported))
	require.Equal(t, "pending", reported.Status)

	var needs struct {
		Pending, Lost, Failed []listedSession
		More                  bool
	}
	require.Empty(t, call(t, session, "who_needs_me", nil, &needs))
	require.Len(t, needs.Pending, 1)
	require.Equal(t, "Which tests?", needs.Pending[0].Message)
	require.Empty(t, needs.Lost)
	require.False(t, needs.More)

	var acknowledged struct{ Acknowledged int }
	require.Empty(t, call(t, session, "acknowledge", object{"agent_id": "worker/1", "session_topic": "tidy up", "minutes": 10}, &acknowledged))
	require.Equal(t, 1, acknowledged.Acknowledged)
	require.Empty(t, call(t, session, "who_needs_me", nil, &needs))
	require.Empty(t, needs.Pending)
	require.Contains(t, call(t, session, "acknowledge", object{"agent_id": "worker/1", "session_topic": "tidy up", "minutes": -1}, nil), "minutes must be 1 to 10080")

	var unmuted struct{ Unmuted int }
	for range 2 { // the second one takes the place of the first
		require.Empty(t, call(t, session, "mute", object{"agent_id": "worker/1", "minutes": 10}, nil))
	}
	require.Contains(t, call(t, session, "mute", object{"agent_id": "worker/1", "minutes": 0}, nil), "minutes or until is required")
	require.Contains(t, call(t, session, "mute", object{"agent_id": "nobody", "minutes": 1}, nil), "no such agent")
	require.Contains(t, call(t, session, "mute", object{"agent_id": "", "minutes": 1}, nil), "agent_id is required")
	require.Contains(t, s.do("GET", "/api/notifications/mutes", "").Body.String(), `"agent_id":"worker/1","until":"`)
	require.Empty(t, call(t, session, "unmute", object{"agent_id": "worker/1"}, &unmuted))
	require.Equal(t, 1, unmuted.Unmuted)
	require.Contains(t, s.do("GET", "/api/notifications/mutes", "").Body.String(), `"mutes":[]`)

	require.Empty(t, call(t, session, "end_session", object{"agent_id": "worker/1", "session_topic": "tidy up", "message": "tidy"}, &reported))
	require.Equal(t, "success", reported.Status)
	require.Empty(t, call(t, session, "end_session", object{"agent_id": "worker/2", "session_topic": "t", "status": "failed"}, &reported))
	require.Equal(t, "failed", reported.Status)
	require.Empty(t, call(t, session, "who_needs_me", nil, &needs))
	require.Len(t, needs.Failed, 1)

	var list struct {
		Agents     []object
		Sessions   []listedSession
		NextCursor string `json:"next_cursor"`
	}
	require.Empty(t, call(t, session, "list_agents", object{"limit": 1}, &list))
	require.Len(t, list.Agents, 1)
	require.Equal(t, "worker/1", list.Agents[0]["agent_id"])
	require.Empty(t, call(t, session, "list_agents", object{"limit": 1, "cursor": list.NextCursor}, &list))
	require.Equal(t, "worker/2", list.Agents[0]["agent_id"])
	require.Empty(t, call(t, session, "list_sessions", object{"status": "success", "expired": false, "search": "TIDY"}, &list))
	require.Len(t, list.Sessions, 1)

	var detail struct {
		Session       object
		StatusHistory []object `json:"status_history"`
		NextCursor    string   `json:"next_cursor"`
	}
	require.Empty(t, call(t, session, "get_session", object{"agent_id": "worker/1", "session_topic": "tidy up", "limit": 2}, &detail))
	require.Len(t, detail.StatusHistory, 2)
	require.NotEmpty(t, detail.NextCursor)

	templates, err := session.ListResourceTemplates(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "kubeagents://agents/{agent_id}/sessions/{session_topic}", templates.ResourceTemplates[0].URITemplate)
	resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "kubeagents://agents/worker%2F1/sessions/tidy%20up"})
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(resource.Contents[0].Text), &detail))
	require.Len(t, detail.StatusHistory, 3)
	_, err = session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "kubeagents://agents/worker%2F1/sessions/none"})
	require.ErrorContains(t, err, "not found")

	for _, test := range []struct {
		tool string
		args object
		want string
	}{
		{"report_status", object{"agent_id": "a", "session_topic": "t"}, `missing properties: ["status"]`},
		{"report_status", object{"agent_id": "a", "session_topic": "t", "status": "done"}, `enum`},
		{"start_session", object{"agent_id": "a\u202eb", "session_topic": "t"}, `agent_id must not contain U+202E`},
		{"report_status", object{"agent_id": "..", "session_topic": "t", "status": "running"}, `agent_id must not be "." or ".."`},
		{"report_status", object{"agent_id": "a", "session_topic": "", "status": "running"}, `session_topic is required: 1 to 500 characters`},
		{"start_session", object{"agent_id": "a", "session_topic": "t", "ttl_minutes": 2000}, `maximum`},
		{"start_session", object{"agent_id": "a", "session_topic": "t", "message": strings.Repeat("x", 1001)}, `maxLength`},
		{"start_session", object{"agent_id": "a", "session_topic": "t", "titel": "x"}, `titel`},
		{"end_session", object{"agent_id": "a", "session_topic": "t", "status": "pending"}, `status must be success or failed: the session ends`},
		{"get_session", object{"agent_id": "a", "session_topic": "t"}, `no such session`},
		{"list_sessions", object{"cursor": "x"}, `cursor must be the next_cursor of an earlier page`},
		{"list_sessions", object{"sort": "x"}, `sort must be -last_updated or last_updated`},
		{"list_agents", object{"limit": 1001}, `maximum`},
	} {
		require.Contains(t, call(t, session, test.tool, test.args, nil), test.want, test.tool)
	}
	_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "nothing"})
	require.ErrorContains(t, err, `unknown tool "nothing"`)
}

// TestMCPQuestions checks that tools return open questions, and how others were closed, as their schemas specify.
func TestMCPQuestions(t *testing.T) {
	s := start(t)
	session := connectMCP(t, s, "")
	for _, event := range []string{
		`"hook_event_name":"UserPromptSubmit","prompt":"Tidy up"`,
		`"hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"1","tool_input":{"command":"rm a"}`,
		`"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm a"}`,
		`"hook_event_name":"PostToolUse","tool_name":"Bash","tool_use_id":"1","tool_input":{"command":"rm a"}`,
		`"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm b"}`,
	} {
		require.Equal(t, 200, s.do("POST", "/webhook/claude-code", `{"session_id":"s","cwd":"/src/shop",`+event+`}`).Code)
	}
	type pending struct {
		Question struct{ Kind, Text string }
	}
	var needs struct{ Pending []pending }
	require.Empty(t, call(t, session, "who_needs_me", nil, &needs))
	require.Len(t, needs.Pending, 1)
	require.Equal(t, "permission", needs.Pending[0].Question.Kind)
	require.Equal(t, "Bash: rm b", needs.Pending[0].Question.Text)
	var list struct{ Sessions []pending }
	require.Empty(t, call(t, session, "list_sessions", object{"status": "pending"}, &list))
	require.Len(t, list.Sessions, 1)
	var detail struct {
		Questions     []struct{ Kind, Content string }
		StatusHistory []struct {
			Closed []struct{ Outcome, By string } `json:"closed_questions"`
		} `json:"status_history"`
	}
	require.Empty(t, call(t, session, "get_session", object{"agent_id": "claude-code:shop", "session_topic": "s"}, &detail))
	require.Equal(t, "permission", detail.Questions[0].Kind)
	require.Equal(t, "answered", detail.StatusHistory[1].Closed[0].Outcome)
	require.Equal(t, "PostToolUse", detail.StatusHistory[1].Closed[0].By)
}

// TestMCPAccess checks that the scopes and agents of a token apply to tools as well, even with many concurrent calls.
func TestMCPAccess(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := start(t, "TOKENS_FILE="+path, "RATE_LIMIT_REPORTS=3")
	sessions := map[string]*mcp.ClientSession{}
	for _, name := range []string{"reports", "reads", "team", "other team"} {
		sessions[name] = connectMCP(t, s, holders[name].Token)
	}
	args := object{"agent_id": "team/a", "session_topic": "t", "status": "pending"}
	require.Contains(t, call(t, sessions["reads"], "report_status", args, nil), "the token lacks the scope report")
	require.Contains(t, call(t, sessions["reports"], "list_sessions", nil, nil), "the token lacks the scope read")
	require.Contains(t, call(t, sessions["other team"], "report_status", args, nil), `this token does not cover agent "team/a"`)
	require.Empty(t, call(t, sessions["team"], "report_status", args, nil))
	require.Empty(t, call(t, sessions["other team"], "report_status", object{"agent_id": "other/b", "session_topic": "t", "status": "pending"}, nil))

	var running sync.WaitGroup
	for name, want := range map[string]int{"reads": 2, "team": 1, "other team": 1} {
		running.Go(func() {
			for range 10 {
				var list struct{ Sessions, Agents, Pending []object }
				call(t, sessions[name], "list_sessions", nil, &list)
				call(t, sessions[name], "list_agents", nil, &list)
				call(t, sessions[name], "who_needs_me", nil, &list)
				if len(list.Sessions) != want || len(list.Agents) != want || len(list.Pending) != want {
					t.Errorf("%s gets %d sessions, %d agents, %d pending, want %d of each", name, len(list.Sessions), len(list.Agents), len(list.Pending), want)
				}
			}
		})
	}
	running.Wait()
	get := object{"agent_id": "team/a", "session_topic": "t"}
	require.Empty(t, call(t, sessions["team"], "get_session", get, nil))
	require.Equal(t, "no such session", call(t, sessions["other team"], "get_session", get, nil))
	const uri = "kubeagents://agents/team%2Fa/sessions/t"
	_, err := sessions["other team"].ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	require.ErrorContains(t, err, "not found")
	_, err = sessions["reports"].ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	require.ErrorContains(t, err, "the token lacks the scope read")
	_, err = sessions["team"].ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	require.NoError(t, err)

	errorText := ""
	for range 40 {
		errorText = call(t, sessions["reports"], "report_status", args, nil)
	}
	require.Contains(t, errorText, "more than 3 reports per second: try again in 1s")

	signed := start(t, "WEBHOOK_SECRET="+accesstest.Secret)
	require.Contains(t, call(t, connectMCP(t, signed, ""), "report_status", args, nil), "only as signed webhooks")
}

// TestMCPOverHTTP checks the HTTP layer below the tools: methods, origins, protocol versions and invalid requests.
func TestMCPOverHTTP(t *testing.T) {
	s := start(t, "CORS_ALLOWED_ORIGINS=https://*.example.com")
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for _, test := range []struct {
		body   string
		header []string
		status int
		want   string
	}{
		{list, nil, 200, `"report_status"`},
		{list, []string{"MCP-Protocol-Version: 2025-06-18"}, 200, `"report_status"`},
		{list, []string{"MCP-Protocol-Version: 1999-01-01"}, 400, "Unsupported protocol version"},
		{list, []string{"Origin: http://evil.test"}, 403, `"error":"forbidden"`},
		{list, []string{"Origin: http://evil.test", "Host: evil.test"}, 421, "misdirected_request"},
		{list, []string{"Origin: http://evil.test", "Host: localhost"}, 403, "pages of this origin may not call tools here"},
		{list, []string{"Origin: http://hub:8080", "Host: hub:8080"}, 200, "report_status"},
		{list, []string{"Origin: http://evil.test", "Sec-Fetch-Site: cross-site"}, 403, "forbidden"},
		{list, []string{"Origin: https://a.example.com", "Host: a.example.com"}, 200, "report_status"},
		{list, []string{"Origin: null"}, 403, "forbidden"},
		{list, []string{"Origin: http://127.0.0.1:8080", "Host: 127.0.0.1:8080"}, 200, "report_status"},
		{list, []string{"Origin: http://localhost:8080", "Host: localhost:8080"}, 200, "report_status"},
		{list, []string{"Origin: http://localhost:6274", "Host: localhost:8080"}, 403, "CORS_ALLOWED_ORIGINS"},
		{list, []string{"Origin: https://tools.example.com"}, 200, "report_status"},
		{list, []string{"Origin: https://example.com", "Host: localhost"}, 403, "forbidden"},
		{list, []string{"Origin: https://tools.example.com.evil.test"}, 403, "forbidden"},
		{list, []string{"Content-Type: text/plain"}, 415, "application/json"},
		{list, []string{"Accept: text/html"}, 400, "Accept must contain"},
		{`{"id":1`, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"malformed JSON at byte 7`},
		{`hello`, nil, 400, `"code":-32700`},
		{` `, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the body is empty"}}`},
		{`{}`, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"jsonrpc must be \"2.0\"`},
		{`7`, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a call must be an object"}}`},
		{`{"jsonrpc":"1.0","id":7,"method":"ping"}`, nil, 400, `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"jsonrpc must be \"2.0\"`},
		{`{"jsonrpc":"2.0","id":"x","method":7}`, nil, 400, `{"jsonrpc":"2.0","id":"x","error":{"code":-32600,"message":"method is required, as a string"}}`},
		{`{"jsonrpc":"2.0","id":[],"method":"ping"}`, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"id must be a string or a number"}}`},
		{`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 300) + `","method":"ping"}`, nil, 400, `"id":null,"error":{"code":-32600,"message":"id must be at most 256 bytes"}`},
		{`{"jsonrpc":"2.0","method":"ping"}`, nil, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request: missing id for \"ping\""}}`},
		{`{"jsonrpc":"2.0","id":1,"method":"nothing"}`, nil, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"unknown method \"nothing\""}}`},
		{`{"jsonrpc":"2.0","id":4,"result":{}}`, nil, 202, ""},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"report_status","arguments":{"content":"` + strings.Repeat("x", 1<<20) + `"}}}`, nil, 413, ""},
	} {
		header := append([]string{"Content-Type: application/json", "Accept: application/json, text/event-stream"}, test.header...)
		w := s.do("POST", "/mcp", test.body, header...)
		require.Equal(t, test.status, w.Code, "%v: %s", test.header, w.Body)
		require.Contains(t, w.Body.String(), test.want, "%v", test.header)
		if w.Code != 202 {
			require.Equal(t, "application/json", w.Header().Get("Content-Type"), "%s %v", test.body, test.header)
			require.True(t, json.Valid(w.Body.Bytes()), w.Body)
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		w := s.do(method, "/mcp", "")
		require.Equal(t, 405, w.Code)
		require.Equal(t, "POST", w.Header().Get("Allow"))
	}
}
