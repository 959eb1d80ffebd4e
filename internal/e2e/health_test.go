//go:build unix

package e2e

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// TestHealthCommand checks a server with the server's own settings: before it starts, while it runs, with a
// certificate that this machine does not trust, and after it has stopped.
func TestHealthCommand(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	dir := t.TempDir()
	cert, key := newAuthority(t).sign(t, 7)
	encrypted := []string{"TLS_CERT_FILE=" + writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE=" + writeFile(t, filepath.Join(dir, "key"), key)}
	for name, environment := range map[string][]string{
		"without TLS": nil,
		"with TLS":    encrypted,
	} {
		t.Run(name, func(t *testing.T) {
			environment := append([]string{"HOST=127.0.0.1", "PORT=" + port}, environment...)
			check := func(want int, output string) {
				t.Helper()
				status, out := runProgram(t, environment, "health")
				require.Equal(t, want, status, out)
				require.Contains(t, out, output)
			}
			check(command.ExitUnreachable, "can't be reached")
			p := start(t, environment...)
			check(command.ExitOK, "127.0.0.1:"+port+" is ready\n")
			require.Zero(t, p.stop(t))
			check(command.ExitUnreachable, "can't be reached")
		})
	}
}

// TestHealthCommandWithClientCertificates checks a server whose port the command can't use, because the server requires
// a certificate of its clients.
func TestHealthCommandWithClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	cert, key := ca.sign(t, 8)
	environment := []string{"HOST=127.0.0.1", "TLS_CERT_FILE=" + writeFile(t, filepath.Join(dir, "cert"), cert),
		"TLS_KEY_FILE=" + writeFile(t, filepath.Join(dir, "key"), key), "TLS_CLIENT_CA_FILE=" + writeFile(t, filepath.Join(dir, "ca"), ca.pem),
		"DATA_DIR=" + filepath.Join(dir, "data")}
	check := func(want int, output string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) { // the socket opens just after the server is ready
			status, out := runProgram(t, environment, "health")
			require.Equal(c, want, status, out)
			require.Contains(c, out, output)
		}, time.Minute, 10*time.Millisecond)
	}
	check(command.ExitUnreachable, "does not exist")
	p := start(t, environment...)
	check(command.ExitOK, "is ready\n")
	status, out := runProgram(t, environment, "health", "-live")
	require.Equal(t, command.ExitOK, status, out)
	require.Contains(t, out, "is running\n")
	require.Zero(t, p.stop(t))
	check(command.ExitUnreachable, "no server runs with DATA_DIR")
	status, out = runProgram(t, environment, "health", "-live")
	require.Equal(t, command.ExitUnreachable, status, out)
}

// TestClusterHealthCommand takes NATS away from a server that requires client certificates: it runs, but is not ready.
// Kubernetes must not restart it for that.
func TestClusterHealthCommand(t *testing.T) {
	natstest.Long(t)
	dir := t.TempDir()
	ca := newAuthority(t)
	cert, key := ca.sign(t, 8)
	nodes := natstest.Start(t, 1)
	environment := []string{"HOST=127.0.0.1", "TLS_CERT_FILE=" + writeFile(t, filepath.Join(dir, "cert"), cert),
		"TLS_KEY_FILE=" + writeFile(t, filepath.Join(dir, "key"), key), "TLS_CLIENT_CA_FILE=" + writeFile(t, filepath.Join(dir, "ca"), ca.pem),
		"DATA_DIR=" + filepath.Join(dir, "data"), "NATS_URL=" + nodes.URL(), "NATS_REPLICAS=1", "NATS_STALE_AFTER=5s"}
	p := start(t, environment...)
	await := func(want int, output string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			status, out := runProgram(t, environment, "health")
			require.Equal(c, want, status, out)
			require.Contains(c, out, output)
		}, time.Minute, 10*time.Millisecond)
	}
	await(command.ExitOK, "is ready\n")
	nodes.Node(0).Stop()
	await(command.ExitFailure, "catching up with its cluster")
	status, out := runProgram(t, environment, "health", "-live")
	require.Equal(t, command.ExitOK, status, out)
	nodes.Node(0).Restart()
	await(command.ExitOK, "is ready\n")
	require.Zero(t, p.stop(t))
}
