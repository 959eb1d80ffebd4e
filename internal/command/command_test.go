package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/version"
)

// result is the outcome of running a command line.
type result struct {
	status         int
	stdout, stderr string
	served         *config.Config // nil if the server was not run
}

// everyTool returns the names of all tools, as messages list them.
func everyTool() string {
	var names []string
	for _, tool := range connect.Tools() {
		names = append(names, tool.Name)
	}
	return strings.Join(names, ", ")
}

// run runs a command line, with a server that returns serveErr immediately.
func run(t *testing.T, serveErr error, environment map[string]string, args ...string) (r result) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := command.Program{Environment: environment, Stdout: &stdout, Stderr: &stderr, Serve: func(_ context.Context, cfg config.Config) error {
		r.served = &cfg
		return serveErr
	}}
	r.status = p.Run(t.Context(), args)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

func TestServeIsTheDefault(t *testing.T) {
	for _, args := range [][]string{nil, {"serve"}} {
		r := run(t, nil, map[string]string{"PORT": "1234"}, args...)
		require.Equal(t, command.ExitOK, r.status)
		require.Equal(t, 1234, r.served.Port)
		require.Empty(t, r.stdout+r.stderr)
	}
	r := run(t, errors.New("broken"), nil)
	require.Equal(t, command.ExitFailure, r.status)
	require.Empty(t, r.stderr, "the server logs its errors")
	r = run(t, fmt.Errorf("access: %w", &config.SettingError{Err: errors.New("broken")}), nil)
	require.Equal(t, command.ExitUsage, r.status)
	r = run(t, nil, map[string]string{"PORT": "http"})
	require.Equal(t, command.ExitUsage, r.status)
	require.Nil(t, r.served)
	require.Contains(t, r.stderr, `kubeagents: invalid settings:`)
	require.Contains(t, r.stderr, `PORT is "http"`)
}

func TestHelp(t *testing.T) {
	want := run(t, nil, nil, "help")
	require.Equal(t, command.ExitOK, want.status)
	require.Empty(t, want.stderr)
	for _, line := range []string{"Usage: kubeagents [command]\n", "  serve                 run the server (the default)\n", "  backup DIR            copy", "  token NAME            make", "  connect [TOOL...]     make", "  version               print", "docs/settings.md"} {
		require.Contains(t, want.stdout, line)
	}
	for _, args := range [][]string{{"-h"}, {"-help"}, {"--help"}} {
		require.Equal(t, want, run(t, nil, nil, args...), args)
	}
	for _, name := range []string{"serve", "connect", "disconnect", "status", "health", "backup", "restore", "token", "notify", "completion", "version"} {
		help := run(t, nil, nil, "help", name)
		require.Equal(t, command.ExitOK, help.status, name)
		require.True(t, strings.HasPrefix(help.stdout, "Usage: kubeagents "+name), help.stdout)
		require.Empty(t, help.stderr)
		for _, flag := range []string{"-h", "--help"} {
			require.Equal(t, help, run(t, nil, nil, name, flag), name)
		}
	}
	help := run(t, nil, nil, "help", "token").stdout
	require.Contains(t, help, "Usage: kubeagents token [flags] NAME\n")
	for _, flag := range []string{"-scopes", "-agents patterns", "-expires"} {
		require.Contains(t, help, "\n  "+flag)
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"-version"}, {"--version"}, {"-v"}} {
		r := run(t, nil, nil, args...)
		require.Equal(t, command.ExitOK, r.status)
		require.Empty(t, r.stderr)
		line, commit, known := strings.Cut(strings.TrimSuffix(r.stdout, ")\n"), " (commit ")
		require.Equal(t, version.String(), strings.TrimSuffix(line, "\n"))
		require.Equal(t, version.Commit(), commit)
		require.Equal(t, version.Commit() != "", known)
	}
}

// TestMistakes checks that the error for an invalid command line says what is wrong and what is allowed.
func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"rollback x":             `unknown command "rollback": the commands are backup, completion, connect, disconnect, health, help, hook, notify, restore, serve, status, token, version; settings come from environment variables`,
		"backups x":              `unknown command "backups": did you mean backup?`,
		"-port 80":               `unknown flag "-port": the commands are`,
		"help rollback":          `unknown command "rollback"`,
		"help token backup":      `help: unexpected argument "backup" after "token"`,
		"serve now":              `serve: unexpected argument "now"`,
		"version 2":              `version: unexpected argument "2"`,
		"backup":                 `backup: DIR is missing: the command is kubeagents backup DIR`,
		"backup a b":             `backup: unexpected argument "b" after DIR "a"`,
		"backup a":               `backup: DATA_DIR is not set: set it to the same value as for the server`,
		"backup a -keep 0":       `backup: -keep must be at least 1`,
		"backup a -keep x":       `backup: invalid value "x" for flag -keep`,
		"backup a -server x":     `backup: "x" is not the address of a server, such as http://localhost:8080`,
		"backup -token-file f a": `backup: -token-file needs -server`,
		"restore":                `restore: BACKUP is missing: the command is kubeagents restore BACKUP`,
		"restore a":              `restore: DATA_DIR is not set: set it to the directory for the server's state`,
		"token":                  `token: NAME is missing: the command is kubeagents token NAME`,
		"token -scopes":          `token: flag needs an argument: -scopes`,
		"token a -agent b":       `token: flag provided but not defined: "-agent"`,
		"connect codex mcp":      `connect: unknown tool "mcp": the tools are ` + everyTool(),
		"connect codx":           `connect: unknown tool "codx": did you mean codex?`,
		"connect -server x":      `connect: "x" is not the address of a server, such as http://localhost:8080`,
		"disconnect -check":      `disconnect: flag provided but not defined: "-check"`,
		"notify":                 `notify: FILE is missing: the command is kubeagents notify FILE`,
		"notify /nonexistent":    `notify: open /nonexistent: no such file or directory`,
		"notify x -session t":    `notify: -session needs -agent`,
		"completion":             `completion: SHELL is missing: the command is kubeagents completion SHELL`,
		"health -server x":       `health: "x" is not the address of a server, such as http://localhost:8080`,
		"token a b":              `token: unexpected argument "b" after NAME "a"`,
		"token a -scopes own":    `token: scopes must be`,
		"token a -expires 90d":   `token: invalid value "90d" for flag -expires: must be a duration such as 2160h`,
		"token a -agents a,,b":   `token: agents: pattern 2 is empty`,
		"token a -expires=-1h":   `token: -expires must be at least 1s`,
		"token a -expires=500ms": `token: -expires must be at least 1s`,
		"token a -agents=":       `token: -agents is empty: leave it out to cover every agent`,
		"token caf\xe9":          `token: name and agents must be UTF-8`,
		"token a -agents=\xff":   `token: name and agents must be UTF-8`,
	} {
		r := run(t, nil, map[string]string{"HOME": t.TempDir()}, strings.Fields(line)...)
		require.Equal(t, command.ExitUsage, r.status, line)
		require.True(t, strings.HasPrefix(r.stderr, "kubeagents: "+want), "%s: %s", line, r.stderr)
		require.Empty(t, r.stdout, line)
		require.Nil(t, r.served, line)
	}
}

// TestErrorsAreSafeToPrint gives commands arguments and variables that would change a terminal's colors, its title or
// the order of text. No output may contain them as they are.
func TestErrorsAreSafeToPrint(t *testing.T) {
	const hostile = "\x1b[31m\x1b]0;title\x07\u202e\u009b\x9b31m"
	home := t.TempDir()
	environment := func(name, value string) map[string]string {
		return map[string]string{"HOME": home, name: value}
	}
	file := filepath.Join(home, hostile)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, test := range map[string]struct {
		environment map[string]string
		args        []string
		want        string
	}{
		"an unknown command":               {nil, []string{hostile}, `unknown command "\x1b[31m`},
		"an unknown flag of the program":   {nil, []string{"-" + hostile}, `unknown flag "-\x1b[31m`},
		"an unknown flag of a command":     {nil, []string{"serve", "-" + hostile}, `serve: flag provided but not defined: "-\x1b[31m`},
		"an unknown flag of several lines": {nil, []string{"serve", "-a\nb"}, `serve: flag provided but not defined: "-a\nb"`},
		"a malformed flag":                 {nil, []string{"token", "---" + hostile}, `token: bad flag syntax: "---\x1b[31m`},
		"an invalid value of a flag":       {nil, []string{"status", "-n", hostile}, `status: invalid value "\x1b[31m`},
		"an unexpected argument":           {nil, []string{"version", hostile}, `version: unexpected argument "\x1b[31m`},
		"an unknown tool":                  {environment("", ""), []string{"connect", hostile}, `connect: unknown tool "\x1b[31m`},
		"help for an unknown command":      {nil, []string{"help", hostile}, `unknown command "\x1b[31m`},
		"the address of a server":          {nil, []string{"status", "-server", hostile}, `status: "\x1b[31m`},
		"a variable with an address":       {environment("KUBEAGENTS_SERVER", hostile), []string{"status"}, `status: "\x1b[31m`},
		"a file with a token":              {nil, []string{"status", "-token-file", filepath.Join(home, "no"+hostile)}, `no\x1b[31m\x1b]0;title\a`},
		"a setting":                        {environment("PORT", hostile), []string{"serve"}, `PORT is "\x1b[31m`},
		"a directory that does not exist":  {environment("DATA_DIR", filepath.Join(home, "no"+hostile)), []string{"backup", "x"}, `no\x1b[31m\x1b]0;title\a`},
		"a home directory":                 {map[string]string{"HOME": file}, []string{"connect", "codex", "-yes", "-server", "http://127.0.0.1:1"}, ""},
		"a home directory, to disconnect":  {map[string]string{"HOME": file}, []string{"disconnect", "codex", "-yes"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, nil, test.environment, test.args...)
			require.NotEqual(t, command.ExitOK, r.status)
			require.Contains(t, r.stderr, test.want)
			for _, output := range []string{r.stdout, r.stderr} {
				require.True(t, utf8.ValidString(output), "%q", output)
				require.False(t, strings.ContainsAny(output, "\x1b\x07\u202e\u009b"), "%q", output)
			}
		})
	}
}

func TestToken(t *testing.T) {
	for _, args := range [][]string{
		{"token", "-scopes", "report,read", "-agents", "team-a/*,ci", "-expires", "24h", "ci of team a"},
		{"token", "ci of team a", "-scopes", "report,read", "-agents", "team-a/*,ci", "-expires", "24h"},
	} {
		r := run(t, nil, nil, args...)
		require.Equal(t, command.ExitOK, r.status)
		require.Regexp(t, `^ka_[A-Z2-7]{52}\n$`, r.stderr)
		entries, err := access.ParseTokens([]byte(r.stdout))
		require.NoError(t, err)
		require.Equal(t, "ci of team a", entries[0].Name)
		require.Equal(t, []string{"report", "read"}, entries[0].Scopes)
		require.Equal(t, []string{"team-a/*", "ci"}, entries[0].Agents)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), entries[0].Expires, time.Minute)
	}
	r := run(t, nil, nil, "token", "ci")
	entries, err := access.ParseTokens([]byte(r.stdout))
	require.NoError(t, err)
	require.Equal(t, []string{"report"}, entries[0].Scopes)
	require.Empty(t, entries[0].Agents)
	require.Zero(t, entries[0].Expires)
}

func TestBackupNeedsAServer(t *testing.T) {
	dir := t.TempDir()
	r := run(t, nil, map[string]string{"DATA_DIR": dir}, "backup", filepath.Join(dir, "copy"))
	require.Equal(t, command.ExitFailure, r.status)
	require.Equal(t, "kubeagents: backup: no server runs with DATA_DIR "+dir+": start it, or set DATA_DIR to the same value as for the running server\n", r.stderr)
	r = run(t, nil, map[string]string{"DATA_DIR": filepath.Join(dir, "none")}, "backup", filepath.Join(dir, "copy"))
	require.Equal(t, command.ExitFailure, r.status)
	require.Equal(t, "kubeagents: backup: DATA_DIR "+filepath.Join(dir, "none")+" does not exist: set DATA_DIR to the same value as for the server\n", r.stderr)
}
