package adapters_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
)

// TestUnexpandedVariables checks that unexpanded variables count as absent in every setting.
func TestUnexpandedVariables(t *testing.T) {
	report := func(o adapters.Options) models.StatusReport {
		o.Now = epoch
		r, _, err := adapters.Named("claude-code").Report(strings.NewReader(`{"hook_event_name":"Stop","session_id":"s","cwd":"/home/dev/payments"}`), o)
		require.NoError(t, err)
		require.NoError(t, r.Validate(epoch))
		return r
	}
	for _, variable := range []string{"$X", "$_x9", "$KUBEAGENTS_AGENT_ID", "${X}", "${X:-laptop}", "${env:X}", "${}", "$(hostname)", "$(hostname -s)", "%X%", "%COMPUTERNAME%", "$env:COMPUTERNAME", " $X ", "$X\n"} {
		r := report(adapters.Options{AgentID: variable, AgentName: variable, AgentHost: variable})
		require.Equal(t, "claude-code:payments", r.AgentID, variable)
		require.Equal(t, "payments", r.AgentName, variable)
		require.Empty(t, r.AgentHost, variable)
		require.True(t, r.Event.FindByToolID && r.Event.FirstName, variable)
	}
	for _, name := range []string{"$", "$1", "$X$Y", "a$X", "$X-laptop", "$ X", "100%", "%X", "X%", "%%", "% X %", "{X}", "$100 agent", "$(", "${X"} {
		r := report(adapters.Options{AgentID: name, AgentName: name, AgentHost: name})
		require.Equal(t, []string{name, name, name}, []string{r.AgentID, r.AgentName, r.AgentHost}, "it is a name")
		require.False(t, r.Event.FindByToolID || r.Event.FirstName)
	}
}

// TestGeneratedAgentIDs checks the IDs of agents that the settings do not name, and that they are not too long.
func TestGeneratedAgentIDs(t *testing.T) {
	long := strings.Repeat("é", 300)
	for _, test := range []struct{ client, folder, host, want string }{
		{"claude-code", "/home/dev/payments", "", "claude-code:payments"},
		{"claude-code", "/home/dev/payments", "laptop", "claude-code:payments@laptop"},
		{"codex", "/home/dev/payments", " laptop\n", "codex:payments@laptop"},
		{"gemini-cli", "", "laptop", "gemini-cli@laptop"},
		{"gemini-cli", "/", "", "gemini-cli"},
		{"claude-code", `C:\Users\dev\payments`, "LAPTOP", "claude-code:payments@LAPTOP"},
		{"claude-code", "/home/dev/a@b", "c@d", "claude-code:a@b@c@d"},
		{"claude-code", "/home/dev/payments", ".", "claude-code:payments"},
		{"claude-code", "/home/dev/pay\u202estnem", "lap\u200btop", "claude-code:pay\ufffdstnem@lap\ufffdtop"},
		{"claude-code", "/home/dev/\ufeffکتاب\u200cها 👩🏽\u200d💻", "", "claude-code:\ufffdکتاب\u200cها 👩🏽\u200d💻"},
		{"claude-code", "/" + strings.Repeat("ه\u200c", 60) + "ه", "", "claude-code:" + strings.Repeat("ه\u200c", 43) + "ه…"},
		{"claude-code", "/a" + strings.Repeat("ه\u200c", 60) + "ه", "", "claude-code:a" + strings.Repeat("ه\u200c", 42) + "ه\ufffd…"},
		{"claude-code", "/" + long, "", "claude-code:" + strings.Repeat("é", 87) + "…"},
		{"claude-code", "/" + long, "laptop", "claude-code:" + strings.Repeat("é", 80) + "…@laptop"},
		{"claude-code", "/payments", long, "claude-code:payments@" + strings.Repeat("é", 49) + "…"},
		{"claude-code", "/" + long, long, "claude-code:" + strings.Repeat("é", 36) + "…@" + strings.Repeat("é", 49) + "…"},
	} {
		body := fmt.Sprintf(`{"hook_event_name":"Stop","session_id":"s","cwd":%q}`, test.folder)
		r, _, err := adapters.Named(test.client).Report(strings.NewReader(body), adapters.Options{AgentHost: test.host, Now: epoch})
		require.NoError(t, err)
		require.NoError(t, r.Validate(epoch))
		require.Equal(t, test.want, r.AgentID)
		require.LessOrEqual(t, utf8.RuneCountInString(r.AgentID), models.MaxAgentID)
	}
}

// TestSessionsAreFoundByID checks that a session is found by its own ID, except for A2A, whose IDs are not unique, and
// if the agent is named.
func TestSessionsAreFoundByID(t *testing.T) {
	for _, client := range adapters.Names() {
		require.Contains(t, commonMembers, client, "add the members common to its events to commonMembers in stories_test.go")
		require.Contains(t, nameOf, client, "add the name of one of its events to nameOf")
		for _, agent := range []string{"", "mine"} {
			r, _, err := adapters.Named(client).Report(strings.NewReader(event(client, nameOf[client])), adapters.Options{AgentID: agent, Now: epoch})
			require.NoError(t, err)
			require.Equal(t, agent == "" && client != "a2a", r.Event.FindByToolID, client)
			require.Equal(t, agent == "" && client == "cursor", r.Event.FallBackToRunning, client)
		}
	}
}

// nameOf is the name of an event of each client.
var nameOf = map[string]string{"claude-code": "Stop", "codex": "Stop", "gemini-cli": "AfterAgent", "cursor": "preToolUse", "copilot": "agentStop",
	"opencode": "session.idle", "a2a": "completed"}

// TestSubagentsElsewhere checks that a Cursor subagent, which has its own conversation, renews its agent's session, and
// that a Claude Code subagent may work in a worktree.
func TestSubagentsElsewhere(t *testing.T) {
	h := newHub(t)
	h.post("cursor", event("cursor", `beforeSubmitPrompt "prompt":"Build"`))
	child := strings.ReplaceAll(event("cursor", `preToolUse "tool_name":"Shell","tool_input":{"command":"make"}`), `"s"`, `"child"`)
	h.post("cursor", child)
	require.Equal(t, "running: Build", h.state(nil))
	se, _, _ := h.store.Session("cursor:payments", "s", nil, 1)
	require.Equal(t, h.now, se.LastUpdated)
	h.post("cursor", event("cursor", `stop "status":"completed"`))
	h.post("cursor", child)
	require.Equal(t, "success: Done", h.state(nil))

	h = newHub(t)
	h.post("claude-code", event("claude-code", `UserPromptSubmit "prompt":"Build"`))
	h.post("claude-code", strings.ReplaceAll(event("claude-code", `PreToolUse "tool_name":"Bash","tool_input":{"command":"ls"}`), "payments", "payments/.claude/worktrees/a"))
	require.Equal(t, "running: Bash: ls", h.state(nil))
	_, ok := h.store.Agent("claude-code:payments")
	require.True(t, ok)
}

// TestTextThatToolsInsertIntoPrompts checks the message and the title of prompts that contain text inserted by tools.
func TestTextThatToolsInsertIntoPrompts(t *testing.T) {
	for name, test := range map[string]struct{ prompt, message, title string }{
		"a person typed it":              {"Build it", "Build it", "Build it"},
		"an editor inserted a selection": {"<ide_selection>The user selected x</ide_selection>\nBuild it", "Build it", "Build it"},
		"a reminder follows":             {"Build it <system-reminder>\nBe kind\n</system-reminder>", "Build it", "Build it"},
		"a person typed an element":      {"Why does <div> overflow?", "Why does <div> overflow?", "Why does <div> overflow?"},
		"a background task ended":        {"<task-notification>\n<task-id>1</task-id><summary>Tests passed</summary></task-notification>", "Tests passed", ""},
		"a teammate wrote":               {`<teammate-message from="ann">Look here</teammate-message>`, "Look here", ""},
		"a command of the tool":          {"<command-name>/review</command-name>\n<command-message>review</command-message>\n<command-args>main</command-args>", "/review main", ""},
		"a shell command's output":       {"<bash-stdout>ok</bash-stdout>", "ok", ""},
		"nothing but a reminder":         {"<system-reminder>Be kind</system-reminder>", "Be kind", ""},
		"Copilot's plan mode":            {"[[PLAN]] I want to create an implementation plan. My request: Build it", "Build it", "Build it"},
		"a Copilot command ended":        {"<system_notification>\nShell command 1 completed.\n</system_notification>", "Shell command 1 completed.", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			r, _ := h.post("claude-code", event("claude-code", "UserPromptSubmit "+fmt.Sprintf(`"prompt":%q`, test.prompt)))
			se, _, ok := h.store.Session(r.AgentID, "s", nil, 1)
			require.True(t, ok)
			require.Equal(t, test.message, se.CurrentMessage)
			require.Equal(t, test.title, se.Title)
			require.Equal(t, models.Running, se.CurrentStatus)
		})
	}
}
