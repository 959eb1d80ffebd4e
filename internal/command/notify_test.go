package command_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
)

// TestNotify checks a file of rules, sends a test message, and asks which rules select a session.
func TestNotify(t *testing.T) {
	var posted struct {
		Type    string
		Rule    string
		Session struct{ Title string }
	}
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/hook/secret":
			w.WriteHeader(status)
			json.NewDecoder(r.Body).Decode(&posted) //nolint:errcheck // posted is checked
		case r.URL.Query().Get("agent_id") == "team-b/busy":
			w.Write([]byte(`{"sessions":[{"agent_id":"team-b/busy","session_topic":"t","current_status":"running"}]}`)) //nolint:errcheck
		case r.URL.Query().Get("agent_id") == "team-b/x":
			w.Write([]byte(`{"sessions":[{"agent_id":"team-b/x","session_topic":"t\u001b[31m","current_status":"pending","agent_source":"codex"}]}`)) //nolint:errcheck
		default:
			w.Write([]byte(`{"sessions":[]}`)) //nolint:errcheck
		}
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(`destinations:
  hook: {webhook: {url: "${HOOK}"}}
  phone: {ntfy: {url: https://ntfy.sh/x}}
rules:
  - {name: mine, on: [waits, lost], agents: ["team-a/*"], to: [hook], then: [{after: 90m, to: [phone]}], every: 30m, until: 4h}
  - {name: all, on: [failed], quiet: {from: "22:00", to: "07:00", zone: UTC, do: drop}, text: nothing, to: [hook, phone]}
`)
	environment := map[string]string{"HOOK": server.URL + "/hook/secret", "KUBEAGENTS_SERVER": server.URL}
	r := run(t, nil, environment, "notify", file)
	require.Equal(t, result{stdout: `The rules are valid. Destinations: hook, phone.

mine
  notifies hook of: waits (after 10s), lost
  notifies phone of: waits (after 1h30m), lost (after 1h30m)
  agents: team-a/*
  repeats every 30m, until 4h after the change

all
  notifies hook and phone of: failed
  from 22:00 to 07:00 (UTC): drops what is due
  sends nothing of the session's text
`}, r)

	r = run(t, nil, environment, "notify", "-test", "hook", file)
	require.Equal(t, result{stdout: "The test message was sent to hook.\n"}, r)
	require.Equal(t, "notification", posted.Type)
	require.Equal(t, "test", posted.Rule)
	status = http.StatusForbidden
	r = run(t, nil, environment, "notify", "-test", "hook", file)
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stderr, "could not be sent to hook: ")
	require.Contains(t, r.stderr, "403 Forbidden")
	require.NotContains(t, r.stderr, "secret")
	r = run(t, nil, environment, "notify", "-test", "hok", file)
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, `unknown destination "hok": did you mean hook?`)

	r = run(t, nil, environment, "notify", "-agent", "team-b/x", file)
	require.Equal(t, result{stdout: `t\x1b[31m of team-b/x: waits
mine: does not select it, because its agent is not one of team-a/*
all: selects it, and notifies of: failed
`}, r)
	r = run(t, nil, environment, "notify", "-agent", "team-b/busy", file)
	require.Contains(t, r.stdout, "t of team-b/busy: nothing to notify of now: it does not wait, and is not lost, failed or finished\n")
	r = run(t, nil, environment, "notify", "-agent", "nobody", file)
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stderr, `the server has no session of the agent "nobody"`)
	r = run(t, nil, environment, "notify", "-agent", "team-b/x", "-session", "none", file)
	require.Equal(t, command.ExitFailure, r.status)
	require.Contains(t, r.stderr, `the server has no session "none" of the agent "team-b/x"`)

	server.Close()
	r = run(t, nil, environment, "notify", "-agent", "team-b/x", file)
	require.Equal(t, command.ExitUnreachable, r.status)
	require.Contains(t, r.stderr, "start the server, or name another one with -server")

	r = run(t, nil, nil, "notify", file)
	require.Equal(t, command.ExitUsage, r.status)
	require.Contains(t, r.stderr, file+": line 2: ")
	require.Contains(t, r.stderr, "HOOK")
	write("rules: []")
	r = run(t, nil, environment, "notify", file)
	require.Equal(t, command.ExitUsage, r.status)
}
