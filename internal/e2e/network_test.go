//go:build unix

package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
)

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign returns a certificate for 127.0.0.1 and publicHost, with the given serial number, and its key, both in PEM.
func (a authority) sign(t testing.TB, serial int64) (cert, key []byte) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{publicHost},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &pair.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func writeFile(t testing.TB, path string, text []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// TestTLS checks the program with a certificate, with a new certificate after a reload, and with client certificates.
func TestTLS(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 100)
	certFile, keyFile := writeFile(t, filepath.Join(dir, "cert"), cert), writeFile(t, filepath.Join(dir, "key"), key)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := func(change func(*tls.Config)) *http.Client {
		c := &tls.Config{RootCAs: roots}
		if change != nil {
			change(c)
		}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	}
	p := start(t, "TLS_CERT_FILE="+certFile, "TLS_KEY_FILE="+keyFile)
	address := "https://" + p.address
	resp, err := client(nil).Get(address + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 2, resp.ProtoMajor)
	require.EqualValues(t, tls.VersionTLS13, resp.TLS.Version)
	require.Equal(t, "max-age=63072000", resp.Header.Get("Strict-Transport-Security"))

	resp, err = client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }).Get(address + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, tls.CipherSuiteName(resp.TLS.CipherSuite), "ECDHE")
	for _, change := range []func(*tls.Config){
		func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		},
	} {
		_, err = client(change).Get(address + "/health") //nolint:bodyclose // there is no response
		require.Error(t, err)
	}
	plain, err := http.Get("http://" + p.address + "/health")
	require.NoError(t, err)
	require.NoError(t, plain.Body.Close())
	require.Equal(t, 400, plain.StatusCode)

	stream, err := client(nil).Get(address + "/api/events") // over HTTP/2, where requests share a connection
	require.NoError(t, err)
	line, err := bufio.NewReader(stream.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, ": connected\n", line)
	require.NoError(t, stream.Body.Close())

	serial := func() int64 {
		resp, err := client(nil).Get(address + "/health")
		if err != nil {
			return 0
		}
		defer resp.Body.Close() //nolint:errcheck // only the header matters
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	require.EqualValues(t, 100, serial())
	cert, key = ca.sign(t, 200)
	writeFile(t, certFile, cert) // without its key, so that they don't match
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool {
		return strings.Contains(metricsOf(client(nil), address), `kubeagents_reload_ok{files="certificates"} 0`)
	}, 10*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 100, serial())
	writeFile(t, keyFile, key)
	require.Eventually(t, func() bool { return serial() == 200 }, 20*time.Second, 10*time.Millisecond, "files are reloaded without a signal")
	require.Zero(t, p.stop(t))

	caFile := writeFile(t, filepath.Join(dir, "ca"), ca.pem)
	p = start(t, "TLS_CERT_FILE="+certFile, "TLS_KEY_FILE="+keyFile, "TLS_CLIENT_CA_FILE="+caFile)
	_, err = client(nil).Get("https://" + p.address + "/health") //nolint:bodyclose // there is no response
	require.Error(t, err, "a client certificate is required")
	pair, err := tls.X509KeyPair(ca.sign(t, 300))
	require.NoError(t, err)
	resp, err = client(func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }).Get("https://" + p.address + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 200, resp.StatusCode)
	require.Zero(t, p.stop(t))
	require.NotContains(t, p.stderr.String(), "PRIVATE")
}

// encrypted is a running instance of the program with a certificate, and a client that trusts it.
type encrypted struct {
	*process
	client *http.Client
	caFile string // of the authority that signed the certificate, in PEM
}

// startTLS starts the program with a certificate for 127.0.0.1.
func startTLS(t testing.TB, environment ...string) encrypted {
	t.Helper()
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 100)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	s := encrypted{caFile: writeFile(t, filepath.Join(dir, "ca"), ca.pem)}
	s.process = start(t, append(environment, "TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert),
		"TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))...)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	return s
}

// do sends a request and returns the response. Header lines have the form "Name: value".
func (s encrypted) do(t testing.TB, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.address+target, strings.NewReader(body))
	require.NoError(t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	w := httptest.NewRecorder()
	w.Code = resp.StatusCode
	_, err = io.Copy(w.Body, resp.Body)
	require.NoError(t, err)
	return w
}

// metricsOf returns the text of /metrics, or an error text, because it is called in goroutines that must not end the
// test.
func metricsOf(client *http.Client, address string) string {
	resp, err := client.Get(address + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// TestTokensReload changes the tokens file of a running server, makes it invalid, and repairs it.
func TestTokensReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	token := func(name string) (header, line string) {
		token, entry := access.NewToken(name)
		entry.Scopes = []string{"report", "read"}
		return "Authorization: Bearer " + token, entry.String()
	}
	write := func(lines ...string) { writeFile(t, path, []byte(strings.Join(lines, "\n")+"\n")) }
	first, firstLine := token("first")
	second, secondLine := token("second")
	third, thirdLine := token("third")
	write(firstLine)
	p := start(t, "TOKENS_FILE="+path, "METRICS_PUBLIC=true")
	statuses := func() (all [3]int) {
		for i, header := range []string{first, second, third} {
			all[i] = p.do("GET", "/api/agents", "", header).Code
		}
		return all
	}
	awaitMetric := func(line string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(metricsOf(client, "http://"+p.address), "\n"+line+"\n") }, 20*time.Second, 10*time.Millisecond, line)
	}
	require.Equal(t, [3]int{200, 401, 401}, statuses())
	write(firstLine, secondLine)
	require.Eventually(t, func() bool { return statuses() == [3]int{200, 200, 401} }, 20*time.Second, 10*time.Millisecond, "the file is reloaded without a signal")

	write(secondLine, thirdLine, "ka_SECRET")
	awaitMetric(`kubeagents_reload_failures_total{files="tokens"} 1`)
	awaitMetric(`kubeagents_reload_ok{files="tokens"} 0`)
	require.Equal(t, [3]int{200, 200, 401}, statuses(), "nothing of an invalid file has an effect")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	awaitMetric(`kubeagents_reload_failures_total{files="tokens"} 2`) // without the signal, the same contents are not tried again
	require.Equal(t, [3]int{200, 200, 401}, statuses())

	write(secondLine, thirdLine)
	require.Eventually(t, func() bool { return statuses() == [3]int{401, 200, 200} }, 20*time.Second, 10*time.Millisecond)
	awaitMetric(`kubeagents_reload_ok{files="tokens"} 1`)
	require.Zero(t, p.stop(t))
	require.Contains(t, p.stderr.String(), "TOKENS_FILE="+path+": line 3: must be a JSON object")
	require.NotContains(t, p.stderr.String(), "SECRET")

	status, output := runProgram(t, []string{"TOKENS_FILE=" + writeFile(t, path, []byte("ka_SECRET\n")), "PORT=0", "HOST=127.0.0.1"})
	require.Equal(t, command.ExitUsage, status)
	require.Contains(t, output, "TOKENS_FILE="+path+": line 1: must be a JSON object")
	require.NotContains(t, output, "SECRET")
}

// TestErrorsNameInvalidFiles starts the program with files that can't be read or used. The error must name the setting,
// the file and, in the tokens file, the line.
func TestErrorsNameInvalidFiles(t *testing.T) {
	dir := t.TempDir()
	_, entry := access.NewToken("ci")
	entry.Scopes = []string{"report"}
	twice := writeFile(t, filepath.Join(dir, "twice"), []byte(entry.String()+"\n\n"+entry.String()+"\n"))
	none, garbage := filepath.Join(dir, "none"), writeFile(t, filepath.Join(dir, "garbage"), []byte("garbage"))
	cert, key := newAuthority(t).sign(t, 1)
	certFile, keyFile := writeFile(t, filepath.Join(dir, "cert"), cert), writeFile(t, filepath.Join(dir, "key"), key)
	for want, settings := range map[string][]string{
		"TOKENS_FILE: open " + none:                              {"TOKENS_FILE=" + none},
		"TOKENS_FILE=" + twice + ": line 3: name is the same as": {"TOKENS_FILE=" + twice},
		"TLS_KEY_FILE: open " + none:                             {"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + none},
		"TLS_CERT_FILE=" + garbage + ", TLS_KEY_FILE=" + keyFile + ": the certificate and its key": {"TLS_CERT_FILE=" + garbage, "TLS_KEY_FILE=" + keyFile},
		"TLS_CLIENT_CA_FILE=" + garbage + ": the file of client authorities has no certificate":    {"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile, "TLS_CLIENT_CA_FILE=" + garbage},
	} {
		status, output := runProgram(t, append(settings, "PORT=0", "HOST=127.0.0.1"))
		require.Equal(t, command.ExitUsage, status, output)
		require.Contains(t, output, want)
	}
}

func TestTokenCommand(t *testing.T) {
	for _, args := range [][]string{{"token"}, {"token", "a", "b"}, {"token", "-scopes", "write", "x"}, {"token", "-nothing", "x"}} {
		status, output := runProgram(t, nil, args...)
		require.Equal(t, 2, status, "%q: %s", args, output)
	}
	status, output := runProgram(t, nil, "token", "-scopes", "report,read", "-agents", "team-a/*,ci", "-expires", "24h", "ci of team a")
	require.Zero(t, status)
	token, line, _ := strings.Cut(output, "\n")
	require.Regexp(t, `^ka_[A-Z2-7]{52}$`, token)
	entries, err := access.ParseTokens([]byte(line))
	require.NoError(t, err)
	require.Equal(t, "ci of team a", entries[0].Name)
	require.Equal(t, []string{"team-a/*", "ci"}, entries[0].Agents)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), entries[0].Expires, time.Minute)
}

// TestStartLogsExposure checks what the program logs at startup about who can use it.
func TestStartLogsExposure(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	for _, test := range []struct {
		settings []string
		want     string
	}{
		{nil, `"level":"INFO","msg":"anyone on this machine can read, report and remove everything, and other machines can't connect`},
		{[]string{"HOST="}, `HOST=0.0.0.0 to let other machines connect`},
		{nil, `"level":"WARN","msg":"CORS_ALLOWED_ORIGINS is *, so any website that you visit can read everything on this server`},
		{[]string{"WEBHOOK_SECRET=" + accesstest.Secret}, `"level":"INFO","msg":"anyone on this machine can read and remove everything`},
		{[]string{"TRUSTED_PROXIES=127.0.0.1"}, `"level":"WARN","msg":"ANYONE who can reach the proxy in front of this server can read, report and remove everything`},
		{[]string{"HOST=0.0.0.0"}, `"level":"WARN","msg":"ANYONE who can reach this address can read, report and remove everything`},
		{[]string{"HOST=0.0.0.0", "TOKENS_FILE=" + path}, `"level":"WARN","msg":"tokens cross the network unencrypted`},
		{[]string{"TOKENS_FILE=" + path}, `"level":"INFO","msg":"tokens cross the network unencrypted`},
	} {
		p := start(t, test.settings...)
		require.Zero(t, p.stop(t))
		require.Contains(t, p.stderr.String(), test.want)
	}
}

// TestIdleConnections opens 10,000 connections, some of which send nothing, some half a header and some half a body.
// Reports must still be accepted. TestSlowClientsAreCutOff checks that the server closes such connections in time.
func TestIdleConnections(t *testing.T) {
	connections := 10_000
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if available := int(limit.Cur) - 1000; available < connections {
		t.Logf("this machine allows %d open files: %d connections instead of %d", limit.Cur, available, connections)
		connections = available
	}
	p := start(t, "SHUTDOWN_TIMEOUT=1s")
	connect := func(n int, text string) {
		for range n {
			conn, err := net.Dial("tcp", p.address)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the server may have closed it
			_, err = io.WriteString(conn, text)
			require.NoError(t, err)
		}
	}
	report := func() {
		t.Helper()
		started := time.Now()
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(reportOf("a", "t", "running")))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
		require.Less(t, time.Since(started), 10*time.Second)
	}
	connect(connections-800, "")
	report()
	connect(400, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nX-")
	report()
	connect(400, "POST /webhook/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	for range 20 {
		report()
	}
	require.Zero(t, p.stop(t), "open connections don't keep the program from stopping")
}

// TestRequestSmuggling sends requests that proxies and servers may interpret differently, many with a second request
// inside, and checks that none of them gets access without a token.
func TestRequestSmuggling(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+path)
	inner := "GET /api/agents HTTP/1.1\r\nHost: x\r\n\r\n"
	stolen := reportOf("stolen", "t", "running")
	post := "POST /webhook/status HTTP/1.1\r\nHost: x\r\n"
	for name, text := range map[string]string{
		"two lengths":                        fmt.Sprintf("%sContent-Length: %d\r\nContent-Length: 0\r\n\r\n%s", post, len(inner), inner),
		"length and chunks":                  fmt.Sprintf("%sContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", post, len(inner)+5, inner),
		"an unknown encoding":                fmt.Sprintf("%sContent-Length: %d\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n%s", post, len(inner)+5, inner),
		"a negative length":                  fmt.Sprintf("%sContent-Length: -1\r\n\r\n%s", post, inner),
		"a length with a plus":               fmt.Sprintf("%sContent-Length: +%d\r\n\r\n%s", post, len(inner), inner),
		"a space before a colon":             fmt.Sprintf("%sContent-Length : %d\r\n\r\n%s", post, len(inner), inner),
		"a GET with a body":                  fmt.Sprintf("GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"pipelined requests":                 "GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + inner + post + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(stolen), stolen),
		"a folded header":                    "GET /api/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n " + "x" + "\r\n\r\n",
		"no host":                            "GET /api/agents HTTP/1.1\r\n\r\n",
		"HTTP/1.0":                           "GET /api/agents HTTP/1.0\r\n\r\n",
		"an absolute URL":                    "GET http://x/api/agents HTTP/1.1\r\nHost: x\r\n\r\n",
		"an absolute URL with a dot segment": "GET http://x/health/../api/agents HTTP/1.1\r\nHost: x\r\n\r\n",
		"a lower-case method":                "get /api/agents HTTP/1.1\r\nHost: x\r\n\r\n",
		"an asterisk":                        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"a tunnel":                           "CONNECT /api/agents HTTP/1.1\r\nHost: x\r\n\r\n",
		"an upgrade":                         "GET /api/agents HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"HTTP/2 without negotiation":         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a cookie twice":                     "GET /api/agents HTTP/1.1\r\nHost: x\r\nCookie: kubeagents=\r\nCookie: kubeagents=x; __Host-kubeagents=y\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", p.address)
			require.NoError(t, err)
			defer conn.Close() //nolint:errcheck // everything has been read
			_, err = io.WriteString(conn, text)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			response, _ := io.ReadAll(conn) // a reset is fine too
			require.NotContains(t, string(response), `{"agents":`)
			require.NotContains(t, string(response), "reported successfully")
		})
	}
	r, err := http.NewRequest("GET", "http://"+p.address+"/api/summary", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+holders["reads"].Token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"agents":0`)
}
