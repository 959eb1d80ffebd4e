package servertest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// TestDryRun checks that an event with X-Dry-Run gets the answer that the event would get, names the agent that it
// would count for, and leaves nothing behind: no agent, no session, no change for subscribers and no metric.
func (wiring Wiring) TestDryRun(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	const known = `{"hook_event_name":"UserPromptSubmit","session_id":"known","cwd":"/w/shop","prompt":"Go"}`
	require.Equal(t, 200, s.do("POST", "/webhook/codex?agent_id=team/a", known, holders["team"].Header()...).Code)

	ofMetrics := func() (lines []string) {
		for line := range strings.Lines(s.do("GET", "/metrics", "", holders["reads"].Header()...).Body.String()) {
			if strings.HasPrefix(line, "kubeagents_hook_events") || strings.HasPrefix(line, "kubeagents_reports") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	position, counts, scraped := s.handlers.Hub.Position(), s.store.Summary(), ofMetrics()
	require.NotEmpty(t, scraped)
	event := func(session string) string { return strings.Replace(known, "known", session, 1) }
	for name, test := range map[string]struct {
		target, body, holder string
		status               int
		want                 string
	}{
		"the agent of a new session": {"/webhook/codex?agent_host=laptop", event("new"), "reports", 200,
			`{"dry_run":true,"effect":"reports","agent_id":"codex:shop@laptop","session_topic":"new"}`},
		"the agent of a known session": {"/webhook/codex?agent_host=laptop", known, "reports", 200,
			`{"dry_run":true,"effect":"reports","agent_id":"team/a","session_topic":"known"}`},
		"an event without a session": {"/webhook/codex", `{"hook_event_name":"New"}`, "reports", 200, `{"dry_run":true,"effect":"nothing"}`},
		"an agent that the token does not cover": {"/webhook/codex?agent_host=laptop", event("new"), "team", 403,
			`{"error":"forbidden","field":"agent_id","message":"this token does not cover agent \"codex:shop@laptop\"; it needs that ID among its agents or, for any host, \"codex:shop@*\""}`},
		"an agent that the token covers": {"/webhook/codex?agent_id=team/b", event("new"), "team", 200,
			`{"dry_run":true,"effect":"reports","agent_id":"team/b","session_topic":"new"}`},
		"a token without the scope": {"/webhook/codex", event("new"), "reads", 403, `{"error":"forbidden","message":"the token lacks the scope report"}`},
		"an unknown client":         {"/webhook/nobody", event("new"), "reports", 404, ``},
		"no event":                  {"/webhook/codex", `[]`, "reports", 400, ``},
	} {
		w := s.do("POST", test.target, test.body, append(holders[test.holder].Header(), "X-Dry-Run: true")...)
		require.Equal(t, test.status, w.Code, "%s: %s", name, w.Body)
		if test.want != "" {
			require.JSONEq(t, test.want, w.Body.String(), name)
		}
	}
	require.Equal(t, 401, s.do("POST", "/webhook/codex", known, "X-Dry-Run: true").Code)
	w := s.do("POST", "/webhook/codex", known, append(holders["reports"].Header(), "X-Dry-Run: maybe")...)
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "X-Dry-Run must be true or false")
	require.Equal(t, counts, s.store.Summary())
	require.Equal(t, position, s.handlers.Hub.Position())
	require.Equal(t, scraped, ofMetrics())

	w = s.do("POST", "/webhook/codex", event("new"), append(holders["reports"].Header(), "X-Dry-Run: false")...)
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Body.String())
	require.NotEqual(t, counts, s.store.Summary())
}
