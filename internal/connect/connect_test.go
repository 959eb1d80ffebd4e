package connect_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/connect"
)

var (
	open    = connect.Server{Address: "http://127.0.0.1:8080"}
	guarded = connect.Server{Address: "https://hub.example.com", Tokens: true}
)

// TestLines checks that the lines to paste are valid for the client, and that they name the server, and the token only
// if one is used.
func TestLines(t *testing.T) {
	for _, c := range connect.Clients {
		for _, s := range []connect.Server{open, guarded} {
			lines := c.Lines(s)
			require.Contains(t, lines, s.Address+"/", c.Name)
			require.Equal(t, s.Tokens, strings.Contains(lines, connect.TokenVariable), c.Name)
			require.True(t, strings.HasSuffix(lines, "}\n"), c.Name)
			if c.Name == "opencode" {
				continue
			}
			var settings map[string]any
			require.NoError(t, json.Unmarshal([]byte(lines), &settings), c.Name)
			require.NotContains(t, lines, `\u`, "people read it")
		}
		if c.Name != "mcp" {
			require.NotNil(t, adapters.Named(c.Name))
			require.Contains(t, c.Lines(open), "/webhook/"+c.Name)
		}
	}
	require.Nil(t, connect.Named("status"))
}

// TestWindowsLines checks the lines for tools on Windows.
func TestWindowsLines(t *testing.T) {
	for _, s := range []connect.Server{open, guarded} {
		posix := s
		s.Windows = true
		for tool, want := range map[string]string{ // of the event SessionStart
			"claude-code": `{"type":"command","command":"kubeagents hook \"ADDRESS/webhook/claude-code\"","timeout":5}`,
			"codex":       `{"type":"command","command":"kubeagents hook \"ADDRESS/webhook/codex\"","timeout":5}`,
			"gemini-cli":  `{"name":"kubeagents","type":"command","command":"kubeagents hook \"ADDRESS/webhook/gemini-cli\"","timeout":5000}`,
			"cursor":      `{"command":"kubeagents hook \"ADDRESS/webhook/cursor\""}`,
			"copilot": `{"type":"command","powershell":"try { kubeagents hook \"ADDRESS/webhook/copilot?event=sessionStart\" } catch { }; exit 0",` +
				`"bash":` + quoted(t, bashOf(t, posix)) + `,"timeoutSec":5}`,
		} {
			c := connect.Named(tool)
			var settings, before struct {
				Hooks map[string][]map[string]any
			}
			require.NoError(t, json.Unmarshal([]byte(c.Lines(s)), &settings))
			require.NoError(t, json.Unmarshal([]byte(c.Lines(posix)), &before))
			require.Len(t, settings.Hooks, len(before.Hooks), "the same events as elsewhere")
			event := map[bool]string{true: "sessionStart", false: "SessionStart"}[tool == "cursor" || tool == "copilot"]
			hook := any(settings.Hooks[event][0])
			if inner, grouped := settings.Hooks[event][0]["hooks"].([]any); grouped {
				hook = inner[0]
			}
			got, err := json.Marshal(hook)
			require.NoError(t, err)
			require.JSONEq(t, strings.ReplaceAll(want, "ADDRESS", s.Address), string(got), tool)
		}
		for _, tool := range []string{"opencode", "mcp"} {
			require.Equal(t, connect.Named(tool).Lines(posix), connect.Named(tool).Lines(s), "%s runs no command", tool)
		}
	}
}

// bashOf returns the command for a POSIX shell in Copilot's lines, for the event that begins a session.
func bashOf(t *testing.T, s connect.Server) string {
	var settings struct {
		Hooks map[string][]struct{ Bash string }
	}
	require.NoError(t, json.Unmarshal([]byte(connect.Named("copilot").Lines(s)), &settings))
	return settings.Hooks["sessionStart"][0].Bash
}

func quoted(t *testing.T, text string) string {
	encoded, err := json.Marshal(text)
	require.NoError(t, err)
	return string(encoded)
}

// TestEventsAreKnown checks that the server knows every event that the lines make a client post.
func TestEventsAreKnown(t *testing.T) {
	for _, c := range connect.Clients {
		if c.Name == "mcp" || c.Name == "opencode" {
			continue
		}
		var settings struct{ Hooks map[string]any }
		require.NoError(t, json.Unmarshal([]byte(c.Lines(open)), &settings))
		require.NotEmpty(t, settings.Hooks, c.Name)
		for event := range settings.Hooks {
			require.True(t, adapters.Named(c.Name).Knows(event), "the table of %s in internal/adapters has no event %s", c.Name, event)
		}
		require.False(t, adapters.Named(c.Name).Knows("of another tool"))
	}
}

// TestSince checks that the oldest version that understands the lines is stated for each tool.
func TestSince(t *testing.T) {
	for _, c := range connect.Clients {
		if c.Name != "mcp" {
			require.Regexp(t, `^[0-9]+\.[0-9]+(\.[0-9]+)?$`, c.Since, c.Name)
		}
	}
	require.Contains(t, connect.Named("opencode").Lines(open), "For OpenCode "+connect.Named("opencode").Since+" or later.")
}

// sorted returns a URL with its query parameters sorted by name.
func sorted(t testing.TB, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	parsed.RawQuery = parsed.Query().Encode()
	return parsed.String()
}

// TestPlugin runs OpenCode's plugin in Node.js and checks what it posts.
func TestPlugin(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("Node.js is not installed: install it, and run go test ./internal/connect")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeagents.mjs"), []byte(connect.Named("opencode").Lines(guarded)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.mjs"), []byte(`
process.env.KUBEAGENTS_TOKEN = "ka_x"
process.env.KUBEAGENTS_AGENT_ID = "ci/代理"
let delay = 60 // the first post takes the longest, and must still arrive first
globalThis.fetch = async (url, o) => {
  await new Promise((done) => setTimeout(done, delay))
  delay = delay / 2
  console.log(JSON.stringify([url, o.headers, JSON.parse(o.body)]))
}
const { KubeAgents } = await import("./kubeagents.mjs")
const hooks = await KubeAgents({ directory: "/w/shop" })
const emit = (type, properties) => { hooks.event({ event: { type, properties } }) } // OpenCode does not wait for it
emit("session.created", { info: { id: "s", title: "New session - x" } })
await hooks["chat.message"]({ sessionID: "s" }, { parts: [{ type: "text", text: "Go" }, { type: "text", text: "hidden", synthetic: true }] })
emit("message.part.updated", { part: { sessionID: "s" } })
emit("session.created", { info: { id: "child", parentID: "s", title: "Child session - x" } })
await hooks["tool.execute.before"]({ tool: "bash", sessionID: "child", callID: "call1" }, { args: { command: "ls" } })
emit("session.created", { info: { id: "grandchild", parentID: "child", title: "Child session - y" } })
emit("permission.asked", { id: "per_1", sessionID: "grandchild", permission: "bash", patterns: ["ls"], tool: { callID: "call2" } })
emit("session.idle", { sessionID: "child" })
emit("session.idle", { sessionID: "s" })
await hooks.dispose()
process.exit() // as OpenCode does: anything not posted by now is lost
`), 0o600))
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "run.mjs")).Output()
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, string(out), `"callID":"call1"`)
	require.Contains(t, string(out), `{"id":"per_1","sessionID":"s","permission":"bash","patterns":["ls"],"tool":{"callID":"call2"},"childSessionID":"grandchild"}`)
	var got []string
	for line := range strings.Lines(string(out)) {
		var post []json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(line), &post))
		var address string
		require.NoError(t, json.Unmarshal(post[0], &address))
		require.Equal(t, "https://hub.example.com/webhook/opencode?"+url.Values{"agent_id": {"ci/代理"}, "agent_host": {host}}.Encode(), sorted(t, address))
		require.Contains(t, string(post[1]), `"Authorization":"Bearer ka_x"`)
		r, effect, err := adapters.Named("opencode").Report(bytes.NewReader(post[2]), adapters.Options{Capture: adapters.CaptureFull})
		require.NoError(t, err)
		require.NotEqual(t, adapters.Unknown, effect)
		require.Equal(t, "opencode:shop", r.AgentID)
		asks := ""
		if r.Event.Question != nil {
			asks = r.Event.Question.Kind.String() + " of " + r.Event.Subagent
		}
		got = append(got, strings.Join([]string{r.SessionTopic, r.Status.String(), r.Message, asks}, "|"))
	}
	require.Equal(t, []string{"s|success|Session started|", "s|running|Go|", "s|running|bash: ls|", "s|running|bash: ls|permission of grandchild", "s|success|Done|"}, got)
}

// TestOverview checks that the overview names each tool, its oldest version, where its lines go and how to get them,
// and the token if one is required.
func TestOverview(t *testing.T) {
	open := connect.Overview(connect.Server{Address: "https://hub.example"}, nil)
	require.True(t, strings.HasPrefix(open, "Run this command on the machine where your agents run, and their runs show up at https://hub.example:\n\n  kubeagents connect -server https://hub.example\n\n"), open)
	require.NotContains(t, open, connect.TokenVariable)
	require.Contains(t, open, "Or paste the lines of each tool that you use into its settings yourself.\nIf a settings file is there already, add to the entries that are there: keep its other settings and hooks, and where it\nhas hooks for an event, append to that event's array.\nThe hooks need sh and curl 7.55 or later.\n")
	for _, c := range connect.Clients {
		title := "\n" + c.Title
		if c.Since != "" {
			title += " " + c.Since + " or later"
		}
		require.Contains(t, open, title+"\n  curl -fsS https://hub.example/connect/"+c.Name+"\n")
		for _, path := range c.Paths {
			require.Contains(t, open, "  for "+path.Of+": "+path.Path+"\n")
		}
		require.Contains(t, open, c.Note)
	}
	guarded := connect.Overview(connect.Server{Address: "https://hub.example", Tokens: true}, nil)
	require.Contains(t, guarded, `Put a token with the scope "report" into the environment variable `+connect.TokenVariable+" of your agents.\n")
	signed := connect.Overview(connect.Server{Address: "https://hub.example", Signed: true}, nil)
	require.Contains(t, signed, "This server accepts only webhooks that are signed")
	require.Contains(t, signed, "https://hub.example/webhook/status, or ask whoever runs the server for a token, which needs TOKENS_FILE.\n")
	require.NotContains(t, open+guarded, "signed")
}

// TestOverviewOfActivity checks how the overview says which tools have reported: only to those who may know.
func TestOverviewOfActivity(t *testing.T) {
	server := connect.Server{Address: "https://hub.example"}
	require.NotContains(t, connect.Overview(server, nil), "eported")
	require.Contains(t, connect.Overview(server, &connect.Activity{}), "\nNone of these tools has reported yet.\n\nOr paste")
	require.Contains(t, connect.Overview(server, &connect.Activity{Limited: true}), "\nNone of the agents that you may see has reported from one of these tools yet.\n\nOr paste")
	tools := []connect.ToolActivity{{"Claude Code", 3, 125 * time.Second}, {"Codex", 1, 59 * time.Second}, {"Cursor", 2, 2*time.Hour - 1}, {"OpenCode", 2, 60 * time.Hour}}
	require.Contains(t, connect.Overview(server, &connect.Activity{Limited: true, Tools: tools}), "\nAlready reporting, among the agents that you may see:\n"+
		"  Claude Code: 3 agents, last report 2 minutes ago\n  Codex: 1 agent, last report just now\n"+
		"  Cursor: 2 agents, last report 1 hour ago\n  OpenCode: 2 agents, last report 2 days ago\n\nOr paste")
	require.NotContains(t, connect.Overview(connect.Server{Address: "https://hub.example", Signed: true}, &connect.Activity{Tools: tools}), "Already reporting")
}
