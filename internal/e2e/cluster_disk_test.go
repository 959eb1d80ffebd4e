//go:build unix

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
)

// TestClusterOnFullDisks fills the disks of two of three NATS nodes. Reports are refused with the cause, and reads go on.
// Once there is room, and the nodes were restarted, reports are taken again.
func TestClusterOnFullDisks(t *testing.T) {
	natstest.Long(t)
	var volumes []*volume
	var dirs []string
	for range 3 {
		v, err := newVolume(t)
		if err != nil {
			t.Skip(err)
		}
		volumes, dirs = append(volumes, v), append(dirs, v.dir)
	}
	nodes := natstest.StartIn(t, dirs)
	g := startGroup(t, nodes)
	g.report(t, 0, reportOf("agent-1", "session-1", "running"))
	for _, v := range volumes[:2] {
		v.fill()
	}
	for i, s := range g.servers {
		require.Eventually(t, func() bool {
			w := s.do(http.MethodPost, "/webhook/status", reportOf("agent-1", "session-1", "failed"))
			return w.Code == http.StatusServiceUnavailable && s.do(http.MethodGet, "/health", "").Code == http.StatusServiceUnavailable
		}, time.Minute, 10*time.Millisecond, "server %d", i)
		require.Regexp(t, `"cause":"(the stream|NATS)`, s.do(http.MethodGet, "/health", "").Body.String(), "server %d", i)
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/api/sessions", "").Code, "server %d", i)
	}
	for i, v := range volumes[:2] {
		v.empty()
		require.Eventually(t, func() bool { return !nodes.Node(i).HasJetStream() }, time.Minute, 10*time.Millisecond, "the node needs no restart")
		nodes.Node(i).Restart()
	}
	nodes.AwaitReady()
	g.awaitReady(t)
	g.requireEqual(t, g.report(t, 0, reportOf("agent-1", "session-1", "success")))
}
