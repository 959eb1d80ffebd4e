// Package bench measures the server against its yardstick: a bare net/http handler that reads the body and
// answers as many bytes, under the same load, in the same run.
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

// bareVariable has the test binary serve the yardstick instead of running tests; bareLogVariable names a file to which it then
// appends what it reads, and which is synced before it answers.
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

// serveBare serves the yardstick until standard input ends.
func serveBare() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "address=%s\n", listener.Addr())
	keep := func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if path := os.Getenv(bareLogVariable); path != "" {
		if keep, err = synced(path); err != nil {
			panic(err)
		}
	}
	answer := []byte(`{"success":true,"message":"Status reported successfully"}` + "\n")
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck
		if r.URL.Path == barePath {
			streamBare(w, r)
			return
		}
		if err := keep(r.Body); err != nil {
			panic(err) // which net/http answers with no answer
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer) //nolint:errcheck
	}))
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck
}

// buildDir is where the program was built, if it was.
var buildDir atomic.Pointer[string]

// buildServer builds the program as users do, once.
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

// process is a server that was started for a benchmark.
type process struct {
	address string
	pid     int
}

// start starts a program that logs its address, and ends it with the benchmark.
func start(b *testing.B, environment []string, name string) process {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name)
	cmd.Env = append(os.Environ(), environment...)
	_, err := cmd.StdinPipe()
	require.NoError(b, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		cancel()
		cmd.Wait() //nolint:errcheck // it was killed
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "address="); ok {
			go io.Copy(io.Discard, stderr) //nolint:errcheck // ends with the process
			return process{strings.Fields(rest)[0], cmd.Process.Pid}
		}
	}
	b.Fatalf("%s did not say its address", name)
	return process{}
}

// startServer starts the program with these settings.
func startServer(b *testing.B, settings ...string) process {
	binary, err := buildServer()
	require.NoError(b, err)
	return start(b, append([]string{"HOST=127.0.0.1", "PORT=0", "RATE_LIMIT_REPORTS=0", "RATE_LIMIT_READS=0"}, settings...), binary)
}

// startBare starts the yardstick.
func startBare(b *testing.B, settings ...string) process {
	self, err := os.Executable()
	require.NoError(b, err)
	return start(b, append([]string{bareVariable + "=1"}, settings...), self)
}

// report returns a status report of some 300 bytes for the n-th session; an agent has ten.
func report(n int) []byte {
	return fmt.Appendf(nil, `{"agent_id":"host-%05d:claude","agent_name":"Backend refactor","agent_source":"claude-code",`+
		`"session_topic":"Fix flaky test in payment/checkout_test.go (%d)","status":"running","timestamp":"2026-11-20T07:01:18.472611Z",`+
		`"message":"Running go test ./...","content":"Reading the repository\nWriting a regression test","ttl_minutes":60}`, n/10, n%10)
}

// reports returns a report of each session from the first on, one after another.
func reports(first, sessions int) []byte {
	var body bytes.Buffer
	for n := range sessions {
		body.Write(report(first + n))
	}
	return body.Bytes()
}

// requests returns, for each of as many connections, requests that report on size sessions each, which no other
// connection reports on.
func requests(connections, sessions, size int) [][][]byte {
	list := make([][][]byte, connections)
	for n := 0; n < sessions; n += size {
		c := n / size % connections
		list[c] = append(list[c], load.Request("POST", "/webhook/status", reports(n, size)))
	}
	return list
}

// fill sends as many reports for each session, and returns when all of them are stored.
func fill(b *testing.B, server process, sessions, times int) {
	const size = 1000
	for range times {
		for n := 0; n < sessions; n += size {
			body := bytes.NewReader(reports(n, min(size, sessions-n)))
			resp, err := http.Post("http://"+server.address+"/webhook/status", "application/x-ndjson", body)
			require.NoError(b, err)
			require.Equal(b, http.StatusOK, resp.StatusCode)
			resp.Body.Close() //nolint:errcheck // only its status is asked for
		}
	}
}

// span is how long one rate is measured: with -short just long enough to see that it can be.
func span() time.Duration {
	if testing.Short() {
		return 300 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// rate returns the requests that a server answers in a second.
func rate(b *testing.B, p process, requests [][][]byte) float64 {
	result, err := load.Run(p.address, requests, span())
	require.NoError(b, err)
	require.Zero(b, result.Failed)
	return result.PerSecond()
}

// working is how many sessions work at a time, and how often each reports before its connection begins again.
const (
	working = 20_000
	rounds  = 3
)

// What agents do, of which messages and contents are made.
var (
	doing = []string{"Running", "Editing", "Reading", "Reviewing", "Waiting for", "Committing", "Searching", "Testing"}
	files = []string{"payment/checkout_test.go", "store/bounds.go", "web/src/components/Table.tsx", "docs/operate.md", "go test ./...",
		"npm run build", "migrations/0042_add_index.sql", "Поднять покрытие тестами", "修复结账流程", "Makefile", "internal/journal/chunk.go"}
)

// work returns what a session reports: about itself always the same, what it does by chance, and the time at which that is sent.
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
		n/10, n%10, status, load.Now, doing[rng.IntN(len(doing))], files[rng.IntN(len(files))], rng.IntN(1000), content.String())
}

// workload returns, for each connection, requests of as many reports each, of all working sessions in an order of chance. No session is
// reported on by two connections. header returns the header lines of a request whose first report is of that session; nil for none.
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

// compare runs pairs against the yardstick, which gets one report a request, in alternating order, and reports
// the median of the ratios. Before that, the history of every session is filled, so that the server is as one
// that has run for a while. It leaves out that agents come and go, and that people read meanwhile.
func compare(b *testing.B, size int) {
	historyLimit := 100 // unless HISTORY_LIMIT says another
	if testing.Short() {
		historyLimit = 1
	}
	bare, server := startBare(b), startServer(b)
	of, single := workload(size, nil), workload(1, nil)
	fill(b, server, working, historyLimit)
	ratio, reports := pairs(b,
		func() float64 { return rate(b, server, of) * float64(size) },
		func() float64 { return rate(b, bare, single) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "x_bare")
	b.ReportMetric(reports, "reports/s")
}

// pairs measures two rates in pairs, in alternating order, after a run of each that does not count. It returns the median of
// their ratios, and that of the first rate.
func pairs(b *testing.B, ours, theirs func() float64) (ratio, rate float64) {
	ours()
	theirs()
	var ratios, rates []float64
	for b.Loop() {
		var our, their float64
		if len(ratios)%2 == 0 {
			our, their = ours(), theirs()
		} else {
			their, our = theirs(), ours()
		}
		rates = append(rates, our)
		ratios = append(ratios, our/their)
	}
	return median(ratios), median(rates)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkOneReport measures one report a request, of sessions in an order of chance.
func BenchmarkOneReport(b *testing.B) { compare(b, 1) }

// BenchmarkBatch measures 100 reports a request, each of another session.
func BenchmarkBatch(b *testing.B) { compare(b, 100) }

// BenchmarkResident measures the memory that the server has in use with a million sessions of one report each,
// and the most that it had in use until another report had come for each. The yardstick is what
// BenchmarkMemory of the store finds live.
func BenchmarkResident(b *testing.B) {
	sessions := 1_000_000
	if testing.Short() { // just enough to see that it can be measured
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

// memory returns what the kernel says of the memory of a process, in bytes: VmRSS, what it has in use, or VmHWM,
// the most that it had.
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
	b.Fatalf("no %s", name)
	return 0
}
