//go:build unix

package notify_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// script returns a command that runs a shell script with arguments.
func script(t *testing.T, text string, args ...string) notify.Sender {
	t.Helper()
	sender, err := notify.NewCommand("/bin/sh", append([]string{"-c", text, "script"}, args...))
	require.NoError(t, err)
	return sender
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestCommandGetsMessage(t *testing.T) {
	dir := t.TempDir()
	sender := script(t, `cat >"$1"`, filepath.Join(dir, "in"))

	remote, err := sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	assert.Empty(t, remote)
	sent := checkPayload(t, []byte(content(t, filepath.Join(dir, "in"))))
	assert.Equal(t, "notification", sent["type"])
	assert.Equal(t, "n-12", sent["id"])

	require.NoError(t, sender.Withdraw(t.Context(), waiting()))
	withdrawn := checkPayload(t, []byte(content(t, filepath.Join(dir, "in"))))
	assert.Equal(t, "withdrawn", withdrawn["type"])
	assert.Equal(t, "n-12", withdrawn["withdraws"])
}

func TestCommandArgumentsAreNotInterpreted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "args")
	args := []string{path, "$(touch pwned)", "; exit 7", "`id`", "*", "a b", "", "$HOME"}
	_, err := script(t, `printf '%s\n' "$@" >"$1"`, args...).Send(t.Context(), waiting())
	require.NoError(t, err)
	assert.Equal(t, strings.Join(args, "\n")+"\n", content(t, path))
}

func TestCommandEnvironment(t *testing.T) {
	t.Setenv("KUBEAGENTS_TOKEN", "s3cret")
	t.Setenv("HOME", "/nonexistent")
	path := filepath.Join(t.TempDir(), "env")
	_, err := script(t, `unset PWD OLDPWD SHLVL _; env >"$1"`, path).Send(t.Context(), waiting())
	require.NoError(t, err)
	var got []string
	for line := range strings.Lines(content(t, path)) {
		if !strings.HasPrefix(line, "_=") { // the shell's own
			got = append(got, strings.TrimSpace(line))
		}
	}
	assert.ElementsMatch(t, []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, got)
}

func TestCommandExitStatus(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"0":                          {"exit 0", ""},
		"0 with output":              {"echo fine; echo warning >&2", ""},
		"0 with endless output":      {"head -c 10000000 /dev/zero", ""},
		"3":                          {"exit 3", "sh ended with exit status 3"},
		"255 with output":            {"echo out; echo >&2; echo err >&2; exit 255", "sh ended with exit status 255: out err"},
		"1 with control characters":  {`printf 'a\033[31m\r\nb\302\205\342\200\256c\000\377d'; exit 1`, "sh ended with exit status 1: a [31m b c d"},
		"1 with endless output":      {"head -c 10000000 /dev/zero | tr '\\0' x; exit 1", "sh ended with exit status 1: " + strings.Repeat("x", 199) + "…"},
		"1 after blank lines":        {"head -c 10000000 /dev/zero | tr '\\0' '\\n'; exit 1", "sh ended with exit status 1"},
		"signal":                     {"kill -9 $$", "sh ended with signal: killed"},
		"program that does not read": {"exec <&-; exit 4", "sh ended with exit status 4"},
	} {
		t.Run(name, func(t *testing.T) {
			m := waiting()
			m.Question.Text = strings.Repeat("x", 1<<20) // more than a pipe holds
			_, err := script(t, test.script, "s3cret").Send(t.Context(), m)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.want)
			assert.NotErrorIs(t, err, notify.ErrRefused)
		})
	}
}

// TestCommandOutputIsNotKept checks that the output of a command does not fill the memory.
func TestCommandOutputIsNotKept(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := script(t, "head -c 20000000 /dev/zero; exit 1").Send(t.Context(), waiting())
	require.Error(t, err)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(5_000_000))
}

func TestCommandIsKilledAfterItsTime(t *testing.T) {
	sender := script(t, "exec sleep 1000")
	notify.UseTimes(sender, time.Millisecond, time.Minute)
	_, err := sender.Send(t.Context(), waiting())
	require.EqualError(t, err, "sh did not end within 1ms and was killed")
	require.NotErrorIs(t, err, notify.ErrRefused)
}

// TestCommandIsKilledWithItsChildren checks that nothing of a command is left when it is killed. All of its processes
// have a pipe open, which ends when the last one does.
func TestCommandIsKilledWithItsChildren(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	sender := script(t, `exec 3>"$1"; (trap '' TERM HUP; sleep 1000) & sleep 1000 & echo started >&3; wait`, path)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		_, err := sender.Send(ctx, waiting())
		sent <- err
	}()

	pipe, err := os.Open(path)
	require.NoError(t, err)
	defer pipe.Close()
	started := make([]byte, len("started\n"))
	_, err = io.ReadFull(pipe, started)
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, <-sent, context.Canceled)
	rest, err := io.ReadAll(pipe)
	require.NoError(t, err)
	assert.Empty(t, rest)
}

// TestCommandMayLeaveProcesses checks that a message is delivered when the command has ended, even if a program that it
// started in the background still has its output open.
func TestCommandMayLeaveProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	sender := script(t, `sleep 1000 & echo $! >"$1"`, path)
	notify.UseTimes(sender, time.Minute, time.Millisecond)
	_, err := sender.Send(t.Context(), waiting())
	pid, errPID := strconv.Atoi(strings.TrimSpace(content(t, path)))
	require.NoError(t, errPID)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL), "it goes on")
	require.NoError(t, err)
}

func TestCommandSettings(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	for name, test := range map[string]struct{ path, want string }{
		"no path":         {"", "the path of a command must be absolute"},
		"name":            {"sh", "the path of a command must be absolute"},
		"relative":        {"./sh", "the path of a command must be absolute"},
		"nothing there":   {"/nonexistent/program", "the command can't be run: "},
		"not a program":   {plain, "the command can't be run: "},
		"folder":          {"/", "the command can't be run: "},
		"several at once": {"/bin/sh -c true", "the command can't be run: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewCommand(test.path, nil)
			require.ErrorContains(t, err, test.want)
		})
	}
}
