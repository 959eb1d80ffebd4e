//go:build unix

package e2e

import (
	"bufio"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheServerWorksByItself checks that sessions expire without a request, and that history is deleted at the end of its
// retention.
func TestTheServerWorksByItself(t *testing.T) {
	p := start(t, "DATA_DIR="+filepath.Join(t.TempDir(), "data"), "EXPIRY_INTERVAL=10ms", "HISTORY_RETENTION=1s", "SHUTDOWN_TIMEOUT=100ms")
	runs := func() int {
		found := regexp.MustCompile(`(?m)^kubeagents_expiry_run_duration_seconds_count (\d+)$`).FindStringSubmatch(p.do(http.MethodGet, "/metrics", "").Body.String())
		n, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		return n
	}
	require.Eventually(t, func() bool { return runs() > 3 }, 10*time.Second, 20*time.Millisecond)
	p.report(t, `{"agent_id":"a","session_topic":"t","status":"running","timestamp":"2001-01-01T00:00:00Z"}`)
	p.report(t, `{"agent_id":"a","session_topic":"t","status":"pending","timestamp":"2001-01-01T00:00:01Z"}`)
	require.Eventually(t, func() bool { return len(p.statusesOf(t, "a", "t")) == 1 }, 10*time.Second, 20*time.Millisecond, "only the current status is left")
	require.Zero(t, p.stop(t))
}

// TestLimitsOfHeaders checks that headers have a limit, and that pages of other origins may not remove anything from a
// server without tokens.
func TestLimitsOfHeaders(t *testing.T) {
	p := start(t, "SHUTDOWN_TIMEOUT=100ms")
	require.Equal(t, http.StatusOK, p.do(http.MethodGet, "/health", "", "X-Long: "+strings.Repeat("x", 50<<10)).Code)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, p.do(http.MethodGet, "/health", "", "X-Long: "+strings.Repeat("x", 100<<10)).Code)
	preflight := func(method string) string {
		return p.do(http.MethodOptions, "/api/agents/a", "", "Origin: https://dash.example", "Access-Control-Request-Method: "+method).Header().Get("Access-Control-Allow-Methods")
	}
	require.Equal(t, http.MethodGet, preflight(http.MethodGet))
	require.Empty(t, preflight(http.MethodDelete))
	require.Zero(t, p.stop(t))
}

// TestRefusedBodiesAreNotAwaited checks that a client whose token is unknown gets its response before it sends its body.
func TestRefusedBodiesAreNotAwaited(t *testing.T) {
	p := start(t, "WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "SHUTDOWN_TIMEOUT=100ms")
	started := time.Now()
	conn, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // the server closes it
	_, err = conn.Write([]byte("POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ka_x\r\nContent-Length: 1000\r\n\r\n["))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // nothing of it is needed
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.True(t, resp.Close)
	require.Less(t, time.Since(started), 20*time.Second)
	require.Zero(t, p.stop(t))
}
