//go:build unix

package e2e

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/live/livetest"
)

func TestSubscribersAreLimited(t *testing.T) {
	p := start(t, "MAX_SUBSCRIBERS=2", "EVENT_WINDOW=100", "SHUTDOWN_TIMEOUT=5s")
	first, _ := livetest.Listen(t, "http://"+p.address, "")
	livetest.Listen(t, "http://"+p.address, "?agent_id=a")
	resp, err := http.Get("http://" + p.address + "/api/events")
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Contains(t, string(body), "MAX_SUBSCRIBERS")
	// An open stream does not delay the stop: it gets a bye event.
	done := make(chan int)
	go func() { done <- p.stop(t) }()
	require.Equal(t, "the server is stopping", first.RequireNext(t, "bye")["reason"])
	_, err = first.Next()
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, <-done, "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "cut off")
}
