//go:build unix

package e2e

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The name of the server, and the private address that it resolves to, in a separate network.
const (
	privateName    = "hub.kubeagents.test"
	privateAddress = "10.99.0.1"
)

// namespaceVariable is the environment variable that is set when the test runs in such a network.
const namespaceVariable = "KUBEAGENTS_PRIVATE_NETWORK"

// TestRealClaudeCodePrivateName has Claude Code report to a server whose name resolves to a private address. Claude
// Code's http hooks don't post to such addresses.
func TestRealClaudeCodePrivateName(t *testing.T) {
	requireClients(t)
	if !inPrivateNetwork(t, privateName) {
		return
	}
	p := prepareWorkplace(t)
	listener, err := net.Listen("tcp", net.JoinHostPort(privateAddress, "0")) //nolint:noctx // it does not block
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(p)
	server.Listener.Close() //nolint:errcheck // it has no connections
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	p.address = "http://" + net.JoinHostPort(privateName, port)
	p.runClaudeCode(newestClaudeCode)
}

// inPrivateNetwork reports whether the test runs in a network and a mount namespace of its own, in which the name
// resolves to the private address. If not, it runs the test again in such namespaces.
func inPrivateNetwork(t *testing.T, name string) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == "" {
		runInPrivateNetwork(t)
		return false
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+privateAddress+" "+name+"\n"), 0o644)) //nolint:gosec // everybody reads it
	for _, command := range [][]string{
		{"mount", "--bind", hosts, "/etc/hosts"},
		{"ip", "address", "add", privateAddress + "/32", "dev", "lo"},
	} {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput() //nolint:gosec // the commands are constants
		require.NoError(t, err, "%s: %s", command, out)
	}
	return true
}

// runInPrivateNetwork runs the test again, in a new network namespace and a new mount namespace.
func runInPrivateNetwork(t *testing.T) {
	t.Helper()
	requireTools(t, "unshare", "ip", "mount")
	if os.Geteuid() != 0 {
		t.Skip("only root can create a network namespace: run this test with sudo")
	}
	t.Parallel()
	//nolint:gosec // it runs this test binary
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--", "sh", "-c", `ip link set lo up && exec "$@"`, "sh",
		os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.count", "1", "-test.timeout", "5m", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=yes", programVariable+"="+program())
	out, err := cmd.CombinedOutput()
	if err != nil && exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "true").Run() != nil {
		t.Skipf("not even root can create a network namespace on this machine; run the test on another one: %s", out)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "%s", out)
}
