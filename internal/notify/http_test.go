package notify_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

func newBody(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

// The secrets in the settings of secretSenders.
var secrets = []string{"p4ssword", "s3cret-path", "s3cret-query", "tk_s3cret", "b3arer", "xoxb-s3cret", "AAs3cret", "s3cret-box", secret}

// secretSenders returns senders to a host whose settings have secrets everywhere.
func secretSenders(t *testing.T, scheme, host string) map[string]notify.Sender {
	t.Helper()
	senders := httpSenders(t, scheme, host)
	o := notify.Email{Host: host, TLS: notify.StartTLS, User: "s3cret-box", Password: "p4ssword", From: "s3cret-box@x.test", To: []string{"s3cret-box@y.test"}}
	if name, port, err := net.SplitHostPort(host); err == nil {
		o.Host = name
		o.Port, err = strconv.Atoi(port)
		require.NoError(t, err)
	}
	var err error
	senders["email"], err = notify.NewEmail(o)
	require.NoError(t, err)
	return senders
}

// httpSenders returns those of secretSenders that use HTTP or HTTPS.
func httpSenders(t *testing.T, scheme, host string) map[string]notify.Sender {
	t.Helper()
	base := scheme + "://user:p4ssword@" + host
	hook, err := notify.NewWebhook(base+"/s3cret-path?key=s3cret-query", secret, notify.JSON, map[string]string{"Authorization": "Bearer b3arer"})
	require.NoError(t, err)
	topic, err := notify.NewNtfy(base+"/s3cret-path", "tk_s3cret")
	require.NoError(t, err)
	root := &url.URL{Scheme: scheme, Host: host, Path: "/"}
	channel, err := notify.NewSlack("xoxb-s3cret", "C0123456789")
	require.NoError(t, err)
	notify.UseAPI(channel, root)
	chat, err := notify.NewDiscord(base + "/api/webhooks/77/s3cret-path")
	require.NoError(t, err)
	bot, err := notify.NewTelegram("123:AAs3cret", "-100123")
	require.NoError(t, err)
	notify.UseAPI(bot, root)
	alerts, err := notify.NewAlertmanager(base + "/s3cret-path")
	require.NoError(t, err)
	plain := map[string]string{"http": "yes", "https": "no"}[scheme]
	app, err := notify.NewShoutrrr("gotify://" + host + "/A1s3cret-path22?disabletls=" + plain)
	require.NoError(t, err)
	room, err := notify.NewShoutrrr("matrix://:p4ssword@" + host + "/?rooms=!s3cret-path&disabletls=" + plain)
	require.NoError(t, err)
	return map[string]notify.Sender{
		"webhook": hook, "ntfy": topic, "slack": channel, "discord": chat, "telegram": bot, "alertmanager": alerts,
		"gotify": app, "matrix": room,
	}
}

// needsResult are the senders to which a 2xx status is not enough.
var needsResult = map[string]bool{"slack": true, "telegram": true, "gotify": true, "matrix": true}

// delivered returns a message as a sender gets it to withdraw it.
func delivered(kind string) *notify.Message {
	m := waiting()
	m.Remote = map[string]string{"slack": "C0123456789/1503435956.000247", "discord": "1234", "telegram": "-100123/5"}[kind]
	return m
}

func withoutSecrets(t *testing.T, err error) {
	t.Helper()
	for _, secret := range secrets {
		assert.NotContains(t, err.Error(), secret)
	}
}

// pipeClient returns the senders' HTTP client, with connections to a server that answers one request on each by calling
// serve. The test waits for the server.
func pipeClient(t *testing.T, serve func(conn net.Conn, request *http.Request)) *http.Client {
	t.Helper()
	client := notify.NewHTTPClient()
	client.Transport.(*http.Transport).DisableKeepAlives = true // each connection takes one request
	var servers sync.WaitGroup
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		servers.Go(func() {
			defer there.Close()
			if request, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
				io.Copy(io.Discard, request.Body) //nolint:errcheck // a test of what happens after that
				serve(there, request)
			}
		})
		return here, nil
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		servers.Wait()
	})
	return client
}

// silent is a server that never answers.
func silent(conn net.Conn, _ *http.Request) {
	io.Copy(io.Discard, conn) //nolint:errcheck // ends with the connection
}

func TestAnswers(t *testing.T) {
	const refused, repeated = true, false
	for status, want := range map[int]struct {
		refused bool
		text    string
	}{
		200: {}, 201: {}, 202: {}, 204: {},
		301: {refused, "301 Moved Permanently, and redirects are not followed"},
		302: {refused, "302 Found, and redirects are not followed"},
		303: {refused, "303 See Other, and redirects are not followed"},
		307: {refused, "307 Temporary Redirect, and redirects are not followed"},
		308: {refused, "308 Permanent Redirect, and redirects are not followed"},
		304: {refused, "304 Not Modified, and redirects are not followed"},
		400: {refused, "400 Bad Request"},
		401: {refused, "401 Unauthorized"},
		403: {refused, "403 Forbidden"},
		404: {refused, "404 Not Found"},
		408: {repeated, "408 Request Timeout"},
		410: {refused, "410 Gone"},
		413: {refused, "413 Request Entity Too Large"},
		425: {repeated, "425 Too Early"},
		429: {repeated, "429 Too Many Requests"},
		500: {repeated, "500 Internal Server Error"},
		502: {repeated, "502 Bad Gateway"},
		503: {repeated, "503 Service Unavailable"},
		599: {repeated, "599"},
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var elsewhere atomic.Int32
			other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
			defer other.Close()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", other.URL+"/?"+r.Header.Get("Authorization"))
				w.WriteHeader(status)
				if status >= 400 {
					fmt.Fprintln(w, "you sent", r.Header, r.URL)
				}
			}))
			defer server.Close()
			host := server.Listener.Addr().String()
			for name, sender := range httpSenders(t, "http", host) {
				_, err := sender.Send(t.Context(), waiting())
				switch {
				case want.text == "" && needsResult[name]:
					require.EqualError(t, err, host+" answers something else than its API should", name)
					continue
				case want.text == "":
					require.NoError(t, err, name)
					continue
				}
				require.EqualError(t, err, host+" answers "+want.text, name)
				assert.Equal(t, want.refused, errors.Is(err, notify.ErrRefused), name)
				withoutSecrets(t, err)
			}
			assert.Zero(t, elsewhere.Load(), "the redirect was followed")
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		value  string
		after  time.Duration // 0 if it says nothing
	}{
		"seconds":                  {429, "120", 2 * time.Minute},
		"seconds, unavailable":     {503, "1", time.Second},
		"date":                     {429, "Sat, 01 Jan 2000 00:10:00 GMT", 10 * time.Minute},
		"old form of a date":       {503, "Saturday, 01-Jan-00 00:10:00 GMT", 10 * time.Minute},
		"date in the past":         {429, "Fri, 31 Dec 1999 23:59:59 GMT", time.Minute},
		"far too late":             {429, "31536000", 24 * time.Hour},
		"later than a number":      {429, "99999999999999999999999999", 24 * time.Hour},
		"date far too late":        {429, "Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour},
		"none":                     {429, "", time.Minute},
		"now":                      {429, "0", time.Minute},
		"in the past":              {429, "-1", time.Minute},
		"no number":                {429, "1e3", time.Minute},
		"text":                     {503, "soon", 0},
		"several":                  {429, "1, 2", time.Minute},
		"another status":           {500, "120", 0},
		"status that is not again": {400, "120", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins at midnight UTC, 2000-01-01
				client := pipeClient(t, func(conn net.Conn, _ *http.Request) {
					fmt.Fprintf(conn, "HTTP/1.1 %d No\r\nRetry-After: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", test.status, test.value)
				})
				for _, sender := range httpSenders(t, "http", "hub.example.com") {
					notify.UseClient(sender, client)
					_, err := sender.Send(t.Context(), waiting())
					require.Error(t, err)
					var retry *notify.RetryError
					require.Equal(t, test.after > 0, errors.As(err, &retry), "%v", err)
					if retry != nil {
						assert.Equal(t, test.after, retry.After)
						assert.NotErrorIs(t, err, notify.ErrRefused)
					}
				}
			})
		})
	}
}

// TestReceiversThatNeverEnd checks that a destination can't hold up a sender, or fill its memory.
func TestReceiversThatNeverEnd(t *testing.T) {
	dribble := func(begin, more string) func(net.Conn, *http.Request) {
		return func(conn net.Conn, _ *http.Request) {
			_, err := io.WriteString(conn, begin)
			for err == nil {
				time.Sleep(time.Second) // in a synctest bubble
				_, err = io.WriteString(conn, more)
			}
		}
	}
	flood := func(begin, more string) func(net.Conn, *http.Request) {
		return func(conn net.Conn, _ *http.Request) {
			_, err := io.WriteString(conn, begin)
			for err == nil {
				_, err = io.WriteString(conn, more)
			}
		}
	}
	large := strings.Repeat("x", 1000)
	const inTime = "hub.example.com: it does not answer in time"
	for name, test := range map[string]struct {
		serve func(conn net.Conn, request *http.Request)
		want  string
		takes time.Duration
	}{
		"never answers":                        {silent, inTime, 15 * time.Second},
		"a byte of the header every second":    {dribble("HTTP/1.1 200 OK\r\nX: ", "x"), inTime, 15 * time.Second},
		"informational answers without an end": {dribble("", "HTTP/1.1 102 Processing\r\n\r\n"), inTime, 15 * time.Second},
		"an endless header":                    {flood("HTTP/1.1 200 OK\r\n", "X: "+large+"\r\n"), "hub.example.com: the connection fails, or the answer is not HTTP", 0},
		"a byte of the body every second":      {dribble("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", "x"), "", 15 * time.Second},
		"10 GB":                                {flood("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", large), "", 0},
		"10 GB with an error":                  {flood("HTTP/1.1 500 No\r\nContent-Length: 10000000000\r\n\r\n", large), "hub.example.com answers 500 Internal Server Error", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var written atomic.Int64
				client := pipeClient(t, func(conn net.Conn, r *http.Request) { test.serve(&countingConn{conn, &written}, r) })
				senders := httpSenders(t, "http", "hub.example.com")
				for kind, sender := range senders {
					notify.UseClient(sender, client)
					start := time.Now()
					_, err := sender.Send(t.Context(), waiting())
					switch {
					case test.want == "" && needsResult[kind]:
						require.EqualError(t, err, "hub.example.com answers something else than its API should", kind)
					case test.want == "":
						require.NoError(t, err, kind)
					default:
						require.EqualError(t, err, test.want, kind)
						assert.NotErrorIs(t, err, notify.ErrRefused)
					}
					assert.Equal(t, test.takes, time.Since(start), kind)
				}
				assert.Less(t, written.Load(), int64(len(senders)*80<<10))
			})
		})
	}
}

// countingConn counts what is written to it.
type countingConn struct {
	net.Conn
	written *atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// TestErrorsHaveNoSecrets checks that errors name the host and the reason, and never what was sent there, even if the
// destination sends it back.
func TestErrorsHaveNoSecrets(t *testing.T) {
	dial := func(err error) *http.Client {
		client := notify.NewHTTPClient()
		client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		return client
	}
	echo := func(format string) *http.Client {
		return pipeClient(t, func(conn net.Conn, request *http.Request) {
			fmt.Fprintf(conn, format, request.Header.Get("Authorization")+request.RequestURI)
		})
	}
	for name, test := range map[string]struct {
		client  *http.Client
		want    string
		senders func(t *testing.T, scheme, host string) map[string]notify.Sender
	}{
		"refused connection":       {dial(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), "connection refused", secretSenders},
		"unknown host":             {dial(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "s3cret-path", IsNotFound: true}}), "its name can't be resolved", secretSenders},
		"closed connection":        {echo("%.0s"), "it closes the connection without an answer", httpSenders},
		"no HTTP":                  {echo("%s\r\n\r\n"), "the connection fails, or the answer is not HTTP", httpSenders},
		"status that is no number": {echo("HTTP/1.1 %s\r\n\r\n"), "the connection fails, or the answer is not HTTP", httpSenders},
		"wrong length":             {echo("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"), "the connection fails, or the answer is not HTTP", httpSenders},
		"reason":                   {echo("HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n"), "answers 500 Internal Server Error", httpSenders},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, sender := range test.senders(t, "http", "hub.example.com:8443") {
				notify.UseClient(sender, test.client)
				_, err := sender.Send(t.Context(), waiting())
				require.ErrorContains(t, err, test.want, kind)
				require.ErrorContains(t, sender.Withdraw(t.Context(), delivered(kind)), test.want, kind)
				assert.True(t, strings.HasPrefix(err.Error(), "hub.example.com:8443"), "%v", err)
				assert.NotErrorIs(t, err, notify.ErrRefused)
				withoutSecrets(t, err)
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	encrypted := httptest.NewUnstartedServer(http.NotFoundHandler())
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	encrypted.StartTLS()
	defer encrypted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	trusting := notify.NewHTTPClient()
	trusting.Transport.(*http.Transport).TLSClientConfig = encrypted.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	elsewhere := trusting.Transport.(*http.Transport).Clone()
	elsewhere.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, encrypted.Listener.Addr().String())
	}
	for name, test := range map[string]struct {
		client *http.Client
		host   string
		want   string
	}{
		"unknown authority": {notify.NewHTTPClient(), encrypted.Listener.Addr().String(), ": its certificate is signed by an unknown authority"},
		"another host":      {&http.Client{Transport: elsewhere}, "hub.test", ": its certificate is for another host"},
		"plain HTTP":        {notify.NewHTTPClient(), plain.Listener.Addr().String(), ": it speaks HTTP, not HTTPS"},
		"trusted":           {trusting, encrypted.Listener.Addr().String(), " answers 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, sender := range httpSenders(t, "https", test.host) {
				notify.UseClient(sender, test.client)
				_, err := sender.Send(t.Context(), waiting())
				require.EqualError(t, err, test.host+test.want, kind)
			}
		})
	}
}

func TestSendingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := pipeClient(t, silent)
		for kind, sender := range secretSenders(t, "http", "hub.example.com") {
			notify.UseClient(sender, client)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := sender.Send(ctx, waiting())
			require.ErrorIs(t, err, context.Canceled, kind)
			withoutSecrets(t, err)
		}
	})
}
