//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/fleet"
)

// TestStopUnderLoad stops the program with SIGTERM while clients report and one request is only half sent. The
// readiness probe must fail, the open request must finish, the exit status must be 0, and the log must count every
// acknowledged report.
func TestStopUnderLoad(t *testing.T) {
	p := start(t, "SHUTDOWN_TIMEOUT=20s")
	reports := fleet.Reports()
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	underLoad := make(chan struct{}) // closed after a quarter of the reports
	for c := range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := c; i < len(reports); i += 8 {
				if i > len(reports)/4 && c == 0 {
					select {
					case <-underLoad:
					default:
						close(underLoad)
					}
				}
				resp, err := client.Post("http://"+p.address+"/webhook/status", "application/json", bytes.NewReader(reports[i]))
				if err != nil {
					return // the server has stopped listening
				}
				if resp.StatusCode == http.StatusOK {
					acknowledged.Add(1)
				}
				io.Copy(io.Discard, resp.Body) //nolint:errcheck
				resp.Body.Close()              //nolint:errcheck
			}
		})
	}
	<-underLoad

	open, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer open.Close() //nolint:errcheck
	body := reportOf("slow", "t", "running")
	_, err = fmt.Fprintf(open, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	require.NoError(t, err)
	responses := bufio.NewReader(open)
	line, err := responses.ReadString('\n') // the handler waits for the body now
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	_, err = responses.ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { // while the open request is not finished
		resp, err := http.Get("http://" + p.address + "/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close() //nolint:errcheck
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Close
	}, 10*time.Second, time.Millisecond)
	wg.Wait()
	_, err = io.WriteString(open, body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(responses, nil)
	require.NoError(t, err)
	resp.Body.Close() //nolint:errcheck // only the status matters
	require.Equal(t, http.StatusOK, resp.StatusCode, "the open request must finish")

	<-p.read
	p.cmd.Wait() //nolint:errcheck
	require.Zero(t, p.cmd.ProcessState.ExitCode(), "%s", p.stderr)
	require.Positive(t, acknowledged.Load())
	require.Contains(t, p.stderr.String(), fmt.Sprintf(`"accepted":%d`, acknowledged.Load()+1))
}

func TestInvalidSettingsStopTheStart(t *testing.T) {
	var stderr bytes.Buffer
	cmd := exec.Command(program())
	cmd.Env = append(os.Environ(), "PORT=http", "MAX_SESSIONS=0", "LOG_LEVEL=loud")
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	require.Equal(t, command.ExitUsage, cmd.ProcessState.ExitCode())
	for _, part := range []string{`PORT is "http"`, "0 to 65535", `MAX_SESSIONS is "0"`, `LOG_LEVEL is "loud"`, "debug, info, warn or error"} {
		require.Contains(t, stderr.String(), part)
	}
}

func TestStopCutsOffRequestsAfterTheTimeout(t *testing.T) {
	p := start(t, "SHUTDOWN_TIMEOUT=300ms")
	conn, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck
	fmt.Fprintf(conn, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), "cut off")
}
