package main

import (
	"strings"
	"testing"

	"net/http"
	"net/http/httptest"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/stretchr/testify/require"
)

// TestCloudEvents has the SDK's own encoder send status reports in both ways that HTTP has for an event.
func TestCloudEvents(t *testing.T) {
	s := newTestServer(t, nil)
	send := func(id, status string, structured bool) *httptest.ResponseRecorder {
		event := cloudevents.NewEvent()
		event.SetID(id)
		event.SetSource("https://ci.example.com/jobs?a=ü")
		event.SetType("com.example.status")
		require.NoError(t, event.SetData(cloudevents.ApplicationJSON, map[string]string{"agent_id": "ci", "session_topic": "build", "status": status}))
		r := httptest.NewRequest("POST", "/webhook/status", nil)
		ctx := t.Context()
		if structured {
			ctx = binding.WithForceStructured(ctx)
		}
		require.NoError(t, cehttp.WriteRequest(ctx, binding.ToMessage(&event), r))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	entries := func() int {
		_, page, ok := s.store.Session("ci", "build", nil, 100)
		require.True(t, ok)
		return len(page.Items)
	}
	for _, structured := range []bool{true, false} {
		id := map[bool]string{true: "s", false: "b"}[structured]
		before := 0
		if !structured {
			before = entries()
		}
		for range 3 { // a retry changes nothing
			w := send(id, "running", structured)
			require.Equal(t, 200, w.Code, w.Body)
			require.Contains(t, w.Body.String(), "Status reported successfully")
			require.Equal(t, before+1, entries())
		}
	}
	require.Equal(t, 200, send("s", "failed", false).Code)
	require.Equal(t, 2, entries(), "the same event, whatever way it comes")
	require.Equal(t, 400, send("n", "done", true).Code)

	const report = `{"agent_id":"ci","session_topic":"build","status":"success"}`
	for _, test := range []struct {
		body   string
		header []string
		want   int
		says   string
	}{
		{report, []string{"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: x", "Ce-Type: t"}, 200, "successfully"},
		{report, []string{"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: x"}, 400, "malformed CloudEvent: type: MUST be a non-empty string"},
		{report, []string{"Ce-Specversion: 9.9", "Ce-Id: 1", "Ce-Source: x", "Ce-Type: t"}, 400, "malformed CloudEvent"},
		{`{"specversion":"1.0","id":"2","source":"x","type":"t","data_base64":"eyJhZ2VudF9pZCI6ImNpIiwic2Vzc2lvbl90b3BpYyI6ImJ1aWxkIiwic3RhdHVzIjoic3VjY2VzcyJ9"}`, []string{"Content-Type: application/cloudevents+json"}, 200, "successfully"},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t","data":[` + report + `,` + report + `]}`, []string{"Content-Type: application/cloudevents+json; charset=utf-8"}, 200, `"accepted":2`},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t"}`, []string{"Content-Type: application/cloudevents+json"}, 400, "there is no report in the body"},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t","data":"no report"}`, []string{"Content-Type: application/cloudevents+json"}, 400, "a report must be an object, not a string"},
		{`{"specversion":"1.0","id":"4","source":"x","type":"t","data":{"agent_id":"ci","session_topic":"build","status":"success","message":"` + "\xff" + `\ud83d"}}`, []string{"Content-Type: application/cloudevents+json"}, 200, "successfully"},
		{`{`, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent"},
		{``, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent"},
		{`[]`, []string{"Content-Type: application/cloudevents-batch+json"}, 400, "send CloudEvents one by one"},
	} {
		w := s.ask(http.MethodPost, "/webhook/status", test.body, test.header...)
		require.Equal(t, test.want, w.Code, "%s %v: %s", test.body, test.header, w.Body)
		require.Contains(t, w.Body.String(), test.says)
		require.False(t, strings.Contains(w.Body.String(), "\n\t"))
	}
}
