package bench

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

// outputLine is a line of a tool's output, escaped for JSON.
const outputLine = `--- PASS: TestCheckout (0.01s)\n    checkout_test.go:42: \"ok\" → done\n`

// output is as much output as is sent at a time.
var output = strings.Repeat(outputLine, 10_000)

// postToolUse returns an event of Claude Code for the n-th session, padded with output to about size bytes.
// Consecutive events of a session have different commands, so that each one enters a status in the history.
func postToolUse(n, command, size int) []byte {
	event := fmt.Sprintf(`{"session_id":"b634f3a5-ff80-4837-9113-%012d","transcript_path":"/home/dev/.claude/projects/-home-dev-payments/b634f3a5.jsonl",`+
		`"cwd":"/home/dev/payments-%d","prompt_id":"e242e1fc-0218-43d5-a1f0-889c50ab244b","permission_mode":"default","effort":{"level":"high"},`+
		`"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"go test ./checkout -run Case%d","description":"Run the tests"},`+
		`"tool_response":{"stdout":"%%s","stderr":"","interrupted":false,"isImage":false},"tool_use_id":"toolu_1","duration_ms":31}`, n, n/10, command)
	return fmt.Appendf(nil, event, strings.Repeat(outputLine, max(0, size-len(event))/len(outputLine)))
}

// hooked returns, for each connection, events of sessions that no other connection has.
func hooked(connections, sessions, size int) [][][]byte {
	list := make([][][]byte, connections)
	for command := range 2 {
		for n := range sessions {
			list[n%connections] = append(list[n%connections], load.Request(http.MethodPost, "/webhook/claude-code", postToolUse(n, command, size)))
		}
	}
	return list
}

// BenchmarkHook measures a tool's events: of 2 KiB compared with plain reports, of 200 KiB compared with reading as
// many bytes, and of 32 MiB in bytes per second. For the latter two, it also measures the server's peak memory with 64
// agents.
func BenchmarkHook(b *testing.B) {
	b.Run("2KiB", func(b *testing.B) {
		const sessions = connections * 64
		plain, server := startServer(b), startServer(b)
		reports, events := requests(connections, sessions, 1), hooked(connections, sessions, 2<<10)
		ratio, perSecond := pairs(b, func() float64 { return rate(b, server, events) }, func() float64 { return rate(b, plain, reports) })
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ratio, "x_report")
		b.ReportMetric(perSecond, "events/s")
	})
	b.Run("200KiB", func(b *testing.B) {
		bare, server := startBare(b), startServer(b)
		events := hooked(connections, connections, 200<<10)
		ratio, perSecond := pairs(b, func() float64 { return rate(b, server, events) }, func() float64 { return rate(b, bare, events) })
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(1/ratio, "x_time_to_read")
		b.ReportMetric(perSecond, "events/s")
		b.ReportMetric(float64(memory(b, server.pid, "VmHWM"))/(1<<20), "MiB_peak")
	})
	b.Run("32MiB", func(b *testing.B) {
		size := 32 << 20
		if testing.Short() {
			size /= 16
		}
		server := startServer(b)
		for b.Loop() {
			postAtOnce(b, server, size)
		}
		b.ReportMetric(float64(size>>20*connections*b.N)/b.Elapsed().Seconds(), "MiB/s")
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(memory(b, server.pid, "VmHWM"))/(1<<20), "MiB_peak")
	})
}

// postAtOnce makes 64 agents send an event with about size bytes of output at the same time.
func postAtOnce(b *testing.B, server process, size int) {
	errs := make([]error, connections)
	var agents sync.WaitGroup
	for n := range errs {
		agents.Go(func() { errs[n] = post(server, hugeEvent(n, size)) })
	}
	agents.Wait()
	require.NoError(b, errors.Join(errs...))
}

// hugeEvent is postToolUse in pieces that need little memory.
func hugeEvent(n, size int) io.Reader {
	before, after, _ := strings.Cut(string(postToolUse(n, n, 0)), `"stdout":"`)
	body := []io.Reader{strings.NewReader(before + `"stdout":"`)}
	for range size / len(output) {
		body = append(body, strings.NewReader(output))
	}
	return io.MultiReader(append(body, strings.NewReader(after))...)
}

// post sends an event, and returns an error unless the server accepts it.
func post(server process, event io.Reader) error {
	response, err := http.Post("http://"+server.address+"/webhook/claude-code", "application/json", event) //nolint:noctx // the server limits it
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only its status matters
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// BenchmarkHookLatency measures how long an agent waits for the answer to an event of 2 KiB, at 1,000 events per
// second, in memory and with a journal. It also measures a server that only reads the events, and a disk that syncs as
// many writes, one after another.
func BenchmarkHookLatency(b *testing.B) {
	const perSecond = 1000
	hooks := func(server process) func() ([]time.Duration, error) {
		events := hooked(connections, connections, 2<<10)
		return func() ([]time.Duration, error) { return load.Pace(server.address, events, perSecond, 4*span()) }
	}
	for _, kind := range []string{"memory", "durable", "bare", "sync"} {
		b.Run(kind, func(b *testing.B) {
			var run func() ([]time.Duration, error)
			switch kind {
			case "memory":
				run = hooks(startServer(b))
			case "durable":
				run = hooks(startServer(b, "DATA_DIR="+filepath.Join(b.TempDir(), "data")))
			case "bare":
				run = hooks(startBare(b))
			case "sync":
				run = func() ([]time.Duration, error) { return syncs(filepath.Join(b.TempDir(), "log"), perSecond, 4*span()) }
			}
			var p50s, p99s []float64
			for b.Loop() {
				took, err := run()
				require.NoError(b, err)
				slices.Sort(took)
				p50s = append(p50s, took[len(took)/2].Seconds()*1000)
				p99s = append(p99s, took[len(took)*99/100].Seconds()*1000)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(p50s), "ms_p50")
			b.ReportMetric(median(p99s), "ms_p99")
		})
	}
}

// syncs appends to a file what a journal writes for an event, perSecond times per second, and returns how long each
// write and sync took.
func syncs(path string, perSecond int, duration time.Duration) ([]time.Duration, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // everything is synced
	took := make([]time.Duration, int(duration.Seconds()*float64(perSecond)))
	start := time.Now()
	for i := range took {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		sent := time.Now()
		if _, err := file.Write(make([]byte, 350)); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took[i] = time.Since(sent)
	}
	return took, nil
}
