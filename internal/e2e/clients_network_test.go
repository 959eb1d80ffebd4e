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

// The name that the server goes by, and the private address that it stands for, in a network of its own.
const (
	privateName    = "hub.kubeagents.test"
	privateAddress = "10.99.0.1"
)

// namespaceVariable is set where the test runs in such a network.
const namespaceVariable = "KUBEAGENTS_PRIVATE_NETWORK"

// TestRealClaudeCodePrivateName has Claude Code report to a server by a name that stands for a private address, to which it posts
// nothing by its http hooks.
func TestRealClaudeCodePrivateName(t *testing.T) {
	if os.Getenv(namespaceVariable) == "" {
		inPrivateNetwork(t)
		return
	}
	p := prepareWorkplace(t)
	hosts := filepath.Join(p.home, "hosts")
	p.write(hosts, "127.0.0.1 localhost\n"+privateAddress+" "+privateName+"\n")
	for _, command := range [][]string{
		{"mount", "--bind", hosts, "/etc/hosts"},
		{"ip", "address", "add", privateAddress + "/32", "dev", "lo"},
	} {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput() //nolint:gosec // they stand here
		require.NoError(t, err, "%s: %s", command, out)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(privateAddress, "0")) //nolint:noctx // it listens at once
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(p)
	server.Listener.Close() //nolint:errcheck // nothing came to it
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	p.address = "http://" + net.JoinHostPort(privateName, port)
	p.runClaudeCode(newestClaudeCode)
}

// inPrivateNetwork runs the test again, in namespaces of its own for the network and for what is mounted where.
func inPrivateNetwork(t *testing.T) {
	t.Helper()
	if os.Getenv(clientsVariable) == "" {
		t.Skip("the clients are not installed: run make test-clients")
	}
	for _, tool := range []string{"unshare", "ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s: install util-linux and iproute2, and run make test-clients", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may make a network: run sudo make test-clients")
	}
	t.Parallel()
	//nolint:gosec // it is this program
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--", "sh", "-c", `ip link set lo up && exec "$@"`, "sh",
		os.Args[0], "-test.run", "^TestRealClaudeCodePrivateName$", "-test.count", "1", "-test.timeout", "5m", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=yes", programVariable+"="+program())
	out, err := cmd.CombinedOutput()
	if err != nil && exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "true").Run() != nil {
		t.Skipf("this machine lets nobody make a network, not even root: run make test-clients on one that does: %s", out)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestRealClaudeCodePrivateName", "%s", out)
}
