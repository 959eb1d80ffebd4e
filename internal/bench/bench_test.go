// Package bench compares the server with a baseline: a bare net/http handler that reads the body and writes an answer
// of the same size, under the same load, in the same run.
package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

const connections = 64

// bareVariable makes the test binary serve the baseline instead of running tests. bareLogVariable names a file; the
// baseline then appends what it reads to the file, and syncs it before it answers.
const (
	bareVariable    = "KUBEAGENTS_BENCH_BARE"
	bareLogVariable = "KUBEAGENTS_BENCH_BARE_LOG"
)

func TestMain(m *testing.M) {
	if os.Getenv(bareVariable) != "" {
		serveBare()
		return
	}
	status := m.Run()
	if dir := buildDir.Load(); dir != nil {
		os.RemoveAll(*dir) //nolint:errcheck // it is a temporary directory
	}
	os.Exit(status)
}

// serveBare serves the baseline until standard input ends.
func serveBare() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "address=%s\nmsg=ready\n", listener.Addr())
	consume := func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if path := os.Getenv(bareLogVariable); path != "" {
		if consume, err = synced(path); err != nil {
			panic(err)
		}
	}
	answer := []byte(`{"success":true,"message":"Status reported successfully"}` + "\n")
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck
		if r.URL.Path == barePath {
			streamBare(w, r)
			return
		}
		if err := consume(r.Body); err != nil {
			panic(err) // net/http then closes the connection without an answer
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer) //nolint:errcheck
	}))
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck
}

// buildDir is the directory that the program was built in; nil if it was not built.
var buildDir atomic.Pointer[string]

// buildServer builds the program once, as users do.
var buildServer = sync.OnceValues(func() (binary string, err error) {
	dir, err := os.MkdirTemp("", "kubeagents-bench")
	if err != nil {
		return "", err
	}
	buildDir.Store(&dir)
	binary = filepath.Join(dir, "kubeagents")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/kubeagents/kubeagents").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// process is a server started for a benchmark.
type process struct {
	address string
	pid     int
	kill    func() // returns once it has ended
}

// start starts a program that logs its address, and returns once it logs that it is ready. The program is killed when
// the benchmark ends.
func start(b *testing.B, environment []string, name string) process {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name)
	cmd.Env = append(os.Environ(), environment...)
	_, err := cmd.StdinPipe()
	require.NoError(b, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	kill := sync.OnceFunc(func() {
		cancel()
		cmd.Wait() //nolint:errcheck // it was killed
	})
	b.Cleanup(kill)
	lines := bufio.NewScanner(stderr)
	address := ""
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "address="); ok && address == "" {
			address = strings.Fields(rest)[0]
		}
		if strings.HasSuffix(lines.Text(), "msg=ready") {
			go io.Copy(io.Discard, stderr) //nolint:errcheck // ends with the process
			return process{address, cmd.Process.Pid, kill}
		}
	}
	b.Fatalf("%s did not log that it is ready", name)
	return process{}
}

// startServer starts the program with these settings.
func startServer(b *testing.B, settings ...string) process {
	binary, err := buildServer()
	require.NoError(b, err)
	return start(b, append([]string{"HOST=127.0.0.1", "PORT=0", "RATE_LIMIT_REPORTS=0", "RATE_LIMIT_READS=0"}, settings...), binary)
}

// startBare starts the baseline.
func startBare(b *testing.B, settings ...string) process {
	self, err := os.Executable()
	require.NoError(b, err)
	return start(b, append([]string{bareVariable + "=1"}, settings...), self)
}

// report returns a status report of about 300 bytes for the n-th session. There are ten sessions per agent.
func report(n int) []byte {
	return fmt.Appendf(nil, `{"agent_id":"host-%05d:claude","agent_name":"Backend refactor","agent_source":"claude-code",`+
		`"session_topic":"Fix flaky test in payment/checkout_test.go (%d)","status":"running","timestamp":"2026-11-20T07:01:18.472611Z",`+
		`"message":"Running go test ./...","content":"Reading the repository\nWriting a regression test","ttl_minutes":60}`, n/10, n%10)
}

// reports returns one report for each of a range of sessions.
func reports(first, sessions int) []byte {
	var body bytes.Buffer
	for n := range sessions {
		body.Write(report(first + n))
	}
	return body.Bytes()
}

// requests returns, for each connection, requests with size reports each. No session is reported by two connections.
func requests(connections, sessions, size int) [][][]byte {
	list := make([][][]byte, connections)
	for n := 0; n < sessions; n += size {
		c := n / size % connections
		list[c] = append(list[c], load.Request("POST", "/webhook/status", reports(n, size)))
	}
	return list
}

// fill sends this many reports for each session, and returns once all of them are stored.
func fill(b *testing.B, server process, sessions, times int) {
	const size = 1000
	for range times {
		for n := 0; n < sessions; n += size {
			body := bytes.NewReader(reports(n, min(size, sessions-n)))
			resp, err := http.Post("http://"+server.address+"/webhook/status", "application/x-ndjson", body)
			require.NoError(b, err)
			require.Equal(b, http.StatusOK, resp.StatusCode)
			resp.Body.Close() //nolint:errcheck // only its status matters
		}
	}
}

// span is how long one rate is measured. With -short, it is just long enough to check that it can be measured.
func span() time.Duration {
	if testing.Short() {
		return 300 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// rate returns the number of requests that a server answers per second.
func rate(b *testing.B, p process, requests [][][]byte) float64 {
	result, err := load.Run(p.address, requests, span())
	require.NoError(b, err)
	require.Zero(b, result.Failed)
	return result.PerSecond()
}

// working is the number of sessions that work at a time. rounds is how many times each of them reports before its
// connection starts over.
const (
	working = 20_000
	rounds  = 3
)

// Activities and files, from which messages and contents are composed.
var (
	doing = []string{"Running", "Editing", "Reading", "Reviewing", "Waiting for", "Committing", "Searching", "Testing"}
	files = []string{"payment/checkout_test.go", "store/bounds.go", "web/src/components/Table.tsx", "docs/operate.md", "go test ./...",
		"npm run build", "migrations/0042_add_index.sql", "Поднять покрытие тестами", "修复结账流程", "Makefile", "internal/journal/chunk.go"}
)

// work returns a report of a session. Its names are always the same, its activity is random, and it has the time of
// sending.
func work(rng *rand.Rand, n int) []byte {
	var content strings.Builder
	for range rng.IntN(12) {
		fmt.Fprintf(&content, "%s %s:%d\n", doing[rng.IntN(len(doing))], files[rng.IntN(len(files))], rng.IntN(2000))
	}
	status := "running"
	switch rng.IntN(20) {
	case 0:
		status = "pending"
	case 1:
		status = "success"
	}
	return fmt.Appendf(nil, `{"agent_id":"host-%05d:claude","agent_name":"Backend refactor","agent_source":"claude-code",`+
		`"session_topic":"Fix flaky test in payment/checkout_test.go (%d)","status":%q,"timestamp":%q,"message":"%s %s (%d)","content":%q,"ttl_minutes":60}`,
		n/10, n%10, status, load.TimePlaceholder, doing[rng.IntN(len(doing))], files[rng.IntN(len(files))], rng.IntN(1000), content.String())
}

// workload returns, for each connection, requests with size reports each, covering all working sessions in random
// order. No session is reported by two connections. header returns a header line for a request whose first report is of
// the given session; nil for none.
func workload(size int, header func(session int) string) [][][]byte {
	rng := rand.New(rand.NewPCG(7, 11))
	list := make([][][]byte, connections)
	for c := range list {
		for range rounds {
			var mine []int
			for n := c; n < working; n += connections {
				mine = append(mine, n)
			}
			rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			for some := range slices.Chunk(mine, size) {
				if len(some) < size {
					continue
				}
				var body bytes.Buffer
				for _, n := range some {
					body.Write(work(rng, n))
				}
				var lines []string
				if header != nil {
					lines = []string{header(some[0])}
				}
				list[c] = append(list[c], load.Request("POST", "/webhook/status", body.Bytes(), lines...))
			}
		}
	}
	return list
}

// compare measures the server against the baseline, which gets one report per request, in alternating order, and
// reports the median of the ratios. Before that, it fills the history of every session, so that the server is in the
// state of one that has run for a while. It does not cover agents that come and go, or people who read at the same
// time.
func compare(b *testing.B, size int) {
	historyLimit := 100 // the default of HISTORY_LIMIT
	if testing.Short() {
		historyLimit = 1
	}
	bare, server := startBare(b), startServer(b)
	batches, single := workload(size, nil), workload(1, nil)
	fill(b, server, working, historyLimit)
	ratio, reports := pairs(b,
		func() float64 { return rate(b, server, batches) * float64(size) },
		func() float64 { return rate(b, bare, single) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "x_bare")
	b.ReportMetric(reports, "reports/s")
}

// pairs measures two rates alternately, after a warm-up of each. It returns the median of their ratios, and the median
// of the first rate.
func pairs(b *testing.B, first, second func() float64) (ratio, rate float64) {
	first()
	second()
	var ratios, rates []float64
	for b.Loop() {
		var x, y float64
		if len(ratios)%2 == 0 {
			x, y = first(), second()
		} else {
			y, x = second(), first()
		}
		rates = append(rates, x)
		ratios = append(ratios, x/y)
	}
	return median(ratios), median(rates)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkOneReport measures one report per request, with sessions in random order.
func BenchmarkOneReport(b *testing.B) { compare(b, 1) }

// BenchmarkBatch measures 100 reports per request, each of a different session.
func BenchmarkBatch(b *testing.B) { compare(b, 100) }

// BenchmarkResident measures the resident memory of a server with a million sessions of one report each, and its peak
// after a second report for each. Compare it with the live heap that BenchmarkMemory of the store measures.
func BenchmarkResident(b *testing.B) {
	sessions := 1_000_000
	if testing.Short() { // just enough to check that it can be measured
		sessions /= 20
	}
	for b.Loop() {
		server := startServer(b)
		fill(b, server, sessions, 1)
		b.ReportMetric(float64(memory(b, server.pid, "VmRSS"))/float64(sessions), "B/session")
		fill(b, server, sessions, 1)
		b.ReportMetric(float64(memory(b, server.pid, "VmHWM"))/float64(sessions), "B/session_peak")
	}
	b.ReportMetric(0, "ns/op")
}

// memory returns the memory of a process in bytes, according to the kernel: VmRSS is the resident memory, VmHWM its
// peak.
func memory(b *testing.B, pid int, name string) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(b, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(b, err)
			return kib << 10
		}
	}
	b.Fatalf("no %s in the status of the process", name)
	return 0
}
