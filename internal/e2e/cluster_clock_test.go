//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
)

// TestClusterWithWrongClocks runs three servers whose clocks differ by minutes, the first of which ran alone before. The
// stream's time counts at all of them. Then it sets the clock of the server that sends notifications back while an
// attempt is to be repeated, and stops that server.
func TestClusterWithWrongClocks(t *testing.T) {
	natstest.Long(t)
	began, hook := time.Now(), newReceiver(t)
	hook.fail = true
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, fmt.Appendf(nil, "destinations:\n  hook: {webhook: {url: %q}}\nrules:\n  - {name: all, on: [waits], after: 0s, to: [hook]}\n", hook.URL), 0o600))
	g := newGroup(t, shiftable(), natstest.Start(t, 1).URL(), "NATS_REPLICAS=1", "NOTIFY_FILE="+rules)
	var clocks []*clock
	for i, wrong := range []time.Duration{clockError, 0, -clockError} {
		clocks = append(clocks, newClock(t))
		clocks[i].shift(wrong)
		g.environment[i] = append(g.environment[i], clocks[i].setting())
	}
	dir := t.TempDir()
	g.environment[0] = append(g.environment[0], "DATA_DIR="+dir)
	alone := startAs(t, g.program, nil, "DATA_DIR="+dir, clocks[0].setting())
	alone.report(t, reportOf("alone", "t", "success"))
	require.Zero(t, alone.stop(t), "%s", alone.stderr)
	g.start(t)

	for i, s := range g.servers {
		topic := fmt.Sprint("session-", i)
		s.report(t, reportOf("agent-1", topic, "pending"))
		var session struct{ Session models.Session }
		s.get(t, "/api/agents/agent-1/sessions/"+topic, &session)
		received := s.statusesOf(t, "agent-1", topic)[0].ReceivedAt
		require.WithinRange(t, received, began, time.Now(), "server %d", i)
		require.Equal(t, received.Add(time.Duration(session.Session.TTLMinutes)*time.Minute), session.Session.ExpiresAt, "server %d", i)
		require.Empty(t, s.do(http.MethodGet, "/api/summary", "").Header().Get("X-Data-Age"), "server %d", i)
		require.Regexp(t, `\nkubeagents_longest_wait_seconds \d{1,2}(\.\d+)?\n`, s.do(http.MethodGet, "/metrics", "").Body.String(), "server %d", i)
	}
	g.requireEqual(t, g.report(t, 0, reportOf("agent-1", "last", "success")))

	holder := g.holder(t)
	require.Eventually(t, func() bool { // an attempt has failed
		var page struct {
			Pending []struct{ Attempts int }
		}
		g.servers[holder].get(t, "/api/notifications", &page)
		return len(page.Pending) > 0 && page.Pending[0].Attempts > 0
	}, time.Minute, 10*time.Millisecond)
	clocks[holder].shift(-2 * clockError)
	hook.mu.Lock()
	hook.fail = false
	hook.mu.Unlock()
	hook.await(t, 3)
	g.servers[holder].kill(t)
	g.replace(t, holder)
	g.awaitReady(t)
	g.report(t, 0, reportOf("agent-1", "after", "pending"))
	require.Eventually(t, func() bool {
		for _, m := range hook.arrived() {
			if m.Session.Topic == "after" {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
}

// holder returns the server that holds the lease.
func (g *group) holder(t *testing.T) (holder int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var health struct {
			Cluster struct {
				LeaseHolder string `json:"lease_holder"`
			}
		}
		g.servers[0].get(t, "/health", &health)
		_, err := fmt.Sscanf(health.Cluster.LeaseHolder, "hub-%d", &holder)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return holder
}
