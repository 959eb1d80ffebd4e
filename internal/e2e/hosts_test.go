//go:build unix

package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// TestProgramChecksHostNames sends requests with the program's own host names and with others, over HTTP/1.0, 1.1 and
// 2.
func TestProgramChecksHostNames(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	settings := []string{"PUBLIC_URL=https://hub.example.com/team", "CORS_ALLOWED_ORIGINS=https://*.team.example,http://app.example:3000"}
	plain := start(t, settings...)
	encrypted := start(t, append(settings, "TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))...)
	proxied := start(t, append(settings, "TRUSTED_PROXIES=127.0.0.1")...)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	get := func(address, host string, header ...string) int {
		t.Helper()
		r, err := http.NewRequest("GET", address+"/api/agents", nil)
		require.NoError(t, err)
		r.Host = host
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
		resp, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, strings.HasPrefix(address, "https"), resp.ProtoMajor == 2)
		return resp.StatusCode
	}
	machine, err := os.Hostname()
	require.NoError(t, err)
	short, _, _ := strings.Cut(machine, ".")
	for _, address := range []string{"http://" + plain.address, "https://" + encrypted.address} {
		for _, own := range []string{"127.0.0.1", "localhost:8080", "LOCALHOST.", "[::1]:80", machine, short, strings.ToUpper(machine) + ".:80", "hub", "hub.local", "x.svc.cluster.local", "hub.example.com",
			"a.team.example:8443", "app.example"} {
			require.Equal(t, 200, get(address, own), own)
		}
		for _, foreign := range []string{"evil.example", "127.0.0.1.nip.io:8080", "team.example", "hub.example.com.evil.example"} {
			require.Equal(t, 421, get(address, foreign), foreign)
		}
		require.Equal(t, 200, get(address, "localhost", "X-Forwarded-Host: evil.example"), "X-Forwarded-Host is ignored unless a trusted proxy sends it")
		require.Equal(t, 421, get(address, "evil.example", "X-Forwarded-Host: localhost"))
	}
	behind := "http://" + proxied.address
	require.Equal(t, 200, get(behind, "127.0.0.1", "X-Forwarded-Host: hub.example.com"))
	require.Equal(t, 421, get(behind, "127.0.0.1", "X-Forwarded-Host: evil.example"), "the proxy passes on a foreign name")
	require.Equal(t, 421, get(behind, "127.0.0.1", "X-Forwarded-Host: localhost, evil.example"))
	require.Equal(t, 421, get(behind, "127.0.0.1", "X-Forwarded-Host: localhost", "X-Forwarded-Host: evil.example"))
	require.Equal(t, 421, get(behind, "evil.example", "X-Forwarded-Host: localhost"), "a page in a browser on the proxy's machine could send this")

	for text, want := range map[string]string{
		"GET /api/agents HTTP/1.0\r\n\r\n":                                           "HTTP/1.0 421",
		"GET /api/agents HTTP/1.0\r\nHost: localhost\r\n\r\n":                        "HTTP/1.0 200",
		"GET /health HTTP/1.0\r\n\r\n":                                               "HTTP/1.0 200",
		"GET /api/agents HTTP/1.1\r\nHost:\r\n\r\n":                                  "HTTP/1.1 421",
		"GET /api/agents HTTP/1.1\r\n\r\n":                                           "HTTP/1.1 400",
		"GET /api/agents HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n":  "HTTP/1.1 400",
		"GET http://evil.example/api/agents HTTP/1.1\r\nHost: localhost\r\n\r\n":     "HTTP/1.1 421",
		"GET http://localhost/api/agents HTTP/1.1\r\nHost: evil.example\r\n\r\n":     "HTTP/1.1 200", // RFC 9112, section 3.2.2; no browser sends this
		"DELETE /api/agents/a HTTP/1.1\r\nHost: evil.example\r\n\r\n":                "HTTP/1.1 421",
		"GET /team/api/agents HTTP/1.1\r\nHost: evil.example\r\n\r\n":                "HTTP/1.1 421",
		"OPTIONS /api/agents HTTP/1.1\r\nHost: evil.example\r\nOrigin: x:\r\n\r\n":   "HTTP/1.1 421",
		"GET /team/api/agents HTTP/1.1\r\nHost: hub.example.com\r\nOrigin: null\r\n": "",
	} {
		if want == "" {
			text, want = text+"\r\n", "HTTP/1.1 200"
		}
		conn, err := net.Dial("tcp", plain.address)
		require.NoError(t, err)
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, want, text)
		require.NoError(t, conn.Close())
	}
	for _, p := range []*process{plain, encrypted, proxied} {
		require.Zero(t, p.stop(t))
	}
	require.Contains(t, plain.stderr.String(), `"outcome":"refused","status":421,"detail":"this server has no tokens`)
	require.Contains(t, plain.stderr.String(), `"msg":"serving","url":"https://hub.example.com/team/","address":"`+plain.address+`"`)
}

// TestTheMachinesOwnNameIsAccepted runs the program on a machine whose name has several labels, like a name that a
// website could have. Without tokens, the server must answer to that name, and to no other of the domain.
func TestTheMachinesOwnNameIsAccepted(t *testing.T) {
	if exec.CommandContext(t.Context(), "unshare", "--uts", "hostname", "test.invalid").Run() != nil {
		t.Skip("needs root on Linux, with unshare and hostname, to run a program under another name of the machine")
	}
	script := writeFile(t, filepath.Join(t.TempDir(), "named"), []byte("#!/bin/sh\nexec unshare --uts sh -c 'hostname Build.Example.net && exec \"$0\"' "+program()+"\n"))
	require.NoError(t, os.Chmod(script, 0o700))
	p := startAs(t, script, nil)
	for host, want := range map[string]int{"build.example.net": 200, "Build.Example.net.:8080": 200, "example.net": 421, "www.example.net": 421, "build.example.net.evil.example": 421} {
		require.Equal(t, want, p.do("GET", "/api/agents", "", "Host: "+host).Code, host)
	}
	require.Zero(t, p.stop(t))
}

// networkAddress returns an IPv4 address of this machine that is not on the loopback interface, "" if there is none.
func networkAddress(t *testing.T) string {
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && network.IP.To4() != nil {
			return network.IP.String()
		}
	}
	return ""
}

// TestListenAddresses checks at which addresses the program listens, with and without HOST.
func TestListenAddresses(t *testing.T) {
	tokens, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	external := networkAddress(t)
	reachable := func(p *process, host string) bool {
		_, port, err := net.SplitHostPort(p.address)
		require.NoError(t, err)
		resp, err := http.Get("http://" + net.JoinHostPort(host, port) + "/health")
		if err != nil {
			return false
		}
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode == 200
	}
	hasIPv6 := func() bool {
		l, err := net.Listen("tcp", "[::1]:0")
		return err == nil && l.Close() == nil
	}()
	for _, test := range []struct {
		settings       []string
		ipv6, external bool
	}{
		{[]string{"HOST="}, hasIPv6, false},
		{[]string{"HOST=", "WEBHOOK_SECRET=" + accesstest.Secret}, hasIPv6, false},
		{[]string{"HOST=localhost"}, hasIPv6, false},
		{[]string{"HOST=localhost", "TOKENS_FILE=" + tokens}, hasIPv6, false},
		{[]string{"HOST=", "TOKENS_FILE=" + tokens}, hasIPv6, true},
		{[]string{"HOST=0.0.0.0"}, hasIPv6, true},
		{[]string{"HOST=127.0.0.1"}, false, false},
	} {
		p := start(t, test.settings...)
		_, port, err := net.SplitHostPort(p.address)
		require.NoError(t, err)
		require.True(t, reachable(p, "127.0.0.1"), test.settings)
		require.Equal(t, test.ipv6, reachable(p, "::1"), test.settings)
		if external != "" {
			require.Equal(t, test.external, reachable(p, external), test.settings)
		}
		require.Zero(t, p.stop(t))
		require.Contains(t, p.stderr.String(), `"url":"http://localhost:`+port+`/"`, "an address to click on")
	}
	if !hasIPv6 {
		return
	}
	taken, err := net.Listen("tcp", "[::1]:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test is over
	status, output := runProgram(t, []string{"HOST=", fmt.Sprintf("PORT=%d", taken.Addr().(*net.TCPAddr).Port)})
	require.Equal(t, 1, status)
	require.Regexp(t, `port \d+ on ::1 is in use by another program`, output)
}
