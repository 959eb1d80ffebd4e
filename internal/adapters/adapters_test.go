package adapters_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var epoch = time.Date(2026, 11, 24, 0, 33, 30, 0, time.UTC)

// hub is a store that accepts events.
type hub struct {
	t     testing.TB
	store *store.Store
	now   time.Time
	opts  adapters.Options
}

func newHub(t testing.TB) *hub {
	return &hub{t: t, now: epoch, opts: adapters.Options{Capture: adapters.CaptureFull}, store: store.New(store.Options{
		DefaultTTL: 30 * time.Minute, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 30, MaxSessions: 1000})}
}

// post posts an event, a minute after the previous one.
func (h *hub) post(client, body string) (models.StatusReport, adapters.Effect) {
	h.t.Helper()
	h.now = h.now.Add(time.Minute)
	h.opts.Now = h.now
	r, effect, err := adapters.Named(client).Report(strings.NewReader(body), h.opts)
	require.NoError(h.t, err, body)
	if effect != adapters.Ignored {
		require.NoError(h.t, r.Validate(h.now), body)
		require.True(h.t, h.store.Accept(nil, []models.StatusReport{r}, h.now, nil)[0].Acknowledged())
	}
	return r, effect
}

// shown returns the status, message and title of the session with a report's topic, and the length of its history, or
// "-" if there is none. The agent may be another one than the report names: a session stays with that of its first event.
func (h *hub) shown(r models.StatusReport) string {
	sessions, err := h.store.Sessions(h.t.Context(), store.SessionQuery{Search: r.SessionTopic}, nil, 100)
	require.NoError(h.t, err)
	i := slices.IndexFunc(sessions.Items, func(se models.FleetSession) bool { return se.Topic == r.SessionTopic })
	if i < 0 {
		return "-"
	}
	se, page, ok := h.store.Session(sessions.Items[i].AgentID, r.SessionTopic, nil, 100)
	require.True(h.t, ok)
	return fmt.Sprintf("%s|%s|%s|%d", se.CurrentStatus, se.CurrentMessage, se.Title, len(page.Items))
}

// TestCaptures replays events from real clients, and checks the status, the message, the title and the length of the
// history after each line.
func TestCaptures(t *testing.T) {
	for _, test := range []struct {
		client, file string
		want         []string
	}{
		{"claude-code", "claude-code-2.1.197", []string{
			"success|Session started||1",
			"running|Fix the flaky checkout test|Fix the flaky checkout test|2",
			"success|All done.|Fix the flaky checkout test|3",
			"success|All done.|Fix the flaky checkout test|3",
			"success|Session started||1",
			"running|USE_TOOL to make a file|USE_TOOL to make a file|2",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|3",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|4",
			"success|All done.|USE_TOOL to make a file|5",
			"success|All done.|USE_TOOL to make a file|5",
		}},
		{"claude-code", "claude-code-2.1.197-interactive", []string{
			"success|Session started||1",
			"running|USE_TOOL to make a file|USE_TOOL to make a file|2",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|3",
			"pending|Bash: touch made-by-tool|USE_TOOL to make a file|4",
			"pending|Bash: touch made-by-tool|USE_TOOL to make a file|4",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|5",
			"success|All done.|USE_TOOL to make a file|6",
			"success|All done.|USE_TOOL to make a file|6",
			"success|All done.|USE_TOOL to make a file|6",
		}},
		{"codex", "codex-0.169.0", []string{
			"success|Session started||1",
			"running|Fix the flaky checkout test|Fix the flaky checkout test|2",
			"success|All done.|Fix the flaky checkout test|3",
			"success|All done.|Fix the flaky checkout test|3",
			"success|Session started||1",
			"running|USE_TOOL to make a file|USE_TOOL to make a file|2",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|3",
			"running|Bash: touch made-by-tool|USE_TOOL to make a file|4",
			"success|All done.|USE_TOOL to make a file|5",
			"success|All done.|USE_TOOL to make a file|5",
		}},
		{"gemini-cli", "gemini-cli-0.61.0", []string{
			"success|Session started||1",
			"running|Fix the flaky checkout test|Fix the flaky checkout test|2",
			"success|All done.|Fix the flaky checkout test|3",
			"success|All done.|Fix the flaky checkout test|3",
			"success|Session started||1",
			"running|USE_TOOL to make a file|USE_TOOL to make a file|2",
			"running|run_shell_command: touch made-by-tool|USE_TOOL to make a file|3",
			"running|run_shell_command: touch made-by-tool|USE_TOOL to make a file|4",
			"success|All done.|USE_TOOL to make a file|5",
			"success|All done.|USE_TOOL to make a file|5",
		}},
	} {
		t.Run(test.file, func(t *testing.T) {
			h := newHub(t)
			got := []string{}
			for _, line := range capture(t, test.file) {
				r, _ := h.post(test.client, line)
				got = append(got, h.shown(r))
				require.Equal(t, test.client+":payments", r.AgentID)
			}
			require.Equal(t, test.want, got)
			agent, ok := h.store.Agent(test.client + ":payments")
			require.True(t, ok)
			require.Equal(t, "payments", agent.Name)
			require.Equal(t, test.client, agent.Source)
		})
	}
}

// TestCapturedDialogs replays events that clients posted while they showed dialogs, or would have, and checks the
// status, the message and the open questions after each line. The prompts name the tools to call.
func TestCapturedDialogs(t *testing.T) {
	for _, test := range []struct {
		client, file string
		want         []string
	}{
		{"claude-code", "claude-code-2.1.332-interactive", []string{
			"success: Session started []",
			"running: TOOLS []",
			"running: Bash: sleep 2 []",
			"running: Read: /etc/hosts []",
			"pending: Read: /etc/hosts [Read: /etc/hosts]",
			"pending: Read: /etc/hosts [Read: /etc/hosts]",
			"pending: Read: /etc/hosts [Read: /etc/hosts]",
			"running: Read: /etc/hosts []",
			"running: Read: /etc/hosts []",
			"running: Read: /etc/hosts []",
			"success: All done. []",
			"success: All done. []",
			"running: TOOLS []",
			"running: Bash: touch q1 []",
			"pending: Bash: touch q1 [Bash: touch q1]",
			"failed: Session ended: other []",
			"success: Session started []",
			"running: TOOLS []",
			"running: Bash: touch x []",
			"pending: Bash: touch x [Bash: touch x]",
			"pending: Bash: touch x [Bash: touch x]",
			"running: TOOLS []",
			"running: Bash: touch q2 []",
			"pending: Bash: touch q2 [Bash: touch q2]",
			"pending: Bash: touch q2 [Bash: touch q2]",
			"pending: Bash: touch q2 [Bash: touch q2]",
			"running: Bash: ls []",
			"running: Bash: touch q2 []",
			"pending: Bash: touch q2 [Bash: touch q2]",
			"pending: Bash: touch q2 [Bash: touch q2]",
			"failed: Session ended: other []",
			"success: Session started []",
			"running: TOOLS []",
			"running: Read: /etc/hosts []",
			"running: Bash: ls []",
			"running: Read: /etc/passwd []",
			"pending: Read: /etc/passwd [Read: /etc/passwd]",
			"pending: Read: /etc/passwd [Read: /etc/passwd, Read: /etc/hosts]",
			"pending: Read: /etc/passwd [Read: /etc/passwd, Read: /etc/hosts]",
			"pending: Read: /etc/passwd [Read: /etc/passwd, Read: /etc/hosts]",
			"pending: Read: /etc/passwd [Read: /etc/passwd, Read: /etc/hosts]",
			"pending: Read: /etc/passwd [Read: /etc/passwd]",
			"running: Read: /etc/passwd []",
			"running: Read: /etc/passwd []",
			"running: Read: /etc/passwd []",
			"success: All done. []",
			"success: All done. []",
			"running: TOOLS []",
			"pending: Which colour? [Which colour?]",
			"pending: Which colour? [Which colour?]",
		}},
		{"claude-code", "claude-code-2.1.332-print", []string{
			"success: Session started []",
			"running: TOOLS []",
			"running: Bash: touch x []",
			"running: Bash: touch x []",
			"running: Bash: false []",
			"running: Read: /nope []",
			"pending: Read: /nope [Read: /nope]",
			"pending: Read: /nope [Read: /nope]",
			"running: Bash: false []",
			"running: Bash: false []",
			"success: All done. []",
			"success: All done. []",
			"success: Session started []",
			"running: TOOLS []",
			"running: Bash: touch x []",
			"pending: Bash: touch x [Bash: touch x]",
			"pending: Bash: touch x [Bash: touch x]",
			"pending: Bash: touch x [Bash: touch x, Bash: touch y]",
			"running: Bash: touch y []",
			"running: Bash: touch y []",
			"success: All done. []",
			"success: All done. []",
			"success: Session started []",
			"running: FAIL500 []",
			"running: FAIL500 []",
			"failed: unknown: API Error: 400 stand-in says no []",
			"failed: unknown: API Error: 400 stand-in says no []",
			"success: Session started []",
			"running: TOOLS []",
			"running: Bash: sleep 3 []",
			"running: Agent: sub []",
			"running: Agent: sub []",
			"running: Agent: sub []",
			"running: Bash: sleep 3 []",
			"running: Bash: sleep 3 []",
			"running: Bash: sleep 3 []",
			"running: Agent \"sub\" finished []",
			"running: Agent \"sub\" finished []",
			"success: All done. · 1 background task still running []",
			"running: Background command \"Wait\" completed (exit code 0) []",
			"running: Background command \"Wait\" completed (exit code 0) []",
			"success: All done. []",
			"success: All done. []",
		}},
		{"copilot", "copilot-1.0.102-interactive", []string{
			"success: Session started []",
			"running: TOOLS []",
			"running: bash: touch zzz []",
			"running: bash: ls []",
			"running: bash: ls []",
			"running: bash: ls []",
			"pending: Run command: touch zzz [Run command: touch zzz]",
			"pending: Run command: touch zzz [Run command: touch zzz]",
		}},
	} {
		t.Run(test.file, func(t *testing.T) {
			h := newHub(t)
			got := []string{}
			for _, line := range capture(t, test.file) {
				r, _ := h.post(test.client, h.unwrap(line))
				require.Equal(t, test.client+":payments", r.AgentID)
				se, questions, _, ok := h.store.SessionInFull(r.AgentID, r.SessionTopic, nil, 1)
				require.True(t, ok)
				asked := []string{}
				for _, q := range questions {
					asked = append(asked, q.Text)
				}
				prompt, _, _ := strings.Cut(se.CurrentMessage, ":[{")
				got = append(got, fmt.Sprintf("%s: %s [%s]", se.CurrentStatus, prompt, strings.Join(asked, ", ")))
			}
			require.Equal(t, test.want, got)
		})
	}
}

// unwrap returns the posted event of a line, and sets the event's name if the line has it separately, as from the URL.
func (h *hub) unwrap(line string) string {
	var wrapped struct {
		EVENT string
		P     json.RawMessage
	}
	require.NoError(h.t, json.Unmarshal([]byte(line), &wrapped))
	if h.opts.Event = wrapped.EVENT; wrapped.EVENT != "" {
		return string(wrapped.P)
	}
	return line
}

// capture returns the lines of a capture.
func capture(t testing.TB, name string) []string {
	text, err := os.ReadFile(filepath.Join("testdata/captures", name+".ndjson"))
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// step is an event and the expected state of its session afterwards.
type step struct{ event, want string }

// TestEvents checks the effect of each client's events, including those that no capture contains.
func TestEvents(t *testing.T) {
	for client, stories := range map[string][][]step{
		"claude-code": {
			{
				{`{"hook_event_name":"SessionEnd","session_id":"s","reason":"other"}`, "-"},
				{`{"hook_event_name":"Notification","session_id":"s","notification_type":"idle_prompt","message":"waits"}`, "-"},
				{`{"hook_event_name":"UserPromptSubmit","session_id":"s","prompt":"\n\n  Mend the\tbuild\u0007 \nand more","session_title":""}`, "running|Mend the build|Mend the build|1"},
				{`{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which branch?","header":"Branch"},{"question":"Sure?"}]}}`, "pending|Which branch?|Mend the build|2"},
				{`{"hook_event_name":"PermissionRequest","session_id":"s","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which branch?","header":"Branch"},{"question":"Sure?"}]}}`, "pending|Which branch?|Mend the build|2"},
				{`{"hook_event_name":"PostToolUse","session_id":"s","tool_name":"Read","tool_input":{"file_path":"/a/b.go","limit":3}}`, "pending|Which branch?|Mend the build|2"},
				{`{"hook_event_name":"PostToolUse","session_id":"s","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which branch?","header":"Branch"},{"question":"Sure?"}]}}`, "running|AskUserQuestion: Which branch?|Mend the build|3"},
				{`{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"ExitPlanMode","tool_input":{"plan":"# Plan\n1. test"}}`, "pending|Plan|Mend the build|4"},
				{`{"hook_event_name":"SubagentStop","session_id":"s","agent_id":"x","last_assistant_message":"found"}`, "pending|Plan|Mend the build|4"},
				{`{"hook_event_name":"Stop","session_id":"s","agent_id":"x","last_assistant_message":"found"}`, "pending|Plan|Mend the build|4"},
				{`{"hook_event_name":"PostToolUseFailure","session_id":"s","agent_id":"x","tool_name":"mcp__db__query","tool_input":{"sql":"select 1"},"error":"no"}`, "pending|Plan|Mend the build|4"},
				{`{"hook_event_name":"Notification","session_id":"s","notification_type":"elicitation_dialog","message":"Which account?"}`, "pending|Plan|Mend the build|4"},
				{`{"hook_event_name":"StopFailure","session_id":"s","error":"rate_limit","error_details":"429 Too Many"}`, "failed|rate_limit: 429 Too Many|Mend the build|5"},
				{`{"hook_event_name":"SessionStart","session_id":"s","source":"resume","session_title":"Build"}`, "failed|rate_limit: 429 Too Many|Build|5"},
				{`{"hook_event_name":"UserPromptSubmit","session_id":"s","prompt":"again"}`, "running|again|Build|6"},
				{`{"hook_event_name":"Brandnew","session_id":"s"}`, "running|again|Build|6"},
				{`{"hook_event_name":"SessionEnd","session_id":"s","reason":"prompt_input_exit"}`, "failed|Session ended: prompt_input_exit|Build|7"},
				{`{"hook_event_name":"SessionEnd","session_id":"s","reason":"other"}`, "failed|Session ended: prompt_input_exit|Build|7"},
			},
			{
				{`{"hook_event_name":"PreCompact","session_id":"s"}`, "-"},
				{`{"hook_event_name":"Stop","session_id":"s"}`, "success|Done||1"},
				{`{"hook_event_name":"PreToolUse","session_id":"s"}`, "running|Tool||2"},
				{`{"hook_event_name":"Notification","session_id":"s","notification_type":"permission_prompt"}`, "pending|Permission needed||3"},
				{`{"hook_event_name":"StopFailure","session_id":"s"}`, "failed|Error||4"},
			},
		},
		"codex": {
			{
				{`{"type":"agent-turn-complete","thread-id":"s","turn-id":"1","cwd":"/x/y","input-messages":["Rename foo","and bar"],"last-assistant-message":"Renamed."}`, "success|Renamed.|Rename foo|1"},
				{`{"hook_event_name":"PreToolUse","session_id":"s","cwd":"/x/y","tool_name":"shell","tool_input":{"command":["bash","-lc","go test ./..."]}}`, "running|shell: bash -lc go test ./...|Rename foo|2"},
				{`{"hook_event_name":"PreToolUse","session_id":"s","cwd":"/x/y","tool_name":"apply_patch","tool_input":{"command":"*** Begin Patch\n*** Update File: a/b.go\n@@"}}`, "running|apply_patch: a/b.go|Rename foo|3"},
				{`{"hook_event_name":"PreToolUse","session_id":"s","cwd":"/x/y","tool_name":"request_user_input","tool_input":{"questions":[{"question":"Which?"}]}}`, "pending|Which?|Rename foo|4"},
				{`{"hook_event_name":"Interrupt","session_id":"s","reason":"esc"}`, "failed|Interrupted: esc|Rename foo|5"},
			},
		},
		"gemini-cli": {
			{
				{`{"hook_event_name":"BeforeAgent","session_id":"s","prompt":"hi"}`, "running|hi|hi|1"},
				{`{"hook_event_name":"Notification","session_id":"s","notification_type":"ToolPermission","message":"Allow run_shell_command?","details":{}}`, "pending|Allow run_shell_command?|hi|2"},
				{`{"hook_event_name":"AfterModel","session_id":"s","llm_request":{}}`, "pending|Allow run_shell_command?|hi|2"},
				{`{"hook_event_name":"SessionEnd","session_id":"s","reason":"exit"}`, "failed|Session ended: exit|hi|3"},
			},
		},
		"cursor": {
			{
				{`{"hook_event_name":"sessionStart","conversation_id":"s","session_id":"s","workspace_roots":["/w/shop","/w/other"]}`, "success|Session started||1"},
				{`{"hook_event_name":"beforeSubmitPrompt","conversation_id":"s","workspace_roots":["/w/shop"],"prompt":"Add a cart"}`, "running|Add a cart|Add a cart|2"},
				{`{"hook_event_name":"beforeShellExecution","conversation_id":"s","workspace_roots":["/w/shop"],"command":"npm test","cwd":"/w/shop/sub"}`, "running|Shell: npm test|Add a cart|3"},
				{`{"hook_event_name":"afterFileEdit","conversation_id":"s","workspace_roots":["/w/shop"],"file_path":"/w/shop/cart.ts","edits":[]}`, "running|Edit: /w/shop/cart.ts|Add a cart|4"},
				{`{"hook_event_name":"beforeMCPExecution","conversation_id":"s","workspace_roots":["/w/shop"],"tool_name":"search","tool_input":"{\"query\":\"carts\"}"}`, "running|search: carts|Add a cart|5"},
				{`{"hook_event_name":"afterAgentResponse","conversation_id":"s","workspace_roots":["/w/shop"],"text":"There is a cart."}`, "running|There is a cart.|Add a cart|6"},
				{`{"hook_event_name":"stop","conversation_id":"s","workspace_roots":["/w/shop"],"status":"completed","loop_count":0}`, "success|Done|Add a cart|7"},
				{`{"hook_event_name":"beforeSubmitPrompt","conversation_id":"s","workspace_roots":["/w/shop"],"prompt":"More"}`, "running|More|Add a cart|8"},
				{`{"hook_event_name":"stop","conversation_id":"s","workspace_roots":["/w/shop"],"status":"aborted"}`, "failed|Aborted|Add a cart|9"},
				{`{"hook_event_name":"stop","conversation_id":"s","workspace_roots":["/w/shop"],"status":"error","error_message":"boom"}`, "failed|Aborted|Add a cart|9"},
				{`{"hook_event_name":"sessionEnd","conversation_id":"s","workspace_roots":["/w/shop"],"reason":"window_close"}`, "failed|Aborted|Add a cart|9"},
			},
		},
		"copilot": {
			{
				{`{"hookEventName":"sessionStart","sessionId":"s","timestamp":1764030000000,"cwd":"/w/shop","source":"new","initialPrompt":"x"}`, "success|Session started||1"},
				{`{"hookEventName":"userPromptSubmitted","sessionId":"s","cwd":"/w/shop","prompt":"Ship it"}`, "running|Ship it|Ship it|2"},
				{`{"hookEventName":"preToolUse","sessionId":"s","cwd":"/w/shop","toolName":"bash","toolArgs":"{\"command\":\"make ship\",\"description\":\"Ship\"}"}`, "running|bash: make ship|Ship it|3"},
				{`{"hookEventName":"postToolUse","sessionId":"s","cwd":"/w/shop","toolName":"view","toolArgs":{"path":"/w/shop/a"},"toolResult":{"resultType":"success","textResultForLlm":"ok"}}`, "running|view: /w/shop/a|Ship it|4"},
				{`{"hookName":"permissionRequest","hookEventName":"permissionRequest","sessionId":"s","cwd":"/w/shop","toolName":"bash","toolInput":{"command":"rm x"}}`, "running|view: /w/shop/a|Ship it|4"},
				{`{"hook_event_name":"Notification","sessionId":"s","cwd":"/w/shop","notification_type":"permission_prompt","message":"Run command: rm x","title":"Permission needed"}`, "pending|Run command: rm x|Ship it|5"},
				{`{"hookEventName":"errorOccurred","sessionId":"s","cwd":"/w/shop","error":{"message":"slow","name":"E"},"errorContext":"model_call","recoverable":true}`, "pending|Run command: rm x|Ship it|5"},
				{`{"hookEventName":"errorOccurred","sessionId":"s","cwd":"/w/shop","error":{"message":"gone","name":"E"},"errorContext":"model_call","recoverable":false}`, "failed|model_call: gone|Ship it|6"},
				{`{"hookEventName":"sessionEnd","sessionId":"s","cwd":"/w/shop","reason":"error","error":"gone"}`, "failed|model_call: gone|Ship it|6"},
				{`{"hookEventName":"userPromptSubmitted","sessionId":"s","cwd":"/w/shop","prompt":"Again"}`, "running|Again|Ship it|7"},
				{`{"hookEventName":"sessionEnd","sessionId":"s","cwd":"/w/shop","reason":"complete","finalMessage":"Shipped."}`, "success|Shipped.|Ship it|8"},
				{`{"hookEventName":"sessionEnd","sessionId":"s","cwd":"/w/shop","reason":"user_exit"}`, "success|Shipped.|Ship it|8"},
				{`{"hookEventName":"userPromptSubmitted","sessionId":"s","cwd":"/w/shop","prompt":"Once more"}`, "running|Once more|Ship it|9"},
				{`{"hookEventName":"agentStop","sessionId":"s","cwd":"/w/shop","stopReason":"end_turn"}`, "success|Done|Ship it|10"},
				{`{"hookEventName":"sessionEnd","sessionId":"s","cwd":"/w/shop","reason":"timeout"}`, "success|Done|Ship it|10"},
				{`{"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/w/shop","prompt":"as VS Code"}`, "running|as VS Code|Ship it|11"},
				{`{"hookEventName":"sessionEnd","sessionId":"s","cwd":"/w/shop","reason":"user_exit"}`, "failed|Session ended: user_exit|Ship it|12"},
			},
		},
		"opencode": {
			{
				{`{"type":"server.connected","properties":{}}`, "-"},
				{`{"type":"session.created","directory":"/w/shop","properties":{"info":{"id":"s","title":"New session - 2026-11-24T00:00:00.000Z","directory":"/w/shop"}}}`, "success|Session started||1"},
				{`{"type":"chat.message","directory":"/w/shop","properties":{"sessionID":"s","prompt":"Count the tests"}}`, "running|Count the tests|Count the tests|2"},
				{`{"type":"session.status","directory":"/w/shop","properties":{"sessionID":"s","status":{"type":"busy"}}}`, "running|Count the tests|Count the tests|2"},
				{`{"type":"session.updated","directory":"/w/shop","properties":{"info":{"id":"s","title":"Counting tests"}}}`, "running|Count the tests|Counting tests|2"},
				{`{"type":"tool.execute.before","directory":"/w/shop","properties":{"sessionID":"s","tool":"bash","args":{"command":"ls","description":"List"}}}`, "running|bash: ls|Counting tests|3"},
				{`{"type":"permission.updated","directory":"/w/shop","properties":{"id":"p","sessionID":"s","type":"bash","pattern":"rm *","title":"Run rm"}}`, "pending|bash: rm *|Counting tests|4"},
				{`{"type":"permission.replied","directory":"/w/shop","properties":{"sessionID":"s","permissionID":"p","response":"once"}}`, "running|bash: ls|Counting tests|5"},
				{`{"type":"permission.asked","directory":"/w/shop","properties":{"id":"p","sessionID":"s","permission":"edit","patterns":["a.go","b.go"]}}`, "pending|edit: a.go b.go|Counting tests|6"},
				{`{"type":"message.updated","directory":"/w/shop","properties":{"info":{"id":"m","sessionID":"s","role":"assistant"}}}`, "pending|edit: a.go b.go|Counting tests|6"},
				{`{"type":"session.error","directory":"/w/shop","properties":{"sessionID":"s","error":{"name":"APIError","data":{"message":"overloaded"}}}}`, "failed|APIError: overloaded|Counting tests|7"},
				{`{"type":"session.idle","directory":"/w/shop","properties":{"sessionID":"s"}}`, "failed|APIError: overloaded|Counting tests|7"},
				{`{"type":"session.status","directory":"/w/shop","properties":{"sessionID":"s","status":{"type":"busy"}}}`, "failed|APIError: overloaded|Counting tests|7"},
				{`{"type":"chat.message","directory":"/w/shop","properties":{"sessionID":"s","prompt":"Again"}}`, "running|Again|Counting tests|8"},
				{`{"type":"session.idle","directory":"/w/shop","properties":{"sessionID":"s"}}`, "success|Done|Counting tests|9"},
				{`{"type":"session.deleted","directory":"/w/shop","properties":{"info":{"id":"s","title":"Counting tests"}}}`, "success|Done|Counting tests|9"},
			},
			{{`{"type":"session.idle","properties":{"sessionID":"s"}}`, "success|Done||1"}},
		},
		"a2a": {
			{ // 0.3: updates as in a stream's responses
				{`{"jsonrpc":"2.0","id":1,"result":{"kind":"task","id":"s","contextId":"c","status":{"state":"submitted"}}}`, "running|Submitted||1"},
				{`{"jsonrpc":"2.0","id":1,"result":{"kind":"status-update","taskId":"s","contextId":"c","status":{"state":"working","message":{"role":"agent","parts":[{"kind":"data","data":{}},{"kind":"text","text":"Reading"}]}},"final":false}}`, "running|Reading||2"},
				{`{"jsonrpc":"2.0","id":1,"result":{"kind":"artifact-update","taskId":"s","contextId":"c","artifact":{"parts":[]}}}`, "running|Reading||2"},
				{`{"kind":"status-update","taskId":"s","contextId":"c","status":{"state":"input-required","message":{"parts":[{"kind":"text","text":"Which one?"}]}},"final":true}`, "pending|Which one?||3"},
				{`{"kind":"task","id":"s","contextId":"c","status":{"state":"completed","timestamp":"2026-11-24T00:38:00Z"}}`, "success|Completed||4"},
			},
			{ // 1.0: updates as in push notifications
				{`{"task":{"id":"s","contextId":"c","status":{"state":"TASK_STATE_SUBMITTED"}}}`, "running|Submitted||1"},
				{`{"statusUpdate":{"taskId":"s","contextId":"c","status":{"state":"TASK_STATE_AUTH_REQUIRED"}}}`, "pending|Authorization required||2"},
				{`{"statusUpdate":{"taskId":"s","contextId":"c","status":{"state":"TASK_STATE_WORKING","message":{"parts":[{"text":"On it"}]}}}}`, "running|On it||3"},
				{`{"artifactUpdate":{"taskId":"s","artifact":{}}}`, "running|On it||3"},
				{`{"statusUpdate":{"taskId":"s","status":{"state":"TASK_STATE_REJECTED"}}}`, "failed|Rejected||4"},
				{`{"statusUpdate":{"taskId":"s","status":{"state":"TASK_STATE_CANCELED"}}}`, "failed|Rejected||4"},
				{`{"statusUpdate":{"taskId":"s","status":{"state":"TASK_STATE_FAILED"}}}`, "failed|Rejected||4"},
				{`{"statusUpdate":{"taskId":"s","status":{"state":"TASK_STATE_UNSPECIFIED"}}}`, "failed|Rejected||4"},
			},
		},
	} {
		for i, story := range stories {
			t.Run(fmt.Sprint(client, " ", i+1), func(t *testing.T) {
				h := newHub(t)
				for _, step := range story {
					r, effect := h.post(client, step.event)
					got := "-"
					if effect != adapters.Ignored {
						require.Equal(t, "s", r.SessionTopic, step.event)
						got = h.shown(r)
					}
					require.Equal(t, step.want, got, step.event)
				}
			})
		}
	}
}

// TestToolEventsWithinASecond checks that the end of a tool call that took less than a second only renews its session.
func TestToolEventsWithinASecond(t *testing.T) {
	h := newHub(t)
	send := func(event string, after time.Duration) string {
		h.now = h.now.Add(after - time.Minute) // post adds the minute
		r, _ := h.post("claude-code", fmt.Sprintf(`{"hook_event_name":%q,"session_id":"s","tool_name":"Bash","tool_input":{"command":"ls"}}`, event))
		se, _, _ := h.store.Session(r.AgentID, "s", nil, 1)
		require.False(t, se.LastUpdated.Before(h.now), "it is renewed")
		return h.shown(r)
	}
	require.Equal(t, "running|Bash: ls||1", send("PreToolUse", 0))
	require.Equal(t, "running|Bash: ls||1", send("PostToolUse", 300*time.Millisecond))
	require.Equal(t, "running|Bash: ls||1", send("PreToolUse", 600*time.Millisecond))
	require.Equal(t, "running|Bash: ls||2", send("PostToolUse", 100*time.Millisecond), "a second after the entry")
	require.Equal(t, "pending|Bash: ls||3", send("PermissionRequest", 0))
}

func TestAgentOfAReport(t *testing.T) {
	event := func(cwd string) string {
		return fmt.Sprintf(`{"hook_event_name":"Stop","session_id":"s","cwd":%q}`, cwd)
	}
	for _, test := range []struct {
		body             string
		opts             adapters.Options
		wantID, wantName string
	}{
		{event("/home/dev/payments"), adapters.Options{}, "claude-code:payments", "payments"},
		{event("/home/dev/payments/"), adapters.Options{}, "claude-code:payments", "payments"},
		{event(`C:\Users\dev\payments`), adapters.Options{}, "claude-code:payments", "payments"},
		{event("/"), adapters.Options{}, "claude-code", ""},
		{event(""), adapters.Options{}, "claude-code", ""},
		{event("/a/.."), adapters.Options{}, "claude-code", ""},
		{event("/a/" + strings.Repeat("é", 300)), adapters.Options{}, "claude-code:" + strings.Repeat("é", 87) + "…", strings.Repeat("é", 199) + "…"},
		{event("/a/b\nc"), adapters.Options{}, "claude-code:b c", "b c"},
		{event("/a/b"), adapters.Options{AgentID: "mine", AgentName: "My agent"}, "mine", "My agent"},
		{event("/a/b"), adapters.Options{AgentID: " . ", AgentName: "\x00"}, "claude-code:b", "b"},
		{event("/a/b"), adapters.Options{AgentID: strings.Repeat("x", 101) + "\xff", AgentName: "\xff"}, strings.Repeat("x", 99) + "…", "\ufffd"},
	} {
		test.opts.Now = epoch
		r, effect, err := adapters.Named("claude-code").Report(strings.NewReader(test.body), test.opts)
		require.NoError(t, err)
		require.Equal(t, adapters.Reports, effect)
		require.NoError(t, r.Validate(epoch))
		require.Equal(t, test.wantID, r.AgentID)
		require.Equal(t, test.wantName, r.AgentName)
	}
}

func TestTimestamps(t *testing.T) {
	for text, want := range map[string]time.Time{
		`"2026-11-24T00:33:25.312Z"`:      time.Date(2026, 11, 24, 0, 33, 25, 312e6, time.UTC),
		`"2026-11-24T01:33:25+01:00"`:     time.Date(2026, 11, 24, 0, 33, 25, 0, time.UTC),
		fmt.Sprint(epoch.UnixMilli() + 1): epoch.Add(time.Millisecond),
		`"2026-11-24T00:39:31Z"`:          {}, // too far in the future
		`"2026-11-24T00:28:29Z"`:          {}, // too far in the past
		`"yesterday"`:                     {},
		`1e400`:                           {},
		`-1`:                              {},
		`null`:                            {},
		`{"t":1}`:                         {},
	} {
		r, _, err := adapters.Named("gemini-cli").Report(strings.NewReader(`{"hook_event_name":"BeforeAgent","session_id":"s","timestamp":`+text+`}`), adapters.Options{Now: epoch})
		require.NoError(t, err)
		require.Equal(t, want, r.Timestamp, text)
	}
}

// TestCapture checks that text of people and agents is not kept unless the capture level allows it.
func TestCapture(t *testing.T) {
	private := []string{"Fix", "flaky", "checkout", "All done", "USE_TOOL", "touch", "made-by-tool"}
	for _, how := range adapters.Captures {
		for file, client := range map[string]string{"claude-code-2.1.197-interactive": "claude-code", "claude-code-2.1.197": "claude-code", "codex-0.169.0": "codex", "gemini-cli-0.61.0": "gemini-cli"} {
			h := newHub(t)
			h.opts.Capture = how
			var messages, titles strings.Builder
			for _, line := range capture(t, file) {
				r, _ := h.post(client, line)
				fmt.Fprintln(&messages, r.Message, r.Content, r.Event.Answer)
				if r.Event.Question != nil {
					fmt.Fprintln(&messages, *r.Event.Question)
				}
				fmt.Fprintln(&titles, r.SessionTitle)
			}
			for _, word := range private {
				require.False(t, how != adapters.CaptureFull && strings.Contains(messages.String(), word), "%s: %s", how, messages.String())
				require.False(t, how == adapters.CaptureNone && strings.Contains(titles.String(), word), titles.String())
			}
			require.Contains(t, titles.String(), map[adapters.Capture]string{"full": "make a file", "titles": "make a file"}[how])
		}
	}
	h := newHub(t)
	r, _ := h.post("claude-code", `{"hook_event_name":"UserPromptSubmit","session_id":"s","prompt":"One\r\ntwo\u0000\n"}`)
	require.Equal(t, "One\ntwo", r.Content, "the whole prompt")
	h.opts.Capture = adapters.CaptureTitles
	for event, want := range map[string]string{
		`{"hook_event_name":"UserPromptSubmit","session_id":"s","prompt":"secret"}`:                                                          "Prompt",
		`{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"Bash","tool_input":{"command":"secret"}}`:                             "Bash",
		`{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"secret"}]}}`: "Question",
		`{"hook_event_name":"Notification","session_id":"s","notification_type":"permission_prompt","message":"secret"}`:                     "Permission needed",
		`{"hook_event_name":"Stop","session_id":"s","last_assistant_message":"secret"}`:                                                      "Done",
		`{"hook_event_name":"StopFailure","session_id":"s","error":"rate_limit","error_details":"secret","last_assistant_message":"secret"}`: "rate_limit",
		`{"hook_event_name":"SessionEnd","session_id":"s","reason":"other"}`:                                                                 "Session ended: other",
	} {
		r, _ := h.post("claude-code", event)
		require.Equal(t, want, r.Message)
		require.Empty(t, r.Content)
	}
}

// TestUnusualEvents checks that events in unusual but valid forms are accepted, since users can't change what a tool
// sends.
func TestUnusualEvents(t *testing.T) {
	const event = `{"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/a/b","prompt":"Hi"}`
	for name, body := range map[string]string{
		"another order":     `{"prompt":"Hi","cwd":"/a/b","session_id":"s","hook_event_name":"UserPromptSubmit"}`,
		"unknown members":   `{"x":[{"prompt":"no"}],"y":{"session_id":"no"},"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/a/b","prompt":"Hi","z":1e99}`,
		"a repeated name":   `{"hook_event_name":"UserPromptSubmit","session_id":"s","session_id":"t","cwd":"/a/b","prompt":"Hi"}`,
		"a byte order mark": "\ufeff" + event,
		"escaped names":     strings.ReplaceAll(event, `"prompt"`, `"\u0070rompt"`),
		"other types":       `{"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/a/b","prompt":"Hi","tool_input":7,"timestamp":{},"message":[[["x"]]]}`,
		"white space":       " \r\n" + event + "\n",
		"null":              `{"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/a/b","prompt":"Hi","tool_name":null}`,
	} {
		r, effect, err := adapters.Named("claude-code").Report(strings.NewReader(body), adapters.Options{Now: epoch, Capture: adapters.CaptureFull})
		require.NoError(t, err, name)
		require.Equal(t, adapters.Reports, effect)
		require.Equal(t, models.StatusReport{AgentID: "claude-code:b", AgentName: "b", AgentSource: "claude-code", SessionTopic: "s", SessionTitle: "Hi",
			Status: models.Running, Message: "Hi", Content: "Hi", Event: r.Event}, r, name)
		require.True(t, r.Event.FirstTitle && r.Event.FirstName && r.Event.FindByToolID, name)
	}
	for body, want := range map[string]string{
		``:                           "the body is empty; it must be a JSON object",
		`  `:                         "the body is empty; it must be a JSON object",
		`[]`:                         "the body must be a JSON object",
		`"x"`:                        "the body must be a JSON object",
		`{`:                          "the body must be a JSON object: unexpected end at byte 1",
		`{"session_id":"s"}x`:        "nothing may follow the JSON object: unexpected data at byte 18",
		`{"session_id":"s"}{}`:       "nothing may follow the JSON object",
		`{"a":}`:                     "the body must be a JSON object: malformed at byte 5",
		`{"hook_event_name":"Stop"}`: "the event has no session ID: session_id is missing",
		`{"hook_event_name":"Stop","session_id":"\u0000"}`: "the event has no session ID: session_id is missing",
	} {
		_, _, err := adapters.Named("claude-code").Report(strings.NewReader(body), adapters.Options{Now: epoch})
		require.ErrorContains(t, err, want, body)
		var known *models.Error
		require.ErrorAs(t, err, &known)
		require.Equal(t, models.CodeBadRequest, known.Code)
	}
	_, effect, err := adapters.Named("claude-code").Report(strings.NewReader(`{"hook_event_name":"Setup"}`), adapters.Options{Now: epoch})
	require.NoError(t, err)
	require.Equal(t, adapters.Ignored, effect)
	require.Nil(t, adapters.Named("status"))
}

// TestReorderedAndMissingFields checks, for events from real clients, that the order of members does not matter, and
// that an event without one of its members is either accepted or refused with the member's name.
func TestReorderedAndMissingFields(t *testing.T) {
	for file, client := range map[string]string{"claude-code-2.1.197-interactive": "claude-code", "codex-0.169.0": "codex", "gemini-cli-0.61.0": "gemini-cli"} {
		for _, line := range capture(t, file) {
			report := func(members map[string]json.RawMessage) (models.StatusReport, error) {
				body, err := json.Marshal(members) // sorts them
				require.NoError(t, err)
				r, _, err := adapters.Named(client).Report(bytes.NewReader(body), adapters.Options{Now: epoch, Capture: adapters.CaptureFull})
				return r, err
			}
			var members map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(line), &members))
			want, _, err := adapters.Named(client).Report(strings.NewReader(line), adapters.Options{Now: epoch, Capture: adapters.CaptureFull})
			require.NoError(t, err)
			got, err := report(members)
			require.NoError(t, err)
			require.Equal(t, want, got)
			for name := range members {
				fewer := maps.Clone(members)
				delete(fewer, name)
				r, err := report(fewer)
				if name == "session_id" && err != nil {
					require.EqualError(t, err, "the event has no session ID: session_id is missing")
					continue
				}
				require.NoError(t, err, name)
				if r.SessionTopic != "" {
					require.NoError(t, r.Validate(epoch), name)
				}
			}
		}
	}
}

func TestLongAndHostileTexts(t *testing.T) {
	for name, prompt := range map[string]string{
		"a megabyte":          strings.Repeat("word ", 200_000),
		"one long word":       strings.Repeat("w", 1_000_000),
		"scripts":             strings.Repeat("Ω€🤖", 100_000),
		"escapes":             strings.Repeat("\u0001\"\\", 100_000),
		"invalid UTF-8":       strings.Repeat("a\xff\xc3", 1000),
		"lines":               strings.Repeat("\n", 100_000) + "last",
		"right to left":       strings.Repeat("\u202eabc", 1000),
		"separators of lines": strings.Repeat("\u2028\u0085", 5000),
	} {
		quoted, err := json.Marshal(prompt)
		require.NoError(t, err)
		if name == "invalid UTF-8" {
			quoted = []byte(`"` + prompt + `"`)
		}
		h := newHub(t)
		body := `{"hook_event_name":"UserPromptSubmit","session_id":` + string(quoted) + `,"cwd":` + string(quoted) + `,"prompt":` + string(quoted) + `}`
		r, _, err := adapters.Named("claude-code").Report(strings.NewReader(body), adapters.Options{Now: epoch, Capture: adapters.CaptureFull})
		if err != nil {
			require.Contains(t, []string{"lines", "separators of lines"}, name, "the part that is kept is blank")
			continue
		}
		require.NoError(t, r.Validate(epoch), name)
		require.LessOrEqual(t, utf8.RuneCountInString(r.SessionTitle), 120, name)
		for _, s := range []string{r.AgentID, r.SessionTopic, r.SessionTitle, r.Message, r.Content} {
			require.True(t, utf8.ValidString(s), name)
		}
		h.post("claude-code", body)
	}
	r, _, err := adapters.Named("claude-code").Report(strings.NewReader(`{"hook_event_name":"UserPromptSubmit","session_id":"s","prompt":"`+strings.Repeat("abcdefgh ", 20)+`"}`), adapters.Options{Now: epoch, Capture: adapters.CaptureFull})
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(strings.Repeat("abcdefgh ", 13))+"…", r.SessionTitle, "it ends at a word boundary")
}

func FuzzReport(f *testing.F) {
	files, err := filepath.Glob("testdata/captures/*.ndjson")
	require.NoError(f, err)
	for _, file := range files {
		for _, line := range capture(f, strings.TrimSuffix(filepath.Base(file), ".ndjson")) {
			f.Add([]byte(line), "", "")
		}
	}
	f.Add([]byte(`{"type":"permission.asked","properties":{"sessionID":"s","patterns":["a","\ud800"]}}`), "x", "sessionEnd")
	f.Add([]byte(`{"sessionId":"s","toolArgs":"{\"command\":[\"a\"]}","timestamp":1e3}`), "..", "preToolUse")
	f.Add([]byte(`{"statusUpdate":{"taskId":"s","status":{"state":"TASK_STATE_WORKING","message":{"parts":[{"text":"\\"}]}}}}`), "", "")
	f.Fuzz(func(t *testing.T, body []byte, agentID, event string) {
		for _, name := range adapters.Names() {
			for _, capture := range adapters.Captures {
				r, effect, err := adapters.Named(name).Report(bytes.NewReader(body), adapters.Options{AgentID: agentID, AgentName: agentID, Event: event, Capture: capture, Now: epoch})
				if err != nil {
					var known *models.Error
					require.ErrorAs(t, err, &known)
					continue
				}
				if effect != adapters.Ignored {
					require.NoError(t, r.Validate(epoch))
				}
			}
		}
	})
}
