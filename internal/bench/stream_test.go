package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

// barePath is where the baseline streams identical events as fast as the client reads them, between two instants in
// Unix nanoseconds.
const barePath = "/bare/events"

func streamBare(w http.ResponseWriter, r *http.Request) {
	event := fmt.Appendf(nil, "id: 0123456789ab-1\nevent: status\ndata: %s\n\n", bytes.Repeat([]byte("x"), 450))
	instant := func(name string) time.Time {
		n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
		return time.Unix(0, n)
	}
	from, to := instant("from"), instant("to")
	control := http.NewResponseController(w)
	control.Flush() //nolint:errcheck // if this fails, so does the first write
	time.Sleep(time.Until(from))
	for time.Now().Before(to) {
		if _, err := w.Write(event); err != nil || control.Flush() != nil {
			return
		}
	}
}

// subscribe opens a stream on its own connection. The stream ends with the benchmark, or when the returned function is
// called. received is called with one or more blocks at a time; they are only valid during the call.
func subscribe(b *testing.B, address, target string, received func(blocks []byte)) (leave func()) {
	conn, err := net.Dial("tcp", address)
	require.NoError(b, err)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
	require.NoError(b, err)
	var head [4 << 10]byte
	n := 0
	for !bytes.Contains(head[:n], []byte("\r\n\r\n")) {
		m, err := conn.Read(head[n:])
		require.NoError(b, err)
		n += m
	}
	require.Contains(b, string(head[:n]), " 200 OK\r\n")
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 16<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			received(buf[:n])
		}
	})
	leave = sync.OnceFunc(func() {
		conn.Close() //nolint:errcheck // nothing is left to write
		reading.Wait()
	})
	b.Cleanup(leave)
	return leave
}

// BenchmarkIntakeWithSubscribers measures what 1,000 subscribers cost reporting agents, compared with the same server
// without subscribers. Each is subscribed to one agent that is silent.
func BenchmarkIntakeWithSubscribers(b *testing.B) {
	watched, alone := startServer(b), startServer(b)
	traffic := requests(connections, connections, 1)
	fill(b, watched, connections, 100)
	fill(b, alone, connections, 100)
	for i := range 1000 {
		subscribe(b, watched.address, fmt.Sprintf("/api/events?agent_id=idle-%d", i), func([]byte) {})
	}
	ratio, reports := pairs(b,
		func() float64 { return rate(b, watched, traffic) },
		func() float64 { return rate(b, alone, traffic) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "x_alone")
	b.ReportMetric(reports, "reports/s")
}

// BenchmarkDelivery measures the delay between the 200 for a report and the arrival of its event at 200 subscribers to
// everything, at 100 reports per second.
func BenchmarkDelivery(b *testing.B) {
	const subscribers, perSecond = 200, 100
	server := startServer(b)
	type arrival struct {
		number int
		at     time.Time
	}
	arrivals := make([][]arrival, subscribers)
	leave := make([]func(), subscribers)
	for i := range subscribers {
		leave[i] = subscribe(b, server.address, "/api/events", func(blocks []byte) {
			now := time.Now()
			for _, line := range bytes.Split(blocks, []byte("\n")) {
				id, ok := bytes.CutPrefix(line, []byte("id: "))
				if _, digits, found := bytes.Cut(id, []byte("-")); ok && found {
					number, _ := strconv.Atoi(string(digits))
					arrivals[i] = append(arrivals[i], arrival{number, now})
				}
			}
		})
	}
	var answered []time.Time
	conn, err := net.Dial("tcp", server.address)
	require.NoError(b, err)
	defer conn.Close() //nolint:errcheck // nothing is left to write
	answers := bufio.NewReader(conn)
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for b.Loop() {
		for range perSecond {
			<-ticker.C
			send(b, conn, answers, load.Request("POST", "/webhook/status", report(len(answered))))
			answered = append(answered, time.Now())
		}
	}
	time.Sleep(time.Second) // for events on their way
	var delays []time.Duration
	for i := range subscribers {
		leave[i]()
		for _, a := range arrivals[i] {
			if a.number > 0 {
				delays = append(delays, max(0, a.at.Sub(answered[a.number-1])))
			}
		}
	}
	require.Len(b, delays, subscribers*len(answered))
	slices.Sort(delays)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "ms_p50")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "ms_p99")
	b.ReportMetric(float64(delays[len(delays)-1].Microseconds())/1000, "ms_max")
}

// BenchmarkFanOut measures how many events per second reach 1,000 subscribers to everything, at 1,000 reports per
// second in requests of ten, compared with a bare handler that writes events of the same size to as many subscribers.
// Load, subscribers and server share the cores.
func BenchmarkFanOut(b *testing.B) {
	const subscribers = 1000
	var events atomic.Int64
	count := func(blocks []byte) { events.Add(int64(bytes.Count(blocks, []byte("\n\n")))) }
	during := func(work func()) float64 {
		before, started := events.Load(), time.Now()
		work()
		return float64(events.Load()-before) / time.Since(started).Seconds()
	}
	duration := span()
	follow := func(p process, target string) (leave func()) {
		leaves := make([]func(), subscribers)
		for i := range leaves {
			leaves[i] = subscribe(b, p.address, target, count)
		}
		return func() {
			for _, leave := range leaves {
				leave()
			}
		}
	}
	bare, server := startBare(b), startServer(b)
	request, interval := load.Request("POST", "/webhook/status", reports(0, 10)), 10*time.Millisecond
	ratio, rate := pairs(b,
		func() float64 {
			leave := follow(server, "/api/events")
			defer leave()
			return during(func() { paced(b, server, request, interval, duration) })
		},
		func() float64 {
			from := time.Now().Add(2 * time.Second)
			leave := follow(bare, fmt.Sprintf("%s?from=%d&to=%d", barePath, from.UnixNano(), from.Add(duration).UnixNano()))
			defer leave()
			time.Sleep(time.Until(from))
			return during(func() { time.Sleep(duration) })
		})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "x_bare")
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(counter(b, server, "kubeagents_subscribers_cut_off_total"), "cut_off")
}

// paced sends a request at each interval, for a duration.
func paced(b *testing.B, p process, request []byte, interval, duration time.Duration) {
	conn, err := net.Dial("tcp", p.address)
	require.NoError(b, err)
	defer conn.Close() //nolint:errcheck // nothing is left to write
	answers := bufio.NewReader(conn)
	ctx, cancel := context.WithTimeout(b.Context(), duration)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		send(b, conn, answers, request)
	}
}

// send sends a request and reads the response, which must be a 200.
func send(b *testing.B, conn net.Conn, answers *bufio.Reader, request []byte) {
	_, err := conn.Write(request)
	require.NoError(b, err)
	resp, err := http.ReadResponse(answers, nil)
	require.NoError(b, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	require.Equal(b, http.StatusOK, resp.StatusCode)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(b, err)
}

// counter returns the value of a metric without labels.
func counter(b *testing.B, p process, name string) float64 {
	resp, err := http.Get("http://" + p.address + "/metrics")
	require.NoError(b, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := bytes.CutPrefix(lines.Bytes(), []byte(name+" ")); ok {
			n, err := strconv.ParseFloat(string(value), 64)
			require.NoError(b, err)
			return n
		}
	}
	b.Fatalf("no metric %s", name)
	return 0
}

// BenchmarkSubscriberMemory measures the server's resident memory per subscriber while events are delivered, including
// garbage that is not collected yet. Sessions keep one status, so that their own memory does not grow.
func BenchmarkSubscriberMemory(b *testing.B) {
	const subscribers = 5000
	var each []float64
	for b.Loop() {
		server := startServer(b, "HISTORY_LIMIT=1")
		fill(b, server, 10*subscribers, 5)
		before := memory(b, server.pid, "VmRSS")
		leave := make([]func(), subscribers)
		for i := range leave {
			leave[i] = subscribe(b, server.address, fmt.Sprintf("/api/events?agent_id=host-%05d:claude", i), func([]byte) {})
		}
		fill(b, server, 10*subscribers, 5) // fifty events per subscriber
		each = append(each, float64(memory(b, server.pid, "VmRSS")-before)/subscribers)
		for i := range leave {
			leave[i]()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(each), "B/subscriber")
}
