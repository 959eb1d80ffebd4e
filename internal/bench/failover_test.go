package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
)

// BenchmarkClusterFailover kills the NATS node that leads the stream, while six writers report to the three servers. It
// measures the time until each writer's server takes reports again, and checks that each report that was acknowledged is
// there once. It leaves out the loss of a machine or a network, of which the other nodes learn later than of a process
// that ends.
func BenchmarkClusterFailover(b *testing.B) {
	nodes := natstest.StartProgram(b, natstest.Program(b), 3)
	g := &group{js: []jetstream.JetStream{connect(b, nodes.URL())}}
	for i := range 3 {
		g.servers = append(g.servers, startServer(b, settingsOf(b, fmt.Sprint("hub-", i), nodes.URL())...))
	}
	for _, s := range g.servers {
		awaitReady(b, s)
	}
	writers, stop := g.startWriters(b)
	var outages []float64
	for b.Loop() {
		writers.mark()
		await(b, "reports are taken", writers.haveReported)
		leader, killed := nodes.LeaderOf(logStream), time.Now()
		leader.Stop()
		writers.mark()
		await(b, "reports are taken again", writers.haveReported)
		outages = append(outages, writers.last().Sub(killed).Seconds())
		leader.Restart()
		nodes.AwaitReady()
		await(b, "all nodes have the stream", func() bool { return g.isCurrent(b) })
	}
	stop()
	for i, w := range writers {
		g.requireOnce(b, i, w.acknowledged)
	}
	slices.Sort(outages)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(outages[0], "s_min")
	b.ReportMetric(outages[len(outages)/2], "s_median")
	b.ReportMetric(outages[len(outages)-1], "s_max")
}

// isCurrent reports whether all nodes have what the stream's leader has.
func (g *group) isCurrent(b *testing.B) bool {
	stream, err := g.js[0].Stream(b.Context(), logStream)
	if err != nil {
		return false
	}
	replicas := stream.CachedInfo().Cluster.Replicas
	return len(replicas) == 2 && !slices.ContainsFunc(replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
}

// writer sends reports of a session, one after another. One that is not acknowledged is sent again.
type writer struct {
	mu           sync.Mutex
	acknowledged int
	marked       time.Time
	first        time.Time // at which a report was acknowledged that was sent after marked; zero before that
}

// send sends the next report to a server.
func (w *writer) send(server process, number int) error {
	began := time.Now()
	body := fmt.Sprintf(`{"agent_id":"writer-%d","session_topic":"t","status":"running","message":"%d","report_id":"%d-%d"}`, number, w.acknowledged, number, w.acknowledged)
	if err := postReports(server, []byte(body)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged++
	if w.first.IsZero() && began.After(w.marked) {
		w.first = time.Now()
	}
	return nil
}

type writers []*writer

// startWriters starts two writers for each server.
func (g *group) startWriters(b *testing.B) (all writers, stop func()) {
	stopping := make(chan struct{})
	var running sync.WaitGroup
	for i := range 2 * len(g.servers) {
		w := &writer{}
		all = append(all, w)
		running.Go(func() {
			for {
				pause := time.Millisecond
				if w.send(g.servers[i%len(g.servers)], i) != nil {
					pause = 50 * time.Millisecond // as a client does before it tries again
				}
				select {
				case <-stopping:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(stopping)
		running.Wait()
	})
	b.Cleanup(stop)
	return all, stop
}

// mark makes haveReported and last count from now.
func (all writers) mark() {
	for _, w := range all {
		w.mu.Lock()
		w.marked, w.first = time.Now(), time.Time{}
		w.mu.Unlock()
	}
}

// haveReported reports whether each writer has had a report acknowledged that was sent after the mark.
func (all writers) haveReported() bool { return !all.last().IsZero() }

// last returns when the last of the writers had its first report acknowledged that was sent after the mark, or zero if
// not all of them have.
func (all writers) last() (last time.Time) {
	for _, w := range all {
		w.mu.Lock()
		first := w.first
		w.mu.Unlock()
		if first.IsZero() {
			return time.Time{}
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

// requireOnce requires that each server has each report of a writer once, in order.
func (g *group) requireOnce(b *testing.B, writer, reports int) {
	b.Helper()
	for _, s := range g.servers {
		next := reports
		for target := fmt.Sprintf("/api/agents/writer-%d/sessions/t?limit=1000", writer); target != ""; {
			resp, err := http.Get("http://" + s.address + target)
			require.NoError(b, err)
			var page struct {
				StatusHistory []struct{ Message string } `json:"status_history"`
			}
			err = json.NewDecoder(resp.Body).Decode(&page)
			resp.Body.Close() //nolint:errcheck // it was read
			require.NoError(b, err)
			for _, status := range page.StatusHistory {
				next--
				require.Equal(b, fmt.Sprint(next), status.Message)
			}
			_, target, _ = strings.Cut(resp.Header.Get("Link"), "<")
			target, _, _ = strings.Cut(target, ">")
			target = strings.TrimPrefix(target, "http://"+s.address)
		}
		require.Zero(b, next, "reports are missing")
	}
}
