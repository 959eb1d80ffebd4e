//go:build unix

package command_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
)

// TestHook posts events as tools on Windows do, with and without a server, and checks what the server gets. Nothing is
// printed, and nothing fails.
func TestHook(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	type post struct{ target, body, token, agent, host string }
	var got []post
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		got = append(got, post{r.URL.String(), string(body), r.Header.Get("Authorization"), r.Header.Get("X-Agent-Id"), r.Header.Get("X-Agent-Host")})
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	large := `{"x":"` + strings.Repeat("é\"'$(x)", 100_000) + `"}`
	for name, test := range map[string]struct {
		target, stdin string
		environment   map[string]string
		want          []post
	}{
		"an event": {"/webhook/copilot?event=agentStop", `{"a":1}`, nil, []post{{"/webhook/copilot?event=agentStop", `{"a":1}`, "", "", host}}},
		"with a token and an agent": {"/webhook/codex", large, map[string]string{"KUBEAGENTS_TOKEN": "ka_x", "KUBEAGENTS_AGENT_ID": "ci/代理"},
			[]post{{"/webhook/codex", large, "Bearer ka_x", "ci/代理", host}}},
		"after a byte order mark":          {"/webhook/cursor", "\xef\xbb\xbf{}", nil, []post{{"/webhook/cursor", "{}", "", "", host}}},
		"after what was such a mark":       {"/webhook/cursor", "n++{}", nil, []post{{"/webhook/cursor", "{}", "", "", host}}},
		"what is not JSON stays as it is":  {"/webhook/codex", "not at all {}", nil, []post{{"/webhook/codex", "not at all {}", "", "", host}}},
		"a header that can't be sent":      {"/webhook/codex", "{}", map[string]string{"KUBEAGENTS_AGENT_ID": "a\nb"}, nil},
		"an address that is none":          {":/%zz", "{}", nil, nil},
		"no event":                         {"/webhook/codex", "", nil, []post{{"/webhook/codex", "", "", "", host}}},
		"a server that is not there":       {"gone", "{}", nil, nil},
		"an address of an unknown scheme ": {"gopher", "{}", nil, nil},
	} {
		got = nil
		address := server.URL + test.target
		switch test.target {
		case "gone":
			address = "http://127.0.0.1:1/webhook/codex"
		case "gopher":
			address = "gopher://127.0.0.1/webhook/codex"
		}
		var stdout, stderr bytes.Buffer
		p := command.Program{Environment: test.environment, Stdin: strings.NewReader(test.stdin), Stdout: &stdout, Stderr: &stderr}
		require.Equal(t, command.ExitOK, p.Run(t.Context(), []string{"hook", address}), name)
		require.Equal(t, test.want, got, name)
		require.Empty(t, stdout.String()+stderr.String(), name)
	}
	server.Close()
	require.Equal(t, command.ExitOK, command.Program{}.Run(t.Context(), []string{"hook", server.URL}), "without standard input")
}

// TestHookWithEndlessInput runs the hook of a tool that never ends its event, and of one whose event can't be read. It
// succeeds all the same, and within a few seconds.
func TestHookWithEndlessInput(t *testing.T) {
	for name, begin := range map[string]string{"nothing is written": "", "an event is written": `{"a":1}`} {
		synctest.Test(t, func(t *testing.T) {
			stdin, tool := io.Pipe()
			go io.WriteString(tool, begin) //nolint:errcheck // it ends with the pipe
			began := time.Now()
			p := command.Program{Stdin: stdin, Stdout: io.Discard, Stderr: io.Discard}
			require.Equal(t, command.ExitOK, p.Run(t.Context(), []string{"hook", "http://127.0.0.1:1/webhook/codex"}), name)
			require.Equal(t, 3*time.Second, time.Since(began), name)
			require.NoError(t, stdin.Close())
		})
	}
	p := command.Program{Stdin: iotest.ErrReader(io.ErrUnexpectedEOF), Stdout: io.Discard, Stderr: io.Discard}
	require.Equal(t, command.ExitOK, p.Run(t.Context(), []string{"hook", "http://127.0.0.1:1/webhook/codex"}))
}

// TestConnectOnWindows shows what connecting would do on Windows: the hooks run this program, which must be found.
func TestConnectOnWindows(t *testing.T) {
	d := newDesk(t, true)
	d.os, d.more = "windows", map[string]string{"USERPROFILE": "C:/Users/me"}
	r := d.run("connect", "-dry-run", "codex")
	require.Equal(t, command.ExitFailure, r.status)
	require.Equal(t, "kubeagents: connect: kubeagents.exe is not in a folder of PATH, and on Windows, the hooks of Codex run it: "+
		"move it into such a folder, or add its folder to PATH, and open a new terminal\n", r.stderr)
	r = d.run("connect", "-dry-run", "opencode")
	require.Equal(t, command.ExitOK, r.status, "a plugin runs no program: %s", r.stderr)

	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("PATH"), "kubeagents"), nil, 0o700)) //nolint:gosec // a program
	for _, tool := range []string{"claude-code", "codex", "gemini-cli", "cursor", "copilot"} {
		r = d.run("connect", "-dry-run", tool)
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.Contains(t, r.stdout, `kubeagents hook \"`+d.server+"/webhook/"+tool, tool)
		require.Equal(t, tool == "copilot", strings.Contains(r.stdout, "curl"), tool)
	}
	d.more = map[string]string{"HOME": "/home/me"}
	r = d.run("connect", "-dry-run", "codex")
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, "USERPROFILE is not set: set it to your home directory")
}
