package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

// What all benchmarks of a cluster leave out: the network between machines, and that each server and each NATS node has
// processors of its own. Here three of each share the machine with the load, so each report is applied three times, and
// synced six times, by the same processors and the same disk.

// BenchmarkClusterOneReport measures one report per request, spread over the three servers.
func BenchmarkClusterOneReport(b *testing.B) { compareCluster(b, 1) }

// BenchmarkClusterBatch measures 100 reports per request, each of a different session.
func BenchmarkClusterBatch(b *testing.B) { compareCluster(b, 100) }

// compareCluster measures three servers against publishing to a stream of the same nodes: messages of the same size as
// the servers have just published, and as many at the same time. It reports medians.
func compareCluster(b *testing.B, size int) {
	g := startGroup(b)
	raw := g.makeRawStream(b)
	requests := workload(size, nil)
	g.run(b, requests)
	all := map[string][]float64{}
	for b.Loop() {
		before := g.usage(b)
		result := g.run(b, requests)
		used, seconds, reports := g.usage(b).since(before), result.Elapsed.Seconds(), float64(result.Requests*size)
		inFlight, messageBytes := used.publishing/seconds, used.bytes/used.messages
		slices.Sort(result.Took)
		for unit, value := range map[string]float64{
			"reports/s":      reports / seconds,
			"x_raw":          used.messages / seconds / raw.rate(b, int(messageBytes), inFlight),
			"ms_p50":         result.Took[len(result.Took)/2].Seconds() * 1000,
			"ms_p99":         result.Took[len(result.Took)*99/100].Seconds() * 1000,
			"in_flight":      inFlight,
			"reports/msg":    reports / used.messages,
			"B/report":       used.bytes / reports,
			"servers_µs/rep": used.servers / reports * 1e6,
			"nodes_µs/rep":   used.nodes / reports * 1e6,
			"load_µs/rep":    used.load / reports * 1e6,
		} {
			all[unit] = append(all[unit], value)
		}
	}
	b.ReportMetric(0, "ns/op")
	for unit, values := range all {
		b.ReportMetric(median(values), unit)
	}
}

// rawStream is a stream like that of the servers, to which the benchmark itself publishes.
type rawStream struct {
	name        string
	connections []jetstream.JetStream
}

func (g *group) makeRawStream(b *testing.B) rawStream {
	b.Helper()
	raw := rawStream{"RAW", g.js}
	_, err := g.js[0].CreateStream(b.Context(), jetstream.StreamConfig{
		Name: raw.name, Subjects: []string{raw.name}, Storage: jetstream.FileStorage, Replicas: len(g.nodes), Duplicates: 2 * time.Minute,
	})
	require.NoError(b, err)
	return raw
}

// rate returns how many messages of a size, with their headers, the stream takes per second while this many are in flight
// on average.
func (s rawStream) rate(b *testing.B, size int, inFlight float64) float64 {
	b.Helper()
	fewer, share := math.Modf(max(1, inFlight))
	rate := s.publish(b, size, int(fewer))
	if share > 0 {
		rate += share * (s.publish(b, size, int(fewer)+1) - rate)
	}
	return rate
}

// publish returns the rate with a number of publishers that each wait for the stream.
func (s rawStream) publish(b *testing.B, size, publishers int) float64 {
	b.Helper()
	const headers = 100 // bytes that NATS adds, with the ID and the name of the stream
	data := make([]byte, max(1, size-headers))
	errs := make([]error, publishers)
	var published atomic.Int64
	var running sync.WaitGroup
	start := time.Now()
	for i := range publishers {
		js := s.connections[i%len(s.connections)]
		running.Go(func() {
			for errs[i] == nil && time.Since(start) < span() {
				msg := &nats.Msg{Subject: s.name, Data: data, Header: nats.Header{jetstream.MsgIDHeader: {rand.Text()[:16]}}}
				if _, errs[i] = js.PublishMsg(context.Background(), msg, jetstream.WithExpectStream(s.name)); errs[i] == nil {
					published.Add(1)
				}
			}
		})
	}
	running.Wait()
	require.NoError(b, errors.Join(errs...))
	return float64(published.Load()) / time.Since(start).Seconds()
}

// BenchmarkClusterApplied measures how long it takes from the answer to a report until both other servers have applied
// it, while all servers together get 1,000 other reports per second. Reads with ?after= tell, so their way there and
// back is included.
func BenchmarkClusterApplied(b *testing.B) {
	const perSecond = 1000
	g := startGroup(b)
	others := requests(connections, working, 1)
	var took []time.Duration
	for b.Loop() {
		errs := make([]error, len(g.servers))
		var paced sync.WaitGroup
		for i, s := range g.servers {
			paced.Go(func() { _, errs[i] = load.Pace(s.address, others[i*8:][:8], perSecond/len(g.servers), 2*span()) })
		}
		for n, start := 0, time.Now(); time.Since(start) < 2*span(); n++ {
			took = append(took, g.untilApplied(b, n))
		}
		paced.Wait()
		require.NoError(b, errors.Join(errs...))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms_p50")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "ms_p99")
	b.ReportMetric(float64(len(took)), "reports")
}

// untilApplied sends a report to one of the servers, and returns how long after the answer the others had applied it.
func (g *group) untilApplied(b *testing.B, n int) time.Duration {
	b.Helper()
	resp, err := http.Post("http://"+g.servers[n%len(g.servers)].address+"/webhook/status", "application/json", bytes.NewReader(report(working+n%1000)))
	require.NoError(b, err)
	answered := time.Now()
	resp.Body.Close() //nolint:errcheck // only its status and position matter
	require.Equal(b, http.StatusOK, resp.StatusCode)
	applied := make([]bool, len(g.servers))
	var reads sync.WaitGroup
	for i, s := range g.servers {
		if i == n%len(g.servers) {
			applied[i] = true
			continue
		}
		reads.Go(func() {
			applied[i] = answers("http://" + s.address + "/api/summary?after=" + resp.Header.Get("X-Position"))
		})
	}
	reads.Wait()
	require.NotContains(b, applied, false)
	return time.Since(answered)
}

// BenchmarkClusterCatchUp measures how fast a server catches up that was away for a million reports of 20,000 sessions,
// from the start of its process until it is ready. Nobody reports meanwhile.
func BenchmarkClusterCatchUp(b *testing.B) {
	const size = 1000
	g := startGroup(b)
	missed := 1_000_000
	if testing.Short() {
		missed /= 50
	}
	var rates, peaks []float64
	for b.Loop() {
		g.servers[2].kill()
		g.report(b, missed/size, size)
		start := time.Now()
		g.servers[2] = startServer(b, g.settings[2]...)
		awaitReady(b, g.servers[2])
		rates = append(rates, float64(missed)/time.Since(start).Seconds())
		peaks = append(peaks, float64(memory(b, g.servers[2].pid, "VmHWM"))/(1<<20))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "reports/s")
	b.ReportMetric(median(peaks), "MiB_peak")
}

// report sends batches of reports of random sessions to the first two servers.
func (g *group) report(b *testing.B, batches, size int) {
	b.Helper()
	const writers = 4
	errs := make([]error, writers)
	var left atomic.Int64
	left.Store(int64(batches))
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(uint64(w), 13))
			for errs[w] == nil && left.Add(-1) >= 0 {
				var body bytes.Buffer
				for range size {
					body.Write(work(rng, rng.IntN(working)))
				}
				now := time.Now().UTC().Format(load.TimeFormat)
				errs[w] = postReports(g.servers[w%2], bytes.ReplaceAll(body.Bytes(), []byte(load.TimePlaceholder), []byte(now)))
			}
		})
	}
	writing.Wait()
	require.NoError(b, errors.Join(errs...))
}

// postReports sends reports, and returns an error unless the server accepts them.
func postReports(server process, reports []byte) error {
	resp, err := http.Post("http://"+server.address+"/webhook/status", "application/x-ndjson", bytes.NewReader(reports)) //nolint:noctx // the server limits it
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only its status matters
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// BenchmarkClusterJoin measures how long a new server takes to join a cluster that has a million sessions with one
// report each: from the start of its process with an empty directory until it is ready. It joins from a snapshot, except
// with -short. It also measures what the sessions take on the servers and on the nodes.
func BenchmarkClusterJoin(b *testing.B) {
	sessions := 1_000_000
	if testing.Short() {
		sessions /= 50
	}
	for b.Loop() {
		g := startGroup(b)
		fill(b, g.servers[0], sessions, 1)
		perSession := func(bytes float64) float64 { return bytes / float64(sessions) }
		b.ReportMetric(perSession(g.streamBytes(b)), "B_stream/session")
		if !testing.Short() {
			await(b, "there is a snapshot", func() bool {
				newest := 0.0
				for _, s := range g.servers {
					newest = max(newest, metric(b, s, "kubeagents_cluster_snapshot_timestamp_seconds"))
				}
				return newest > 0
			})
			snapshots, err := g.js[0].Stream(b.Context(), "OBJ_"+logStream+"_SNAPSHOTS")
			require.NoError(b, err)
			b.ReportMetric(perSession(float64(snapshots.CachedInfo().State.Bytes)), "B_snapshot/session")
		}
		start, settings := time.Now(), settingsOf(b, "hub-new", g.nodes[0].url)
		joined := startServer(b, settings...)
		awaitReady(b, joined)
		b.ReportMetric(time.Since(start).Seconds(), "s_to_join")
		b.ReportMetric(perSession(float64(memory(b, joined.pid, "VmHWM"))), "B_peak_joining/session")
		b.ReportMetric(perSession(float64(memory(b, g.servers[1].pid, "VmRSS"))), "B_server/session")
		b.ReportMetric(perSession(onDisk(b, g.dataDir(1))), "B_server_disk/session")
		b.ReportMetric(float64(memory(b, g.nodes[0].pid, "VmRSS"))/(1<<20), "MiB_node")
		b.ReportMetric(perSession(onDisk(b, g.nodes[0].dir)), "B_node_disk/session")
	}
	b.ReportMetric(0, "ns/op")
}

// dataDir returns the directory of a server.
func (g *group) dataDir(server int) string {
	return strings.TrimPrefix(g.settings[server][2], "DATA_DIR=")
}
