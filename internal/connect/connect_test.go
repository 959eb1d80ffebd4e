package connect_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/connect"
)

var (
	open    = connect.Server{Address: "http://127.0.0.1:8080"}
	guarded = connect.Server{Address: "https://hub.example.com", Tokens: true}
)

// TestLines holds that what is to be pasted is as the client wants it, names the server, and a token only where one is used.
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
			require.NotContains(t, lines, `\u`, "it is to be read by people")
		}
		if c.Name != "mcp" {
			require.NotNil(t, adapters.Named(c.Name))
			require.Contains(t, c.Lines(open), "/webhook/"+c.Name)
		}
	}
	require.Nil(t, connect.Named("status"))
}

// TestEventsAreKnown holds that the server knows what each event means that a client is told to post.
func TestEventsAreKnown(t *testing.T) {
	for _, c := range connect.Clients {
		if c.Name == "mcp" || c.Name == "opencode" {
			continue
		}
		var settings struct{ Hooks map[string]any }
		require.NoError(t, json.Unmarshal([]byte(c.Lines(open)), &settings))
		require.Greater(t, len(settings.Hooks), 7)
		for event := range settings.Hooks {
			_, effect, err := adapters.Named(c.Name).Report(strings.NewReader(`{"session_id":"s","sessionId":"s","conversation_id":"s"}`), adapters.Options{Event: event})
			require.NoError(t, err)
			require.NotEqual(t, adapters.Unknown, effect, "%s: %s", c.Name, event)
		}
	}
}

// TestCommandsSayNothing runs a command that a client would run, with no server there.
func TestCommandsSayNothing(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it, and run go test ./internal/connect")
	}
	var settings struct {
		Hooks map[string][]struct {
			Hooks []struct{ Command string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(connect.Named("codex").Lines(connect.Server{Address: "http://127.0.0.1:1", Tokens: true})), &settings))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", settings.Hooks["Stop"][0].Hooks[0].Command)
	cmd.Stdin = strings.NewReader(`{"hook_event_name":"Stop"}`)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, out)
}

// TestPlugin has Node run OpenCode's plugin, and holds what it posts.
func TestPlugin(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("there is no Node.js: install it, and run go test ./internal/connect")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeagents.mjs"), []byte(connect.Named("opencode").Lines(guarded)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.mjs"), []byte(`
process.env.KUBEAGENTS_TOKEN = "ka_x"
globalThis.fetch = async (url, o) => { console.log(JSON.stringify([url, o.headers, JSON.parse(o.body)])) }
const { KubeAgents } = await import("./kubeagents.mjs")
const hooks = await KubeAgents({ directory: "/w/shop" })
const tell = (type, properties) => hooks.event({ event: { type, properties } })
await tell("session.created", { info: { id: "s", title: "New session - x" } })
await hooks["chat.message"]({ sessionID: "s" }, { parts: [{ type: "text", text: "Go" }, { type: "text", text: "hidden", synthetic: true }] })
await tell("message.part.updated", { part: { sessionID: "s" } })
await tell("session.created", { info: { id: "child", parentID: "s", title: "Child session - x" } })
await hooks["tool.execute.before"]({ tool: "bash", sessionID: "child" }, { args: { command: "ls" } })
await tell("permission.asked", { sessionID: "child", permission: "bash", patterns: ["ls"] })
await tell("session.idle", { sessionID: "child" })
await tell("session.idle", { sessionID: "s" })
`), 0o600))
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "run.mjs")).Output()
	require.NoError(t, err)
	var got []string
	for line := range strings.Lines(string(out)) {
		var post []json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(line), &post))
		require.Equal(t, `"https://hub.example.com/webhook/opencode"`, string(post[0]))
		require.Contains(t, string(post[1]), `"Authorization":"Bearer ka_x"`)
		r, effect, err := adapters.Named("opencode").Report(bytes.NewReader(post[2]), adapters.Options{Capture: adapters.CaptureFull})
		require.NoError(t, err)
		require.NotEqual(t, adapters.Unknown, effect)
		require.Equal(t, "opencode:shop", r.AgentID)
		got = append(got, strings.Join([]string{r.SessionTopic, r.Status.String(), r.Message}, "|"))
	}
	require.Equal(t, []string{"s|success|Session started", "s|running|Go", "s|running|bash: ls", "s|pending|bash: ls", "s|success|Done"}, got)
}
