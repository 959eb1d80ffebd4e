//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/live/livetest"
)

// proxiesVariable is the environment variable without which the tests with real proxies are skipped; see make
// test-proxies.
const proxiesVariable = "KUBEAGENTS_PROXIES"

func needProxies(t *testing.T) {
	t.Helper()
	if os.Getenv(proxiesVariable) == "" {
		t.Skip("needs real proxies: run make test-proxies (on Debian, apt-get install nginx-light caddy haproxy apache2 first)")
	}
}

const (
	proxiesPage = "docs/operate.md" // has the proxies' configurations
	publicHost  = "hub.example.com" // the server's name in them
	publicPath  = "/kubeagents"     // the path that the page uses below that name
	clientHost  = "127.0.0.2"       // the client's address, which the server must see
	proxyHost   = "127.0.0.3"       // where proxies listen: no server of a test takes a port there

	oddAgent = "team/a b?c#d%2Fe;ä" // an agent's ID that proxies may spoil in paths
)

// proxyKind is a proxy whose configuration is in the manual.
type proxyKind struct {
	language string   // of its block of code
	command  []string // starts it in the foreground, as one process; followed by the path of its configuration
	// local replaces what the manual's configuration has in common with every installation: the port and the timeouts.
	// Timeouts become a little longer than the interval of the streams' comments.
	local []string
	// around is what the configuration is included in, with %s for it. DIR is a directory; the proxy listens on HOST and
	// PORT.
	around string
	// strip makes the configuration strip the path below which the server is.
	strip []string
	// decodes is whether the proxy then also decodes the rest of the path, as the manual says.
	decodes bool
}

var proxyKinds = map[string]proxyKind{
	"nginx": {
		language: "nginx",
		command:  []string{"nginx", "-e", "stderr", "-c"},
		local:    []string{"listen 443", "listen HOST:PORT"},
		around: `daemon off; master_process off; pid DIR/pid; error_log stderr; events {} http {
			access_log off; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi;
			uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
			proxy_read_timeout 20s; send_timeout 20s; port_in_redirect off;
			%s}`,
		strip:   []string{"location / {", "location /kubeagents/ {", ":8080;", ":8080/;"},
		decodes: true,
	},
	"Caddy": {
		language: "caddyfile",
		command:  []string{"caddy", "run", "--adapter", "caddyfile", "--config"},
		local:    []string{publicHost + " {", publicHost + " {\n\ttls /etc/ssl/hub.example.com.crt /etc/ssl/hub.example.com.key"},
		around: "{\n\tadmin off\n\tstorage file_system DIR\n\tauto_https disable_redirects\n" +
			"\tdefault_bind HOST\n\thttps_port PORT\n}\n%s",
		strip: []string{"reverse_proxy", "uri strip_prefix /kubeagents\n\treverse_proxy"},
	},
	"HAProxy": {
		language: "haproxy",
		command:  []string{"haproxy", "-db", "-f"},
		local:    []string{"bind :443", "bind HOST:PORT", " 60s", " 20s"},
		around:   "%s",
		strip:    []string{"default_backend", "http-request replace-path /kubeagents/?(.*) /\\1\n    default_backend"},
	},
	"Apache": {
		language: "apache",
		command:  []string{"apache2", "-X", "-f"},
		local:    []string{"*:443", "HOST:PORT"},
		around: `ServerRoot DIR
			DefaultRuntimeDir DIR
			PidFile DIR/pid
			ErrorLog /dev/stderr
			Listen HOST:PORT
			Timeout 20
			User www-data
			Group www-data
			LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
			LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
			LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
			LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
			LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
			LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
			%s`,
		strip: []string{"ProxyPass / http://127.0.0.1:8080/", "ProxyPass /kubeagents http://127.0.0.1:8080"},
	},
}

// manualOfProxies returns the section of the manual about proxies.
func manualOfProxies(t *testing.T) string {
	t.Helper()
	_, section, found := strings.Cut(manual(t)[proxiesPage], "## Behind a proxy\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// configuration returns the only block of code in a language in the manual's section about proxies.
func configuration(t *testing.T, language string) string {
	t.Helper()
	var code string
	for _, b := range blocksOf(manualOfProxies(t)) {
		if b.language == language {
			require.Empty(t, code, "the section has two blocks in %s", language)
			code = b.code
		}
	}
	require.NotEmpty(t, code, language)
	return code
}

// belowPath returns what the manual's table replaces in a proxy's configuration if the server is below a path, and with
// what.
func belowPath(t *testing.T, proxy string) []string {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| " + proxy + " \\| `(.*)` \\| `(.*)` \\|$").FindStringSubmatch(manualOfProxies(t))
	require.NotNil(t, row, proxy)
	return row[1:]
}

// replaced replaces parts of a text, each of which it must contain.
func replaced(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		require.Contains(t, text, oldNew[i])
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	return text
}

// front is a server behind a proxy, and a client that reaches it only through that proxy.
type front struct {
	server  *process
	holders map[string]accesstest.Holder
	url     string // PUBLIC_URL
	client  *http.Client
}

// startBehind starts the server as the manual says, below a path of its host, and a proxy in front of it. edits replace
// parts of the proxy's configuration.
func startBehind(t *testing.T, proxy, path string, edits ...string) front {
	t.Helper()
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	f := front{holders: holders}
	environment := []string{"TOKENS_FILE=" + tokens}
	for _, word := range strings.Fields(configuration(t, "text")) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "PUBLIC_URL":
			f.url = value + path
			environment = append(environment, "PUBLIC_URL="+f.url)
		case "HOST", "TRUSTED_PROXIES":
			environment = append(environment, word)
		}
	}
	f.server = start(t, environment...)
	f.client = clientThrough(t, f.server.address, proxy, edits...)
	return f
}

// clientThrough starts a proxy in front of a server, and returns a client that sends every request to that proxy.
func clientThrough(t *testing.T, server, proxy string, edits ...string) *http.Client {
	t.Helper()
	ca := newAuthority(t)
	address := startProxy(t, server, proxyKinds[proxy], ca, edits)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientHost)}}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: spoofing{transport}, Jar: must(cookiejar.New(nil))}
}

// startProxy starts a proxy in front of a server, with a certificate for publicHost, and returns its address.
func startProxy(t *testing.T, server string, kind proxyKind, ca authority, edits []string) (address string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := ca.sign(t, 1)
	writeFile(t, filepath.Join(dir, publicHost+".crt"), cert)
	writeFile(t, filepath.Join(dir, publicHost+".key"), key)
	writeFile(t, filepath.Join(dir, publicHost+".pem"), append(cert, key...))
	listener, err := net.Listen("tcp", proxyHost+":0")
	require.NoError(t, err)
	address = listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)

	config := replaced(t, configuration(t, kind.language), append(edits, kind.local...)...)
	config = replaced(t, config, "127.0.0.1:8080", server)
	config = strings.NewReplacer("PORT", port, "HOST", proxyHost, "DIR", dir, "/etc/ssl/", dir+"/").Replace(fmt.Sprintf(kind.around, config))
	path := writeFile(t, filepath.Join(dir, "proxy.conf"), []byte(config+"\n"))
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), kind.command[0], append(kind.command[1:len(kind.command):len(kind.command)], path)...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &output, &output, 10*time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() //nolint:errcheck // it is killed at the end of the test
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended already
		<-ended
		if t.Failed() {
			t.Logf("%s\n%s", config, &output)
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	}, 30*time.Second, 10*time.Millisecond, "the proxy does not listen")
	return address
}

// spoofed are headers that a client must not be able to send through a proxy.
var spoofed = http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Prefix": {"/spoofed"}}

// spoofing is an http.RoundTripper that adds the spoofed headers to requests.
type spoofing struct{ http.RoundTripper }

func (s spoofing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	maps.Copy(r.Header, spoofed)
	return s.RoundTripper.RoundTrip(r)
}

// request returns a request for a path below PUBLIC_URL. Header lines have the form "Name: value".
func (f front) request(t *testing.T, method, path, body string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	return r
}

// send sends a request, follows redirects, and returns the last response and its body.
func (f front) send(t *testing.T, r *http.Request) (resp *http.Response, body string) {
	t.Helper()
	resp, err := f.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(text)
}

// do sends a request that must succeed, and returns the response and its body.
func (f front) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	resp, text := f.send(t, f.request(t, method, path, body, header...))
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s %s: %s", method, path, text)
	return resp, text
}

// report reports that a session of an agent is in a status.
func (f front) report(t *testing.T, agent, topic, status string) {
	t.Helper()
	f.do(t, "POST", "/webhook/status", reportOf(agent, topic, status), f.holders["reports"].Header()...)
}

// signIn returns the request with which the sign-in form signs in, from a page of an origin.
func (f front) signIn(t *testing.T, holder, origin string, header ...string) *http.Request {
	t.Helper()
	form := url.Values{"token": {f.holders[holder].Token}}.Encode()
	return f.request(t, "POST", "/sign-in", form, append(header, "Content-Type: application/x-www-form-urlencoded", "Origin: "+origin)...)
}

// TestProxies uses a server through each proxy that the manual has a configuration for: at the root of a host, and below
// a path that the proxy keeps or strips.
func TestProxies(t *testing.T) {
	needProxies(t)
	for proxy, kind := range proxyKinds {
		for name, place := range map[string]struct {
			path  string
			edits []string
		}{
			"at the root":                        {"", nil},
			"below a path":                       {publicPath, belowPath(t, proxy)},
			"below a path that the proxy strips": {publicPath, kind.strip},
		} {
			t.Run(proxy+" "+name, func(t *testing.T) {
				t.Parallel()
				f := startBehind(t, proxy, place.path, place.edits...)
				f.requireReads(t, kind.decodes && name == "below a path that the proxy strips")
				f.requireDashboard(t)
				f.requireMCP(t)
				f.requireLargeBatch(t)
				f.requireStream(t, place.path == "")
				f.requireLog(t)
			})
		}
	}
}

// requireReads reports and reads. decodes is whether the proxy decodes the paths of requests.
func (f front) requireReads(t *testing.T, decodes bool) {
	t.Helper()
	f.report(t, oddAgent, "t", "pending")
	f.report(t, "team/b", "t", "running")
	reads := f.holders["reads"].Header()
	resp, _ := f.do(t, "GET", "/api/agents?limit=1", "", reads...)
	next, err := resp.Request.URL.Parse(nextOf(resp.Header))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(next.String(), f.url+"/api/agents?"), "%s", next)
	_, text := f.do(t, "GET", strings.TrimPrefix(next.String(), f.url), "", reads...)
	require.Contains(t, text, "team/")
	resp, text = f.send(t, f.request(t, "GET", "/api/agents/"+url.PathEscape(oddAgent), "", reads...))
	require.Equal(t, decodes, resp.StatusCode == http.StatusNotFound, "%s: %s", resp.Status, text)
	require.Equal(t, decodes, !strings.Contains(text, `"agent_id":"`+oddAgent), text)
}

// requireDashboard signs in as a browser does, acknowledges a session, and looks at what the page links to.
func (f front) requireDashboard(t *testing.T) {
	t.Helper()
	const origin = "https://" + publicHost
	public := must(url.Parse(f.url + "/"))
	resp, text := f.send(t, f.request(t, "GET", "/", ""))
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode, text)
	resp, text = f.send(t, f.signIn(t, "team", "https://other.example"))
	require.Equal(t, http.StatusForbidden, resp.StatusCode, text)

	resp, text = f.send(t, f.signIn(t, "team", origin))
	require.Equal(t, http.StatusOK, resp.StatusCode, text)
	require.Equal(t, public, resp.Request.URL, "where the redirect leads")
	require.NotContains(t, text, "/spoofed")
	cookie := resp.Request.Response.Cookies()[0] // of the redirect
	require.Len(t, f.client.Jar.Cookies(public), 1, "%s", cookie)
	require.True(t, cookie.Secure && cookie.HttpOnly, "%s", cookie)
	require.Equal(t, "/"+strings.TrimPrefix(strings.TrimSuffix(public.Path, "/"), "/"), cookie.Path)
	_, withoutSlash := f.do(t, "GET", "", "")
	require.Equal(t, text, withoutSlash)

	resp, text = f.send(t, f.request(t, "POST", "/api/acknowledge", `{"needs":"waiting"}`, "Origin: https://other.example"))
	require.Equal(t, http.StatusForbidden, resp.StatusCode, text)
	_, text = f.do(t, "POST", "/api/acknowledge", `{"needs":"waiting"}`, "Origin: "+origin)
	require.JSONEq(t, `{"acknowledged":1,"more":false}`, text)

	_, text = f.do(t, "GET", "/connect", "", "Accept: text/plain", "X-Forwarded-Host: other.example")
	require.Contains(t, text, " "+f.url+"/connect/claude-code\n")
	resp, _ = f.do(t, "GET", "/sw.js", "")
	require.Equal(t, f.url+"/sw.js", resp.Request.URL.String(), "the worker's scope is the directory of its script")
	require.Contains(t, resp.Header.Get("Content-Type"), "javascript")
	var manifest struct {
		StartURL string `json:"start_url"`
		Scope    string
	}
	resp, text = f.do(t, "GET", "/manifest.webmanifest", "")
	require.NoError(t, json.Unmarshal([]byte(text), &manifest))
	require.Equal(t, public, must(resp.Request.URL.Parse(manifest.StartURL)))
	require.Equal(t, public, must(resp.Request.URL.Parse(manifest.Scope)))
}

// requireMCP reports a status as a tool of the Model Context Protocol.
func (f front) requireMCP(t *testing.T) {
	t.Helper()
	http := &http.Client{Transport: bearer{f.holders["reports"].Token, f.client.Transport}}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: f.url + "/mcp", HTTPClient: http, DisableStandaloneSSE: true}, nil)
	require.NoError(t, err)
	var reported struct{ Status string }
	args := object{"agent_id": "worker", "session_topic": "t", "status": "running"}
	require.Empty(t, call(t, session, "report_status", args, &reported))
	require.Equal(t, "running", reported.Status)
	require.NoError(t, session.Close())
}

// requireLargeBatch sends a batch that is almost as large as the server accepts.
func (f front) requireLargeBatch(t *testing.T) {
	t.Helper()
	resp, text := f.send(t, f.largeBatch(t))
	require.Equal(t, http.StatusOK, resp.StatusCode, text)
	require.Contains(t, text, `"rejected":0`)
}

func (f front) largeBatch(t *testing.T) *http.Request {
	t.Helper()
	message := strings.Repeat("All work and no play. ", 45)
	var batch strings.Builder
	for i := 0; batch.Len() < 8<<20-2<<10; i++ {
		fmt.Fprintf(&batch, `,{"agent_id":"batch","session_topic":"%d","status":"success","message":"%d %s"}`, i, i, message)
	}
	return f.request(t, "POST", "/webhook/status", "["+batch.String()[1:]+"]", f.holders["reports"].Header()...)
}

// requireStream reads events as they happen, and those that it missed. patient is whether it also waits until the stream
// has lasted for longer than the proxy's timeouts.
func (f front) requireStream(t *testing.T, patient bool) {
	t.Helper()
	limit := live.KeepAlive
	if patient {
		limit *= 4
	}
	ctx, hangUp := context.WithTimeout(t.Context(), limit)
	defer hangUp()
	events := f.follow(ctx, t, "")
	begun := time.Now()
	f.report(t, "stream", "t", "running")
	require.Equal(t, "running", events.RequireNext(t, "status")["status"])
	took := time.Since(begun)
	t.Logf("an event took %v", took)
	require.Less(t, took, live.KeepAlive, "something held it back until the next comment")
	for range 2 {
		if !patient {
			break
		}
		e, err := events.Next()
		require.NoError(t, err)
		require.Empty(t, e.Name, "%+v", e)
		require.NotEmpty(t, e.Comment)
		require.NotEmpty(t, e.ID)
	}
	f.report(t, "stream", "t", "pending")
	require.Equal(t, "pending", events.RequireNext(t, "status")["status"])
	hangUp()

	f.report(t, "stream", "t", "success")
	ctx, hangUpAgain := context.WithTimeout(t.Context(), live.KeepAlive)
	defer hangUpAgain()
	events = f.follow(ctx, t, events.LastID)
	require.Equal(t, "success", events.RequireNext(t, "status")["status"])
	f.report(t, "stream", "t", "failed")
	require.Equal(t, "failed", events.RequireNext(t, "status")["status"])
}

// follow opens the event stream of one agent after an event, and reads the comment at its start.
func (f front) follow(ctx context.Context, t *testing.T, lastID string) *livetest.Reader {
	t.Helper()
	header := f.holders["reads"].Header()
	if lastID != "" {
		header = append(header, "Last-Event-ID: "+lastID)
	}
	r := f.request(t, "GET", "/api/events?agent_id=stream", "", header...)
	r.Body = http.NoBody
	resp, err := f.client.Do(r.WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() }) //nolint:errcheck // the stream is no longer needed
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	events := livetest.NewReader(resp.Body)
	first, err := events.Next()
	require.NoError(t, err)
	require.Equal(t, "connected", first.Comment)
	return events
}

// requireLog stops the server and requires that its log has the client's address.
func (f front) requireLog(t *testing.T) {
	t.Helper()
	require.Zero(t, f.server.stop(t))
	require.Equal(t, clientHost, f.loggedClient(t))
	require.NotContains(t, f.server.stderr.String(), spoofed.Get("X-Forwarded-For"))
}

// loggedClient returns the client's address in the line about the sign-in of the server, which has stopped.
func (f front) loggedClient(t *testing.T) string {
	t.Helper()
	for line := range bytes.Lines(f.server.stderr.Bytes()) {
		var entry struct{ Outcome, Client string }
		require.NoError(t, json.Unmarshal(line, &entry))
		if entry.Outcome == "signed in" {
			return entry.Client
		}
	}
	t.Fatal("nobody signed in")
	return ""
}

// TestProxiesNeedEachLine removes lines from the manual's configurations, each of which must then do harm.
func TestProxiesNeedEachLine(t *testing.T) {
	needProxies(t)
	largeBatch := func(t *testing.T, f front) string {
		r := f.largeBatch(t)
		r.Header.Set("Expect", "100-continue") // otherwise, a proxy that refuses it may reset the connection
		resp, _ := f.send(t, r)
		return resp.Status
	}
	encodedPath := func(t *testing.T, f front) string {
		f.report(t, oddAgent, "t", "running")
		resp, _ := f.send(t, f.request(t, "GET", "/api/agents/"+url.PathEscape(oddAgent), "", f.holders["reads"].Header()...))
		return resp.Status
	}
	link := func(t *testing.T, f front) string {
		f.report(t, "a", "t", "running")
		f.report(t, "b", "t", "running")
		resp, _ := f.do(t, "GET", "/api/agents?limit=1", "", f.holders["reads"].Header()...)
		path, _, _ := strings.Cut(nextOf(resp.Header), "?")
		return path
	}
	client := func(t *testing.T, f front) string {
		f.send(t, f.signIn(t, "reads", "https://"+publicHost))
		require.Zero(t, f.server.stop(t))
		return f.loggedClient(t)
	}
	underAnotherName := func(t *testing.T, f front) string {
		f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, _ := f.send(t, f.signIn(t, "reads", "https://other.example", "Host: other.example"))
		if len(resp.Cookies()) == 0 {
			return resp.Status
		}
		return resp.Cookies()[0].Name
	}
	for _, test := range []struct {
		proxy, line   string
		try           func(*testing.T, front) string
		with, without string
	}{
		{"nginx", "    client_max_body_size 64m;\n", largeBatch, "200 OK", "413 Request Entity Too Large"},
		{"nginx", "        proxy_set_header Host $http_host;\n", underAnotherName, "__Host-kubeagents", "403 Forbidden"},
		{"nginx", "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n", client, clientHost, "203.0.113.9"},
		{"nginx", "        proxy_set_header X-Forwarded-Proto $scheme;\n", underAnotherName, "__Host-kubeagents", "kubeagents"},
		{"nginx", "        proxy_set_header X-Forwarded-Prefix \"\";\n", link, "/api/agents", "/spoofed/api/agents"},
		{"Caddy", "\t\theader_up -X-Forwarded-Prefix\n", link, "/api/agents", "/spoofed/api/agents"},
		{"HAProxy", "    option forwardfor\n", client, clientHost, "203.0.113.9"},
		{"HAProxy", "    http-request set-header X-Forwarded-Proto https\n", underAnotherName, "__Host-kubeagents", "kubeagents"},
		{"HAProxy", "    http-request del-header X-Forwarded-Prefix\n", link, "/api/agents", "/spoofed/api/agents"},
		{"Apache", "    AllowEncodedSlashes NoDecode\n", encodedPath, "200 OK", "404 Not Found"},
		{"Apache", " nocanon", encodedPath, "200 OK", "404 Not Found"},
		{"Apache", "    ProxyPreserveHost on\n", underAnotherName, "__Host-kubeagents", "403 Forbidden"},
		{"Apache", "    RequestHeader set X-Forwarded-Proto https\n", underAnotherName, "__Host-kubeagents", "kubeagents"},
		{"Apache", "    RequestHeader unset X-Forwarded-Prefix\n", link, "/api/agents", "/spoofed/api/agents"},
	} {
		name := strings.NewReplacer("$", "", `"`, "").Replace(strings.TrimSpace(test.line)) // it becomes a part of paths
		t.Run(test.proxy+" without "+name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.with, test.try(t, startBehind(t, test.proxy, "")))
			require.Equal(t, test.without, test.try(t, startBehind(t, test.proxy, "", test.line, "")))
		})
	}
}

// TestProxiesPassOnAborts lets a response break off, as the server does when a backup fails. The client must notice that,
// at least over HTTP/1.1.
func TestProxiesPassOnAborts(t *testing.T) {
	needProxies(t)
	aborting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")             //nolint:errcheck // the client's response shows it
		http.NewResponseController(w).Flush() //nolint:errcheck // as above
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(aborting.Close)
	noticed := func(client *http.Client) bool {
		resp, err := client.Get("https://" + publicHost)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it is read to the end
		require.Equal(t, http.StatusOK, resp.StatusCode)
		text, err := io.ReadAll(resp.Body)
		require.Equal(t, "half", string(text))
		return err != nil
	}
	address := aborting.Listener.Addr().String()
	for _, proxy := range []string{"nginx", "HAProxy", "Apache"} { // Caddy 2.6 does not, as the manual says
		client := clientThrough(t, address, proxy)
		client.Transport.(spoofing).RoundTripper.(*http.Transport).ForceAttemptHTTP2 = false
		require.True(t, noticed(client), proxy)
	}
	require.True(t, noticed(clientThrough(t, address, "nginx")), "over HTTP/2")
	require.False(t, noticed(clientThrough(t, address, "nginx", "        proxy_http_version 1.1;\n", "")), "this line is not needed")
}
