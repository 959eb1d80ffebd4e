// Package load puts maximum load on an HTTP server over keep-alive connections. It uses as little CPU as possible,
// because server and load share the machine.
package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Result is the result of [Run].
type Result struct {
	Requests int // answered, with any status
	Failed   int // answered with a status other than 200
	Elapsed  time.Duration
	Took     []time.Duration // until each answer; in no order
}

// PerSecond returns the number of requests answered per second.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Request returns an HTTP request with a body, for [Run] to send. Each header line is of the form "Name: value".
func Request(method, path string, body []byte, header ...string) []byte {
	lines := ""
	for _, line := range header {
		lines += line + "\r\n"
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, path, lines, len(body), body)
}

// TimePlaceholder is a placeholder for the time of sending, in UTC (RFC 3339), in requests for [Run].
const TimePlaceholder = "0000-00-00T00:00:00.000000Z"

// TimeFormat is the layout of what takes the place of [TimePlaceholder].
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// stamped is a request with the offsets of its timestamps.
type stamped struct {
	text []byte
	at   []int
}

// stampedOf finds the placeholders in requests.
func stampedOf(requests [][]byte) []stamped {
	all := make([]stamped, len(requests))
	for i, text := range requests {
		all[i].text = text
		for from := 0; ; {
			n := bytes.Index(text[from:], []byte(TimePlaceholder))
			if n < 0 {
				break
			}
			all[i].at = append(all[i].at, from+n)
			from += n + len(TimePlaceholder)
		}
	}
	return all
}

// stamp writes the time into a request.
func (s *stamped) stamp(now time.Time) []byte {
	if len(s.at) == 0 {
		return s.text
	}
	var text [40]byte
	sent := now.UTC().AppendFormat(text[:0], TimeFormat)
	for _, at := range s.at {
		copy(s.text[at:], sent)
	}
	return s.text
}

// Run sends requests to a TCP address for a duration, over one connection for each element of requests. A connection
// sends its requests in order, again and again, each after the answer to the previous one. Run writes the current time
// in place of [TimePlaceholder].
func Run(address string, requests [][][]byte, duration time.Duration) (Result, error) {
	conns := make([]net.Conn, len(requests))
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return Result{}, err
		}
		defer conn.Close() //nolint:errcheck // nothing is left to write
		conns[i] = conn
	}
	var (
		mu    sync.Mutex
		total Result
		errs  []error
		wg    sync.WaitGroup
	)
	all := make([][]stamped, len(requests))
	for i := range requests {
		all[i] = stampedOf(requests[i])
	}
	defer func() { // so that they can be sent again
		for i := range all {
			for _, s := range all[i] {
				for _, at := range s.at {
					copy(s.text[at:], TimePlaceholder)
				}
			}
		}
	}()
	start := time.Now()
	end := start.Add(duration)
	for i, conn := range conns {
		wg.Go(func() {
			r, err := drive(conn, all[i], end)
			mu.Lock()
			defer mu.Unlock()
			total.Requests += r.Requests
			total.Failed += r.Failed
			total.Took = append(total.Took, r.Took...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	return total, errors.Join(errs...)
}

func drive(conn net.Conn, requests []stamped, end time.Time) (r Result, err error) {
	buf := make([]byte, 256<<10)
	for i := 0; ; i++ {
		now := time.Now()
		if !now.Before(end) {
			return r, nil
		}
		if _, err := conn.Write(requests[i%len(requests)].stamp(now)); err != nil {
			return r, err
		}
		status, err := answer(conn, buf)
		if err != nil {
			return r, err
		}
		r.Requests++
		r.Took = append(r.Took, time.Since(now))
		if status != 200 {
			r.Failed++
		}
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length: ")
)

// answer reads one response, which must have a Content-Length and fit into buf, and returns its status.
func answer(conn net.Conn, buf []byte) (status int, err error) {
	n, want := 0, 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += m
		if want == 0 {
			head := bytes.Index(buf[:n], headEnd)
			if head < 0 {
				continue
			}
			at := bytes.Index(buf[:head], contentLength)
			if at < 0 {
				return 0, errors.New("the response has no Content-Length")
			}
			length := buf[at+len(contentLength) : head]
			if line := bytes.IndexByte(length, '\r'); line >= 0 {
				length = length[:line]
			}
			body, err := strconv.Atoi(string(length))
			if err != nil {
				return 0, err
			}
			want = head + len(headEnd) + body
		}
		if n >= want {
			return strconv.Atoi(string(buf[len("HTTP/1.1 "):][:3]))
		}
	}
}

// Pace sends requests to a TCP address at a fixed rate for a duration. The connections, one for each element of
// requests, take turns. Pace returns how long each answer took, counted from when its request was sent or, if its
// connection was still waiting for the previous answer, from when the request was due. A status other than 200 is an
// error.
func Pace(address string, requests [][][]byte, perSecond int, duration time.Duration) ([]time.Duration, error) {
	took := make([]time.Duration, int(duration.Seconds()*float64(perSecond)))
	errs := make([]error, len(requests))
	start := time.Now()
	var wg sync.WaitGroup
	for c := range requests {
		wg.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				errs[c] = err
				return
			}
			defer conn.Close() //nolint:errcheck // nothing is left to write
			buf := make([]byte, 64<<10)
			for turn, i := 0, c; i < len(took); turn, i = turn+1, i+len(requests) {
				sent := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				if wait := time.Until(sent); wait > 0 {
					time.Sleep(wait)
					sent = time.Now()
				}
				if _, errs[c] = conn.Write(requests[c][turn%len(requests[c])]); errs[c] != nil {
					return
				}
				status, err := answer(conn, buf)
				if took[i] = time.Since(sent); err == nil && status != 200 {
					err = fmt.Errorf("status %d", status)
				}
				if errs[c] = err; err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}
