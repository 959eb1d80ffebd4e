package connect_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/connect"
)

var (
	open    = connect.Server{Address: "http://127.0.0.1:8080"}
	guarded = connect.Server{Address: "https://hub.example.com", Tokens: true}
)

// TestLines checks that the lines to paste are valid for the client, and that they name the server, and the token only if one is used.
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

// TestEventsAreKnown checks that the server knows every event that the lines make a client post.
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

// commandsOf returns the distinct shell commands in a client's lines.
func commandsOf(t *testing.T, c connect.Client, s connect.Server) []string {
	t.Helper()
	var settings any
	require.NoError(t, json.Unmarshal([]byte(c.Lines(s)), &settings))
	commands := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				if command, ok := member.(string); ok && (name == "command" || name == "bash") && command != "command" {
					commands[command] = true
				}
				walk(member)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	walk(settings)
	return slices.Collect(maps.Keys(commands))
}

// shells returns the shells on this machine that a tool may run its hooks in, or that its sh may be.
func shells(t *testing.T) (found [][]string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: install it, and run go test ./internal/connect")
	}
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash"}, {"zsh"}, {"fish"}, {"busybox", "sh"}} {
		if _, err := exec.LookPath(shell[0]); err == nil {
			found = append(found, append(shell, "-c"))
		}
	}
	return found
}

// runCommand runs a command as a tool does, with only these variables, and checks that it prints nothing and succeeds.
func runCommand(t *testing.T, shell []string, command, event string, variables ...string) {
	t.Helper()
	if shell[0] != "fish" {
		command = strings.Replace(command, "sh -c", strings.Join(shell, " "), 1)
	}
	cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], command)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, variables...)
	cmd.Stdin = socketOf(t, event)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", shell, out)
	require.Empty(t, string(out), "%s", shell)
}

// socketOf returns one end of a socket from which text can be read, like the standard input of Node's child processes.
func socketOf(t *testing.T, text string) *os.File {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	reader, writer := os.NewFile(uintptr(ends[0]), "reader"), os.NewFile(uintptr(ends[1]), "writer")
	t.Cleanup(func() { reader.Close() }) //nolint:errcheck // only read from
	go func() {
		io.WriteString(writer, text) //nolint:errcheck // the command may not read it
		writer.Close()               //nolint:errcheck // see above
	}()
	return reader
}

// TestCommandsPrintNothing runs every command that a client would run, in every shell, without a server and without any variables set.
func TestCommandsPrintNothing(t *testing.T) {
	for _, shell := range shells(t) {
		for _, c := range connect.Clients {
			if c.Name == "mcp" || c.Name == "opencode" {
				continue
			}
			for _, command := range commandsOf(t, c, connect.Server{Address: "http://127.0.0.1:1", Tokens: true}) {
				runCommand(t, shell, command, `{"hook_event_name":"Stop"}`)
			}
		}
	}
}

// TestCommandsPost checks that a command posts its standard input unchanged, and names the agent and the machine in headers.
func TestCommandsPost(t *testing.T) {
	event := `{"hook_event_name":"Stop","x":"` + strings.Repeat("é\\n\"'$(x)", 300_000) + "\"}\n"
	host, err := os.Hostname()
	require.NoError(t, err)
	type post struct {
		header http.Header
		body   string
		path   string
	}
	posts := make(chan post, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		posts <- post{r.Header, string(body), r.URL.String()}
	}))
	defer server.Close()
	for _, shell := range shells(t) {
		for _, tokens := range []bool{true, false} {
			command := commandsOf(t, *connect.Named("codex"), connect.Server{Address: server.URL, Tokens: tokens})[0]
			runCommand(t, shell, command, event, "KUBEAGENTS_TOKEN=ka_x", "KUBEAGENTS_AGENT_ID=mine")
			got := <-posts
			require.True(t, event == got.body, "%s: %d bytes of %d", shell, len(got.body), len(event))
			require.Equal(t, "/webhook/codex", got.path)
			require.Equal(t, []string{host}, got.header["X-Agent-Host"])
			require.Equal(t, []string{"mine"}, got.header["X-Agent-Id"])
			require.Equal(t, tokens, got.header.Get("Authorization") == "Bearer ka_x")
			runCommand(t, shell, command, "{}")
			require.NotContains(t, (<-posts).header, "X-Agent-Id", "the variable is not set")
		}
	}
}

// TestCommandsHideTheToken checks that no process has the token in its arguments while a command posts.
func TestCommandsHideTheToken(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("this system has no /proc: run go test ./internal/connect on Linux")
	}
	const token = "ka_seen_by_nobody"
	arguments := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		var all strings.Builder
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			line, _ := os.ReadFile(file) // unless the process has ended
			all.Write(line)
		}
		arguments <- all.String()
	}))
	defer server.Close()
	command := commandsOf(t, *connect.Named("claude-code"), connect.Server{Address: server.URL, Tokens: true})[0]
	for _, shell := range shells(t) {
		runCommand(t, shell, command, "{}", "KUBEAGENTS_TOKEN="+token)
		got := <-arguments
		require.Contains(t, got, server.URL, "the command must be among the processes")
		require.NotContains(t, got, token)
	}
}

// TestCommandsEnd checks that a server that never answers delays the tool by at most 3 seconds.
func TestCommandsEnd(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	began := time.Now()
	runCommand(t, shells(t)[0], commandsOf(t, *connect.Named("claude-code"), connect.Server{Address: server.URL})[0], "{}")
	require.Less(t, time.Since(began), 4*time.Second)
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

// TestOverview checks that the overview names each tool, its oldest version, where its lines go and how to get them, and the token if
// one is required.
func TestOverview(t *testing.T) {
	open := connect.Overview(connect.Server{Address: "https://hub.example"})
	require.True(t, strings.HasPrefix(open, "Paste the lines of each tool that you use into its settings, and its runs show up at https://hub.example.\n"), open)
	require.NotContains(t, open, connect.TokenVariable)
	require.Contains(t, open, "The commands need sh and curl 7.55 or later.\n")
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
	guarded := connect.Overview(connect.Server{Address: "https://hub.example", Tokens: true})
	require.Contains(t, guarded, `Put a token with the scope "report" into the environment variable `+connect.TokenVariable+" of your agents.\n")
}
