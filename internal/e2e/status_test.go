//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/models"
)

// seconds matches the times at which lines of the overview begin.
var seconds = regexp.MustCompile(`(?m)^ *\d+s  `)

// TestStatusCommand runs the command in each of its forms, on a server with nothing to do, with somebody who waits, and
// none.
func TestStatusCommand(t *testing.T) {
	p := start(t)
	server := []string{"KUBEAGENTS_SERVER=http://" + p.address}
	run := func(wantStatus int, wantOutput string, args ...string) {
		t.Helper()
		status, output := runProgram(t, server, append([]string{"status"}, args...)...)
		require.Equal(t, wantStatus, status, output)
		require.Contains(t, seconds.ReplaceAllString(output, "    0s  "), wantOutput)
	}
	run(command.ExitOK, "No agent is running or waiting.\n")
	run(command.ExitOK, "nothing running\n", "-line")
	p.report(t, reportOf("laptop:claude", "fix-login", "running"))
	run(command.ExitOK, "1 running\n    0s  laptop:claude  fix-login\n")
	p.report(t, `{"agent_id":"b","session_topic":"t","status":"pending","message":"May I?"}`)
	run(command.ExitWaiting, "1 waiting for you\n    0s  b  t: May I?\n\n1 running\n")
	run(command.ExitWaiting, "1 waiting, 1 running\n", "-line")
	run(command.ExitWaiting, `"waiting":[{"agent_id":"b","session_topic":"t",`, "-json")
	for i := range 3 {
		p.report(t, reportOf("c", string(rune('1'+i)), "failed"))
	}
	run(command.ExitWaiting, "3 failed\n    0s  c  3\n  … and 2 more\n", "-n", "1")
	for _, needs := range []string{"failed", "waiting"} {
		acknowledge(t, p, needs)
	}
	run(command.ExitOK, "1 running\n    0s  laptop:claude  fix-login\n")
	run(command.ExitOK, "1 running\n", "-line")
	run(command.ExitUsage, "exclude each other", "-json", "-line")
	run(command.ExitUsage, "-n must be 1 to 1000", "-n", "0")
	run(command.ExitUsage, `"localhost" is not the address of a server`, "-server", "localhost")
	run(command.ExitUsage, "-token-file: open /nowhere", "-token-file", "/nowhere")
	require.Zero(t, p.stop(t))
	run(command.ExitUnreachable, "can't be reached: dial tcp "+p.address+": connect: connection refused: start the server, or name another one with -server\n")
}

// acknowledge acknowledges every session that needs attention for a reason.
func acknowledge(t *testing.T, p *process, needs string) {
	t.Helper()
	resp, err := http.Post("http://"+p.address+"/api/acknowledge", "application/json", strings.NewReader(`{"needs":"`+needs+`"}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// TestStatusCommandWithTokens checks that the token is found, and that a refusal is told in the server's words.
func TestStatusCommandWithTokens(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+path, "PUBLIC_URL=http://hub.example/team")
	server := "http://" + p.address + "/team/"
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(holders["reads"].Token+"\n"), 0o600))
	status, output := runProgram(t, []string{"KUBEAGENTS_TOKEN=" + holders["reads"].Token}, "status", "-server", server)
	require.Equal(t, command.ExitOK, status, output)
	status, output = runProgram(t, []string{"KUBEAGENTS_TOKEN=wrong"}, "status", "-server", server, "-token-file", file)
	require.Equal(t, command.ExitOK, status, output)
	const advice = "; set KUBEAGENTS_TOKEN to a valid token, or name its file with -token-file\n"
	for token, want := range map[string]string{"": "a token is required: Authorization: Bearer …" + advice, "ka_wrong": "unknown token" + advice,
		holders["reports"].Token: "the token lacks the scope read\n"} {
		status, output = runProgram(t, []string{"KUBEAGENTS_TOKEN=" + token}, "status", "-server", server)
		require.Equal(t, command.ExitUnreachable, status, output)
		require.Contains(t, output, "http://"+p.address+"/team refuses: "+want)
	}
	require.Zero(t, p.stop(t))
}

// TestStatusCommandWatches follows a server through changes and a restart.
func TestStatusCommandWatches(t *testing.T) {
	dir := "DATA_DIR=" + filepath.Join(t.TempDir(), "data")
	p := start(t, dir)
	cmd := exec.CommandContext(t.Context(), program(), "status", "-watch", "-json", "-server", "http://"+p.address)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	trouble, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines, troubles := bufio.NewReader(out), bufio.NewReader(trouble)
	awaitPending := func(want int) {
		t.Helper()
		for {
			line, err := lines.ReadBytes('\n')
			require.NoError(t, err)
			var shown struct{ Summary models.Summary }
			require.NoError(t, json.Unmarshal(line, &shown))
			if shown.Summary.Sessions.ByStatus.Pending == want {
				return
			}
		}
	}
	awaitPending(0)
	p.report(t, reportOf("a", "t", "pending"))
	awaitPending(1)
	require.Zero(t, p.stop(t))
	line, err := troubles.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, "^kubeagents: status: .*http://"+p.address, line)
	go io.Copy(io.Discard, troubles) //nolint:errcheck // it ends with the command
	_, port, err := net.SplitHostPort(p.address)
	require.NoError(t, err)
	p = start(t, dir, "PORT="+port)
	p.report(t, reportOf("a", "u", "pending"))
	awaitPending(2)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	go io.Copy(io.Discard, lines) //nolint:errcheck // as above
	require.NoError(t, cmd.Wait(), "ended as it was asked to")
	require.Zero(t, p.stop(t))
}
