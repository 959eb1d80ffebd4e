//go:build unix

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// peakMemory returns the peak memory usage of the program so far, in bytes. It skips the test on systems without /proc.
func (p *process) peakMemory(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("this system has no /proc, which is needed to measure memory")
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, found)
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	require.NoError(t, err)
	return kilobytes << 10
}

// requireMemoryGrowth fails the test unless the peak memory usage is less than limit bytes above before, which was
// measured earlier. With the race detector it only logs, because the program is built with it too.
func (p *process) requireMemoryGrowth(t testing.TB, before, limit int64) {
	t.Helper()
	peak := p.peakMemory(t)
	t.Logf("memory: %d MiB before, %d MiB at the peak", before>>20, peak>>20)
	if !underRace {
		require.Less(t, peak-before, limit)
	}
}

// fillHistory reports statuses of 40 KB each, which barely compress, to one session.
func fillHistory(t testing.TB, client *http.Client, address string, statuses int) {
	rng := rand.New(rand.NewPCG(1, 2))
	content := make([]rune, models.MaxContent)
	for sent := 0; sent < statuses; {
		var batch bytes.Buffer
		for range min(100, statuses-sent) {
			for i := range content {
				content[i] = '\U00020000' + rng.Int32N(0xa000) // ideographs of four bytes
			}
			fmt.Fprintf(&batch, `{"agent_id":"a","session_topic":"t","status":"running","message":"%d","content":"%s"}`, sent, string(content))
			sent++
		}
		resp, err := client.Post(address+"/webhook/status", "application/json", &batch)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
	}
}

// metricIn returns the value of a metric without labels in the text of /metrics, 0 if it is missing.
func metricIn(metrics, name string) (value float64) {
	if found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics); found != nil {
		value, _ = strconv.ParseFloat(found[1], 64) //nolint:errcheck // the server writes numbers
	}
	return value
}

// dialSmallWindow connects with a small receive buffer, so that the kernel buffers little for a client that does not
// read.
func dialSmallWindow(t testing.TB, address string) net.Conn {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }) //nolint:errcheck // without it, the kernel only buffers more
	}}
	conn, err := dialer.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the server may have closed it
	return conn
}

// TestUnreadResponsesAreBounded has many clients request pages of large statuses and read nothing: over HTTP/1.1 and
// HTTP/2, compressed, and through MCP. Memory must stay bounded, and small reads and reports must still be served.
func TestUnreadResponsesAreBounded(t *testing.T) {
	if underRace {
		t.Skip("memory can only be measured without the race detector: go test ./internal/e2e -run TestUnreadResponsesAreBounded")
	}
	const pipelined = 8                                    // requests per connection, since the kernel buffers some responses that are not read
	const readers, bound, limit = 150, 16 << 20, 110 << 20 // without the bound, 15 readers took 1.4 GiB
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	tlsConfig := func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{protocol}}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig("http/1.1")}}
	const history = "/api/agents/a/sessions/t?limit=1000"
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_session","arguments":{"agent_id":"a","session_topic":"t","limit":1000}}}`
	for name, send := range map[string]func(t *testing.T, address string){
		"HTTP/1.1": func(t *testing.T, address string) {
			for range readers {
				conn := tls.Client(dialSmallWindow(t, address), tlsConfig("http/1.1"))
				_, err := io.WriteString(conn, strings.Repeat("GET "+history+" HTTP/1.1\r\nHost: x\r\n\r\n", pipelined))
				require.NoError(t, err)
			}
		},
		"compressed": func(t *testing.T, address string) {
			for range readers {
				conn := tls.Client(dialSmallWindow(t, address), tlsConfig("http/1.1"))
				_, err := io.WriteString(conn, strings.Repeat("GET "+history+" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", pipelined))
				require.NoError(t, err)
			}
		},
		"HTTP/2": func(t *testing.T, address string) {
			for range readers / 50 { // 50 requests per connection
				transport := &http.Transport{TLSClientConfig: tlsConfig("h2"), ForceAttemptHTTP2: true,
					HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
				t.Cleanup(transport.CloseIdleConnections)
				var requests sync.WaitGroup
				t.Cleanup(requests.Wait)
				for range 50 {
					requests.Go(func() {
						resp, err := (&http.Client{Transport: transport}).Get("https://" + address + history)
						if err == nil {
							<-t.Context().Done() // without reading the body
							resp.Body.Close()    //nolint:errcheck // nothing was read
						}
					})
				}
			}
		},
		"MCP": func(t *testing.T, address string) {
			for range readers {
				conn := tls.Client(dialSmallWindow(t, address), tlsConfig("http/1.1"))
				_, err := io.WriteString(conn, strings.Repeat(fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"+
					"MCP-Protocol-Version: 2025-03-26\r\nContent-Length: %d\r\n\r\n%s", len(call), call), pipelined))
				require.NoError(t, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "ANSWERS_MAX_BYTES=16MiB", "HISTORY_LIMIT=1000",
				"TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))
			address := "https://" + p.address
			fillHistory(t, client, address, 500)
			before := p.peakMemory(t)
			send(t, p.address)
			require.Eventually(t, func() bool { // the bound has no room, and requests have waited for it in vain
				metrics := metricsOf(client, address)
				held := metricIn(metrics, "kubeagents_answers_bytes")
				if name == "MCP" { // whose pages are small enough for the kernel to buffer them
					return held > 0 && held <= bound
				}
				return held > bound/4 && held <= bound && metricIn(metrics, "kubeagents_answers_refused_total") > 0
			}, 30*time.Second, 10*time.Millisecond)
			resp, err := client.Get(address + "/api/summary")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 200, resp.StatusCode)
			fillHistory(t, client, address, 1)
			p.requireMemoryGrowth(t, before, limit)
			require.NoError(t, p.cmd.Process.Kill())
		})
	}
}
