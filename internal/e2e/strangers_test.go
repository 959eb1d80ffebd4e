//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// sendTo opens n connections, and sends a text and nothing more on each.
func sendTo(t *testing.T, address string, n int, text string) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the server may have closed it
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		conns[i] = conn
	}
	return conns
}

// requestHead returns the head of a POST request with a body of the given length.
func requestHead(target string, length int, header ...string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(length) + "\r\n" +
		strings.Join(append(header, ""), "\r\n") + "\r\n"
}

// badSignature are the header lines of a signed webhook with an invalid signature.
var badSignature = []string{"webhook-id: msg_1", "webhook-timestamp: " + strconv.FormatInt(time.Now().Unix(), 10), "webhook-signature: v1,AAAA"}

// TestStrangersDoNotBlockOthers has many strangers start requests that can only be authenticated by their body, and
// send little or nothing of it. Reports and reads with a token must still succeed, and the program's memory must stay
// small.
func TestStrangersDoNotBlockOthers(t *testing.T) {
	const maxGrowth = 96 << 20 // without the bounds, a hundred strangers took 750 MiB
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"team": {Scopes: []string{"report", "read"}, Agents: []string{"team/*"}}})
	for name, request := range map[string]string{
		"a form without its body":                    requestHead("/sign-in", 100),
		"a signed report without its body":           requestHead("/webhook/status", 8<<20, badSignature...),
		"the first byte of a signed report":          requestHead("/webhook/status", 8<<20, badSignature...) + "{",
		"the first MiB of a signed event":            requestHead("/webhook/claude-code", 8<<20, badSignature...) + strings.Repeat("x", 1<<20),
		"a header that does not end":                 "POST /sign-in HTTP/1.1\r\nHost: x\r\nX-Long: ",
		"the first byte of a report without a token": requestHead("/webhook/status", 8<<20) + "{",
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "TOKENS_FILE="+path, "WEBHOOK_SECRET="+accesstest.Secret, "MAX_IN_FLIGHT=50", "GOGC=20")
			team := teamClient{holders["team"], p}
			reportAndRead := func() {
				status, body := team.do(t, "POST", "/webhook/status", reportOf("team/a", "t", "running"))
				require.Equal(t, 200, status, "%s", body)
				status, body = team.do(t, "GET", "/api/agents", "")
				require.Equal(t, 200, status, "%s", body)
			}
			reportAndRead()
			before := p.peakMemory(t)
			for range 10 {
				sendTo(t, p.address, 60, request)
				reportAndRead()
			}
			p.requireMemoryGrowth(t, before, maxGrowth)
			require.NoError(t, p.cmd.Process.Kill())
		})
	}
}

// TestTheSlowestStrangerIsDropped has one address start more sign-ins than it may, and another address start one. The
// oldest sign-ins of the first address must be cut off, and all others must get a response.
func TestTheSlowestStrangerIsDropped(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+path, "TRUSTED_PROXIES=127.0.0.1", "METRICS_PUBLIC=true")
	from := func(address string) string { return requestHead("/sign-in", 7, "X-Forwarded-For: "+address) }
	other := sendTo(t, p.address, 1, from("192.0.2.2"))
	conns := sendTo(t, p.address, 40, from("192.0.2.1"))
	require.Eventually(t, func() bool {
		return strings.Contains(metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_requests_refused_total{code="503"} 24`)
	}, 10*time.Second, 10*time.Millisecond, "16 sign-ins of the address are left")
	responses := 0
	for _, conn := range append(conns, other...) {
		io.WriteString(conn, "token=x") //nolint:errcheck // it may have been cut off
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode == 401 {
			responses++
		}
	}
	require.Equal(t, 17, responses)
	require.Contains(t, metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_request_bound_hits_total{bound="strangers_address"} 24`)
}

// TestStrangersOverHTTP2 starts many requests with large signed bodies on one connection, and sends one byte of each.
func TestStrangersOverHTTP2(t *testing.T) {
	const maxGrowth = 48 << 20
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"team": {Scopes: []string{"report", "read"}, Agents: []string{"team/*"}}})
	p := start(t, "TOKENS_FILE="+path, "WEBHOOK_SECRET="+accesstest.Secret, "MAX_IN_FLIGHT=50", "GOGC=20",
		"TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))
	transport := func() *http.Transport {
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"h2"}}, ForceAttemptHTTP2: true}
	}
	client := &http.Client{Transport: transport()}
	read := func() {
		r, err := http.NewRequest("GET", "https://"+p.address+"/api/agents", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+holders["team"].Token)
		resp, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, 2, resp.ProtoMajor)
	}
	read()
	before := p.peakMemory(t)
	strangers := transport()
	var requests sync.WaitGroup
	var bodies []*io.PipeWriter
	for range 100 {
		body, more := io.Pipe()
		bodies = append(bodies, more)
		r, err := http.NewRequest("POST", "https://"+p.address+"/webhook/status", body)
		require.NoError(t, err)
		r.ContentLength = 8 << 20
		for _, line := range badSignature {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		requests.Go(func() {
			resp, err := (&http.Client{Transport: strangers}).Do(r)
			if err == nil {
				resp.Body.Close() //nolint:errcheck // it was refused
			}
		})
		go io.WriteString(more, "{") //nolint:errcheck // it may have been cut off
		read()
	}
	p.requireMemoryGrowth(t, before, maxGrowth)
	for _, more := range bodies {
		more.CloseWithError(io.ErrUnexpectedEOF) //nolint:errcheck // it never fails
	}
	requests.Wait()
}

// TestTeamAtItsShareDoesNotBlockOthers has the slow requests and the streams of a team reach its share. Further
// requests of the team must be refused with an error that names the bound, and requests of another team must still
// succeed.
func TestTeamAtItsShareDoesNotBlockOthers(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"greedy": {Scopes: []string{"report", "read"}, Agents: []string{"greedy/*"}},
		"other":  {Scopes: []string{"report", "read"}, Agents: []string{"other/*"}},
	})
	p := start(t, "TOKENS_FILE="+path, "METRICS_PUBLIC=true", "MAX_IN_FLIGHT=10", "MAX_SUBSCRIBERS=10")
	greedy, other := teamClient{holders["greedy"], p}, teamClient{holders["other"], p}
	follow := func(team teamClient) int {
		conn := sendTo(t, p.address, 1, "GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+team.Token+"\r\n\r\n")[0]
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		return resp.StatusCode
	}
	for range 5 {
		require.Equal(t, 200, follow(greedy))
	}
	require.Equal(t, 503, follow(greedy))
	require.Eventually(t, func() bool { // one more each time, because one may be refused while the read below takes a place
		sendTo(t, p.address, 1, requestHead("/webhook/status", 100, "Authorization: Bearer "+greedy.Token))
		status, body := greedy.do(t, "GET", "/api/agents", "")
		return status == 503 && strings.Contains(string(body), "share of MAX_IN_FLIGHT")
	}, 10*time.Second, time.Millisecond)
	status, body := other.do(t, "POST", "/webhook/status", reportOf("other/a", "t", "running"))
	require.Equal(t, 200, status, "%s", body)
	for range 5 {
		require.Equal(t, 200, follow(other))
	}
	status, body = other.do(t, "GET", "/api/events", "")
	require.Equal(t, 503, status)
	require.Contains(t, string(body), "share of MAX_SUBSCRIBERS")
	metrics := metricsOf(http.DefaultClient, "http://"+p.address)
	require.Regexp(t, `kubeagents_request_bound_hits_total\{bound="in_flight_share"\} [1-9]`, metrics)
	require.Regexp(t, `kubeagents_request_bound_hits_total\{bound="subscribers_share"\} [1-9]`, metrics)
	require.NoError(t, p.cmd.Process.Kill())
}

// TestClientsThatSendIntoAStreamAreCutOff sends bytes on the connections of event streams, with the request and
// afterwards.
func TestClientsThatSendIntoAStreamAreCutOff(t *testing.T) {
	p := start(t)
	const request = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
	conn := sendTo(t, p.address, 1, request)[0]
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	before := p.cpuTime(t)
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	sent := 0
	for err == nil && sent < 1<<30 {
		var n int
		n, err = conn.Write(chunk)
		sent += n
	}
	require.Error(t, err, "the connection must be cut off")
	require.Less(t, sent, 64<<20)
	require.Less(t, p.cpuTime(t)-before, time.Second)

	conn = sendTo(t, p.address, 1, request+"GET / HTTP/1.1\r\n\r\n")[0]
	_, err = io.ReadAll(conn)
	if err != nil {
		require.ErrorContains(t, err, "reset")
	}
	conn = sendTo(t, p.address, 1, "GET /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")[0]
	resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, 400, resp.StatusCode)
	require.Zero(t, p.stop(t))
}

// TestStreamRequestsWithABodyOverHTTP2AreRefused requests an event stream with an endless body.
func TestStreamRequestsWithABodyOverHTTP2AreRefused(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	p := start(t, "TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"h2"}}, ForceAttemptHTTP2: true}}
	before := p.cpuTime(t)
	body, more := io.Pipe()
	sent := make(chan int64)
	go func() {
		var n int64
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for n < 1<<30 {
			written, err := more.Write(chunk)
			if n += int64(written); err != nil {
				break
			}
		}
		sent <- n
	}()
	r, err := http.NewRequest("GET", "https://"+p.address+"/api/events", body)
	require.NoError(t, err)
	resp, err := client.Do(r)
	require.NoError(t, err)
	require.Equal(t, 2, resp.ProtoMajor)
	require.Equal(t, 400, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
	require.Less(t, <-sent, int64(64<<20))
	require.Less(t, p.cpuTime(t)-before, time.Second)
	client.CloseIdleConnections()
	require.Zero(t, p.stop(t))
}

// cpuTime returns the processor time that the program has used. It skips the test on systems without /proc.
func (p *process) cpuTime(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("this system has no /proc, which is needed to measure processor time")
	}
	fields := regexp.MustCompile(`\) (.*)`).FindSubmatch(stat)
	require.NotNil(t, fields)
	var ticks int
	for _, field := range strings.Fields(string(fields[1]))[11:13] {
		n, err := strconv.Atoi(field)
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// strangerAt sends the start of a request as a trusted proxy would for a client with the given address.
func strangerAt(t *testing.T, p *process, address, target string, length int, body string) net.Conn {
	t.Helper()
	header := append([]string{"X-Forwarded-For: " + address}, badSignature...)
	return sendTo(t, p.address, 1, requestHead(target, length, header...)+body)[0]
}

// TestRefusedBodiesReleaseTheirMemory has large bodies refused, and then sends the first byte of many others. None of
// these may keep the memory of a large body.
func TestRefusedBodiesReleaseTheirMemory(t *testing.T) {
	const maxGrowth = 192 << 20 // it was 450 MiB when refused bodies kept their memory
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+path, "WEBHOOK_SECRET="+accesstest.Secret, "TRUSTED_PROXIES=127.0.0.1", "GOGC=20")
	large := strings.Repeat("x", 8<<20)
	before := p.peakMemory(t)
	for round := range 20 {
		address := fmt.Sprintf("192.0.2.%d", round/4)
		var refused sync.WaitGroup
		for i := range 3 {
			conn := strangerAt(t, p, fmt.Sprintf("198.51.100.%d", i), "/webhook/status", len(large), "")
			refused.Go(func() {
				io.WriteString(conn, large) //nolint:errcheck // if it fails, there is no response
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || resp.StatusCode != 401 {
					t.Errorf("want 401, got %v %v", resp, err)
				}
			})
		}
		refused.Wait()
		for range 3 {
			strangerAt(t, p, address, "/webhook/status", len(large), "{")
		}
	}
	p.requireMemoryGrowth(t, before, maxGrowth)
	require.NoError(t, p.cmd.Process.Kill())
}

// TestGreedyAddressesDoNotBlockOthers has some addresses take as many places and as much memory for bodies as they can,
// while a signed report arrives slowly from another address. The report must be accepted.
func TestGreedyAddressesDoNotBlockOthers(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	for name, flood := range map[string]func(p *process){
		"many requests of many addresses": func(p *process) {
			for i := range 10 {
				for range 20 {
					strangerAt(t, p, fmt.Sprintf("198.51.100.%d", i), "/sign-in", 100, "t")
				}
			}
		},
		"large bodies of one address": func(p *process) {
			large := strings.Repeat("x", 7<<20)
			for range 8 {
				conn := strangerAt(t, p, "198.51.100.1", "/webhook/status", 8<<20, "")
				io.WriteString(conn, large) //nolint:errcheck // it may be cut off
			}
		},
		"large bodies of many addresses": func(p *process) {
			large := strings.Repeat("x", 7<<20)
			for i := range 8 {
				conn := strangerAt(t, p, fmt.Sprintf("198.51.100.%d", i), "/webhook/status", 8<<20, "")
				io.WriteString(conn, large) //nolint:errcheck // it may be cut off
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "TOKENS_FILE="+path, "WEBHOOK_SECRET="+accesstest.Secret, "TRUSTED_PROXIES=127.0.0.1", "METRICS_PUBLIC=true")
			body := reportOf("a", "t", "running")
			header := append(accesstest.Sign(t, accesstest.Secret, "msg_slow", time.Now(), body), "X-Forwarded-For: 192.0.2.1")
			conn := sendTo(t, p.address, 1, requestHead("/webhook/status", len(body), header...)+body[:10])[0]
			require.Eventually(t, func() bool { // the start of its body has arrived, before the others
				return strings.Contains(metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_strangers 2`)
			}, 10*time.Second, 10*time.Millisecond)
			flood(p)
			_, err := io.WriteString(conn, body[10:])
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err, "it was cut off")
			require.Equal(t, 200, resp.StatusCode)
			require.NoError(t, p.cmd.Process.Kill())
		})
	}
}

// TestBodiesOfOneAddressAreBounded has an address send three large bodies that do not end. Together they exceed the
// bound for one address, so the oldest must be cut off, while the server keeps waiting for the others.
func TestBodiesOfOneAddressAreBounded(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+path, "WEBHOOK_SECRET="+accesstest.Secret, "TRUSTED_PROXIES=127.0.0.1", "METRICS_PUBLIC=true")
	for range 3 {
		conn := strangerAt(t, p, "192.0.2.1", "/webhook/status", 8<<20, "")
		io.WriteString(conn, strings.Repeat("x", 7<<20)) //nolint:errcheck // it may be cut off
	}
	require.Eventually(t, func() bool {
		metrics := metricsOf(http.DefaultClient, "http://"+p.address)
		return strings.Contains(metrics, `kubeagents_request_bound_hits_total{bound="strangers_bytes"} 1`+"\n") && strings.Contains(metrics, "kubeagents_strangers 3\n")
	}, 5*time.Second, 10*time.Millisecond, "two bodies are left, and the request for metrics")
	require.NoError(t, p.cmd.Process.Kill())
}

// TestStrangersDoNotFillTheLog has strangers cause each kind of logged failure very often, with the longest possible
// texts.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	const times = 1000
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	tokens := "TOKENS_FILE=" + path
	long := strings.Repeat("x", 32<<10)
	for name, test := range map[string]struct {
		request     string
		environment []string
	}{
		"an unknown path":        {"GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", []string{tokens}},
		"an unknown method":      {long + " /health HTTP/1.1\r\nHost: x\r\n\r\n", []string{tokens}},
		"a malformed form":       {requestHead("/sign-in", 3) + "%zz", []string{tokens}},
		"a foreign host name":    {"GET /api/agents HTTP/1.1\r\nHost: " + strings.Repeat("x", 200) + "\r\n\r\n", nil},
		"too many requests":      {"GET /api/agents HTTP/1.1\r\nHost: x\r\n\r\n", []string{tokens, "RATE_LIMIT_READS=1"}},
		"a failed TLS handshake": {"hello, world\r\n\r\n", []string{"TLS_CERT_FILE=" + writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE=" + writeFile(t, filepath.Join(dir, "key"), key)}},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, test.environment...)
			started := time.Now()
			for range times {
				conn := sendTo(t, p.address, 1, test.request)[0]
				conn.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read would fail as well
				conn.Read(make([]byte, 1))                             //nolint:errcheck // a response, or the end of the connection
				require.NoError(t, conn.Close())
			}
			took := time.Since(started)
			require.Zero(t, p.stop(t))
			lines := bytes.Count(p.stderr.Bytes(), []byte("\n"))
			t.Logf("%d lines, %d bytes in %v", lines, p.stderr.Len(), took)
			require.Less(t, lines, 150+int(10*took.Seconds()))
			require.Less(t, p.stderr.Len(), lines*1024)
		})
	}
}
