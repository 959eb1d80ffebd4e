// Package natstest runs NATS servers with JetStream for tests: in the process of the test, or as processes of their
// own.
//
// Every connection to a node and between nodes goes through a link, a TCP proxy on loopback with a fixed address, so a
// node keeps its address when it restarts, and can be cut off from everything else. Stores are files below a temporary
// directory of the test, and every write is synced, as the manual demands of real servers. Nothing outlives the test.
//
// The timeouts of NATS's elections are not exported and are left as they are: a cluster that loses a leader has a new
// one after 4 to 9 seconds.
//
// Only tests import this package: it contains the whole NATS server.
package natstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// LongVariable is the environment variable that makes tests run that take long.
const LongVariable = "KUBEAGENTS_NATS"

// Long skips a test that takes long, for example because it awaits elections, unless [LongVariable] is set.
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv(LongVariable) == "" {
		t.Skip("it takes long: run it with make test-nats")
	}
}

// patience is how long a cluster may take for anything; an election takes at most 9 seconds on an idle machine.
const patience = time.Minute

// Cluster is one NATS server, or several that form a JetStream cluster. Its methods fail the test, so they must be
// called from the test's own goroutine.
type Cluster struct {
	t     testing.TB
	nodes []*Node
}

// Start starts n nodes, 1 or 3, in this process. It returns once they have elected a leader for JetStream and all of
// them follow it. configure changes the options of each node before each of its starts, for example to require TLS.
func Start(t testing.TB, n int, configure ...func(*server.Options)) *Cluster {
	t.Helper()
	return StartIn(t, directories(t, n), configure...)
}

// StartIn is Start with one node for each of the directories, which keeps its store there.
func StartIn(t testing.TB, dirs []string, configure ...func(*server.Options)) *Cluster {
	t.Helper()
	return start(t, dirs, func(settings nodeSettings) process { return newEmbedded(settings, configure) })
}

func directories(t testing.TB, n int) (dirs []string) {
	for range n {
		dirs = append(dirs, t.TempDir())
	}
	return dirs
}

// start makes a node for each of the directories, with the links between them, and starts each as the process that run
// returns.
func start(t testing.TB, dirs []string, run func(nodeSettings) process) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for i, dir := range dirs {
		c.nodes = append(c.nodes, newNode(t, i, dir))
	}
	for _, node := range c.nodes {
		settings := nodeSettings{name: node.name, dir: node.dir, clientAddress: node.client.address()}
		for _, other := range c.nodes {
			if other != node {
				route := newLink(t)
				settings.routes = append(settings.routes, route.address())
				node.routesOut, other.routesIn = append(node.routesOut, route), append(other.routesIn, route)
			}
		}
		node.process = run(settings)
	}
	t.Cleanup(c.end)
	for _, node := range c.nodes {
		node.Restart()
	}
	c.AwaitReady()
	return c
}

// end stops every node, without waiting for others to notice, and prints the logs of a test that failed.
func (c *Cluster) end() {
	for _, node := range c.nodes {
		node.Stop()
		if c.t.Failed() {
			c.t.Logf("NATS node %s logged:\n%s", node.name, node.process.log())
		}
	}
}

// URL returns the addresses of all nodes, separated by commas.
func (c *Cluster) URL() string {
	return strings.Join(c.URLs(), ",")
}

// URLs returns the address of each node.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, node := range c.nodes {
		urls = append(urls, node.URL())
	}
	return urls
}

// MonitorURLs returns the address of each node's monitoring, which is plain HTTP.
func (c *Cluster) MonitorURLs() []string {
	var urls []string
	for _, node := range c.nodes {
		urls = append(urls, node.MonitorURL())
	}
	return urls
}

// Node returns node i, counted from 0.
func (c *Cluster) Node(i int) *Node {
	return c.nodes[i]
}

// Nodes returns all nodes.
func (c *Cluster) Nodes() []*Node {
	return c.nodes
}

// AwaitReady waits until the nodes that run and are not cut off agree on a leader for JetStream, and follow it.
func (c *Cluster) AwaitReady() {
	c.t.Helper()
	c.await("the nodes follow one leader", func() bool {
		reachable := c.reachable()
		leaders := map[string]bool{}
		for _, node := range reachable {
			leader, current := node.meta()
			if leader == "" {
				return false
			}
			if leader == node.name && current < len(reachable)-1 {
				return false
			}
			leaders[leader] = true
		}
		return len(leaders) == 1
	})
}

// LeaderOf waits for a leader of a stream among the nodes that run and are not cut off, and returns it.
func (c *Cluster) LeaderOf(stream string) *Node {
	c.t.Helper()
	var leader *Node
	c.await("the stream "+stream+" has a leader", func() bool {
		for _, node := range c.reachable() {
			if node.leads(stream) {
				leader = node
			}
		}
		return leader != nil
	})
	return leader
}

// AwaitReplicas waits until each stream has a leader, which all of its replicas follow, and reports whether that
// happened within a time. A node whose store is damaged may never follow again.
func (c *Cluster) AwaitReplicas(within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c.replicated() {
			return true
		}
	}
	return false
}

func (c *Cluster) replicated() bool {
	led, seen := map[string]bool{}, map[string]bool{}
	for _, node := range c.nodes {
		for _, stream := range node.streams() {
			seen[stream.Name] = true
			if stream.Cluster == nil || stream.Cluster.Leader != node.name {
				continue
			}
			led[stream.Name] = len(stream.Cluster.Replicas) == len(c.nodes)-1
			for _, replica := range stream.Cluster.Replicas {
				led[stream.Name] = led[stream.Name] && replica.Current && !replica.Offline
			}
		}
	}
	for stream := range seen {
		if !led[stream] {
			return false
		}
	}
	return true
}

// reachable returns the nodes that run and are not cut off.
func (c *Cluster) reachable() []*Node {
	var nodes []*Node
	for _, node := range c.nodes {
		if node.running && !node.cutOff {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func (c *Cluster) await(what string, happened func() bool) {
	c.t.Helper()
	require.Eventually(c.t, happened, patience, 10*time.Millisecond, what)
}

// get reads a page of a node's monitoring into v.
func get(url string, v any) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(v)
}
