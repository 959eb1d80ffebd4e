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
	if os.Getenv(namespaceVariable) == "" {
		runInPrivateNetwork(t)
		return
	}
	p := prepareWorkplace(t)
	hosts := filepath.Join(p.home, "hosts")
	p.write(hosts, "127.0.0.1 localhost\n"+privateAddress+" "+privateName+"\n")
	for _, command := range [][]string{
		{"mount", "--bind", hosts, "/etc/hosts"},
		{"ip", "address", "add", privateAddress + "/32", "dev", "lo"},
	} {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput() //nolint:gosec // the commands are constants
		require.NoError(t, err, "%s: %s", command, out)
	}
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

// runInPrivateNetwork runs the test again, in a new network namespace and a new mount namespace.
func runInPrivateNetwork(t *testing.T) {
	t.Helper()
	if os.Getenv(clientsVariable) == "" {
		t.Skip("the clients are not installed: run make test-clients")
	}
	for _, tool := range []string{"unshare", "ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install util-linux and iproute2, then run make test-clients", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can create a network namespace: run sudo make test-clients")
	}
	t.Parallel()
	//nolint:gosec // it runs this test binary
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--", "sh", "-c", `ip link set lo up && exec "$@"`, "sh",
		os.Args[0], "-test.run", "^TestRealClaudeCodePrivateName$", "-test.count", "1", "-test.timeout", "5m", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=yes", programVariable+"="+program())
	out, err := cmd.CombinedOutput()
	if err != nil && exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "true").Run() != nil {
		t.Skipf("not even root can create a network namespace on this machine; run make test-clients on another one: %s", out)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestRealClaudeCodePrivateName", "%s", out)
}
