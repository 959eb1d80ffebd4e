// Package load drives an HTTP server as hard as its keep-alive connections allow, at as little cost to the
// machine as can be, since server and load share it.
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

// Result is what a run of [Run] saw.
type Result struct {
	Requests int // answered, with any status
	Failed   int // those of them with another status than 200
	Elapsed  time.Duration
}

// PerSecond returns the requests answered in a second.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Request returns the bytes of a request with a body for [Run] to send; header lines are "Name: value".
func Request(method, path string, body []byte, header ...string) []byte {
	lines := ""
	for _, line := range header {
		lines += line + "\r\n"
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, path, lines, len(body), body)
}

// Now stands, in a request for [Run], for the time at which it is sent, in UTC (RFC 3339).
const Now = "0000-00-00T00:00:00.000000Z"

// stamped is a request, and where in it the time is to stand.
type stamped struct {
	text []byte
	at   []int
}

// stampedOf finds where in requests the time is to stand.
func stampedOf(requests [][]byte) []stamped {
	all := make([]stamped, len(requests))
	for i, text := range requests {
		all[i].text = text
		for from := 0; ; {
			n := bytes.Index(text[from:], []byte(Now))
			if n < 0 {
				break
			}
			all[i].at = append(all[i].at, from+n)
			from += n + len(Now)
		}
	}
	return all
}

// stamp puts the time into a request.
func (s *stamped) stamp(now time.Time) []byte {
	if len(s.at) == 0 {
		return s.text
	}
	var text [40]byte
	sent := now.UTC().AppendFormat(text[:0], "2006-01-02T15:04:05.000000Z")
	for _, at := range s.at {
		copy(s.text[at:], sent)
	}
	return s.text
}

// Run sends requests to a TCP address for a duration. There is a connection for each element of requests:
// it sends them one after another, again and again, each when the answer to the one before has come. It writes the time into them
// where [Now] stands.
func Run(address string, requests [][][]byte, duration time.Duration) (Result, error) {
	conns := make([]net.Conn, len(requests))
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return Result{}, err
		}
		defer conn.Close() //nolint:errcheck // nothing is left to be written
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
					copy(s.text[at:], Now)
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
		if status != 200 {
			r.Failed++
		}
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length: ")
)

// answer reads one answer, which must name its length and fit into buf.
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
				return 0, errors.New("the answer does not name its length")
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

// Pace sends requests to a TCP address at a pace, as many a second, for a duration: the connections, one for each element of
// requests, take turns. It returns how long each answer took, from when the request was sent, or from when it was due where its
// connection still waited for the answer before. Any answer but 200 is an error.
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
			defer conn.Close() //nolint:errcheck // nothing is left to be written
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
