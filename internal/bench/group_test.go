package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// logStream is the stream that the servers of a group share.
const logStream = "KUBEAGENTS"

// group is three servers on three NATS nodes. Each is a process of its own, with a directory on the disk. The nodes sync
// every write.
type group struct {
	nodes    []natsNode
	settings [][]string // of each server
	servers  []process
	js       []jetstream.JetStream // connections of the benchmark, one to each node
}

// natsNode is a process of the program nats-server.
type natsNode struct {
	pid int
	dir string
	url string
}

// startGroup starts three nodes, and three servers that each know one of them.
func startGroup(b *testing.B) *group {
	b.Helper()
	g := &group{nodes: startNodes(b)}
	for i, node := range g.nodes {
		g.settings = append(g.settings, settingsOf(b, fmt.Sprint("hub-", i), node.url))
		g.servers = append(g.servers, startServer(b, g.settings[i]...))
		g.js = append(g.js, connect(b, node.url))
	}
	for _, s := range g.servers {
		awaitReady(b, s)
	}
	return g
}

// settingsOf returns the settings of a new server of a cluster.
func settingsOf(b *testing.B, name, natsURL string) []string {
	return []string{"NATS_URL=" + natsURL, "SERVER_NAME=" + name, "DATA_DIR=" + filepath.Join(b.TempDir(), "data")}
}

// startNodes starts three NATS nodes. Unlike those of package natstest, they talk to each other without a proxy.
func startNodes(b *testing.B) []natsNode {
	b.Helper()
	program := natstest.Program(b)
	for range 5 {
		if nodes := tryNodes(b, program); nodes != nil {
			return nodes
		}
	}
	b.Fatal("the NATS nodes don't start: another program keeps taking their ports")
	return nil
}

// tryNodes starts three NATS nodes, and returns nil if one of them ends, because another program has taken its port.
func tryNodes(b *testing.B, program string) (nodes []natsNode) {
	b.Helper()
	addresses := unusedAddresses(b, 9)
	routes, monitors, clients := addresses[:3], addresses[3:6], addresses[6:]
	ended := make(chan struct{}, len(routes))
	for i := range routes {
		node := natsNode{dir: b.TempDir(), url: "nats://" + clients[i]}
		config := filepath.Join(node.dir, "nats.conf")
		require.NoError(b, os.WriteFile(config, fmt.Appendf(nil, "server_name: node-%d\nlisten: %q\nhttp: %q\n"+
			"jetstream { store_dir: %q, sync_interval: always }\ncluster { name: bench, listen: %q, routes: [\"nats://%s\"] }\n",
			i, clients[i], monitors[i], node.dir, routes[i], strings.Join(routes, `", "nats://`)), 0o600))
		cmd := exec.Command(program, "-c", config)
		require.NoError(b, cmd.Start())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			cmd.Wait() //nolint:errcheck // it is killed, or could not listen
			ended <- struct{}{}
		})
		b.Cleanup(func() {
			cmd.Process.Kill() //nolint:errcheck // it may have ended
			waiting.Wait()
		})
		node.pid = cmd.Process.Pid
		nodes = append(nodes, node)
	}
	await(b, "the NATS nodes are ready", func() bool {
		return len(ended) > 0 || !slices.ContainsFunc(monitors, func(address string) bool { return !answers("http://" + address + "/healthz") })
	})
	if len(ended) > 0 {
		return nil
	}
	return nodes
}

// unusedAddresses returns addresses on loopback that nothing listens at.
func unusedAddresses(b *testing.B, n int) (addresses []string) {
	b.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		defer listener.Close() //nolint:errcheck // nothing was accepted
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses
}

// connect returns a connection to a node.
func connect(b *testing.B, url string) jetstream.JetStream {
	b.Helper()
	connection, err := nats.Connect(url, nats.MaxReconnects(-1))
	require.NoError(b, err)
	b.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	require.NoError(b, err)
	return js
}

// patience is how long a group may take for anything.
const patience = 5 * time.Minute

func await(b *testing.B, what string, happened func() bool) {
	b.Helper()
	require.Eventually(b, happened, patience, 2*time.Millisecond, what)
}

// awaitReady waits until a server has caught up.
func awaitReady(b *testing.B, s process) {
	b.Helper()
	await(b, "a server is ready", func() bool { return answers("http://" + s.address + "/health/ready") })
}

// answers reports whether a request is answered with 200.
func answers(url string) bool {
	resp, err := http.Get(url) //nolint:noctx // it is answered at once, or not at all
	if err != nil {
		return false
	}
	resp.Body.Close() //nolint:errcheck // only its status matters
	return resp.StatusCode == http.StatusOK
}

// run sends requests for a span. The connections are spread over the servers.
func (g *group) run(b *testing.B, requests [][][]byte) (total load.Result) {
	b.Helper()
	results, errs := make([]load.Result, len(g.servers)), make([]error, len(g.servers))
	var running sync.WaitGroup
	for i, s := range g.servers {
		var own [][][]byte
		for c := i; c < len(requests); c += len(g.servers) {
			own = append(own, requests[c])
		}
		running.Go(func() { results[i], errs[i] = load.Run(s.address, own, span()) })
	}
	running.Wait()
	require.NoError(b, errors.Join(errs...))
	for _, r := range results {
		require.Zero(b, r.Failed)
		total.Requests, total.Elapsed, total.Took = total.Requests+r.Requests, max(total.Elapsed, r.Elapsed), append(total.Took, r.Took...)
	}
	return total
}

// usage is what a group has published and used since it was started.
type usage struct {
	messages   float64
	bytes      float64 // of the messages in the stream
	publishing float64 // seconds that it took to publish each of the messages, added up

	servers, nodes, load float64 // seconds of processor time
}

// usage returns what the group has used so far.
func (g *group) usage(b *testing.B) (u usage) {
	b.Helper()
	for _, s := range g.servers {
		u.messages += metric(b, s, "kubeagents_cluster_publish_duration_seconds_count")
		u.publishing += metric(b, s, "kubeagents_cluster_publish_duration_seconds_sum")
		u.servers += processorTime(b, s.pid)
	}
	for _, n := range g.nodes {
		u.nodes += processorTime(b, n.pid)
	}
	u.load, u.bytes = processorTime(b, os.Getpid()), g.streamBytes(b)
	return u
}

// since returns what was used after earlier.
func (u usage) since(earlier usage) usage {
	return usage{u.messages - earlier.messages, u.bytes - earlier.bytes, u.publishing - earlier.publishing,
		u.servers - earlier.servers, u.nodes - earlier.nodes, u.load - earlier.load}
}

// streamBytes returns how large the stream is.
func (g *group) streamBytes(b *testing.B) float64 {
	b.Helper()
	stream, err := g.js[0].Stream(b.Context(), logStream)
	require.NoError(b, err)
	return float64(stream.CachedInfo().State.Bytes)
}

// metric returns the value of a server's metric without labels.
func metric(b *testing.B, s process, name string) float64 {
	b.Helper()
	resp, err := http.Get("http://" + s.address + "/metrics")
	require.NoError(b, err)
	defer resp.Body.Close() //nolint:errcheck // it is only read
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			return n
		}
	}
	b.Fatalf("the server has no metric %s", name)
	return 0
}

// processorTime returns the seconds of processor time that a process has used, according to the kernel.
func processorTime(b *testing.B, pid int) float64 {
	b.Helper()
	const ticksPerSecond = 100 // of all architectures of Linux
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	require.NoError(b, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	require.NoError(b, err)
	system, err := strconv.ParseFloat(fields[12], 64)
	require.NoError(b, err)
	return (user + system) / ticksPerSecond
}

// onDisk returns the bytes of the files in a directory.
func onDisk(b *testing.B, dir string) (bytes float64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // files come and go
		}
		if info, err := entry.Info(); err == nil {
			bytes += float64(info.Size())
		}
		return nil
	})
	require.NoError(b, err)
	return bytes
}
