package adapters_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// story is the events of one session of a tool, without the members common to all of them, and the expected state of
// the session after each: its status and message, or its status and open questions. "" means unchanged.
type story struct {
	client string
	steps  []step
}

// commonMembers are the members common to all events of a session, by client.
var commonMembers = map[string]string{
	"claude-code": `"session_id":"s","cwd":"/home/dev/payments","hook_event_name":`,
	"codex":       `"session_id":"s","cwd":"/home/dev/payments","hook_event_name":`,
	"gemini-cli":  `"session_id":"s","cwd":"/home/dev/payments","hook_event_name":`,
	"cursor":      `"conversation_id":"s","workspace_roots":["/home/dev/payments"],"hook_event_name":`,
	"copilot":     `"sessionId":"s","cwd":"/home/dev/payments","hookEventName":`,
	"opencode":    `"directory":"/home/dev/payments","type":`,
	"a2a":         `"statusUpdate":{"taskId":"s","status":{"state":`,
}

// event returns the event that a client posts. short is its name and the members that are not common to all events.
func event(client, short string) string {
	name, rest, _ := strings.Cut(short, " ")
	body := "{" + commonMembers[client] + fmt.Sprintf("%q", name)
	switch {
	case client == "opencode":
		return body + `,"properties":{"sessionID":"s"` + comma(rest) + rest + "}}"
	case client == "a2a":
		return body + comma(rest) + rest + "}}}"
	}
	return body + comma(rest) + rest + "}"
}

func comma(rest string) string {
	if rest == "" {
		return ""
	}
	return ","
}

// state returns the state of the only session in the notation of a story, with the open questions filtered by only.
func (h *hub) state(only func([]string) []string) string {
	page, err := h.store.Sessions(h.t.Context(), store.SessionQuery{}, nil, 10)
	require.NoError(h.t, err)
	if len(page.Items) == 0 {
		return "-"
	}
	require.Len(h.t, page.Items, 1)
	se, questions, _, ok := h.store.SessionInFull(page.Items[0].AgentID, page.Items[0].Topic, nil, 10)
	require.True(h.t, ok)
	shown := se.CurrentStatus.String() + ": " + se.CurrentMessage
	require.Equal(h.t, len(questions) > 0, se.CurrentStatus.String() == "pending", shown)
	texts := []string{}
	for _, q := range questions {
		texts = append(texts, q.Text)
	}
	if len(texts) > 0 {
		shown = se.CurrentStatus.String() + ": " + strings.Join(only(texts), " | ")
	}
	return shown
}

// run posts each event of a story the given number of times, and checks the state of the session after it.
func (s story) run(t *testing.T, times int, only func([]string) []string) {
	h := newHub(t)
	shown := "-"
	for i, step := range s.steps {
		for range times {
			h.post(s.client, event(s.client, step.event))
		}
		if step.want != "" {
			shown = step.want
		}
		require.Equal(t, shown, h.state(only), "step %d: %s", i+1, step.event)
	}
}

// TestStories checks, tool by tool, the state of sessions in normal and exceptional cases. It runs each story a second
// time with every event sent twice, as happens if hooks are configured in two files.
func TestStories(t *testing.T) {
	for name, s := range toolStories() {
		t.Run(s.client+": "+name, func(t *testing.T) {
			s.run(t, 1, func(texts []string) []string { return texts })
			s.run(t, 2, slices.Compact[[]string]) // without IDs, a repeated event may be about a second call
		})
	}
}

func toolStories() map[string]story {
	const (
		bash = `"tool_name":"Bash","tool_input":{"command":"make"},"tool_use_id":"t1"`
		may  = `"tool_name":"Bash","tool_input":{"command":"make"}`
		read = `"tool_name":"Read","tool_input":{"file_path":"/a"},"tool_use_id":"t2"`
	)
	return map[string]story{
		// Claude Code
		"a call is allowed": {"claude-code", []step{
			{`SessionStart "source":"startup"`, "success: Session started"},
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`Notification "notification_type":"permission_prompt","message":"Claude needs your permission"`, ""},
			{`MessageDisplay "delta":"Hm"`, ""},
			{`PostToolUse ` + bash, "running: Bash: make"},
			{`PostToolBatch "tool_calls":[]`, ""},
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`Notification "notification_type":"idle_prompt","message":"Claude is waiting for your input"`, ""},
			{`SessionEnd "reason":"prompt_input_exit"`, ""},
		}},
		"a call is denied with instructions": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`PreToolUse ` + read, ""},
			{`PostToolUse ` + read, ""},
			{`PostToolBatch "tool_calls":[]`, "running: Read: /a"},
		}},
		"a call is denied silently, which the next prompt shows": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`UserPromptSubmit "prompt":"Not so"`, "running: Not so"},
		}},
		"a call is denied by the rules": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`PermissionDenied ` + bash + `,"reason":"no"`, "running: Bash: make"},
		}},
		"a call fails": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`PostToolUseFailure ` + bash + `,"error":"Exit code 1","is_interrupt":false`, "running: Bash: make"},
		}},
		"a call is interrupted": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PostToolUseFailure ` + bash + `,"error":"Interrupted","is_interrupt":true`, "failed: Interrupted"},
			{`PostToolUseFailure ` + bash + `,"error":"Interrupted","is_interrupt":true`, ""},
		}},
		"a turn is interrupted, which only the idle prompt shows": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`Notification "notification_type":"idle_prompt"`, "failed: Interrupted"},
		}},
		"two calls ask, and each has a dialog": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PreToolUse ` + read, "running: Read: /a"},
			{`PermissionRequest "tool_name":"Read","tool_input":{"file_path":"/a"}`, "pending: Read: /a"},
			{`PermissionRequest ` + may, "pending: Read: /a | Bash: make"},
			{`PostToolUse ` + bash, "pending: Read: /a"},
			{`PostToolUse ` + read, "running: Read: /a"},
		}},
		"a subagent and its parent ask": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`SubagentStart "agent_id":"a"`, ""},
			{`PreToolUse "agent_id":"a",` + bash, ""},
			{`PermissionRequest "agent_id":"a",` + may, "pending: Bash: make"},
			{`PermissionRequest "tool_name":"Bash","tool_input":{"command":"ls"}`, "pending: Bash: make | Bash: ls"},
			{`PostToolBatch "tool_calls":[]`, "pending: Bash: make"},
			{`PostToolUse "agent_id":"b","tool_name":"Bash","tool_input":{"command":"make"},"tool_use_id":"t3"`, ""},
			{`SubagentStop "agent_id":"b"`, ""},
			{`PostToolUse "agent_id":"a",` + bash, "running: Build"},
		}},
		"a subagent continues after the turn, asks, and ends": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`Stop "last_assistant_message":"Started.","background_tasks":[{"id":"a","type":"subagent","status":"running"}]`, "success: Started. · 1 background task still running"},
			{`PreToolUse "agent_id":"a",` + bash, ""},
			{`PermissionRequest "agent_id":"a",` + may, "pending: Bash: make"},
			{`SubagentStop "agent_id":"a"`, "success: Started. · 1 background task still running"},
			{`UserPromptSubmit "prompt":"<task-notification>\n<summary>Agent \"sub\" finished</summary>\n</task-notification>"`, `running: Agent "sub" finished`},
			{`Stop "last_assistant_message":"Nearly.","background_tasks":[{"id":"b","status":"running"},{"id":"c","status":"pending"}]`, "success: Nearly. · 2 background tasks still running"},
			{`Stop "last_assistant_message":"All done.","background_tasks":[]`, "success: All done."},
		}},
		"a turn ends while a subagent's question is open": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest "agent_id":"a",` + may, "pending: Bash: make"},
			{`Stop "last_assistant_message":"Meanwhile","background_tasks":[{"id":"a","status":"running"},{"id":"b","status":"completed"}]`, ""},
			{`PostToolUse "agent_id":"a",` + bash, "success: Meanwhile · 1 background task still running"},
		}},
		"a task ends while a subagent asks": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest "agent_id":"a",` + may, "pending: Bash: make"},
			{`UserPromptSubmit "prompt":"<task-notification><summary>Tests passed</summary></task-notification>"`, ""},
			{`UserPromptSubmit "prompt":"Stop that"`, "running: Stop that"},
		}},
		"a choice is made": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse "tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"},{"label":"B"}]}]},"tool_use_id":"t1"`, "pending: Which?"},
			{`PermissionRequest "tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"},{"label":"B"}]}]}`, ""},
			{`Notification "notification_type":"permission_prompt"`, ""},
			{`PostToolUse "tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which?"}],"answers":{"Which?":"A"}},"tool_use_id":"t1"`, "running: AskUserQuestion: Which?"},
		}},
		"a plan is edited and approved": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse "tool_name":"ExitPlanMode","tool_input":{"plan":"# First\n1. x"},"tool_use_id":"t1"`, "pending: First"},
			{`PermissionRequest "tool_name":"ExitPlanMode","tool_input":{"plan":"# First\n1. x"}`, ""},
			{`PostToolUse "tool_name":"ExitPlanMode","tool_input":{"plan":"# Second"},"tool_use_id":"t1"`, "running: ExitPlanMode"},
		}},
		"a server asks, and is answered": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse "tool_name":"mcp__db__query","tool_input":{},"tool_use_id":"t1"`, "running: mcp__db__query"},
			{`Elicitation "mcp_server_name":"db","message":"Which account?","requested_schema":{"type":"object"}`, "pending: Which account?"},
			{`Notification "notification_type":"elicitation_dialog","message":"Claude Code needs your input"`, ""},
			{`ElicitationResult "mcp_server_name":"mail","action":"accept"`, ""},
			{`PostToolUse ` + read, ""},
			{`ElicitationResult "mcp_server_name":"db","action":"accept"`, "running: Read: /a"},
			{`Notification "notification_type":"elicitation_response"`, ""},
		}},
		"a server asks through a URL, with notifications only": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`Notification "notification_type":"elicitation_url_dialog","message":"Open the page"`, "pending: Open the page"},
			{`PostToolUse ` + read, ""},
			{`Notification "notification_type":"elicitation_complete"`, "running: Read: /a"},
		}},
		"a teammate asks, with a notification only": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`Notification "notification_type":"worker_permission_prompt","message":"ann needs permission for Bash"`, "pending: ann needs permission for Bash"},
			{`PostToolUse ` + bash, "running: Bash: make"},
		}},
		"unrelated events change nothing": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`Notification "notification_type":"agent_needs_input","message":"other needs your input"`, ""},
			{`Notification "notification_type":"auth_success"`, ""},
			{`Notification "notification_type":"quota_auto_resume_fired"`, ""},
			{`TaskCreated "task_id":"1","task_subject":"x"`, ""}, {`TaskCompleted "task_id":"1"`, ""}, {`TeammateIdle "teammate_name":"ann"`, ""},
			{`UserPromptExpansion "command_name":"review","prompt":"/review"`, ""},
			{`PreSkillShellCommand "tool_name":"Bash","tool_input":{"command":"make"},"tool_use_id":"t9"`, ""},
			{`PreModelSwitch "to_model":"m"`, ""}, {`PostModelSwitch "to_model":"m"`, ""}, {`ConfigChange "source":"user_settings"`, ""},
			{`CwdChanged "new_cwd":"/x"`, ""}, {`DirectoryAdded "directory":"/x"`, ""}, {`FileChanged "file_path":"/x"`, ""},
			{`InstructionsLoaded "file_path":"/x"`, ""}, {`WorktreeRemove "worktree_path":"/x"`, ""}, {`PreCompact "trigger":"auto"`, ""}, {`PostCompact "trigger":"auto"`, ""},
			{`SessionStart "source":"compact"`, ""}, {`Setup "trigger":"init"`, ""},
		}},
		"a limit is reached, with the time of its reset": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`StopFailure "error":"rate_limit","error_details":"429","last_assistant_message":"You've hit your limit · resets 3pm"`, "failed: rate_limit: You've hit your limit · resets 3pm"},
			{`StopFailure "error":"overloaded"`, ""},
			{`SessionEnd "reason":"other"`, ""},
		}},
		"a failure after a finished turn changes nothing": {"claude-code", []step{
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`StopFailure "error":"server_error"`, ""},
			{`Notification "notification_type":"idle_prompt"`, ""},
			{`SessionEnd "reason":"logout"`, ""},
		}},
		"a result comes after the end of the turn": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`PostToolUse ` + bash, ""},
			{`PostToolBatch "tool_calls":[]`, ""},
		}},
		"a session is cleared while it is at work": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`SessionEnd "reason":"clear"`, "failed: Session ended: clear"},
		}},
		"a session that asks is resumed by another process": {"claude-code", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`SessionStart "source":"resume"`, "failed: Interrupted"},
			{`SessionStart "source":"startup"`, ""},
			{`UserPromptSubmit "prompt":"Go on"`, "running: Go on"},
		}},
		"a finished session is resumed": {"claude-code", []step{
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`SessionStart "source":"resume"`, ""},
		}},

		// Codex
		"a call is allowed, with a reason for asking": {"codex", []step{
			{`SessionStart "source":"startup"`, "success: Session started"},
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`PreToolUse "tool_name":"Bash","tool_input":{"command":"ls"},"tool_use_id":"t2"`, "running: Bash: ls"},
			{`PermissionRequest "tool_name":"Bash","tool_input":{"command":"make","description":"May I?"}`, "pending: Bash: make"},
			{`PostToolUse "tool_name":"Bash","tool_input":{"command":"ls"},"tool_use_id":"t2"`, ""},
			{`PostToolUse ` + bash + `,"tool_response":"ok"`, "running: Bash: make"},
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`agent-turn-complete "last-assistant-message":"Built."`, ""},
		}},
		"a call is cancelled": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`Interrupt `, "failed: Interrupted"},
			{`PostToolUse ` + bash, ""},
			{`SessionEnd "reason":"other"`, ""},
		}},
		"a call is declined, and the turn ends": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`Stop "last_assistant_message":"I won't."`, "success: I won't."},
		}},
		"a choice is made, among other calls": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse "tool_name":"request_user_input","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"}]}]},"tool_use_id":"t1"`, "pending: Which?"},
			{`PostToolUse ` + read, ""},
			{`PostToolUse "tool_name":"request_user_input","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"}]}]},"tool_use_id":"t1","tool_response":"{}"`, "running: request_user_input: Which?"},
		}},
		"a subagent works and asks": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`SubagentStart "agent_id":"child"`, ""},
			{`UserPromptSubmit "agent_id":"child","prompt":"Look"`, ""},
			{`PreToolUse "agent_id":"child",` + bash, ""},
			{`PermissionRequest "agent_id":"child",` + may, "pending: Bash: make"},
			{`Stop "last_assistant_message":"Built."`, "success: Built."},
			{`SubagentStop "agent_id":"child","last_assistant_message":"Seen"`, ""},
		}},
		"a turn fails, which only the end of the session shows": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`SessionEnd "reason":"other"`, "failed: Session ended: other"},
		}},
		"a session is compacted in the middle of a turn": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PermissionRequest ` + may, "pending: Bash: make"},
			{`PreCompact "trigger":"auto"`, ""}, {`PostCompact "trigger":"auto"`, ""}, {`SessionStart "source":"compact"`, ""},
			{`PreModelRequest `, ""}, {`PostModelRequest `, ""},
		}},
		"a dead session is resumed": {"codex", []step{
			{`UserPromptSubmit "prompt":"Build"`, "running: Build"},
			{`PreToolUse ` + bash, "running: Bash: make"},
			{`SessionStart "source":"resume"`, "failed: Interrupted"},
			{`UserPromptSubmit "prompt":"Go on"`, "running: Go on"},
		}},

		// Gemini CLI
		"a command is allowed": {"gemini-cli", []step{
			{`SessionStart "source":"startup"`, "success: Session started"},
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`PreCompress "trigger":"auto"`, ""}, {`BeforeModel "llm_request":{}`, ""}, {`BeforeToolSelection `, ""},
			{`BeforeTool "tool_name":"run_shell_command","tool_input":{"command":"make","description":"Build"}`, "running: run_shell_command: make"},
			{`BeforeTool "tool_name":"run_shell_command","tool_input":{"command":"ls"}`, "running: run_shell_command: ls"},
			{`Notification "notification_type":"ToolPermission","message":"Tool Confirm Shell Command requires execution","details":{"type":"exec","command":"make"}`, "pending: Shell: make"},
			{`AfterTool "tool_name":"run_shell_command","tool_input":{"command":"ls"}`, ""},
			{`AfterTool "tool_name":"run_shell_command","tool_input":{"command":"make","description":"Build"}`, "running: run_shell_command: make"},
			{`AfterAgent "prompt_response":"Built."`, "success: Built."},
			{`SessionEnd "reason":"exit"`, ""}, {`SessionEnd "reason":"exit"`, ""}, {`SessionEnd "reason":"exit"`, ""},
		}},
		"an edit is modified in its dialog, and allowed": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"replace","tool_input":{"file_path":"src/a.go","old_string":"a"}`, "running: replace: src/a.go"},
			{`BeforeTool "tool_name":"read_file","tool_input":{"file_path":"src/a.go"}`, "running: read_file: src/a.go"},
			{`Notification "notification_type":"ToolPermission","message":"Tool a.go requires editing","details":{"type":"edit","filePath":"/p/src/a.go","fileDiff":"-a"}`, "pending: Edit: /p/src/a.go"},
			{`Notification "notification_type":"ToolPermission","message":"Tool a.go requires editing","details":{"type":"edit","filePath":"/p/src/a.go","fileDiff":"-b"}`, ""},
			{`AfterTool "tool_name":"read_file","tool_input":{"file_path":"src/a.go"}`, ""},
			{`AfterTool "tool_name":"replace","tool_input":{"file_path":"src/a.go","old_string":"b"}`, "running: replace: src/a.go"},
		}},
		"a server's tool is allowed": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"mcp_db_query","tool_input":{"q":1}`, "running: mcp_db_query"},
			{`Notification "notification_type":"ToolPermission","message":"Tool query requires MCP","details":{"type":"mcp","serverName":"db","toolName":"query"}`, "pending: MCP: query"},
			{`AfterTool "tool_name":"mcp_db_query","tool_input":{"q":1}`, "running: mcp_db_query"},
		}},
		"a call is denied, which the next prompt shows": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"run_shell_command","tool_input":{"command":"make"}`, "running: run_shell_command: make"},
			{`Notification "notification_type":"ToolPermission","details":{"type":"exec","command":"make"}`, "pending: Shell: make"},
			{`BeforeAgent "prompt":"Not so"`, "running: Not so"},
		}},
		"a choice is made in a dialog": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"ask_user","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"}]}]}`, "pending: Which?"},
			{`Notification "notification_type":"ToolPermission","message":"Tool requires confirmation","details":{"type":"ask_user","title":"Ask User"}`, ""},
			{`AfterTool "tool_name":"ask_user","tool_input":{"questions":[{"question":"Which?","options":[{"label":"A"}]}]}`, "running: ask_user: Which?"},
		}},
		"a plan is approved": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"exit_plan_mode","tool_input":{"plan_filename":"plan.md"}`, "pending: plan.md"},
			{`Notification "notification_type":"ToolPermission","message":"Tool requires confirmation","details":{"type":"exit_plan_mode","title":"Plan Approval"}`, ""},
			{`AfterTool "tool_name":"exit_plan_mode","tool_input":{"plan_filename":"plan.md"}`, "running: exit_plan_mode"},
		}},
		"a turn continues without a prompt": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`BeforeTool "tool_name":"run_shell_command","tool_input":{"command":"make"}`, "running: run_shell_command: make"},
			{`Notification "notification_type":"ToolPermission","details":{"type":"exec","command":"make"}`, "pending: Shell: make"},
			{`BeforeAgent "prompt":""`, ""},
		}},
		"a turn fails": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`AfterAgent "prompt_response":"[no response text]"`, "failed: Interrupted or failed: no response"},
			{`AfterTool "tool_name":"run_shell_command","tool_input":{"command":"make"}`, ""},
		}},
		"a failure after a finished turn": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`AfterAgent "prompt_response":"Built."`, "success: Built."},
			{`AfterAgent "prompt_response":"[no response text]"`, ""},
		}},
		"a session at work is cleared, and a dead one resumed": {"gemini-cli", []step{
			{`BeforeAgent "prompt":"Build"`, "running: Build"},
			{`SessionEnd "reason":"clear"`, "failed: Session ended: clear"},
			{`BeforeAgent "prompt":"Again"`, "running: Again"},
			{`SessionStart "source":"resume"`, "failed: Interrupted"},
		}},

		// Cursor
		"a turn of the editor": {"cursor", []step{
			{`sessionStart "session_id":"s"`, "success: Session started"},
			{`beforeSubmitPrompt "prompt":"Build"`, "running: Build"},
			{`afterAgentThought "text":"Hm"`, ""},
			{`preToolUse "tool_name":"Shell","tool_input":{"command":"make"},"tool_use_id":"t\nf"`, "running: Shell: make"},
			{`beforeShellExecution "command":"make"`, "running: Shell: make"},
			{`afterShellExecution "command":"make","output":"x"`, "running: Shell: make"},
			{`postToolUseFailure "tool_name":"Shell","tool_input":{"command":"make"},"tool_use_id":"t\nf","failure_type":"permission_denied","is_interrupt":false`, "running: Shell: make"},
			{`beforeReadFile "file_path":"/a","content":"secret"`, "running: Read: /a"},
			{`afterFileEdit "file_path":"/a","edits":[]`, "running: Edit: /a"},
			{`beforeMCPExecution "tool_name":"search","tool_input":"{\"query\":\"x\"}","command":"npx server"`, "running: search: x"},
			{`afterMCPExecution "tool_name":"search","tool_input":"{\"query\":\"x\"}","command":"npx server"`, "running: search: x"},
			{`subagentStart "subagent_id":"c"`, ""},
			{`subagentStop "subagent_id":"c","status":"error"`, ""},
			{`preCompact "trigger":"auto"`, ""},
			{`afterAgentResponse "text":"Built."`, "running: Built."},
			{`stop "status":"completed"`, "success: Done"},
			{`postToolUse "tool_name":"Shell","tool_input":{"command":"make"}`, ""},
			{`afterFileEdit "file_path":"/a","edits":[]`, ""},
			{`stop "status":"error"`, ""},
			{`sessionEnd "reason":"user_close"`, ""},
		}},
		"a turn fails, and is then reported as aborted": {"cursor", []step{
			{`beforeSubmitPrompt "prompt":"Build"`, "running: Build"},
			{`stop "status":"error"`, "failed: Error"},
			{`stop "status":"aborted"`, ""},
		}},
		"a call is interrupted by a person": {"cursor", []step{
			{`beforeSubmitPrompt "prompt":"Build"`, "running: Build"},
			{`postToolUseFailure "tool_name":"Shell","failure_type":"error","is_interrupt":true`, "failed: Interrupted"},
			{`stop "status":"aborted"`, ""},
		}},
		"a run without a window fails": {"cursor", []step{
			{`sessionStart "session_id":"s"`, "success: Session started"},
			{`preToolUse "tool_name":"Read","tool_input":{"file_path":"/a"}`, "running: Read: /a"},
			{`sessionEnd "reason":"error","error_message":"no tokens"`, "failed: no tokens"},
		}},
		"a run without a window is aborted": {"cursor", []step{
			{`sessionStart "session_id":"s"`, "success: Session started"},
			{`preToolUse "tool_name":"Read","tool_input":{"file_path":"/a"}`, "running: Read: /a"},
			{`sessionEnd "reason":"aborted"`, "failed: Aborted"},
		}},
		"the window is closed while it works": {"cursor", []step{
			{`beforeSubmitPrompt "prompt":"Build"`, "running: Build"},
			{`sessionEnd "reason":"window_close"`, "failed: Session ended: window_close"},
		}},
		"events of an unknown conversation are ignored": {"cursor", []step{
			{`preToolUse "tool_name":"Read","tool_input":{"file_path":"/a"}`, "-"},
			{`afterFileEdit "file_path":"/a"`, ""},
			{`workspaceOpen `, ""},
		}},

		// Copilot
		"a command is allowed, and another one is not asked about": {"copilot", []step{
			{`sessionStart "source":"new"`, "success: Session started"},
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`userPromptTransformed "prompt":"Build"`, ""},
			{`preToolUse "toolName":"bash","toolArgs":{"command":"make","description":"Build"}`, "running: bash: make"},
			{`preToolUse "toolName":"bash","toolArgs":{"command":"ls"}`, "running: bash: ls"},
			{`permissionRequest "hookName":"permissionRequest","toolName":"bash","toolInput":{"command":"ls"}`, ""},
			{`permissionRequest "hookName":"permissionRequest","toolName":"bash","toolInput":{"command":"make"}`, ""},
			{`notification "notification_type":"permission_prompt","message":"Run command: make"`, "pending: Run command: make"},
			{`postToolUse "toolName":"bash","toolArgs":{"command":"ls"}`, ""},
			{`postToolUse "toolName":"bash","toolArgs":{"command":"make","description":"Build"}`, "running: bash: make"},
			{`agentStop "stopReason":"end_turn"`, "success: Done"},
			{`notification "notification_type":"shell_completed","message":"x"`, ""},
			{`notification "notification_type":"agent_idle","message":"x"`, ""},
			{`sessionEnd "reason":"user_exit"`, ""},
		}},
		"a person is asked about something else": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`preToolUse "toolName":"edit","toolArgs":{"path":"/a"}`, "running: edit: /a"},
			{`notification "notification_type":"permission_prompt","message":"Edit file: /a"`, "pending: Edit file: /a"},
			{`postToolUse "toolName":"edit","toolArgs":{"path":"/a"}`, "running: edit: /a"},
		}},
		"a command is denied, which the next prompt shows": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`preToolUse "toolName":"bash","toolArgs":{"command":"make"}`, "running: bash: make"},
			{`notification "notification_type":"permission_prompt","message":"Run command: make"`, "pending: Run command: make"},
			{`userPromptSubmitted "prompt":"Not so"`, "running: Not so"},
		}},
		"a choice is made in a form": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`preToolUse "toolName":"ask_user","toolArgs":{"message":"Which?","requestedSchema":{}}`, "pending: Which?"},
			{`notification "notification_type":"elicitation_dialog","message":"Information requested"`, ""},
			{`postToolUse "toolName":"ask_user","toolArgs":{"message":"Which?","requestedSchema":{}}`, "running: ask_user: Which?"},
		}},
		"a plan is reviewed": {"copilot", []step{
			{`userPromptSubmitted "prompt":"[[PLAN]] I want to create an implementation plan. My request: Build"`, "running: Build"},
			{`preToolUse "toolName":"exit_plan_mode","toolArgs":{"summary":"- do a"}`, "pending: - do a"},
			{`postToolUse "toolName":"exit_plan_mode","toolArgs":{"summary":"- do a"}`, "running: exit_plan_mode"},
		}},
		"a subagent has its own session": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`preToolUse "toolName":"task","toolArgs":{"prompt":"Look"}`, "running: task"},
			{`subagentStart "agentId":"child","parentAgentId":"s"`, ""},
			{`userPromptSubmitted "sessionId":"child","agentId":"child","parentAgentId":"s","prompt":"Look"`, ""},
			{`preToolUse "sessionId":"child","agentId":"child","parentAgentId":"s","toolName":"view","toolArgs":{"path":"/a"}`, ""},
			{`postToolUse "sessionId":"child","agentId":"child","parentAgentId":"s","toolName":"view","toolArgs":{"path":"/a"}`, ""},
			{`agentStop "sessionId":"child","agentId":"child","parentAgentId":"s","stopReason":"end_turn"`, ""},
			{`subagentStop "agentId":"child","parentAgentId":"s","response":"Seen"`, ""},
			{`postToolUse "toolName":"task","toolArgs":{"prompt":"Look"}`, "running: task"},
		}},
		"a background command ends": {"copilot", []step{
			{`agentStop "stopReason":"end_turn"`, "success: Done"},
			{`userPromptSubmitted "prompt":"<system_notification>\nShell command 1 completed.\n</system_notification>"`, "running: Shell command 1 completed."},
			{`agentStop "stopReason":"end_turn"`, "success: Done"},
		}},
		"a recoverable error, and one that is not": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`errorOccurred "error":{"message":"slow"},"errorContext":"model_call","recoverable":true`, ""},
			{`postToolUseFailure "toolName":"bash","toolArgs":{"command":"make"},"error":"no"`, "running: bash: make"},
			{`errorOccurred "error":{"message":"gone"},"errorContext":"model_call","recoverable":false`, "failed: model_call: gone"},
			{`sessionEnd "reason":"error"`, ""},
		}},
		"a run ends as complete": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`notification "notification_type":"permission_prompt","message":"Run command: make"`, "pending: Run command: make"},
			{`sessionEnd "reason":"complete"`, "success: Done"},
			{`sessionEnd "reason":"complete"`, ""},
		}},
		"a run is aborted": {"copilot", []step{{`userPromptSubmitted "prompt":"Build"`, "running: Build"}, {`sessionEnd "reason":"abort"`, "failed: Aborted"}}},
		"a run times out":  {"copilot", []step{{`userPromptSubmitted "prompt":"Build"`, "running: Build"}, {`sessionEnd "reason":"timeout"`, "failed: Timed out"}}},
		"a session is resumed after its process died": {"copilot", []step{
			{`userPromptSubmitted "prompt":"Build"`, "running: Build"},
			{`sessionStart "source":"resume"`, "failed: Interrupted"},
			{`userPromptSubmitted "prompt":"Go on"`, "running: Go on"},
		}},

		// OpenCode
		"a permission is requested and granted": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`session.status "status":{"type":"busy"}`, ""},
			{`tool.execute.before "tool":"bash","callID":"c1","args":{"command":"make"}`, "running: bash: make"},
			{`permission.asked "id":"p1","permission":"external_directory","patterns":["/x"],"tool":{"messageID":"m","callID":"c1"}`, "pending: external_directory: /x"},
			{`permission.replied "requestID":"p1","reply":"once"`, "running: bash: make"},
			{`permission.asked "id":"p2","permission":"bash","patterns":["make"],"tool":{"messageID":"m","callID":"c1"}`, "pending: bash: make"},
			{`tool.execute.after "tool":"read","callID":"c2","args":{"filePath":"/a"}`, ""},
			{`todo.updated "todos":[]`, ""}, {`command.executed "name":"x"`, ""}, {`session.compacted `, ""},
			{`tool.execute.after "tool":"bash","callID":"c1","args":{"command":"make"}`, "running: bash: make"},
			{`session.status "status":{"type":"busy"}`, ""},
			{`session.idle `, "success: Done"},
			{`session.status "status":{"type":"idle"}`, ""},
		}},
		"a permission is denied, and the turn ends": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`permission.asked "id":"p1","permission":"bash","patterns":["make"]`, "pending: bash: make"},
			{`permission.asked "id":"p2","permission":"edit","patterns":["a"]`, "pending: bash: make | edit: a"},
			{`permission.replied "requestID":"p1","reply":"reject"`, "pending: edit: a"},
			{`permission.replied "requestID":"p2","reply":"reject"`, "running: Build"},
			{`session.idle `, "success: Done"},
		}},
		"a permission of the older and of the newer protocol": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`permission.updated "id":"p1","type":"bash","pattern":"rm *","title":"Run rm"`, "pending: bash: rm *"},
			{`permission.replied "permissionID":"p1","response":"always"`, "running: Build"},
			{`permission.v2.asked "id":"p2","action":"bash","resources":["make"],"source":{"type":"tool","callID":"c1"}`, "pending: bash: make"},
			{`permission.v2.replied "requestID":"p2","reply":"once"`, "running: Build"},
		}},
		"a question is answered, and another is dismissed": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`question.asked "id":"q1","questions":[{"question":"Which?","options":[{"label":"A"}]}],"tool":{"callID":"c1"}`, "pending: Which?"},
			{`question.replied "requestID":"q1","answers":[["A"]]`, "running: Build"},
			{`question.v2.asked "id":"q2","questions":[{"question":"Sure?"}]`, "pending: Sure?"},
			{`question.v2.rejected "requestID":"q2"`, "running: Build"},
		}},
		"a turn is aborted in a tool": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`permission.asked "id":"p1","permission":"bash","patterns":["make"],"tool":{"callID":"c1"}`, "pending: bash: make"},
			{`session.error "error":{"name":"MessageAbortedError","data":{"message":"Aborted"}}`, "failed: Interrupted"},
			{`session.idle `, ""},
			{`tool.execute.after "tool":"bash","callID":"c1","args":{"command":"make"}`, ""},
			{`message.updated "info":{"id":"m"}`, ""},
			{`session.idle `, ""},
		}},
		"a turn waits for the model, then fails": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`session.status "status":{"type":"retry","attempt":1,"message":"Overloaded"}`, "running: Overloaded"},
			{`session.error "error":{"name":"ProviderAuthError","data":{"message":"no key"}}`, "failed: ProviderAuthError: no key"},
			{`session.status "status":{"type":"busy"}`, ""},
			{`session.idle `, ""},
			{`session.error "error":{"name":"UnknownError"}`, ""},
		}},
		"a child session asks and works": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`chat.message "childSessionID":"child","prompt":"Look"`, ""},
			{`permission.asked "childSessionID":"child","id":"p1","permission":"bash","patterns":["make"]`, "pending: bash: make"},
			{`tool.execute.before "childSessionID":"child","tool":"bash","args":{"command":"ls"}`, ""},
			{`permission.replied "childSessionID":"child","requestID":"p1","reply":"once"`, "running: Build"},
			{`session.idle "childSessionID":"child"`, ""},
		}},
		"a session at work is deleted": {"opencode", []step{
			{`chat.message "prompt":"Build"`, "running: Build"},
			{`session.deleted "info":{"id":"s"}`, "failed: Session deleted"},
		}},

		// A2A
		"a task asks, and continues": {"a2a", []step{
			{`TASK_STATE_SUBMITTED`, "running: Submitted"},
			{`TASK_STATE_INPUT_REQUIRED "message":{"parts":[{"text":"Which?"}]}`, "pending: Which?"},
			{`TASK_STATE_INPUT_REQUIRED "message":{"parts":[{"text":"Which one?"}]}`, "pending: Which one?"},
			{`TASK_STATE_AUTH_REQUIRED `, "pending: Authorization required"},
			{`TASK_STATE_WORKING "message":{"parts":[{"text":"Reading"}]}`, "running: Reading"},
			{`TASK_STATE_COMPLETED "message":{"parts":[{"text":"Read."}]}`, "success: Read."},
		}},
		"a task that has ended neither asks nor works": {"a2a", []step{
			{`working`, "running: Working"},
			{`completed`, "success: Completed"},
			{`input-required "message":{"parts":[{"text":"Which?"}]}`, ""},
			{`auth-required`, ""},
			{`working`, ""},
			{`failed`, ""},
		}},
		"a task that asks is canceled": {"a2a", []step{
			{`input-required "message":{"parts":[{"text":"Which?"}]}`, "pending: Which?"},
			{`unknown`, ""},
			{`canceled`, "failed: Canceled"},
		}},
	}
}

// TestErrorsOfNoSession checks that an error of the server that belongs to no session is ignored.
func TestErrorsOfNoSession(t *testing.T) {
	_, effect := newHub(t).post("opencode", `{"type":"session.error","properties":{"error":{"name":"APIError"}}}`)
	require.Equal(t, adapters.Ignored, effect)
}

// TestChoices checks that a single question has its choices. If several are asked at once, only the content has them.
func TestChoices(t *testing.T) {
	one := `{"question":"Which branch?","header":"Branch","options":[{"label":"main"},{"label":"next"}]}`
	two := one + `,{"question":"Sure?","header":"Sure","options":[{"label":"yes"}]}`
	for client, event := range map[string]string{
		"claude-code": `{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"AskUserQuestion","tool_input":{"questions":[%s]}}`,
		"codex":       `{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"request_user_input","tool_input":{"questions":[%s]}}`,
		"opencode":    `{"type":"question.asked","properties":{"id":"q","sessionID":"s","questions":[%s]}}`,
	} {
		asks := func(questions string) *models.Question {
			r, _, err := adapters.Named(client).Report(strings.NewReader(fmt.Sprintf(event, questions)), adapters.Options{Capture: adapters.CaptureFull})
			require.NoError(t, err)
			require.NotNil(t, r.Event.Question, client)
			return r.Event.Question
		}
		require.Equal(t, []string{"main", "next"}, asks(one).Choices, client)
		several := asks(two)
		require.Equal(t, "Which branch?", several.Text, client)
		require.Empty(t, several.Choices, client)
		require.Contains(t, several.Content, "Sure?", client)
	}
}
