// Package bench measures the server against its yardstick: a bare net/http handler that reads the body and
// answers as many bytes, under the same load, in the same run.
package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

const connections = 64

// bareVariable has the test binary serve the yardstick instead of running tests.
const bareVariable = "KUBEAGENTS_BENCH_BARE"

func TestMain(m *testing.M) {
	if os.Getenv(bareVariable) != "" {
		serveBare()
		return
	}
	os.Exit(m.Run())
}

// serveBare serves the yardstick until standard input ends.
func serveBare() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "address=%s\n", listener.Addr())
	answer := []byte(`{"success":true,"message":"Status reported successfully"}` + "\n")
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer) //nolint:errcheck
	}))
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck
}

// buildServer builds the program as users do.
func buildServer(b *testing.B) string {
	binary := filepath.Join(b.TempDir(), "kubeagents")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/kubeagents/kubeagents").CombinedOutput()
	require.NoError(b, err, "%s", out)
	return binary
}

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

func startServer(b *testing.B, environment ...string) process {
	return start(b, append([]string{"HOST=127.0.0.1", "PORT=0", "LOG_LEVEL=info", "MAX_SESSIONS=2000000"}, environment...), buildServer(b))
}

func startBare(b *testing.B) process {
	self, err := os.Executable()
	require.NoError(b, err)
	return start(b, []string{bareVariable + "=1"}, self)
}

// report returns a status report of some 300 bytes, for one of ten sessions of an agent.
func report(n int) []byte {
	return fmt.Appendf(nil, `{"agent_id":"host-%05d:claude","agent_name":"Backend refactor","agent_source":"claude-code",`+
		`"session_topic":"Fix flaky test in payment/checkout_test.go (%d)","status":"running","timestamp":"2026-11-20T07:01:18.472611Z",`+
		`"message":"Running go test ./...","content":"Reading the repository\nWriting a regression test","ttl_minutes":60}`, n/10, n%10)
}

// oneReportEach returns, for each connection, requests with one report each.
func oneReportEach(sessions int) [][][]byte {
	requests := make([][][]byte, connections)
	for n := range sessions {
		c := n % connections
		requests[c] = append(requests[c], load.Request("POST", "/webhook/status", report(n)))
	}
	return requests
}

// batches returns, for each connection, requests with size reports each.
func batches(sessions, size int) [][][]byte {
	requests := make([][][]byte, connections)
	for n := 0; n < sessions; n += size {
		var body bytes.Buffer
		for i := range size {
			body.Write(report(n + i))
			body.WriteByte('\n')
		}
		c := n / size % connections
		requests[c] = append(requests[c], load.Request("POST", "/webhook/status", body.Bytes()))
	}
	return requests
}

// rate returns the requests that a server answers in a second.
func rate(b *testing.B, p process, requests [][][]byte) float64 {
	result, err := load.Run(p.address, requests, 1500*time.Millisecond)
	require.NoError(b, err)
	require.Zero(b, result.Failed)
	return result.PerSecond()
}

// compare runs pairs against the yardstick, in alternating order, and reports the median of the ratios.
func compare(b *testing.B, requests [][][]byte, reportsEach int) {
	bare, server := startBare(b), startServer(b)
	single := oneReportEach(connections)
	rate(b, bare, single)
	rate(b, server, requests) // every session is known from here on
	var ratios, rates []float64
	for b.Loop() {
		var of, against float64
		if len(ratios)%2 == 0 {
			of, against = rate(b, server, requests), rate(b, bare, single)
		} else {
			against, of = rate(b, bare, single), rate(b, server, requests)
		}
		rates = append(rates, of*float64(reportsEach))
		ratios = append(ratios, of*float64(reportsEach)/against)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "x_bare")
	b.ReportMetric(median(rates), "reports/s")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkOneReport: one report a request.
func BenchmarkOneReport(b *testing.B) { compare(b, oneReportEach(connections*64), 1) }

// BenchmarkBatch: 100 reports a request.
func BenchmarkBatch(b *testing.B) { compare(b, batches(connections*400, 100), 100) }

// residentBytes returns how much memory a process has in use.
func residentBytes(b *testing.B, pid int) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(b, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(b, err)
			return kib << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
