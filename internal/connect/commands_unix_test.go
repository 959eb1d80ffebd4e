//go:build unix

package connect_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
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

	"github.com/kubeagents/kubeagents/internal/connect"
)

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
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	syscall.CloseOnExec(ends[0])
	syscall.CloseOnExec(ends[1])
	reader, writer := os.NewFile(uintptr(ends[0]), "reader"), os.NewFile(uintptr(ends[1]), "writer")
	t.Cleanup(func() { reader.Close() }) //nolint:errcheck // only read from
	go func() {
		io.WriteString(writer, text) //nolint:errcheck // the command may not read it
		writer.Close()               //nolint:errcheck // see above
	}()
	return reader
}

// TestWindowsCommands runs the commands for Windows in every shell here, of which one may be Git Bash there, and checks
// that each passes its address and its standard input to the program.
func TestWindowsCommands(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeagents"), []byte("#!/bin/sh\n{ printf '%s|' \"$@\"; cat; } >\"$OUT\"\n"), 0o700)) //nolint:gosec // a program
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out := filepath.Join(dir, "out")
	for _, shell := range shells(t) {
		for _, tool := range []string{"claude-code", "codex", "gemini-cli", "cursor"} {
			commands := commandsOf(t, *connect.Named(tool), connect.Server{Address: "https://hub.example.com/team", Windows: true})
			require.Len(t, commands, 1)
			runCommand(t, shell, commands[0], `{"x":1}`, "OUT="+out)
			got, err := os.ReadFile(out) //nolint:gosec // a test file
			require.NoError(t, err)
			require.Equal(t, "hook|https://hub.example.com/team/webhook/"+tool+`|{"x":1}`, string(got), "%s: %s", shell, tool)
		}
	}
}

// TestCommandsPrintNothing runs every command that a client would run, in every shell, without a server and without any
// variables set.
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

// TestCommandsPost checks that a command posts its standard input unchanged, and names the agent and the machine in
// headers.
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
