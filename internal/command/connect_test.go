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

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/connect"
)

// desk is a home directory and a server, for the commands that connect tools.
type desk struct {
	t      *testing.T
	home   string
	server string
	stdin  io.Reader
	more   map[string]string // variables of the environment
	os     string            // the operating system, "" for this one
}

// newDesk returns a desk whose server requires a token, or none.
func newDesk(t *testing.T, tokens bool) *desk {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, connect.Named("codex").Lines(connect.Server{Address: "http://" + r.Host, Tokens: tokens})) //nolint:errcheck // a test
	}))
	t.Cleanup(server.Close)
	t.Setenv("PATH", t.TempDir()) // no tool is installed
	return &desk{t: t, home: t.TempDir(), server: server.URL}
}

func (d *desk) run(args ...string) result {
	d.t.Helper()
	var stdout, stderr bytes.Buffer
	environment := map[string]string{"HOME": d.home, "KUBEAGENTS_SERVER": d.server}
	for name, value := range d.more {
		environment[name] = value
	}
	p := command.Program{Environment: environment, Stdin: d.stdin, Stdout: &stdout, Stderr: &stderr, OS: d.os}
	status := p.Run(d.t.Context(), args)
	return result{status: status, stdout: stdout.String(), stderr: stderr.String()}
}

// files returns the paths of the files in the home directory.
func (d *desk) files() (paths []string) {
	d.t.Helper()
	require.NoError(d.t, filepath.WalkDir(d.home, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, d.home+"/"))
		}
		return err
	}))
	return paths
}

// asked is how a command asks whether it may change one file.
const asked = "Change 1 file? [y/N, or d to see every line] "

// TestConnectAsks checks that nothing is changed without consent, and what is shown before.
func TestConnectAsks(t *testing.T) {
	d := newDesk(t, false)
	terminal, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer terminal.Close() //nolint:errcheck // only read from
	for _, stdin := range []io.Reader{nil, terminal} {
		d.stdin = stdin
		r := d.run("connect", "codex")
		require.Equal(t, command.ExitUsage, r.status)
		require.Contains(t, r.stderr, "nothing was changed: standard input is not a terminal, so nobody can be asked; pass -yes to make these changes, or -dry-run to only see them")
		require.Empty(t, d.files())
	}
	for _, answer := range []string{"n\n", "\n", "", "yesterday\n"} {
		d.stdin = strings.NewReader(answer)
		r := d.run("connect", "codex")
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.Equal(t, "Codex: ~/.codex/hooks.json: create the file, add hooks for 12 events\n"+asked+"Nothing was changed.\n", r.stdout)
		require.Empty(t, d.files())
	}
	d.stdin = strings.NewReader("D\nn\n")
	lines := d.run("connect", "codex").stdout
	require.Equal(t, 2, strings.Count(lines, asked))
	_, lines, _ = strings.Cut(lines, asked)
	require.True(t, strings.HasPrefix(lines, "diff /dev/null "+d.home+"/.codex/hooks.json\n"), lines)
	require.Contains(t, lines, "\n+    \"SessionStart\": [\n")
	require.True(t, strings.HasSuffix(lines, asked+"Nothing was changed.\n"), lines)
	require.Empty(t, d.files())
	r := d.run("connect", "-dry-run", "codex", "claude")
	require.Equal(t, command.ExitOK, r.status)
	require.Contains(t, r.stdout, "\n+++ "+d.home+"/.codex/hooks.json\n")
	require.True(t, strings.HasSuffix(r.stdout, "Nothing was changed: this was a dry run.\n"))
	require.Empty(t, d.files())
	for _, answer := range []string{"y\n", "Yes"} {
		d.stdin = strings.NewReader(answer)
		r := d.run("connect", "codex")
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.Contains(t, r.stdout, "Changed ~/.codex/hooks.json\n\nCodex: Codex asks once whether it may run these commands")
		require.Equal(t, []string{".codex/hooks.json", ".codex/hooks.json.kubeagents-folders"}, d.files())
		require.Equal(t, "Nothing to change.\n", d.run("connect", "codex").stdout)
		d.stdin = strings.NewReader(answer)
		r = d.run("disconnect")
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.Contains(t, r.stdout, "Codex: ~/.codex/hooks.json: remove the file: nothing else is in it\n"+asked+"Removed ~/.codex/hooks.json\n")
		require.Empty(t, d.files())
	}
	require.Equal(t, "Nothing to change.\n", d.run("disconnect").stdout)
}

// TestPathsAreSafeToPrint connects a tool whose settings are in a directory with control characters in its name, first
// showing the changes and then making them.
func TestPathsAreSafeToPrint(t *testing.T) {
	d := newDesk(t, false)
	dir := filepath.Join(t.TempDir(), "\x1b[31mcodex")
	require.NoError(t, os.Mkdir(dir, 0o700))
	d.more = map[string]string{"CODEX_HOME": dir}
	const escaped = `\x1b[31mcodex/hooks.json`
	for _, args := range [][]string{{"connect", "codex", "-dry-run"}, {"connect", "codex", "-yes"}, {"disconnect", "codex", "-dry-run"}, {"disconnect", "codex", "-yes"}} {
		r := d.run(args...)
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.NotContains(t, r.stdout+r.stderr, "\x1b", args)
		require.Contains(t, r.stdout, "Codex: "+filepath.Dir(dir)+"/"+escaped)
	}
}

// TestChangesAreSafeToPrint shows changes to a settings file with control characters in a comment, and with lines as
// Windows ends them.
func TestChangesAreSafeToPrint(t *testing.T) {
	d := newDesk(t, false)
	require.NoError(t, os.Mkdir(filepath.Join(d.home, ".codex"), 0o700))
	text := "{\r\n  // \x1b[8mhidden\u202e\r\n  \"a\": 1\r\n}\r\n"
	require.NoError(t, os.WriteFile(filepath.Join(d.home, ".codex/hooks.json"), []byte(text), 0o600))
	r := d.run("connect", "codex", "-dry-run")
	require.Equal(t, command.ExitOK, r.status, r.stderr)
	require.Contains(t, r.stdout, "\n   // \\x1b[8mhidden")
	require.NotContains(t, r.stdout, "\x1b")
	require.NotContains(t, r.stdout, "\u202e")
	require.NotContains(t, r.stdout, "\r")
	require.NotContains(t, r.stdout, `\r`)
}

// TestConnectFindsTools checks that installed tools are found and connected, even if another tool can't be.
func TestConnectFindsTools(t *testing.T) {
	d := newDesk(t, false)
	r := d.run("connect", "-yes")
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stderr, "none of these tools is installed: "+everyTool()+"; if yours is in an unusual place, name it: kubeagents connect claude-code\n")
	for _, folder := range []string{".claude", ".gemini", ".config/opencode"} {
		require.NoError(t, os.MkdirAll(filepath.Join(d.home, folder), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(d.home, ".gemini/settings.json"), []byte("{\n  a: 1\n}"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(d.home, ".claude/settings.json"), []byte("{}\n"), 0o600))
	r = d.run("connect", "-yes")
	require.Equal(t, command.ExitFailure, r.status)
	require.True(t, strings.HasPrefix(r.stdout, `Found Claude Code: ~/.claude
Found Gemini CLI: ~/.gemini
Found OpenCode: ~/.config/opencode
Claude Code: ~/.claude/settings.json: add hooks for 18 events
OpenCode: ~/.config/opencode/plugins/kubeagents.js: create the file
Changed ~/.claude/settings.json (as it was: ~/.claude/settings.json.kubeagents-backup)
Changed ~/.config/opencode/plugins/kubeagents.js
`), r.stdout)
	require.True(t, strings.HasSuffix(r.stdout, "Restart agents that are running. To see whether events arrive: kubeagents connect -check\n"+
		"Agents show up at "+d.server+"/ and in kubeagents status.\n"), r.stdout)
	require.Contains(t, r.stderr, "connect: Gemini CLI: "+d.home+"/.gemini/settings.json:2: not valid JSON: ")
	other := strings.Replace(d.server, "127.0.0.1", "localhost", 1)
	r = d.run("connect", "-yes", "opencode", "-server", other)
	require.Equal(t, command.ExitOK, r.status, r.stderr)
	require.Contains(t, r.stdout, "OpenCode: ~/.config/opencode/plugins/kubeagents.js: update the plugin\n")
	require.True(t, strings.HasSuffix(r.stdout, "Agents show up at "+other+"/ and in kubeagents status -server "+other+".\n"), r.stdout)
}

// TestConnectProject checks that -project changes the settings of the current directory.
func TestConnectProject(t *testing.T) {
	d := newDesk(t, false)
	project := filepath.Join(d.home, "payments")
	require.NoError(t, os.Mkdir(project, 0o700))
	t.Chdir(project)
	r := d.run("connect", "-project", "-yes", "claude", "copilot")
	require.Equal(t, command.ExitOK, r.status, r.stderr)
	require.Equal(t, []string{"payments/.claude/settings.json", "payments/.claude/settings.json.kubeagents-folders",
		"payments/.github/hooks/kubeagents.json", "payments/.github/hooks/kubeagents.json.kubeagents-folders"}, d.files())
	r = d.run("connect", "-project", "codex")
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, "connect: Codex has no settings for a project: leave out -project\n")
	require.Equal(t, "Nothing to change.\n", d.run("disconnect").stdout, "these are not the user's settings")
	require.Equal(t, command.ExitOK, d.run("disconnect", "-project", "-yes").status)
	require.Empty(t, d.files())
}

// TestCheckProjectAsks checks that nothing of a project is run before it was shown, since a project may be anybody's.
func TestCheckProjectAsks(t *testing.T) {
	d := newDesk(t, true)
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Chdir(d.home)
	require.Equal(t, command.ExitFailure, d.run("connect", "-check", "-project").status, "there is nothing to ask about")
	require.NoError(t, os.Mkdir(".cursor", 0o700))
	require.NoError(t, os.WriteFile(".cursor/hooks.json", []byte(`{"hooks":{"stop":[{"command":": >ran # http://x.example/webhook/cursor"}]}}`), 0o600))
	const shown = "Cursor: ~/.cursor/hooks.json: : >ran # http://x.example/webhook/cursor\n"
	for _, answer := range []string{"\n", "n\n", ""} {
		d.stdin = strings.NewReader(answer)
		r := d.run("connect", "-check", "-project")
		require.Equal(t, command.ExitFailure, r.status)
		require.Equal(t, "kubeagents: connect: nothing was run\n", r.stderr)
		require.Equal(t, shown+"Run these commands of the project, with your token? [y/N] ", r.stdout)
		require.NoFileExists(t, "ran")
	}
	d.stdin = nil
	r := d.run("connect", "-check", "-project")
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, "pass -yes to run these commands of the project\n")
	require.NoFileExists(t, "ran")
	d.run("connect", "-check", "-project", "-yes")
	require.FileExists(t, "ran")
	require.NoError(t, os.Remove("ran"))
	d.stdin = strings.NewReader("y\n")
	d.run("connect", "-check", "-project")
	require.FileExists(t, "ran")
}

// TestConnectAndTheToken checks that the token is in no file, and that it is said how agents get it.
func TestConnectAndTheToken(t *testing.T) {
	d := newDesk(t, true)
	file := filepath.Join(t.TempDir(), "the user's token")
	require.NoError(t, os.WriteFile(file, []byte("ka_secret\n"), 0o600))
	for name, test := range map[string]struct {
		args []string
		env  string
		want string
	}{
		"in a file": {[]string{"-token-file", file}, "", "Put this line into the file that your shell runs at its start, such as ~/.profile or ~/.zshenv:\n" +
			"  export KUBEAGENTS_TOKEN=\"$(cat '" + strings.Replace(file, "'", `'\''`, 1) + "')\"\n"},
		"in the environment": {nil, "ka_secret", "The hooks take the token from the variable KUBEAGENTS_TOKEN, which is set here. Make sure that it is set wherever your agents start.\n"},
		"not given":          {nil, "", "The server requires a token with the scope report. The hooks take it from the variable KUBEAGENTS_TOKEN: export it in"},
	} {
		d.more = map[string]string{"KUBEAGENTS_TOKEN": test.env}
		r := d.run(append([]string{"connect", "-yes", "cursor"}, test.args...)...)
		require.Equal(t, command.ExitOK, r.status, r.stderr)
		require.Contains(t, r.stdout, test.want, name)
		text, err := os.ReadFile(filepath.Join(d.home, ".cursor/hooks.json"))
		require.NoError(t, err)
		require.Contains(t, string(text), "$KUBEAGENTS_TOKEN")
		require.NotContains(t, string(text)+r.stdout, "ka_secret")
		require.Equal(t, command.ExitOK, d.run("disconnect", "-yes").status)
	}
}

// TestConnectNeedsTheServer checks the errors for servers that can't be used.
func TestConnectNeedsTheServer(t *testing.T) {
	d := newDesk(t, false)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	another := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "Hello") })) //nolint:errcheck // a test
	defer another.Close()
	for server, want := range map[string]string{
		"http://127.0.0.1:1": "http://127.0.0.1:1 can't be reached: dial tcp 127.0.0.1:1: connect: connection refused: start the server, or name another one with -server\n",
		other.URL:            other.URL + " answers 404 Not Found",
		another.URL:          another.URL + " does not answer like a KubeAgents server",
	} {
		r := d.run("connect", "-yes", "codex", "-server", server)
		require.Equal(t, command.ExitUnreachable, r.status)
		require.Contains(t, r.stderr, "connect: "+want)
	}
	for _, server := range []string{"http://user:secret@hub.example", "http://hub.example/$(id)", "http://hub.example/a'b"} {
		r := d.run("connect", "-yes", "codex", "-server", server)
		require.Equal(t, command.ExitUsage, r.status)
		require.Contains(t, r.stderr, "can't be used in a shell command")
		require.NotContains(t, r.stderr, "secret")
	}
	require.Empty(t, d.files())
	d.home = ""
	r := d.run("connect", "codex")
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, "HOME is not set")
}

// TestCheckWithoutHooks checks what -check says where nothing is connected.
func TestCheckWithoutHooks(t *testing.T) {
	d := newDesk(t, false)
	r := d.run("connect", "-check")
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stderr, "no tool is connected: run kubeagents connect\n")
	require.NoError(t, os.Mkdir(filepath.Join(d.home, ".claude"), 0o700))
	r = d.run("connect", "-check")
	require.Equal(t, command.ExitFailure, r.status)
	require.Equal(t, "Claude Code: not connected: no hooks of KubeAgents are in ~/.claude/settings.json\n", r.stdout)
	r = d.run("connect", "-check", "codex")
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stdout, "Codex: not connected")
	require.Contains(t, r.stderr, "1 of 1 tools can't report")
	require.NoError(t, os.WriteFile(filepath.Join(d.home, ".claude/settings.json"), []byte("{\n"), 0o600))
	r = d.run("connect", "-check", "claude")
	require.Contains(t, r.stdout, "Claude Code: NOT ARRIVED: "+d.home+"/.claude/settings.json:2: not valid JSON: ")
}
