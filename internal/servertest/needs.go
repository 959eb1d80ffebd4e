package servertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestNeeds pages through the sessions that need attention, in the order of what each list says, and checks the counts.
func (wiring Wiring) TestNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, func(o *store.Options) { o.SessionRetention = 100 * time.Hour })
		event := func(session, rest string) {
			t.Helper()
			w := s.do("POST", "/webhook/claude-code", `{"session_id":"`+session+`","cwd":"/src/shop",`+rest+`}`)
			require.Equal(t, 200, w.Code, w.Body)
			time.Sleep(time.Second)
		}
		for _, session := range []string{"first", "second", "third"} {
			event(session, `"hook_event_name":"UserPromptSubmit","prompt":"Go"`)
			event(session, `"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"make"}`)
		}
		event("first", `"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"ls"}`) // it still waits
		s.report(t, `{"agent_id":"a","session_topic":"later","status":"running","ttl_minutes":2}`)
		s.report(t, `{"agent_id":"a","session_topic":"sooner","status":"pending","ttl_minutes":1}`)
		s.report(t, `{"agent_id":"a","session_topic":"broken","status":"failed"}`)
		s.report(t, `{"agent_id":"a","session_topic":"done","status":"success"}`)
		time.Sleep(5 * time.Minute)
		topics := func(needs string) (topics []string) {
			t.Helper()
			for target := "/api/sessions?limit=1&needs=" + needs; target != ""; {
				var page struct{ Sessions []models.FleetSession }
				w := s.get(t, target, &page)
				require.Len(t, page.Sessions, 1)
				topics, target = append(topics, page.Sessions[0].Topic), nextOf(w.Header())
			}
			return topics
		}
		require.Equal(t, []string{"first", "second", "third"}, topics("waiting"), "the longest waiting first")
		require.Equal(t, []string{"later", "sooner"}, topics("lost"), "the one lost last first")
		require.Equal(t, []string{"broken"}, topics("failed"))
		var summary models.Summary
		s.get(t, "/api/summary", &summary)
		require.Equal(t, models.NeedCounts{Waiting: 3, Lost: 2, Failed: 1}, summary.Needs)
		for target, want := range map[string]string{
			"needs=rest":                 "needs must be one of waiting, lost, failed",
			"needs=lost&sort=updated":    "sort must not be set together with needs",
			"needs=lost&agent_id=a":      "agent_id must not be set together with needs",
			"needs=lost&cursor=c2FtcGxl": "cursor must be the next_cursor of an earlier page of this list",
		} {
			w := s.do(http.MethodGet, "/api/sessions?"+target, "")
			require.Equal(t, http.StatusBadRequest, w.Code, target)
			require.Contains(t, w.Body.String(), want, target)
		}
		cursor := s.do(http.MethodGet, "/api/sessions?limit=1&needs=lost", "").Header().Get("Link")
		require.Contains(t, fmt.Sprint(cursor), "needs=lost")

		time.Sleep(24*time.Hour - 4*time.Minute + 30*time.Second) // "sooner" was lost 4 minutes before, "later" 3
		s.get(t, "/api/summary", &summary)
		require.Equal(t, models.NeedCounts{Lost: 5, LostOverADay: 1}, summary.Needs, "nobody answered the questions for a day")
		time.Sleep(time.Minute)
		s.get(t, "/api/summary", &summary)
		require.Equal(t, models.NeedCounts{Lost: 5, LostOverADay: 2}, summary.Needs)
	})
}

// TestAcknowledge acknowledges and snoozes sessions, and checks what brings them back and what does not.
func (wiring Wiring) TestAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, holders := accesstest.TokensFile(t, map[string]access.Entry{"ada": {Scopes: []string{"report", "read", "acknowledge"}}})
		s := wiring.newGuardedServer(t, func(o *store.Options) { o.SessionRetention = 100 * time.Hour }, config.Config{TokensFile: path}, nil)
		ada := holders["ada"].Header()
		post := func(target, body string, want int) string {
			t.Helper()
			w := s.do("POST", target, body, ada...)
			require.Equal(t, want, w.Code, w.Body)
			return w.Body.String()
		}
		event := func(session, rest string) {
			t.Helper()
			post("/webhook/claude-code", `{"session_id":"`+session+`","cwd":"/src/shop",`+rest+`}`, 200)
			time.Sleep(time.Second)
		}
		needs := func() (counts models.NeedCounts) {
			t.Helper()
			var summary models.Summary
			require.NoError(t, json.Unmarshal(s.do("GET", "/api/summary", "", ada...).Body.Bytes(), &summary))
			return summary.Needs
		}
		asks := func(session string) {
			event(session, `"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"make"}`)
		}
		const agent = "/api/agents/claude-code:shop/sessions/"
		for _, session := range []string{"a", "b", "c"} {
			event(session, `"hook_event_name":"UserPromptSubmit","prompt":"Go"`)
			asks(session)
		}
		require.Equal(t, models.NeedCounts{Waiting: 3}, needs())

		// A snooze ends by itself, and a renewal does not end it.
		shown := post(agent+"a/acknowledge", `{"minutes":60}`, 200)
		require.Contains(t, shown, `"acknowledged":{"at":"`)
		require.Contains(t, shown, `"by":"ada","until":"`)
		require.Equal(t, 2, needs().Waiting)
		event("a", `"hook_event_name":"PostToolUse","tool_name":"Read","tool_input":{}`)
		time.Sleep(59 * time.Minute)
		require.Equal(t, 2, needs().Waiting)
		time.Sleep(2 * time.Minute)
		require.Equal(t, 3, needs().Waiting, "the snooze is over")
		require.NotContains(t, s.do("GET", agent+"a", "", ada...).Body.String(), `"acknowledged"`)

		// Another question is new.
		post("/api/acknowledge", `{"sessions":[{"agent_id":"claude-code:shop","session_topic":"a"},{"agent_id":"nobody","session_topic":"x"}]}`, 200)
		require.Equal(t, 2, needs().Waiting)
		event("a", `"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm"}`)
		require.Equal(t, 3, needs().Waiting)

		// All at once; a status is new, and the history says who acknowledged the one before.
		require.JSONEq(t, `{"acknowledged":3,"more":false}`, post("/api/acknowledge", `{"needs":"waiting"}`, 200))
		require.Zero(t, needs())
		event("b", `"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"make"}`)
		asks("b")
		require.Equal(t, 1, needs().Waiting)
		var detail struct {
			History []models.AgentStatus `json:"status_history"`
		}
		require.NoError(t, json.Unmarshal(s.do("GET", agent+"b", "", ada...).Body.Bytes(), &detail))
		require.Equal(t, "ada", detail.History[1].Acknowledged.By)
		require.Len(t, detail.History[1].ClosedQuestions, 1, "beside the question that closed")

		// Lost is another reason; and a lost session that reports and is lost again is new.
		post("/api/acknowledge", `{"needs":"waiting"}`, 200)
		time.Sleep(25 * time.Hour)
		require.Equal(t, models.NeedCounts{Lost: 3}, needs())
		require.NotContains(t, post(agent+"c/acknowledge", `{"minutes":5}`, 200), `"until"`, "a lost session is not snoozed")
		time.Sleep(time.Hour)
		require.Equal(t, 2, needs().Lost)
		event("c", `"hook_event_name":"UserPromptSubmit","prompt":"Go on"`)
		time.Sleep(40 * time.Minute)
		require.Equal(t, 3, needs().Lost)

		// A plain report is new, unless it is late; and so is a failure after it.
		post("/webhook/status", reportOf("x", "t", "failed"), 200)
		post("/api/acknowledge", `{"needs":"failed"}`, 200)
		require.Zero(t, needs().Failed)
		time.Sleep(time.Second)
		post("/webhook/status", `{"agent_id":"x","session_topic":"t","status":"running","timestamp":"2000-01-01T00:00:00Z"}`, 200)
		require.Zero(t, needs().Failed, "a late report changes nothing")
		post("/webhook/status", reportOf("x", "t", "failed"), 200)
		require.Equal(t, 1, needs().Failed)

		post("/webhook/status", reportOf("x", "done", "success"), 200)
		require.Contains(t, post("/api/agents/x/sessions/done/acknowledge", "", 409), "does not need attention")
		for body, want := range map[string]string{
			`{"minutes":10081}`:              "minutes must be 1 to 10080, or 0 for no end",
			`{"minutes":"x"}`:                "the body must be a JSON object",
			`{"need":"lost"}`:                "the body must be a JSON object",
			`{"needs":"rest"}`:               "needs must be one of waiting, lost, failed",
			`{"sessions":[],"needs":"lost"}`: "sessions or needs is required, and not both",
		} {
			require.Contains(t, post("/api/acknowledge", body, 400), want)
		}
	})
}

// TestAcknowledgeMetrics compares the metrics with what was acknowledged and snoozed, and with the summary, also after a
// restart, which counts nothing again.
func (wiring Wiring) TestAcknowledgeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := wiring.startOn(t, fs)
		post := func(target, body string) {
			t.Helper()
			require.Equal(t, 200, s.do("POST", target, body).Code)
			time.Sleep(time.Second)
		}
		metricsAre := func(want ...string) {
			t.Helper()
			require.Equal(t, 200, s.do("GET", "/api/summary", "").Code) // expires what is due
			var got []string
			for line := range strings.Lines(s.do("GET", "/metrics", "").Body.String()) {
				if strings.HasPrefix(line, "kubeagents_acknowledge") || strings.HasPrefix(line, "kubeagents_sessions_acknowledged") ||
					strings.HasPrefix(line, "kubeagents_sessions_needing") {
					got = append(got, strings.TrimSuffix(strings.TrimPrefix(line, "kubeagents_"), "\n"))
				}
			}
			var all []string
			for _, series := range []string{`acknowledgements_total{kind="acknowledged",`, `acknowledgements_total{kind="snoozed",`,
				`sessions_acknowledged{`, `sessions_needing_attention{`} {
				for _, need := range []string{"failed", "lost", "waiting"} {
					all = append(all, series+`need="`+need+`"} `)
				}
			}
			for i := range all {
				all[i] += want[i/3][i%3 : i%3+1]
			}
			require.Equal(t, all, got)
		}
		for _, topic := range []string{"a", "b", "c"} {
			post("/webhook/status", `{"agent_id":"x","session_topic":"`+topic+`","status":"pending","ttl_minutes":1440}`)
			post("/webhook/status", `{"agent_id":"x","session_topic":"failed `+topic+`","status":"failed","ttl_minutes":1440}`)
		}
		for _, topic := range []string{"d", "e"} {
			post("/webhook/status", `{"agent_id":"x","session_topic":"`+topic+`","status":"running","ttl_minutes":1}`)
		}
		time.Sleep(5 * time.Minute)
		// In each word: failed, lost, waiting.
		metricsAre("000", "000", "000", "323")

		post("/api/agents/x/sessions/a/acknowledge", `{"minutes":30}`)
		post("/api/agents/x/sessions/b/acknowledge", "")
		post("/api/agents/x/sessions/d/acknowledge", `{"minutes":30}`) // a lost session is not snoozed
		post("/api/acknowledge", `{"needs":"failed","minutes":30}`)
		metricsAre("011", "301", "312", "011")
		time.Sleep(40 * time.Minute) // the snoozes end
		metricsAre("011", "301", "011", "312")
		post("/webhook/status", `{"agent_id":"x","session_topic":"b","status":"pending"}`) // is new
		metricsAre("011", "301", "010", "313")

		require.NoError(t, s.journal.Close())
		s = wiring.startOn(t, fs)
		defer s.journal.Close()
		metricsAre("000", "000", "010", "313")
	})
}

// TestKindsOfQuestions reads the kinds of questions from a history: while they are open, once they are closed, and from
// the journal after a restart.
func (wiring Wiring) TestKindsOfQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := wiring.startOn(t, fs)
		event := func(rest string) {
			t.Helper()
			require.Equal(t, 200, s.do("POST", "/webhook/claude-code", `{"session_id":"s","cwd":"/src/shop",`+rest+`}`).Code)
			time.Sleep(2 * time.Second)
		}
		history := func(target string) (entries []string) {
			t.Helper()
			var detail struct {
				History []models.AgentStatus `json:"status_history"`
			}
			s.get(t, target, &detail)
			for _, entry := range detail.History {
				require.Equal(t, entry.QuestionID != "", entry.QuestionKind != 0, "%+v", entry)
				entries = append(entries, strings.TrimSpace(entry.Status.String()+" "+entry.QuestionKind.String()))
			}
			slices.Reverse(entries)
			return entries
		}
		const session, agent = "/api/agents/claude-code:shop/sessions/s", "/api/agents/claude-code:shop/status"
		event(`"hook_event_name":"UserPromptSubmit","prompt":"Go"`)
		event(`"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"make"}`)
		event(`"hook_event_name":"PreToolUse","tool_name":"AskUserQuestion","tool_use_id":"2","tool_input":{"questions":[{"question":"Which?","options":[{"label":"a"},{"label":"b"}]}]}`)
		want := []string{"running", "pending permission"}
		require.Equal(t, want, history(session))
		event(`"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"make"}`) // the other question shows
		event(`"hook_event_name":"PostToolUse","tool_name":"AskUserQuestion","tool_use_id":"2","tool_input":{"questions":[]}`)
		event(`"hook_event_name":"PreToolUse","tool_name":"ExitPlanMode","tool_use_id":"3","tool_input":{"plan":"Three steps"}`)
		want = append(want, "pending choice", "running", "pending plan")
		require.Equal(t, want, history(session))
		require.Equal(t, want, history(agent))

		require.NoError(t, s.journal.File())
		require.NoError(t, s.journal.Close())
		s = wiring.startOn(t, fs)
		defer s.journal.Close()
		require.Equal(t, want, history(session))
		s.report(t, reportOf("claude-code:shop", "s", "pending"))
		require.Equal(t, append(want, "pending"), history(session), "a status without a question has no kind")
	})
}

// TestAcknowledgeSignedIn acknowledges as a person who signed in with a token that allows it, and with one that does not,
// from a page of the server and from one of another origin.
func (wiring Wiring) TestAcknowledgeSignedIn(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"ada": {Scopes: []string{"report", "read", "acknowledge", "admin"}}, "bob": {Scopes: []string{"read"}}})
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	require.Equal(t, 200, s.do("POST", "/webhook/status", reportOf("a", "t", "failed"), holders["ada"].Header()...).Code)
	const target = "/api/agents/a/sessions/t/acknowledge"
	ada, bob := "Cookie: "+signIn(t, s, holders["ada"].Token), "Cookie: "+signIn(t, s, holders["bob"].Token)
	require.Equal(t, 403, s.do("POST", target, "", bob).Code, "the token lacks the scope")
	for _, header := range []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"} {
		require.Equal(t, 403, s.do("POST", target, "", ada, header).Code, header)
	}
	w := s.do("POST", target, "", ada, "Sec-Fetch-Site: same-origin")
	require.Equal(t, 200, w.Code, w.Body)
	require.Contains(t, w.Body.String(), `"by":"ada"`)
	require.Equal(t, 401, s.do("DELETE", "/api/agents/a", "", ada, "Sec-Fetch-Site: same-origin").Code, "nothing else")
	require.Equal(t, 401, s.do("POST", "/webhook/status", reportOf("a", "t", "failed"), ada, "Sec-Fetch-Site: same-origin").Code)
}

// TestAcknowledgeWithoutRoom acknowledges sessions when the memory is full. The error says so, and the sessions still
// need attention.
func (wiring Wiring) TestAcknowledgeWithoutRoom(t *testing.T) {
	s := wiring.newTestServer(t, func(o *store.Options) { o.HistoryMaxBytes = 64 << 10 })
	failed := 0
	for s.do("POST", "/webhook/status", reportOf("a", fmt.Sprint(failed), "failed")).Code == http.StatusOK {
		failed++
	}
	const full = "there is no memory left for this within HISTORY_MAX_BYTES"
	w := s.do("POST", "/api/acknowledge", `{"needs":"failed"}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	require.Contains(t, w.Body.String(), full)
	var page struct{ Sessions []models.FleetSession }
	s.get(t, "/api/sessions?needs=failed&limit=1", &page)
	require.Len(t, page.Sessions, 1)
	w = s.do("POST", "/api/agents/a/sessions/"+page.Sessions[0].Topic+"/acknowledge", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	require.Contains(t, w.Body.String(), full)
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"acknowledge","arguments":{"agent_id":"a","session_topic":"` + page.Sessions[0].Topic + `"}}}`
	require.Contains(t, s.do("POST", "/mcp", call, "Content-Type: application/json", "Accept: application/json, text/event-stream").Body.String(), full)
}

// TestAcknowledgeAsSeen acknowledges sessions as a person saw them. What has happened to them since is not acknowledged,
// in whatever way it is asked for; a renewal is nothing new.
func (wiring Wiring) TestAcknowledgeAsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, func(o *store.Options) { o.SessionRetention = 100 * time.Hour })
		send := func(target, body string) {
			t.Helper()
			require.Equal(t, http.StatusOK, s.do("POST", target, body).Code)
			time.Sleep(time.Second)
		}
		event := func(rest string) {
			t.Helper()
			send("/webhook/claude-code", `{"session_id":"s","cwd":"/src/shop",`+rest+`}`)
		}
		asks := func(command string) {
			t.Helper()
			event(`"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"` + command + `"}`)
		}
		seen := func(agent, topic string) (asOf string) {
			t.Helper()
			var detail struct{ Session models.Session }
			s.get(t, "/api/agents/"+agent+"/sessions/"+topic, &detail)
			se := detail.Session
			require.Equal(t, topic, se.Topic)
			if se.Lost {
				return se.ExpiresAt.Format(time.RFC3339Nano)
			}
			return se.LastUpdated.Format(time.RFC3339Nano)
		}
		acknowledges := func(agent, topic, needs, asOf string, want int) {
			t.Helper()
			ref := `"agent_id":"` + agent + `","session_topic":"` + topic + `"`
			for _, body := range []string{
				`{"sessions":[{` + ref + `,"as_of":"` + asOf + `"}],"as_of":"9999-01-01T00:00:00Z"}`,
				`{"sessions":[{` + ref + `}],"as_of":"` + asOf + `"}`,
				`{"needs":"` + needs + `","as_of":"` + asOf + `"}`,
			} {
				require.JSONEq(t, fmt.Sprintf(`{"acknowledged":%d,"more":false}`, want), s.do("POST", "/api/acknowledge", body).Body.String(), body)
				if want > 0 {
					return
				}
			}
			w := s.do("POST", "/api/agents/"+agent+"/sessions/"+topic+"/acknowledge", `{"as_of":"`+asOf+`"}`)
			require.Equal(t, http.StatusConflict, w.Code)
			require.Contains(t, w.Body.String(), "or something new has happened to it after as_of: look at it again")
			call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"acknowledge","arguments":{` + ref + `,"as_of":"` + asOf + `"}}}`
			w = s.do("POST", "/mcp", call, "Content-Type: application/json", "Accept: application/json, text/event-stream")
			require.Contains(t, w.Body.String(), `"structuredContent":{"acknowledged":0,`)
		}
		const agent = "claude-code:shop"
		event(`"hook_event_name":"UserPromptSubmit","prompt":"Go"`)
		asks("make")
		first := seen(agent, "s")
		asks("rm")
		acknowledges(agent, "s", "waiting", first, 0) // another question is open, too
		both := seen(agent, "s")
		event(`"hook_event_name":"PostToolUse","tool_name":"Read","tool_input":{}`)
		event(`"hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"make"}`)
		acknowledges(agent, "s", "waiting", both, 0) // the other question shows
		shown := seen(agent, "s")
		event(`"hook_event_name":"PostToolUse","tool_name":"Read","tool_input":{}`)
		acknowledges(agent, "s", "waiting", shown, 1) // a renewal

		send("/webhook/status", reportOf("a", "t", "failed"))
		failed := seen("a", "t")
		send("/webhook/status", reportOf("a", "t", "failed"))
		acknowledges("a", "t", "failed", failed, 0) // it failed once more
		acknowledges("a", "t", "failed", seen("a", "t"), 1)

		send("/webhook/status", `{"agent_id":"a","session_topic":"l","status":"running","ttl_minutes":1}`)
		running := seen("a", "l")
		time.Sleep(2 * time.Minute)
		acknowledges("a", "l", "lost", running, 0)
		acknowledges("a", "l", "lost", seen("a", "l"), 1)
		require.Equal(t, http.StatusBadRequest, s.do("POST", "/api/acknowledge", `{"needs":"lost","as_of":"yesterday"}`).Code)
	})
}

// TestAcknowledgeWithinATeam acknowledges with a token for some agents, in every way: sessions of others are not affected,
// and look as if they did not exist. A token that only acknowledges reads no texts.
func (wiring Wiring) TestAcknowledgeWithinATeam(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"all":    {Scopes: []string{"report", "read"}},
		"team a": {Scopes: []string{"read", "acknowledge"}, Agents: []string{"a/*"}},
		"clears": {Scopes: []string{"acknowledge"}, Agents: []string{"a/*"}},
	})
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	all, team := holders["all"].Header(), holders["team a"].Header()
	for _, agent := range []string{"a/1", "b/1"} {
		report := `{"agent_id":"` + agent + `","session_topic":"t","session_title":"Fix it","status":"failed","message":"exit status 1"}`
		require.Equal(t, http.StatusOK, s.do("POST", "/webhook/status", report, all...).Code)
	}
	failed := func() int {
		t.Helper()
		var summary models.Summary
		require.NoError(t, json.Unmarshal(s.do("GET", "/api/summary", "", all...).Body.Bytes(), &summary))
		return summary.Needs.Failed
	}
	of := func(agent string) string { return "/api/agents/" + agent + "%2F1/sessions/t/acknowledge" }
	unknown := s.do("POST", of("a2"), "", team...)
	require.Equal(t, http.StatusNotFound, unknown.Code)
	others := s.do("POST", of("b"), "", team...)
	require.Equal(t, http.StatusNotFound, others.Code)
	require.Equal(t, unknown.Body.String(), others.Body.String())
	w := s.do("POST", "/api/acknowledge", `{"sessions":[{"agent_id":"b/1","session_topic":"t"},{"agent_id":"b/2","session_topic":"t"}]}`, team...)
	require.JSONEq(t, `{"acknowledged":0,"more":false}`, w.Body.String())
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"acknowledge","arguments":{"agent_id":"b/1","session_topic":"t"}}}`
	w = s.do("POST", "/mcp", call, append(team, "Content-Type: application/json", "Accept: application/json, text/event-stream")...)
	require.Contains(t, w.Body.String(), `"structuredContent":{"acknowledged":0,`)
	require.Equal(t, 2, failed())

	w = s.do("POST", of("a"), "", holders["clears"].Header()...)
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), `"by":"clears"`)
	require.NotContains(t, w.Body.String(), "Fix it")
	require.NotContains(t, w.Body.String(), "exit status 1")
	require.Contains(t, s.do("POST", of("a"), "", team...).Body.String(), "exit status 1")
	require.Equal(t, 1, failed())
	require.JSONEq(t, `{"acknowledged":0,"more":false}`, s.do("POST", "/api/acknowledge", `{"needs":"failed"}`, team...).Body.String())
	require.Equal(t, 1, failed())
}
