package servertest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestReplayedWebhookChangesNothing sends a signed webhook again, with changes to the parts that the signature does not
// cover.
func (wiring Wiring) TestReplayedWebhookChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const next = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		shortHistory := func(o *store.Options) { o.HistoryLimit = 1 } // so that the session does not remember the report's ID
		s := wiring.newGuardedServer(t, shortHistory, config.Config{WebhookSecret: accesstest.Secret + "," + next}, nil)
		running, failed := reportOf("a", "t", "running"), reportOf("a", "t", "failed")
		captured := accesstest.Sign(t, accesstest.Secret, "msg_1", time.Now(), running)
		require.Equal(t, 200, s.do("POST", "/webhook/status", running, captured...).Code)
		require.Equal(t, 200, s.do("POST", "/webhook/status", failed, accesstest.Sign(t, accesstest.Secret, "msg_2", time.Now(), failed)...).Code, "a second webhook in the same second")
		status := func() string { return s.sessions(t, "agent_id=a")[0].CurrentStatus.String() }
		require.Equal(t, "failed", status())

		replays := map[string]struct {
			target string
			header []string
			code   int
		}{
			"unchanged":              {"/webhook/status", nil, 200},
			"an idempotency key":     {"/webhook/status", []string{"Idempotency-Key: other"}, 200},
			"another query":          {"/webhook/status?x=1", nil, 200},
			"an agent in the query":  {"/webhook/status?agent_id=b", nil, 400},
			"an agent in a header":   {"/webhook/status", []string{"X-Agent-Id: b"}, 400},
			"an event in headers":    {"/webhook/status", []string{"Ce-Specversion: 1.0", "Ce-Id: 2", "Ce-Source: x", "Ce-Type: y"}, 400},
			"another media type":     {"/webhook/status", []string{"Content-Type: application/cloudevents+json"}, 400},
			"another client":         {"/webhook/a2a", nil, 200},
			"another client's event": {"/webhook/copilot?event=userPromptSubmitted", nil, 400},
			"an empty token":         {"/webhook/status?access_token=", []string{"Authorization: Bearer "}, 200},
			"another encoding":       {"/webhook/status", []string{"Content-Encoding: gzip"}, 400},
			"request headers":        {"/webhook/status", []string{"X-Request-Id: x", "X-Forwarded-For: 203.0.113.1"}, 200},
			"doubled slashes":        {"//webhook//status/", nil, 200},
			"the agent's host":       {"/webhook/claude-code", []string{"X-Agent-Host: h"}, 400},
			"a dry run":              {"/webhook/claude-code", []string{"X-Dry-Run: true"}, 400},
			"another TTL":            {"/webhook/claude-code?ttl_minutes=1440", nil, 400},
		}
		for name, replay := range replays {
			w := s.do("POST", replay.target, running, append(replay.header, captured...)...)
			require.Equal(t, replay.code, w.Code, "%s: %s", name, w.Body)
			require.Equal(t, "failed", status(), name)
		}
		var summary models.Summary
		s.get(t, "/api/summary", &summary)
		require.Equal(t, 1, summary.Agents)
		require.Equal(t, 200, s.do("POST", "/webhook/status", running, accesstest.Sign(t, next, "msg_1", time.Now(), running)...).Code, "the ID counts, no matter which secret signed it")
		require.Equal(t, "failed", status())
		require.Contains(t, s.do("POST", "/webhook/status?agent_id=b", running, captured...).Body.String(),
			`"agent_id is not allowed in a signed webhook, because the signature does not cover it: put it into the body, or use a token"`)

		time.Sleep(300 * time.Second) // while the signature is still valid
		require.Equal(t, 200, s.do("POST", "/webhook/status", running, captured...).Code)
		require.Equal(t, "failed", status())
		time.Sleep(time.Second)
		require.Equal(t, 401, s.do("POST", "/webhook/status", running, captured...).Code)

		early := accesstest.Sign(t, accesstest.Secret, "msg_3", time.Now().Add(299*time.Second), running) // a timestamp in the future is valid for longest
		require.Equal(t, 200, s.do("POST", "/webhook/status", running, early...).Code)
		require.Equal(t, "running", status())
		s.do("POST", "/webhook/status", failed, accesstest.Sign(t, accesstest.Secret, "msg_4", time.Now(), failed)...)
		time.Sleep(599 * time.Second)
		require.Equal(t, 200, s.do("POST", "/webhook/status", running, early...).Code)
		require.Equal(t, "failed", status())
	})
}

// TestWebhookTakesEffectOnce checks which webhooks may be sent again: those that were refused, and none while a request
// with the same ID is in progress.
func (wiring Wiring) TestWebhookTakesEffectOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var deliveries *access.Deliveries
		s := wiring.newGuardedServer(t, func(o *store.Options) { o.MaxSessions = 1 }, config.Config{WebhookSecret: accesstest.Secret}, func(p *handlers.Options) { deliveries = p.Access.Deliveries })
		send := func(id, body string) *httptest.ResponseRecorder {
			return s.do("POST", "/webhook/status", body, accesstest.Sign(t, accesstest.Secret, id, time.Now(), body)...)
		}
		one, two := reportOf("a", "1", "running"), reportOf("a", "2", "running")
		require.Equal(t, access.DeliveryNew, deliveries.Begin("msg_1", time.Now()))
		w := send("msg_1", one)
		require.Equal(t, 409, w.Code)
		require.JSONEq(t, `{"error":"conflict","message":"another request with this webhook-id is in progress: try again later"}`, w.Body.String())
		deliveries.End("msg_1", false, time.Now())

		require.Equal(t, 400, send("msg_1", `{"agent_id":"a"}`).Code)
		require.Equal(t, 200, send("msg_1", one).Code, "a refused webhook may be sent again")
		require.Equal(t, 503, send("msg_2", two).Code)
		batch := "[" + strings.Replace(one, "running", "failed", 1) + "," + two + `,{"agent_id":"a"}]`
		require.Equal(t, 207, send("msg_3", batch).Code)
		require.Contains(t, s.do("GET", "/metrics", "").Body.String(), `kubeagents_reports_total{outcome="stored"} 2`)
		require.Equal(t, 204, s.do("DELETE", "/api/agents/a/sessions/1", "").Code)
		require.Equal(t, 200, send("msg_2", two).Code, "there is room now, so the webhook is accepted")
		require.Equal(t, "2", s.sessions(t, "")[0].Topic)

		require.Equal(t, 207, send("msg_4", "["+two+`,{"agent_id":"a"}]`).Code)
		w = send("msg_4", "["+two+`,{"agent_id":"a"}]`)
		require.Equal(t, 207, w.Code, "sending it again would not change the result")
		require.Contains(t, w.Body.String(), `"accepted":1,"rejected":1`)
		require.Contains(t, s.do("GET", "/metrics", "").Body.String(), `kubeagents_reports_total{outcome="duplicate"} 1`)
	})
}

// TestSignedBodiesCountAgainstBodiesMaxBytes checks that signed bodies count against BODIES_MAX_BYTES: the body of
// reports once, a compressed body in addition to its decompressed content, and the body of a tool's event until it is
// read. A refused body is not counted.
func (wiring Wiring) TestSignedBodiesCountAgainstBodiesMaxBytes(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write([]byte(largeBody(600_000)))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	const signedBytes, reportBytes = 1 << 20, 1 << 20 // each is rounded up to the next power of two, plus a little
	cases := map[string]struct {
		target, body string
		header       []string
		size         int64
	}{
		"reports":      {"/webhook/status", largeBody(600_000), nil, reportBytes},
		"small":        {"/webhook/status", reportOf("a", "t", "running"), nil, 0},
		"compressed":   {"/webhook/status", zipped.String(), []string{"Content-Encoding: gzip"}, reportBytes},
		"tool's event": {"/webhook/claude-code", `{"session_id":"s","cwd":"/w","hook_event_name":"UserPromptSubmit","prompt":"` + strings.Repeat("x", 600_000) + `"}`, nil, signedBytes},
	}
	for name, c := range cases {
		for _, room := range []int64{c.size / 2, c.size + 4096} {
			synctest.Test(t, func(t *testing.T) {
				bodies := budget.New(budget.MinBytes)
				others := budget.MinBytes - room
				require.NoError(t, bodies.For(nil, store.Share{}).Reserve(t.Context(), others))
				s := wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, func(p *handlers.Options) { p.Bodies = bodies })
				w := s.do("POST", c.target, c.body, append(c.header, accesstest.Sign(t, accesstest.Secret, "msg_1", time.Now(), c.body)...)...)
				if room < c.size {
					require.Equal(t, 503, w.Code, "%s: %s", name, w.Body)
					require.Contains(t, w.Body.String(), "BODIES_MAX_BYTES", name)
				} else {
					require.Equal(t, 200, w.Code, "%s: %s", name, w.Body)
				}
				require.Equal(t, others, bodies.Held(), name)
				w = s.do("POST", c.target, c.body, append(c.header, accesstest.Sign(t, accesstest.Secret, "msg_2", time.Now().Add(-time.Hour), c.body)...)...)
				require.Equal(t, 401, w.Code, name)
				require.Equal(t, others, bodies.Held(), name)
			})
		}
	}
}

// largeBody returns a body of reports of about size bytes.
func largeBody(size int) string {
	one := reportOf("a", "t", "running")
	return strings.Repeat(strings.TrimSuffix(one, "}")+`,"content":"`+strings.Repeat("x", 9000)+`"}`, size/9000)
}

// TestLongWebhookIDs checks that a webhook ID of any allowed length serves as the ID of a report, and of each report in
// a batch.
func (wiring Wiring) TestLongWebhookIDs(t *testing.T) {
	s := wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, nil)
	for i, id := range []string{strings.Repeat("x", 95), strings.Repeat("x", 96), strings.Repeat("x", 100), strings.Repeat("x", 101), strings.Repeat("x", 255), "caf\xe9", "a\u202eb"} {
		one, batch := reportOf(fmt.Sprint("one", i), "t", "running"), reportOf(fmt.Sprint("batch", i), "t", "running")
		batch = "[" + batch + "," + batch + "]"
		for _, body := range []string{one, batch} {
			w := s.do("POST", "/webhook/status", body, accesstest.Sign(t, accesstest.Secret, id, time.Now(), body)...)
			require.Equal(t, 200, w.Code, "%q: %s", id, w.Body)
			s.handlers.Access.Deliveries.End(id, false, time.Now()) // as after a restart: only the IDs in the histories are known
			require.Equal(t, 200, s.do("POST", "/webhook/status", body, accesstest.Sign(t, accesstest.Secret, id, time.Now(), body)...).Code)
			s.handlers.Access.Deliveries.End(id, false, time.Now())
		}
		_, history, _ := s.store.Session(fmt.Sprint("one", i), "t", nil, 100)
		require.Len(t, history.Items, 1)
		_, history, _ = s.store.Session(fmt.Sprint("batch", i), "t", nil, 100)
		require.Len(t, history.Items, 2)
	}
	body := reportOf("a", "t", "running")
	w := s.do("POST", "/webhook/status", body, accesstest.Sign(t, accesstest.Secret, strings.Repeat("x", 256), time.Now(), body)...)
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "webhook-id must be at most 255 bytes")
}

// TestReplayedEventChangesNothing sends a signed event of a tool again, after what it began is over.
func (wiring Wiring) TestReplayedEventChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, nil)
		event := func(name string) (body string, header []string) {
			body = `{"session_id":"s","cwd":"/src/shop","hook_event_name":"` + name + `","tool_name":"Bash","tool_input":{"command":"make"}}`
			return body, accesstest.Sign(t, accesstest.Secret, "msg_"+name, time.Now(), body)
		}
		asks, captured := event("PermissionRequest")
		require.Equal(t, 200, s.do("POST", "/webhook/claude-code", asks, captured...).Code)
		require.Len(t, s.sessions(t, "status=pending"), 1)
		goesOn, header := event("PostToolUse")
		require.Equal(t, 200, s.do("POST", "/webhook/claude-code", goesOn, header...).Code)
		require.Len(t, s.sessions(t, "status=running"), 1)
		for range 10 {
			require.Equal(t, 200, s.do("POST", "/webhook/claude-code", asks, captured...).Code)
			require.Len(t, s.sessions(t, "status=running"), 1)
		}
	})
}

// TestReplaysOnThree sends signed webhooks again to other servers of a cluster.
func (wiring Wiring) TestReplaysOnThree(t *testing.T) {
	t.Run("Webhook", wiring.onThree().TestReplayedWebhookChangesNothing)
	t.Run("Event", wiring.onThree().TestReplayedEventChangesNothing)
}
