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
	chaosRounds = 12
	// chaosSeed is the environment variable with the seed of an earlier run, to make the same choices again.
	chaosSeed = "KUBEAGENTS_CHAOS_SEED"
	// chaosClock is the environment variable with the most by which a server's clock is wrong. Without it, it is
	// clockError. If it is 0, clocks are left alone.
	chaosClock = "KUBEAGENTS_CHAOS_CLOCK"
	clockError = 7 * time.Minute

	chaosWriters      = 32
	chaosFollowers    = 3
	reportsPerSession = 500
	chaosPatience     = 2 * time.Minute
	replicasPatience  = 20 * time.Second // for a node to get what the others have, if its store is not damaged
)

// TestClusterUnderChaos makes things happen to servers and NATS nodes at random (see [chaos.faults]) while 32 writers
// report to all servers and three followers read the changes. Everything that was acknowledged is there once, with the
// time at which it was received, all servers show the same, and each follower got each change once and in order, or was
// told to list anew.
func TestClusterUnderChaos(t *testing.T) {
	natstest.Long(t)
	t.Run("nodes in this process", func(t *testing.T) {
		testChaos(t, func(dirs []string) *natstest.Cluster { return natstest.StartIn(t, dirs) })
	})
	t.Run("the program nats-server", func(t *testing.T) {
		path := natstest.Program(t)
		testChaos(t, func(dirs []string) *natstest.Cluster { return natstest.StartProgramIn(t, path, dirs) })
	})
}

func testChaos(t *testing.T, startNodes func(dirs []string) *natstest.Cluster) {
	c := newChaos(t, startNodes)
	began := time.Now()
	stopWriting := c.write()
	var followers []*follower
	for i := range chaosFollowers {
		followers = append(followers, followChanges(t, c.group, i))
	}
	for round := range rounds(t, "KUBEAGENTS_CHAOS_ROUNDS", chaosRounds) {
		c.round(round)
	}
	sessions := stopWriting()
	last := c.report(t, 0, reportOf("agent-1", "last", "success"))
	c.requireAlike(last, sessions)
	c.requireOnce(sessions, began)
	for _, f := range followers {
		f.requireComplete(t)
	}
	for _, s := range c.servers {
		c.requireAlive(s)
	}
}

// chaos is three servers on three NATS nodes to which things happen.
type chaos struct {
	*group
	t       *testing.T
	nodes   *natstest.Cluster
	random  *rand.Rand
	volumes []*volume // of the nodes, then of the servers; empty if there can be none
	clocks  []*clock  // of the servers; empty if they are left alone
	wrong   time.Duration
	damaged int          // the only node whose store is damaged
	acked   atomic.Int64 // reports that were acknowledged
	failed  atomic.Int64 // attempts to report that failed
}

func newChaos(t *testing.T, startNodes func(dirs []string) *natstest.Cluster) *chaos {
	seed, wrong := rand.Uint64(), clockError
	var err error
	if text := os.Getenv(chaosSeed); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	if text := os.Getenv(chaosClock); text != "" {
		wrong, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	t.Logf("to make the same choices again: %s=%d", chaosSeed, seed)
	c := &chaos{t: t, random: rand.New(rand.NewPCG(seed, 0)), wrong: wrong}
	c.damaged = c.random.IntN(3)
	dirs := c.directories()
	c.nodes = startNodes(dirs[:3])
	path := program()
	if wrong != 0 {
		path = shiftable()
	}
	c.group = newGroup(t, path, c.nodes.URL())
	for i := range 3 {
		c.environment[i] = append(c.environment[i], "DATA_DIR="+dirs[3+i])
		if wrong != 0 {
			c.clocks = append(c.clocks, newClock(t))
			c.environment[i] = append(c.environment[i], c.clocks[i].setting())
		}
	}
	c.start(t)
	return c
}

// directories returns the directories of the nodes' stores and of the servers' DATA_DIR, on volumes if possible.
func (c *chaos) directories() (dirs []string) {
	for range 6 {
		v, err := newVolume(c.t)
		if err != nil {
			c.t.Logf("no disk will be full: %v", err)
			for len(dirs) < 6 {
				dirs = append(dirs, c.t.TempDir())
			}
			return dirs
		}
		c.volumes, dirs = append(c.volumes, v), append(dirs, v.dir)
	}
	return dirs
}

// fault is something that happens to a server or a node.
type fault struct {
	what   string
	target string
	do     func()
	undo   func()
	order  int  // faults with a lower order are undone first: a server starts only once NATS can be reached
	alone  bool // nothing else may happen at the same time
}

// faults returns what can happen to a server and a node.
func (c *chaos) faults(server, node int) []fault {
	n := c.nodes.Node(node)
	hub, restart, nothing := fmt.Sprint("server ", server), func() { c.replace(c.t, server) }, func() {}
	all := []fault{
		{"kill -9", hub, func() { c.requireAlive(c.servers[server]); c.servers[server].kill(c.t) }, restart, 1, false},
		{"an orderly stop", hub, func() { require.Zero(c.t, c.servers[server].stop(c.t), "%s", c.servers[server].stderr) }, restart, 1, false},
		{"stopped", n.Name(), n.Stop, n.Restart, 0, false},
		{"cut off", n.Name(), n.CutOff, n.Rejoin, 0, false},
		{"its store damaged", c.nodes.Node(c.damaged).Name(), c.damage, nothing, 0, true},
	}
	if len(c.volumes) > 0 {
		full, data := c.volumes[node], c.volumes[3+server]
		all = append(all,
			fault{"its disk full", n.Name(), full.fill, func() { full.empty(); n.Restart() }, 0, false},
			fault{"its disk full", hub, data.fill, data.empty, 0, false})
	}
	if len(c.clocks) > 0 {
		all = append(all, fault{"its clock moved", hub, func() { c.moveClock(server) }, nothing, 0, false})
	}
	return all
}

// damage flips a bit in the store of a node while that is stopped: in half of the cases, of a message, else of any file.
func (c *chaos) damage() {
	n, part := c.nodes.Node(c.damaged), ""
	if c.random.IntN(2) == 0 {
		part = "/streams/KUBEAGENTS/msgs/"
	}
	n.Stop()
	c.t.Log(n.Damage(c.random, part))
	n.Restart()
}

// awaitReplicas waits until all nodes have everything. A node that does not get there because its store is damaged gets
// an empty one, as the manual says.
func (c *chaos) awaitReplicas() {
	if c.nodes.AwaitReplicas(replicasPatience) {
		return
	}
	n := c.nodes.Node(c.damaged)
	c.t.Logf("%s does not follow: its store is emptied", n.Name())
	n.Stop()
	n.Empty()
	n.Restart()
	c.nodes.AwaitReady()
	require.True(c.t, c.nodes.AwaitReplicas(chaosPatience), "a node does not get what the others have")
}

// moveClock makes the clock of a server wrong, in either direction. It stays so.
func (c *chaos) moveClock(server int) {
	by := time.Duration(c.random.Int64N(int64(2*c.wrong))) - c.wrong
	c.t.Logf("server %d: its clock is wrong by %v", server, by.Round(time.Second))
	c.clocks[server].shift(by)
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
		if next.alone {
			return []fault{next}
		}
		if !slices.ContainsFunc(chosen, func(f fault) bool { return f.target == next.target }) {
			chosen = append(chosen, next)
		}
	}
	return chosen
}

// round makes something happen, undoes it after some seconds, and waits until reports are taken everywhere.
func (c *chaos) round(number int) {
	chosen := c.choose()
	hold := time.Second + time.Duration(c.random.IntN(8_000))*time.Millisecond
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
	c.awaitReplicas()
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

// requireOnce requires that each report is in the history of its session once, in its place, and received since the
// test began: no clock of a server says when.
func (c *chaos) requireOnce(sessions map[key]int, began time.Time) {
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
					require.WithinRange(c.t, status.ReceivedAt, began.Add(-time.Second), time.Now(), "%s at server %d", k.topic, i)
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
