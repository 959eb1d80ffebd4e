package natstest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// Node is one NATS server of a cluster. Its methods must be called from the test's own goroutine.
type Node struct {
	t       testing.TB
	name    string
	dir     string // of its store
	process process
	monitor string // the address of its monitoring, not through a link

	client, monitoring  *link
	routesIn, routesOut []*link

	running, cutOff bool
}

// process is a NATS server that can be started again after it was killed.
type process interface {
	// start returns once the server listens.
	start() (addresses, error)
	// kill returns once the server has ended.
	kill()
	log() string
}

// addresses are where a server listens: for clients, for HTTP and for other servers.
type addresses struct {
	client, monitor, route string
}

// nodeSettings are what the configuration of a node consists of.
type nodeSettings struct {
	name          string
	dir           string   // of its store
	clientAddress string   // where clients reach it
	routes        []string // where it reaches the other nodes
}

func newNode(t testing.TB, i int, dir string) *Node {
	return &Node{t: t, name: fmt.Sprintf("node-%d", i), dir: dir, client: newLink(t), monitoring: newLink(t)}
}

// Name returns the node's name, as NATS shows it.
func (n *Node) Name() string { return n.name }

// URL returns the address for clients. It stays the same when the node restarts.
func (n *Node) URL() string { return "nats://" + n.client.address() }

// MonitorURL returns the address of the node's monitoring. It stays the same when the node restarts.
func (n *Node) MonitorURL() string { return "http://" + n.monitoring.address() }

// Stop ends the node as a kill would: nobody gets a word from it any more, then all of its connections close. The
// store stays. A node in the test's process does write down what it has in memory; see StartProgram for one that
// does not. Stopping a node that doesn't run does nothing.
func (n *Node) Stop() {
	if !n.running {
		return
	}
	n.running = false
	n.cut()
	n.process.kill()
	for _, l := range n.links() {
		l.reset()
	}
}

// Restart starts the node with the store that it had, and returns once it listens. A node that runs is stopped first.
// It is not cut off any more.
func (n *Node) Restart() {
	n.t.Helper()
	n.Stop()
	a, err := n.process.start()
	require.NoError(n.t, err, "start NATS node %s", n.name)
	n.running, n.monitor = true, a.monitor
	n.client.connectTo(a.client)
	n.monitoring.connectTo(a.monitor)
	for _, l := range n.routesIn {
		l.connectTo(a.route)
	}
	n.Rejoin()
}

// CutOff cuts the node off from its clients and from the other nodes: nothing that either side sends arrives, and no
// connection is closed, as when a cable is pulled.
func (n *Node) CutOff() {
	n.cutOff = true
	n.cut()
}

func (n *Node) cut() {
	for _, l := range n.links() {
		l.cut()
	}
}

// Rejoin ends CutOff. What was sent meanwhile arrives, on the connections that neither side has given up.
func (n *Node) Rejoin() {
	n.cutOff = false
	for _, l := range n.links() {
		l.heal()
	}
}

func (n *Node) links() []*link {
	links := append([]*link{n.client, n.monitoring}, n.routesIn...)
	return append(links, n.routesOut...)
}

// meta returns whom this node takes for the leader of JetStream, "" if for nobody, and if it is itself, how many
// others follow it closely.
func (n *Node) meta() (leader string, current int) {
	var page server.JSInfo
	if err := get("http://"+n.monitor+"/jsz", &page); err != nil {
		return "", 0
	}
	if page.Disabled && len(n.routesOut) > 0 {
		return "", 0
	}
	if page.Meta == nil { // JetStream without a cluster
		return n.name, 0
	}
	for _, replica := range page.Meta.Replicas {
		if replica.Current && !replica.Offline {
			current++
		}
	}
	return page.Meta.Leader, current
}

// HasJetStream reports whether JetStream works on the node. A node ends it when it can't write to its store, and goes on
// without.
func (n *Node) HasJetStream() bool {
	var page server.JSInfo
	return get("http://"+n.monitor+"/jsz", &page) == nil && !page.Disabled
}

// leads reports whether the node leads a stream, of whichever account.
func (n *Node) leads(stream string) bool {
	for _, detail := range n.streams() {
		if detail.Name == stream {
			return detail.Cluster == nil || detail.Cluster.Leader == n.name
		}
	}
	return false
}

// streams returns the streams of which the node has a replica, of all accounts.
func (n *Node) streams() (streams []server.StreamDetail) {
	var page server.JSInfo
	if err := get("http://"+n.monitor+"/jsz?accounts=true&streams=true", &page); err != nil {
		return nil
	}
	for _, account := range page.AccountDetails {
		streams = append(streams, account.Streams...)
	}
	return streams
}

// Empty removes the store of the node, which must not run. It gets everything from the others when it starts.
func (n *Node) Empty() {
	n.t.Helper()
	entries, err := os.ReadDir(n.dir)
	require.NoError(n.t, err)
	for _, e := range entries {
		require.NoError(n.t, os.RemoveAll(filepath.Join(n.dir, e.Name())))
	}
}

// Damage flips a bit in the store of the node, which must not run, and says where. The file is chosen at random among
// those whose path contains all parts, and that are not empty.
func (n *Node) Damage(random *rand.Rand, parts ...string) string {
	n.t.Helper()
	var files []string
	require.NoError(n.t, filepath.WalkDir(n.dir, func(path string, e fs.DirEntry, err error) error {
		for _, part := range parts {
			if !strings.Contains(path, part) {
				return nil
			}
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	require.NotEmpty(n.t, files, "%s has no file %s", n.name, parts)
	path := files[random.IntN(len(files))]
	content, err := os.ReadFile(path)
	require.NoError(n.t, err)
	at, bit := random.IntN(len(content)), random.IntN(8)
	content[at] ^= 1 << bit
	require.NoError(n.t, os.WriteFile(path, content, 0o600))
	return fmt.Sprintf("%s: bit %d of byte %d of %d in %s", n.name, bit, at, len(content), strings.TrimPrefix(path, n.dir))
}
