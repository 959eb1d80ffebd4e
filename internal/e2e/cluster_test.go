//go:build unix

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
)

// group is three servers that share a log.
type group struct {
	program     string
	environment [][]string
	servers     []*process
	mu          sync.RWMutex // protects servers
}

func startGroup(t *testing.T, nodes *natstest.Cluster, environment ...string) *group {
	t.Helper()
	g := newGroup(t, program(), nodes.URL(), environment...)
	g.start(t)
	return g
}

// newGroup returns a group whose servers do not run yet. More may be added to their environments.
func newGroup(t *testing.T, program, nodes string, environment ...string) *group {
	g := &group{program: program}
	for i := range 3 {
		own := []string{"NATS_URL=" + nodes, "DATA_DIR=" + t.TempDir(), fmt.Sprint("SERVER_NAME=hub-", i)}
		g.environment = append(g.environment, append(own, environment...))
	}
	return g
}

// start starts all servers.
func (g *group) start(t *testing.T) {
	t.Helper()
	for i := range g.environment {
		g.servers = append(g.servers, startAs(t, g.program, nil, g.environment[i]...))
	}
	g.awaitReady(t)
}

// awaitReady waits until each server takes reports.
func (g *group) awaitReady(t *testing.T) {
	t.Helper()
	for _, s := range g.servers {
		require.Eventually(t, func() bool { return s.do(http.MethodGet, "/health/ready", "").Code == http.StatusOK }, time.Minute, 10*time.Millisecond, "%s", s.stderr)
	}
}

// server returns the server that has the place of i, if they take turns.
func (g *group) server(i int) *process {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.servers[i%len(g.servers)]
}

// replace starts a server again that has ended.
func (g *group) replace(t *testing.T, i int) {
	t.Helper()
	s := startAs(t, g.program, nil, g.environment[i]...)
	g.mu.Lock()
	g.servers[i] = s
	g.mu.Unlock()
}

// report reports to the servers in turn, and again to the next one until one takes the report.
func (g *group) report(t *testing.T, first int, body string) (position string) {
	for try := range 600 {
		w := g.server(first+try).do(http.MethodPost, "/webhook/status", body)
		if w.Code == http.StatusOK {
			return w.Header().Get("X-Position")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("no server takes %s", body)
	return ""
}

// take implements hub: it reports to a server at random.
func (g *group) take(t *testing.T, body string) { g.report(t, rand.IntN(len(g.servers)), body) }

// place returns the place of the server that sends notifications.
func (g *group) place(t *testing.T) (place int) {
	t.Helper()
	require.Eventually(t, func() bool {
		for i, s := range g.servers {
			if strings.Contains(s.do(http.MethodGet, "/metrics", "").Body.String(), "kubeagents_cluster_lease_held 1") {
				place = i
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond, "no server holds the lease")
	return place
}

// sender implements hub.
func (g *group) sender(t *testing.T) *process { return g.servers[g.place(t)] }

// killSender implements hub.
func (g *group) killSender(t *testing.T) {
	i := g.place(t)
	g.servers[i].kill(t)
	g.replace(t, i)
	g.awaitReady(t)
}

// readAfter returns the target of a read that waits for a position.
func readAfter(position, target string) string {
	if strings.Contains(target, "?") {
		return target + "&after=" + position
	}
	return target + "?after=" + position
}

// requireEqual requires that all servers answer reads alike, as they are after a position.
func (g *group) requireEqual(t *testing.T, position string) {
	t.Helper()
	for _, target := range []string{"/api/sessions?limit=1000", "/api/agents?limit=1000", "/api/agents/agent-1/status?limit=1000", "/api/agents/agent-1/sessions/session-1?limit=1000", "/api/summary"} {
		var first string
		for i, s := range g.servers {
			w := s.do(http.MethodGet, readAfter(position, target), "")
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			if i == 0 {
				first = w.Body.String()
			}
			require.Equal(t, first, w.Body.String(), target)
		}
	}
}

// TestClusterUnderUpgrades upgrades three servers one after another and kills one while clients report to all of them.
// Everything that was acknowledged is there once, at each of them.
func TestClusterUnderUpgrades(t *testing.T) {
	natstest.Long(t)
	g := startGroup(t, natstest.Start(t, 3))
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				g.report(t, w+n, fmt.Sprintf(`{"agent_id":"agent-%d","session_topic":"session-%d","status":"running","message":"%d","report_id":"%d-%d"}`, w, w, n, w, n))
				acknowledged.Add(1)
			}
		})
	}
	for i := range 3 {
		require.Zero(t, g.servers[i].stop(t), "%s", g.servers[i].stderr)
		g.replace(t, i)
	}
	g.servers[1].kill(t)
	g.replace(t, 1)
	close(stop)
	writers.Wait()
	g.awaitReady(t)
	last := g.report(t, 0, `{"agent_id":"agent-1","session_topic":"last","status":"success"}`)
	g.requireEqual(t, last)
	total := 0
	for w := range 8 {
		var page struct {
			StatusHistory []struct{ Message string } `json:"status_history"`
		}
		seen := map[string]bool{}
		for target := fmt.Sprintf("/api/agents/agent-%d/sessions/session-%d?limit=1000", w, w); target != ""; {
			target = g.servers[w%3].get(t, target, &page)
			for _, status := range page.StatusHistory {
				require.False(t, seen[status.Message], "twice")
				seen[status.Message] = true
			}
		}
		total += len(seen)
	}
	require.EqualValues(t, acknowledged.Load(), total)
	for _, s := range g.servers {
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	}
	t.Log(total, "reports")
}
