//go:build unix

package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
)

const (
	// chaosRounds is how many rounds TestClusterUnderChaos has, unless KUBEAGENTS_CHAOS_ROUNDS specifies another number.
	chaosRounds = 6
	// chaosSeed is the environment variable with the seed of an earlier run, to make the same choices again.
	chaosSeed = "KUBEAGENTS_CHAOS_SEED"

	chaosWriters      = 32
	reportsPerSession = 500
	chaosPatience     = 2 * time.Minute
)

// TestClusterUnderChaos kills, stops and cuts off servers and NATS nodes at random while 32 writers report to all
// servers and a follower reads the changes. Everything that was acknowledged is there once, all servers show the same,
// and the follower got each change once and in order, or was told to list anew.
func TestClusterUnderChaos(t *testing.T) {
	natstest.Long(t)
	t.Run("nodes in this process", func(t *testing.T) { testChaos(t, natstest.Start(t, 3)) })
	t.Run("the program nats-server", func(t *testing.T) { testChaos(t, natstest.StartProgram(t, natstest.Program(t), 3)) })
}

func testChaos(t *testing.T, nodes *natstest.Cluster) {
	seed := rand.Uint64()
	if text := os.Getenv(chaosSeed); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("to make the same choices again: %s=%d", chaosSeed, seed)
	c := &chaos{t: t, nodes: nodes, group: startGroup(t, nodes), random: rand.New(rand.NewPCG(seed, 0))}
	stopWriting := c.write()
	follower := followChanges(t, c.group)
	for round := range rounds(t, "KUBEAGENTS_CHAOS_ROUNDS", chaosRounds) {
		c.round(round)
	}
	sessions := stopWriting()
	last := c.report(t, 0, reportOf("agent-1", "last", "success"))
	c.requireAlike(last, sessions)
	c.requireOnce(sessions)
	follower.requireComplete(t)
	for _, s := range c.servers {
		c.requireAlive(s)
	}
}

// chaos is three servers on three NATS nodes to which things happen.
type chaos struct {
	*group
	t      *testing.T
	nodes  *natstest.Cluster
	random *rand.Rand
	acked  atomic.Int64 // reports that were acknowledged
	failed atomic.Int64 // attempts to report that failed
}

// fault is something that happens to a server or a node.
type fault struct {
	what   string
	target string
	do     func()
	undo   func()
	order  int // faults with a lower order are undone first: a server starts only once NATS can be reached
}

// faults returns what can happen to a server and a node.
func (c *chaos) faults(server, node int) []fault {
	n := c.nodes.Node(node)
	hub, restart := fmt.Sprint("server ", server), func() { c.replace(c.t, server) }
	return []fault{
		{"kill -9", hub, func() { c.requireAlive(c.servers[server]); c.servers[server].kill(c.t) }, restart, 1},
		{"an orderly stop", hub, func() { require.Zero(c.t, c.servers[server].stop(c.t), "%s", c.servers[server].stderr) }, restart, 1},
		{"stopped", n.Name(), n.Stop, n.Restart, 0},
		{"cut off", n.Name(), n.CutOff, n.Rejoin, 0},
	}
}

// choose returns one fault or, one time in five, two of different targets.
func (c *chaos) choose() (chosen []fault) {
	n := 1
	if c.random.IntN(5) == 0 {
		n = 2
	}
	for len(chosen) < n {
		all := c.faults(c.random.IntN(3), c.random.IntN(3))
		next := all[c.random.IntN(len(all))]
		if !slices.ContainsFunc(chosen, func(f fault) bool { return f.target == next.target }) {
			chosen = append(chosen, next)
		}
	}
	return chosen
}

// round makes something happen, undoes it after some seconds, and waits until reports are taken everywhere.
func (c *chaos) round(number int) {
	chosen := c.choose()
	hold := time.Second + time.Duration(c.random.IntN(11_000))*time.Millisecond
	var names []string
	for _, f := range chosen {
		names = append(names, f.target+": "+f.what)
	}
	leader, before := c.nodes.LeaderOf("KUBEAGENTS").Name(), c.acked.Load()
	for _, f := range chosen {
		f.do()
	}
	time.Sleep(hold) // how long the fault lasts is part of what is tested
	during := c.acked.Load() - before
	slices.SortStableFunc(chosen, func(a, b fault) int { return cmp.Compare(a.order, b.order) })
	undone := time.Now()
	for _, f := range chosen {
		f.undo()
	}
	for _, s := range c.servers {
		c.requireAlive(s)
	}
	c.nodes.AwaitReady()
	c.awaitReady(c.t)
	after := c.acked.Load()
	require.Eventually(c.t, func() bool { return c.acked.Load() > after+10*chaosWriters }, chaosPatience, 10*time.Millisecond, "no reports are taken")
	c.t.Logf("round %d: %s for %v (%s led the stream); %d reports meanwhile, %d attempts failed so far, well %v after",
		number, strings.Join(names, ", "), hold, leader, during, c.failed.Load(), time.Since(undone).Round(time.Millisecond))
}

// requireAlive requires that a server has not ended by itself.
func (c *chaos) requireAlive(s *process) {
	c.t.Helper()
	select {
	case <-s.read:
		require.Fail(c.t, "a server has ended by itself", "%s", s.stderr)
	default:
	}
}

// key is a session of a writer.
type key struct{ agent, topic string }

// write starts the writers. The function that it returns stops them, and returns how many reports each session has.
func (c *chaos) write() (stop func() map[key]int) {
	stopping := make(chan struct{})
	var writers sync.WaitGroup
	var mu sync.Mutex
	all := map[key]int{}
	for w := range chaosWriters {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stopping:
					return
				case <-time.After(20 * time.Millisecond): // agents think
				}
				k := key{fmt.Sprint("agent-", w%8), fmt.Sprint("session-", w, "-", n/reportsPerSession)}
				if !c.writeOne(w+n, k, n%reportsPerSession) {
					return
				}
				mu.Lock()
				all[k]++
				mu.Unlock()
			}
		})
	}
	stop = sync.OnceValue(func() map[key]int {
		close(stopping)
		writers.Wait()
		return all
	})
	c.t.Cleanup(func() { stop() })
	return stop
}

// writeOne sends a report to the servers in turn until one takes it.
func (c *chaos) writeOne(first int, k key, n int) bool {
	status := []string{"running", "pending", "running", "success", "failed"}[n%5]
	body := fmt.Sprintf(`{"agent_id":%q,"session_topic":%q,"status":%q,"message":"%d","report_id":"%s-%d","ttl_minutes":1}`, k.agent, k.topic, status, n, k.topic, n)
	began := time.Now()
	for try := 0; time.Since(began) < chaosPatience && c.t.Context().Err() == nil; try++ {
		w := c.server(first+try).do(http.MethodPost, "/webhook/status", body)
		if w.Code == http.StatusOK {
			c.acked.Add(1)
			return true
		}
		if w.Code != 0 && w.Code != http.StatusServiceUnavailable {
			c.t.Errorf("report %s: %d %s", body, w.Code, w.Body)
			return false
		}
		c.failed.Add(1)
		time.Sleep(50 * time.Millisecond) // as a client does before it tries again
	}
	c.t.Errorf("no server takes %s", body)
	return false
}

// requireAlike requires that all servers answer every read alike, as they are after a position.
func (c *chaos) requireAlike(position string, sessions map[key]int) {
	targets := []string{"/api/summary", "/api/sessions?limit=1000", "/api/sessions?needs=waiting&limit=1000", "/api/sessions?needs=failed&limit=1000",
		"/api/sessions?needs=lost&limit=1000", "/api/sessions?sort=last_updated&limit=1000", "/api/agents?limit=1000"}
	for w := range 8 {
		targets = append(targets, fmt.Sprintf("/api/agents/agent-%d", w), fmt.Sprintf("/api/agents/agent-%d/status?limit=1000", w), fmt.Sprintf("/api/agents/agent-%d/sessions?limit=1000", w))
	}
	for k := range sessions {
		targets = append(targets, fmt.Sprintf("/api/agents/%s/sessions/%s?limit=1000", k.agent, k.topic))
	}
	for _, target := range targets {
		for target != "" {
			target = c.requireReadAlike(position, target)
		}
	}
}

// requireReadAlike requires that all servers answer a read alike, and returns the target of the next page.
//
// Time goes on meanwhile: the answers count if all are of the same position.
func (c *chaos) requireReadAlike(position, target string) (next string) {
	c.t.Helper()
	if !strings.Contains(target, "after=") { // the address of the next page has it
		target = readAfter(position, target)
	}
	var answers []string
	for began := time.Now(); time.Since(began) < chaosPatience; {
		answers = answers[:0]
		for _, s := range c.servers {
			w := s.do(http.MethodGet, target, "")
			require.Equal(c.t, http.StatusOK, w.Code, w.Body)
			h := w.Header()
			next, _, _ = strings.Cut(strings.TrimPrefix(h.Get("Link"), "<"), ">")
			answers = append(answers, fmt.Sprint(h.Get("X-Event-Id"), " ", strings.ReplaceAll(next, s.address, ""), "\n", w.Body))
		}
		if answers[0] == answers[1] && answers[0] == answers[2] {
			return next[max(0, strings.Index(next, "/api")):]
		}
	}
	require.Equal(c.t, answers[0], answers[1], target)
	require.Equal(c.t, answers[0], answers[2], target)
	return ""
}

// requireOnce requires that each report is in the history of its session once, and in its place.
func (c *chaos) requireOnce(sessions map[key]int) {
	total := 0
	for k, reports := range sessions {
		for i, s := range c.servers {
			var messages, expected []string
			for target := fmt.Sprintf("/api/agents/%s/sessions/%s?limit=1000", k.agent, k.topic); target != ""; {
				var page struct {
					StatusHistory []models.AgentStatus `json:"status_history"`
				}
				target = s.get(c.t, target, &page)
				for _, status := range page.StatusHistory {
					messages = append(messages, status.Message)
				}
			}
			for n := range reports {
				expected = append(expected, strconv.Itoa(reports-1-n))
			}
			require.Equal(c.t, expected, messages, "%s at server %d", k.topic, i)
		}
		total += reports
	}
	c.t.Log(total, "reports in", len(sessions), "sessions")
}
