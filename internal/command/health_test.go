package command_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
)

// probeServer answers /health/ready with a status and a body, and /health/live as a server that runs.
func probeServer(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health/ready":
		case "/health/live":
			w.Write([]byte(`{"status":"ok"}`)) //nolint:errcheck // the client sees that
			return
		default:
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		w.Write([]byte(body)) //nolint:errcheck // the client sees that
	})
}

func TestHealth(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		exit   int
		want   string
	}{
		"a server that is ready":    {200, `{"status":"ok"}`, command.ExitOK, " is ready\n"},
		"a server that starts":      {503, `{"status":"unavailable"}`, command.ExitFailure, " is not ready: it is starting, stopping or catching up with its cluster\n"},
		"another program":           {200, `<html>`, command.ExitUnreachable, "does not answer like a KubeAgents server"},
		"another program with JSON": {200, `{"status":"up"}`, command.ExitUnreachable, "does not answer like a KubeAgents server"},
		"a program without probes":  {404, ``, command.ExitUnreachable, "answers 404"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, encrypted := range []bool{false, true} {
				server := httptest.NewUnstartedServer(probeServer(test.status, test.body))
				environment := map[string]string{"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"}
				if encrypted {
					server.StartTLS()
					environment["TLS_CERT_FILE"], environment["TLS_KEY_FILE"] = "cert.pem", "key.pem"
				} else {
					server.Start()
				}
				defer server.Close()
				at, err := url.Parse(server.URL)
				require.NoError(t, err)
				environment["PORT"] = at.Port()
				for _, host := range []string{"", "0.0.0.0", "127.0.0.1"} {
					environment["HOST"] = host
					r := run(t, nil, environment, "health")
					require.Equal(t, test.exit, r.status, r.stderr)
					require.Contains(t, r.stdout+r.stderr, server.URL)
					require.Contains(t, r.stdout+r.stderr, test.want)
					require.Nil(t, r.served)
					r = run(t, nil, environment, "health", "-live")
					require.Equal(t, command.ExitOK, r.status, "a server that runs need not be ready")
					require.Contains(t, r.stdout, server.URL+" is running\n")
				}
				if !encrypted {
					require.Equal(t, test.exit, run(t, nil, nil, "health", "-server", server.URL).status)
					require.Equal(t, test.exit, run(t, nil, map[string]string{"KUBEAGENTS_SERVER": server.URL, "PORT": "1"}, "health").status)
				}
			}
		})
	}
}

// TestHealthNeedsAServer checks what the command says without a server, and that it checks the certificate of a server
// that it is told.
func TestHealthNeedsAServer(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	require.NoError(t, taken.Close())
	r := run(t, nil, map[string]string{"PORT": port}, "health")
	require.Equal(t, command.ExitUnreachable, r.status)
	require.Contains(t, r.stderr, "kubeagents: health: http://127.0.0.1:"+port+" can't be reached")

	server := httptest.NewTLSServer(probeServer(200, `{"status":"ok"}`))
	defer server.Close()
	r = run(t, nil, nil, "health", "-server", server.URL)
	require.Equal(t, command.ExitUnreachable, r.status)
	require.Contains(t, r.stderr, "certificate")

	for value, want := range map[string]string{"0": "PORT is 0, which takes any port: name the server with -server", "x": `PORT is "x"`} {
		r = run(t, nil, map[string]string{"PORT": value}, "health")
		require.Equal(t, command.ExitUsage, r.status)
		require.Contains(t, r.stderr, want)
	}
}

// TestHealthOverIPv6 checks that the server is found on the address that it listens on.
func TestHealthOverIPv6(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: probeServer(200, `{"status":"ok"}`)}} //nolint:gosec // for a test
	server.Start()
	defer server.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	for _, host := range []string{"::", "::1"} {
		require.Equal(t, command.ExitOK, run(t, nil, map[string]string{"HOST": host, "PORT": port}, "health").status, host)
	}
}
