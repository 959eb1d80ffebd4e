//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
)

// listedSession is the part of a session in a list that the tests compare.
type listedSession struct {
	AgentID     string `json:"agent_id"`
	AgentName   string `json:"agent_name"`
	AgentSource string `json:"agent_source"`
	Topic       string `json:"session_topic"`
	Title       string `json:"title"`
	Status      string `json:"current_status"`
	Message     string `json:"current_message"`
	TTLMinutes  int    `json:"ttl_minutes"`
}

func sessionsOf(t testing.TB, s *process, query string) []listedSession {
	t.Helper()
	var list struct{ Sessions []listedSession }
	s.get(t, "/api/sessions?"+query, &list)
	return list.Sessions
}

// TestRecordedHooks posts recorded events of real clients, and checks the resulting sessions.
func TestRecordedHooks(t *testing.T) {
	s := start(t)
	for client, file := range map[string]string{"claude-code": "claude-code-2.1.197-interactive", "codex": "codex-0.169.0", "gemini-cli": "gemini-cli-0.61.0"} {
		text, err := os.ReadFile(filepath.Join("../adapters/testdata/captures", file+".ndjson"))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			w := s.do("POST", "/webhook/"+client, line)
			require.Equal(t, 200, w.Code, w.Body)
			require.Empty(t, w.Body.String(), "some clients would act on a body")
		}
		sessions := sessionsOf(t, s, "source="+client)
		require.NotEmpty(t, sessions)
		require.Equal(t, listedSession{client + ":payments", "payments", client, sessions[0].Topic, "USE_TOOL to make a file", "success", "All done.", 30}, sessions[0])
	}
	scrape := s.do("GET", "/metrics", "").Body.String()
	for _, line := range []string{
		`kubeagents_hook_events_total{client="claude-code",effect="reports"} 9`,
		`kubeagents_reports_total{outcome="renewed"} 4`,
		`kubeagents_reports_total{outcome="ignored"} 5`,
	} {
		require.Contains(t, scrape, line+"\n")
	}
}

func TestHookOptions(t *testing.T) {
	s := start(t)
	const stop = `{"hook_event_name":"Stop","session_id":"t","cwd":"/a/b"}`
	for n, test := range []struct {
		target string
		header []string
		want   listedSession
	}{
		{"?agent_id=q&agent_name=Q&ttl_minutes=5", nil, listedSession{"q", "Q", "claude-code", "t", "", "success", "Done", 5}},
		{"?agent_id=q2&agent_name=Q&ttl_minutes=", []string{"X-Agent-Id: h", "X-Agent-Name: H"}, listedSession{"h", "H", "claude-code", "t", "", "success", "Done", 30}},
		{"?agent_id=", []string{"X-Agent-Id:  "}, listedSession{"claude-code:b", "b", "claude-code", "t", "", "success", "Done", 30}},
		{"", []string{"X-Agent-Id: caf\xe9", "X-Agent-Name: \xff"}, listedSession{"caf\ufffd", "\ufffd", "claude-code", "t", "", "success", "Done", 30}},
		{"?agent_id=caf%E9&agent_name=%FF", nil, listedSession{"caf\ufffd", "\ufffd", "claude-code", "t", "", "success", "Done", 30}},
		{"", []string{"X-Agent-Id: " + strings.Repeat("x", 300)}, listedSession{strings.Repeat("x", 99) + "…", "b", "claude-code", "t", "", "success", "Done", 30}},
	} {
		test.want.Topic = fmt.Sprint("t", n) // a new session, because a session stays with its agent
		w := s.do("POST", "/webhook/claude-code"+test.target, strings.Replace(stop, `"t"`, strconv.Quote(test.want.Topic), 1), test.header...)
		require.Equal(t, 200, w.Code, w.Body)
		require.Equal(t, test.want, sessionsOf(t, s, "")[0])
	}
	w := s.do("POST", "/webhook/copilot?event=userPromptSubmitted", `{"sessionId":"c","cwd":"/a/b","prompt":"Go"}`)
	require.Equal(t, 200, w.Code)
	require.Equal(t, listedSession{"copilot:b", "b", "copilot", "c", "Go", "running", "Go", 30}, sessionsOf(t, s, "")[0])

	for target, want := range map[string]string{
		"/webhook/nobody":                            `{"error":"not_found","message":"no such client: /webhook/ must be followed by status, for status reports, or by one of: ` + strings.Join(adapters.Names(), ", ") + `"}`,
		"/webhook/claude-code?ttl_minutes=1441":      `"field":"ttl_minutes"`,
		"/webhook/claude-code?ttl_minutes=x":         `ttl_minutes must be a whole number from 1 to 1440, or 0 to keep the session's`,
		"/webhook/claude-code?agent_id=a&agent_id=b": `agent_id must not occur twice`,
		"/webhook/claude-code?%zz":                   `malformed query`,
	} {
		w := s.do("POST", target, stop)
		require.Contains(t, []int{400, 404}, w.Code)
		require.Contains(t, w.Body.String(), want)
	}
	require.Equal(t, 400, s.do("POST", "/webhook/codex", "[]").Code)
	w = s.do("POST", "/webhook/codex", `{"hook_event_name":"Stop","session_id":"long","x":"`+strings.Repeat("x", 60<<20)+`"}`)
	require.Equal(t, 200, w.Code, w.Body)
	w = s.do("POST", "/webhook/codex", `{"prompt":"`+strings.Repeat("x", 64<<20)+`"}`)
	require.Equal(t, 413, w.Code)
	require.Contains(t, w.Body.String(), "the body must be at most 64 MiB")
	require.Equal(t, 405, s.do("GET", "/webhook/codex", "").Code)
	w = s.do("POST", "/webhook/codex", `{"hook_event_name":"New"}`)
	require.Equal(t, 200, w.Code)
	require.Contains(t, s.do("GET", "/metrics", "").Body.String(), `kubeagents_hook_events_total{client="codex",effect="nothing"} 1`+"\n")
}

// TestHookAccess checks that a token's agents, rate limits and idempotency keys apply to events as they do to reports.
func TestHookAccess(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := start(t, "TOKENS_FILE="+path, "RATE_LIMIT_REPORTS=5")
	event := func(n int) string {
		return fmt.Sprintf(`{"hook_event_name":"UserPromptSubmit","session_id":"t","cwd":"/a/b","prompt":"%d"}`, n)
	}
	w := s.do("POST", "/webhook/codex?agent_host=laptop", event(1), holders["team"].Header()...)
	require.Equal(t, 403, w.Code, "the token does not cover the agent that the event would create")
	require.JSONEq(t, `{"error":"forbidden","field":"agent_id","message":"this token does not cover agent \"codex:b@laptop\"; it needs that ID among its agents or, for any host, \"codex:b@*\""}`, w.Body.String())
	require.Equal(t, 200, s.do("POST", "/webhook/codex?agent_id=team/b&access_token="+holders["team"].Token, event(1)).Code)
	key := append(holders["reports"].Header(), "Idempotency-Key: k1")
	for range 2 {
		require.Equal(t, 200, s.do("POST", "/webhook/codex", event(2), key...).Code)
	}
	var d detail
	require.NoError(t, json.Unmarshal(s.do("GET", "/api/agents/team%2Fb/sessions/t", "", holders["reads"].Header()...).Body.Bytes(), &d))
	require.Len(t, d.History, 2, "the session stays with the agent of its first event, and a retry changes nothing")
	refused := 0
	for n := range 150 {
		if s.do("POST", "/webhook/codex", event(n), holders["reports"].Header()...).Code == 429 {
			refused++
		}
	}
	require.Positive(t, refused)
}

// TestHooksSurviveACrash checks that the effects of a client's events are still there after the program is killed.
func TestHooksSurviveACrash(t *testing.T) {
	data := "DATA_DIR=" + filepath.Join(t.TempDir(), "data")
	p := start(t, data)
	for _, event := range []string{
		`{"hook_event_name":"UserPromptSubmit","session_id":"t","prompt":"Go"}`,
		`{"hook_event_name":"PreToolUse","session_id":"t","tool_name":"Bash"}`,
		`{"hook_event_name":"PostToolUse","session_id":"t","tool_name":"Bash"}`,
		`{"hook_event_name":"SubagentStop","session_id":"t"}`,
	} {
		response, err := http.Post("http://"+p.address+"/webhook/claude-code", "application/json", strings.NewReader(event)) //nolint:noctx // the server limits the time
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, 200, response.StatusCode)
	}
	before := detailOf(t, p)
	require.Equal(t, models.Running, before.Session.CurrentStatus)
	require.Equal(t, "Go", before.Session.Title)
	require.Greater(t, before.Session.LastUpdated, before.History[0].ReceivedAt, "the session was renewed")
	require.NoError(t, p.cmd.Process.Kill())
	p.cmd.Wait() //nolint:errcheck // it was killed
	p = start(t, data)
	require.Equal(t, before, detailOf(t, p))
	require.Zero(t, p.stop(t))
}

// detail is a response with a session and its history.
type detail struct {
	Session models.Session
	History []models.AgentStatus `json:"status_history"`
}

func detailOf(t testing.TB, p *process) (d detail) {
	t.Helper()
	response, err := http.Get("http://" + p.address + "/api/agents/claude-code/sessions/t") //nolint:noctx // the server limits the time
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // it is read to the end
	require.NoError(t, json.NewDecoder(response.Body).Decode(&d))
	return d
}

// TestCaptureSetting checks which texts are kept for each value of CAPTURE.
func TestCaptureSetting(t *testing.T) {
	for capture, want := range map[adapters.Capture]listedSession{
		"":       {"claude-code:b", "b", "claude-code", "t", "My secret", "running", "My secret", 30},
		"titles": {"claude-code:b", "b", "claude-code", "t", "My secret", "running", "Prompt", 30},
		"none":   {"claude-code:b", "b", "claude-code", "t", "", "running", "Prompt", 30},
	} {
		s := start(t, "CAPTURE="+string(capture))
		require.Equal(t, 200, s.do("POST", "/webhook/claude-code", `{"hook_event_name":"UserPromptSubmit","session_id":"t","cwd":"/a/b","prompt":"My secret"}`).Code)
		require.Equal(t, want, sessionsOf(t, s, "")[0])
	}
}
