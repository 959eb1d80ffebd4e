//go:build unix

package hookcheck_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/hookcheck"
	"github.com/kubeagents/kubeagents/internal/hookfile"
)

// requireCurl skips the test if the hooks can't run here.
func requireCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: install it, and run go test ./internal/hookcheck")
	}
}

// tools returns the tools whose hooks can run here.
func tools(t *testing.T) (found []*connect.Client) {
	t.Helper()
	requireCurl(t)
	for _, tool := range connect.Tools() {
		if _, err := exec.LookPath("node"); tool.Script && err != nil {
			t.Log("Node.js is not installed: OpenCode's plugin is not run")
			continue
		}
		found = append(found, tool)
	}
	return found
}

// check runs the command that a tool's lines have.
func check(t *testing.T, tool *connect.Client, s connect.Server, environment map[string]string) (hookcheck.Arrival, error) {
	t.Helper()
	commands, err := hookfile.New(tool.Name, tool.Lines(s), tool.Script).Commands([]byte(tool.Lines(s)))
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "payments")
	require.NoError(t, os.Mkdir(dir, 0o700))
	all := map[string]string{"PATH": os.Getenv("PATH"), "HOME": t.TempDir()}
	for name, value := range environment {
		all[name] = value
	}
	return hookcheck.Checker{Environment: all, Dir: dir}.Check(t.Context(), tool, commands[0])
}

// TestEvents checks that the server takes each tool's event for one of the tool, and names the agent that it counts
// for.
func TestEvents(t *testing.T) {
	for _, tool := range connect.Tools() {
		if tool.Script {
			continue
		}
		r, effect, err := adapters.Named(tool.Name).Report(strings.NewReader(hookcheck.Event(tool.Name, "/w/payments")), adapters.Options{Event: map[bool]string{true: "sessionStart"}[tool.Name == "copilot"]})
		require.NoError(t, err)
		require.NotEqual(t, adapters.Ignored, effect, tool.Name)
		require.NotEqual(t, adapters.Unknown, effect, "the adapter of %s does not know this event: add one that it knows to Event", tool.Name)
		require.Equal(t, tool.Name+":payments", r.AgentID)
		require.Equal(t, hookcheck.SessionID, r.SessionTopic)
	}
}

// TestArrives checks what each tool's hook sends in a check, and what is made of the response.
func TestArrives(t *testing.T) {
	for _, tool := range tools(t) {
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			body, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			assert.True(t, json.Valid(body), "%s", body)
			assert.Equal(t, "/webhook/"+tool.Name, r.URL.Path)
			assert.Equal(t, "true", r.Header.Get("X-Dry-Run"))
			assert.Equal(t, "Bearer ka_x", r.Header.Get("Authorization"))
			assert.Contains(t, string(body), "payments")
			io.WriteString(w, `{"dry_run":true,"effect":"reports","agent_id":"a","session_topic":"t"}`) //nolint:errcheck // a test
		}))
		got, err := check(t, tool, connect.Server{Address: server.URL, Tokens: true}, map[string]string{connect.TokenVariable: "ka_x"})
		server.Close()
		require.NoError(t, err, tool.Name)
		require.Equal(t, hookcheck.Arrival{AgentID: "a", DryRun: true}, got, tool.Name)
		require.Equal(t, 1, requests, tool.Name)
	}
}

// TestRefusals checks the words for each response that means that no event arrives.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		status      int
		body, token string
		tokens      bool
		want        string
	}{
		{401, `{"error":"unauthorized","message":"this needs a token"}`, "", false, "the server requires a token, and this hook sends none: run kubeagents connect again"},
		{401, `{"error":"unauthorized","message":"this needs a token"}`, "", true, "the server requires a token, and the variable KUBEAGENTS_TOKEN is not set here: export it where your agents start"},
		{401, `{"error":"unauthorized","message":"unknown token"}`, "ka_x", true, "the server does not accept the token in KUBEAGENTS_TOKEN (401): unknown token"},
		{403, `{"error":"forbidden","message":"the token lacks the scope report"}`, "ka_x", true, "the token in KUBEAGENTS_TOKEN is valid, but does not allow this (403): the token lacks the scope report"},
		{404, `not JSON`, "", false, "no KubeAgents server is at this address (404)"},
		{421, `{"error":"misdirected_request","message":"use another name"}`, "", false, "the server does not answer to this host name (421): use another name"},
		{301, ``, "", false, "the server redirects to https://hub.example.com/ (301), which a hook does not follow: connect to that address"},
		{503, `{"error":"unavailable","message":"the journal is unavailable"}`, "", false, "the server answers 503 Service Unavailable: the journal is unavailable"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://hub.example.com/")
			w.WriteHeader(test.status)
			io.WriteString(w, test.body) //nolint:errcheck // a test
		}))
		for _, tool := range tools(t) {
			if tool.Name != "codex" && !tool.Script {
				continue // the commands of the others are the same
			}
			_, err := check(t, tool, connect.Server{Address: server.URL, Tokens: test.tokens}, map[string]string{connect.TokenVariable: test.token})
			require.EqualError(t, err, test.want, tool.Name)
		}
		server.Close()
	}
}

// TestNoResponse checks the words for a server that does not respond.
func TestNoResponse(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	defer encrypted.Close()
	for address, want := range map[string]string{
		"http://" + closed.Addr().String(): "the server can't be reached: nothing listens at this address, or a firewall is in the way (",
		encrypted.URL:                      "the server's certificate is not trusted on this machine, or is for another name: ",
		"http://nobody.invalid":            "the server's name can't be resolved: check the address, and this machine's network (",
	} {
		for _, tool := range tools(t) {
			_, err := check(t, tool, connect.Server{Address: address}, nil)
			require.ErrorContains(t, err, want, tool.Name)
		}
	}
}

// TestProgram checks hooks that run this program, as on Windows.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	status, body := 200, `{"dry_run":true,"agent_id":"a"}`
	serve := func(w http.ResponseWriter, r *http.Request) {
		event, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.True(t, json.Valid(event), "%s", event)
		assert.Equal(t, "true", r.Header.Get("X-Dry-Run"))
		assert.Equal(t, "Bearer ka_x", r.Header.Get("Authorization"))
		w.Header().Set("Location", "https://hub.example.com/")
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // a test
	}
	server, encrypted := httptest.NewServer(http.HandlerFunc(serve)), httptest.NewTLSServer(http.HandlerFunc(serve))
	defer server.Close()
	defer encrypted.Close()
	at := func(tool, address string) (hookcheck.Arrival, error) {
		return check(t, connect.Named(tool), connect.Server{Address: address, Tokens: true, Windows: true}, map[string]string{connect.TokenVariable: "ka_x"})
	}
	_, err := at("codex", server.URL)
	require.EqualError(t, err, "kubeagents is not in a folder of PATH, and the hooks run it")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeagents"), nil, 0o700)) //nolint:gosec // a program
	for _, tool := range []string{"claude-code", "codex", "gemini-cli", "cursor", "copilot"} {
		got, err := at(tool, server.URL)
		require.NoError(t, err, tool)
		require.Equal(t, hookcheck.Arrival{AgentID: "a", DryRun: true}, got, tool)
	}
	for address, want := range map[string]string{
		"http://127.0.0.1:1":    "the server can't be reached: nothing listens at this address, or a firewall is in the way (",
		encrypted.URL:           "the server's certificate is not trusted on this machine, or is for another name: ",
		"http://nobody.invalid": "the server's name can't be resolved: check the address, and this machine's network (",
		strings.Replace(server.URL, "http", "https", 1): "no encrypted connection is possible: does the server use https? (",
	} {
		_, err := at("codex", address)
		require.ErrorContains(t, err, want)
	}
	status, body = 302, ""
	_, err = at("codex", server.URL)
	require.EqualError(t, err, "the server redirects to https://hub.example.com/ (302), which a hook does not follow: connect to that address")
	status, body = 401, `{"error":"unauthorized","message":"unknown token"}`
	_, err = at("codex", server.URL)
	require.EqualError(t, err, "the server does not accept the token in KUBEAGENTS_TOKEN (401): unknown token")
}

// TestOwnOptions checks that curl's own configuration file counts in a check as well: it may name an authority.
func TestOwnOptions(t *testing.T) {
	requireCurl(t)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"dry_run":true}`) //nolint:errcheck // a test
	}))
	defer server.Close()
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, ".curlrc"), []byte("insecure\n"), 0o600))
	_, err := check(t, connect.Named("codex"), connect.Server{Address: server.URL}, map[string]string{"HOME": home})
	require.NoError(t, err)
}

// TestOddHooks checks the words for hooks that can't be checked, or that send nothing.
func TestOddHooks(t *testing.T) {
	requireCurl(t)
	c := hookcheck.Checker{Environment: map[string]string{"PATH": os.Getenv("PATH")}, Dir: t.TempDir()}
	tool := connect.Named("claude-code")
	const address = "http://127.0.0.1:1/webhook/claude-code"
	for text, want := range map[string]string{
		address:               "this is an http hook of an earlier version: run kubeagents connect to replace it",
		"true " + address:     "nothing was sent",
		"exit 3; :" + address: "the hook fails: exit status 3",
	} {
		_, err := c.Check(t.Context(), tool, hookfile.Command{Text: text, Address: address})
		require.ErrorContains(t, err, want, text)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := c.Check(t.Context(), tool, hookfile.Command{Text: "true " + address, Address: address})
	require.EqualError(t, err, "sh is not installed, and the hooks need it")
	_, err = c.Check(t.Context(), connect.Named("opencode"), hookfile.Command{Text: "", Address: address})
	require.EqualError(t, err, "the plugin can't be run here: neither node nor bun nor opencode is in PATH")
}
