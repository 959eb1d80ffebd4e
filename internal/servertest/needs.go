package servertest

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestNeeds pages through the sessions that need attention, in the order of what each list says, and checks the counts.
func (wiring Wiring) TestNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, func(o *store.Options) { o.SessionRetention = 24 * time.Hour })
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
	})
}
