//go:build unix

package e2e

import (
	"fmt"
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
	environment [][]string
	servers     []*process
	mu          sync.RWMutex // protects servers
}

func startGroup(t *testing.T, nodes *natstest.Cluster, environment ...string) *group {
	t.Helper()
	f := &group{}
	for i := range 3 {
		f.environment = append(f.environment, append([]string{"NATS_URL=" + nodes.URL(), "DATA_DIR=" + t.TempDir(), fmt.Sprint("SERVER_NAME=hub-", i)}, environment...))
		f.servers = append(f.servers, start(t, f.environment[i]...))
	}
	f.awaitReady(t)
	return f
}

// awaitReady waits until each server takes reports.
func (f *group) awaitReady(t *testing.T) {
	t.Helper()
	for _, s := range f.servers {
		require.Eventually(t, func() bool { return s.do(http.MethodGet, "/health/ready", "").Code == http.StatusOK }, time.Minute, 10*time.Millisecond, "%s", s.stderr)
	}
}

// replace starts a server again that has ended.
func (f *group) replace(t *testing.T, i int) {
	t.Helper()
	s := start(t, f.environment[i]...)
	f.mu.Lock()
	f.servers[i] = s
	f.mu.Unlock()
}

// report reports to the servers in turn, and again to the next one until one takes the report.
func (f *group) report(t *testing.T, first int, body string) (position string) {
	for try := range 600 {
		f.mu.RLock()
		s := f.servers[(first+try)%len(f.servers)]
		f.mu.RUnlock()
		w := s.do(http.MethodPost, "/webhook/status", body)
		if w.Code == http.StatusOK {
			return w.Header().Get("X-Position")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("no server takes %s", body)
	return ""
}

// requireEqual requires that all servers answer reads alike, as they are after a position.
func (f *group) requireEqual(t *testing.T, position string) {
	t.Helper()
	for _, target := range []string{"/api/sessions?limit=1000", "/api/agents?limit=1000", "/api/agents/agent-1/status?limit=1000", "/api/agents/agent-1/sessions/session-1?limit=1000", "/api/summary"} {
		var first string
		for i, s := range f.servers {
			after := "?"
			if strings.Contains(target, "?") {
				after = "&"
			}
			w := s.do(http.MethodGet, target+after+"after="+position, "")
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			if i == 0 {
				first = w.Body.String()
			}
			require.Equal(t, first, w.Body.String(), target)
		}
	}
}

// TestClusterUnderUpgrades upgrades three servers one after another and kills one while clients report to all of them. Everything that
// was acknowledged is there once, at each of them.
func TestClusterUnderUpgrades(t *testing.T) {
	natstest.Long(t)
	f := startGroup(t, natstest.Start(t, 3))
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
				f.report(t, w+n, fmt.Sprintf(`{"agent_id":"agent-%d","session_topic":"session-%d","status":"running","message":"%d","report_id":"%d-%d"}`, w, w, n, w, n))
				acknowledged.Add(1)
			}
		})
	}
	for i := range 3 {
		require.Zero(t, f.servers[i].stop(t), "%s", f.servers[i].stderr)
		f.replace(t, i)
	}
	f.servers[1].kill(t)
	f.replace(t, 1)
	close(stop)
	writers.Wait()
	f.awaitReady(t)
	last := f.report(t, 0, `{"agent_id":"agent-1","session_topic":"last","status":"success"}`)
	f.requireEqual(t, last)
	total := 0
	for w := range 8 {
		var page struct {
			StatusHistory []struct{ Message string } `json:"status_history"`
		}
		seen := map[string]bool{}
		for target := fmt.Sprintf("/api/agents/agent-%d/sessions/session-%d?limit=1000", w, w); target != ""; {
			target = f.servers[w%3].get(t, target, &page)
			for _, status := range page.StatusHistory {
				require.False(t, seen[status.Message], "twice")
				seen[status.Message] = true
			}
		}
		total += len(seen)
	}
	require.EqualValues(t, acknowledged.Load(), total)
	for _, s := range f.servers {
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	}
	t.Log(total, "reports")
}
