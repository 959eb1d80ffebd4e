//go:build unix

package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/models"
)

// demo returns a command that runs the demo on a port, with settings of a real server around it that it must ignore.
// temporary is the directory of its temporary files.
func demo(t *testing.T, binary, port string) (cmd *exec.Cmd, stderr *bytes.Buffer, temporary string) {
	t.Helper()
	cmd, stderr, temporary = exec.Command(binary), new(bytes.Buffer), t.TempDir()
	cmd.Env = append(os.Environ(), programVariable+"="+program(), "HOST=127.0.0.1", "PORT="+port, "TMPDIR="+temporary,
		"TOKENS_FILE=/nonexistent", "DATA_DIR=/nonexistent/data", "MAX_SESSIONS=1", "LOG_LEVEL=error")
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's foreground processes
	return cmd, stderr, temporary
}

// TestDemo builds the demo and runs it.
func TestDemo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "demo")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../demo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Run("shows a fleet until it is interrupted", func(t *testing.T) { runDemo(t, binary) })
	t.Run("says what to do if the port is in use", func(t *testing.T) { runDemoOnAPortInUse(t, binary) })
}

// runDemo runs the demo, looks at its server, and interrupts it as Ctrl-C does: the demo and its server both get the
// signal.
func runDemo(t *testing.T, binary string) {
	cmd, stderr, temporary := demo(t, binary, "0")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) //nolint:errcheck // it has ended if the test succeeds
	text := make([]byte, 1000)
	n, err := stdout.Read(text)
	require.NoError(t, err, "%s", stderr)
	line := string(text[:n])
	require.Regexp(t, `^The demo is at http://localhost:\d+/ \(Ctrl-C ends it\)\n$`, line)

	p := &process{address: strings.TrimPrefix(strings.Fields(line)[4], "http://")}
	p.address = "127.0.0.1" + strings.TrimSuffix(strings.TrimPrefix(p.address, "localhost"), "/")
	var opened, later models.Summary
	p.get(t, "/api/summary", &opened)
	require.Equal(t, 13, opened.Agents)
	require.Positive(t, opened.Sessions.ByStatus.Running)
	require.Equal(t, 3, opened.Sessions.ByStatus.Pending)
	require.Equal(t, 1, opened.Sessions.Lost)
	require.Equal(t, 1, opened.Sessions.ByStatus.Failed)
	newest := func() (at time.Time) {
		var page struct{ Sessions []models.FleetSession }
		p.get(t, "/api/sessions?limit=1", &page)
		return page.Sessions[0].LastUpdated
	}
	before := newest()
	require.Eventually(t, func() bool { return newest().After(before) }, 30*time.Second, 10*time.Millisecond, "the agents go on working")
	p.get(t, "/api/summary", &later)
	require.Equal(t, 13, later.Agents, "live events are of the same agents")

	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	require.NoError(t, cmd.Wait(), "%s", stderr)
	require.Empty(t, stderr.String())
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
}

// runDemoOnAPortInUse runs the demo on a port that another program listens on.
func runDemoOnAPortInUse(t *testing.T, binary string) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	cmd, stderr, _ := demo(t, binary, port)
	require.Error(t, cmd.Run())
	require.Equal(t, command.ExitFailure, cmd.ProcessState.ExitCode())
	require.Equal(t, "demo: port "+port+" on 127.0.0.1 is in use by another program (is a server running already?): stop it, or set PORT to another port\n",
		stderr.String())
}
