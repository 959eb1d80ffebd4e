//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/stretchr/testify/require"
)

// TestCloudEvents sends status reports, encoded by the CloudEvents SDK, in the binary and in the structured mode of
// HTTP.
func TestCloudEvents(t *testing.T) {
	s := start(t)
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
		return s.send(r)
	}
	entries := func() int { return len(s.statusesOf(t, "ci", "build")) }
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
	require.Equal(t, 2, entries(), "the mode makes no difference to the identity of an event")
	require.Equal(t, 400, send("n", "done", true).Code)

	const report = `{"agent_id":"ci","session_topic":"build","status":"success"}`
	for _, test := range []struct {
		body    string
		header  []string
		status  int
		message string
	}{
		{report, []string{"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: x", "Ce-Type: t"}, 200, "successfully"},
		{report, []string{"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: x"}, 400, "malformed CloudEvent: type is required"},
		{report, []string{"Ce-Specversion: 9.9", "Ce-Id: 1", "Ce-Source: x", "Ce-Type: t"}, 400, "malformed CloudEvent"},
		{`{"specversion":"1.0","id":"2","source":"x","type":"t","data_base64":"eyJhZ2VudF9pZCI6ImNpIiwic2Vzc2lvbl90b3BpYyI6ImJ1aWxkIiwic3RhdHVzIjoic3VjY2VzcyJ9"}`, []string{"Content-Type: application/cloudevents+json"}, 200, "successfully"},
		{"\ufeff" + `{"specversion": "1.0", "id": "2b", "source": "x", "type": "t", "data_base64": "eyJhZ2VudF9pZCI6ImNpIiwic2Vzc2lvbl90b3BpYyI6ImJ1aWxkIiwic3RhdHVzIjoic3VjY2VzcyJ9"}`, []string{"Content-Type: application/cloudevents+json"}, 200, "successfully"},
		{`{"specversion":"1.0","id":"2c","source":"x","type":"t","data_base64":1}`, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent: a member has the wrong type"},
		{`{"datacontentencoding":null,"specversion":"0.3","id":"2d","source":"x","type":"t","data":` + report + `}`, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent"},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t","data":[` + report + `,` + report + `]}`, []string{"Content-Type: application/cloudevents+json; charset=utf-8"}, 200, `"accepted":2`},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t"}`, []string{"Content-Type: application/cloudevents+json"}, 400, "the body has no report"},
		{`{"specversion":"1.0","id":"3","source":"x","type":"t","data":"no report"}`, []string{"Content-Type: application/cloudevents+json"}, 400, "a report must be an object, not a string"},
		{`{`, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent"},
		{``, []string{"Content-Type: application/cloudevents+json"}, 400, "malformed CloudEvent"},
		{`{"specversion":"1.0","id":"4","source":"x","type":"t","data":{"agent_id":"ci","session_topic":"build","status":"success","message":"` + "\xff" + `\ud83d"}}`, []string{"Content-Type: application/cloudevents+json"}, 200, "successfully"},
	} {
		w := s.do(http.MethodPost, "/webhook/status", test.body, test.header...)
		require.Equal(t, test.status, w.Code, "%s %v: %s", test.body, test.header, w.Body)
		require.Contains(t, w.Body.String(), test.message)
		require.False(t, strings.Contains(w.Body.String(), "\n\t"))
	}
}

// TestCloudEventBatches sends several events at once, encoded by the CloudEvents SDK.
func TestCloudEventBatches(t *testing.T) {
	s := start(t)
	batch := func(ids ...string) (events []cloudevents.Event) {
		for _, id := range ids {
			event := cloudevents.NewEvent()
			event.SetID(id)
			event.SetSource("https://ci.example.com/jobs")
			event.SetType("com.example.status")
			require.NoError(t, event.SetData(cloudevents.ApplicationJSON, map[string]string{"agent_id": "ci", "session_topic": "build", "status": "running", "message": id}))
			events = append(events, event)
		}
		return events
	}
	for _, test := range []struct {
		ids     []string
		entries int
		header  string
	}{
		{[]string{"1", "2"}, 2, ""},
		{[]string{"1", "2"}, 2, ""},      // a retry
		{[]string{"3", "2", "4"}, 4, ""}, // with other events, in another order
		{[]string{"4", "5"}, 5, "an idempotency key"},
		{[]string{"6"}, 6, ""},
	} {
		r, err := cehttp.NewHTTPRequestFromEvents(t.Context(), "http://hub/webhook/status", batch(test.ids...))
		require.NoError(t, err)
		r.Header.Set("Idempotency-Key", test.header)
		w := s.send(r)
		require.Equal(t, 200, w.Code, w.Body)
		require.Contains(t, w.Body.String(), fmt.Sprintf(`"accepted":%d,`, len(test.ids)))
		require.Len(t, s.statusesOf(t, "ci", "build"), test.entries, test.ids)
	}
	event := batch("6")[0]
	r := httptest.NewRequest("POST", "/webhook/status", nil)
	require.NoError(t, cehttp.WriteRequest(t.Context(), binding.ToMessage(&event), r))
	w := s.send(r)
	require.Equal(t, 200, w.Code)
	require.Len(t, s.statusesOf(t, "ci", "build"), 6, "the same event, sent on its own")
}

func TestInvalidEventsInABatch(t *testing.T) {
	s := start(t)
	event := func(id, more string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"x","type":"t",` + more + `}`
	}
	report := reportOf("a", "t", "running")
	good := event("good", `"data":`+report)
	for name, test := range map[string]struct{ event, want string }{
		"one without a required attribute":   {`{"specversion":"1.0","id":"1","source":"x","data":` + report + `}`, "malformed CloudEvent: type is required"},
		"one with two missing attributes":    {`{"specversion":"1.0","id":"1","data":` + report + `}`, "malformed CloudEvent: source and type are required"},
		"one of an unknown version":          {`{"specversion":"9.9","id":"1","source":"x","type":"t","data":` + report + `}`, "malformed CloudEvent"},
		"one that is not an object":          {`7`, "a CloudEvent must be an object, not a number"},
		"one without attributes":             {`{}`, "malformed CloudEvent: specversion is required"},
		"one that is an array":               {`[` + good + `]`, "a CloudEvent must be an object, not an array"},
		"one without data":                   {event("1", `"subject":"s"`), "data is required: a status report"},
		"one whose data is not an object":    {event("1", `"data":"x"`), "a report must be an object, not a string"},
		"one with several reports":           {event("1", `"data":[`+report+`]`), "a report must be an object, not an array"},
		"one with several reports in a text": {event("1", `"datacontenttype":"text/plain","data":"{} {}"`), "data must be one status report"},
		"one with an invalid report":         {event("1", `"data":{"agent_id":"a"}`), "session_topic is required"},
		"one with a duplicate field":         {event("1", `"data":{"agent_id":"a","agent_id":"b"}`), "agent_id must not occur twice"},
		"one with an ID that is not Unicode": {event("1", `"data":{"agent_id":"\ud83d","session_topic":"t","status":"running"}`), "agent_id must be valid Unicode"},
		"one with malformed JSON in base64":  {event("1", `"data_base64":"ew=="`), "malformed JSON at byte 1"},
		"one with malformed base64":          {event("1", `"data_base64":"!"`), "malformed CloudEvent"},
		"one whose base64 is not a string":   {event("1", `"data_base64":1`), "malformed CloudEvent: a member has the wrong type"},
		"one that is too large":              {event("1", `"data":{"x":"`+strings.Repeat("x", 1<<20)+`"}`), "one report must be at most 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, contentType := range []string{"application/cloudevents-batch+json", "Application/CloudEvents-Batch+JSON; charset=UTF-8"} {
				w := s.do("POST", "/webhook/status", "["+good+","+test.event+","+good+"]", "Content-Type: "+contentType)
				require.Equal(t, 207, w.Code, w.Body)
				require.Contains(t, w.Body.String(), `"accepted":2,"rejected":1,"errors":[{"index":1,"error":`)
				require.Contains(t, w.Body.String(), test.want)
			}
		})
	}
	w := s.do("POST", "/webhook/status", `[{"specversion": "1.0", "id": "spaced", "source": "x", "type": "t", "data_base64": "eyJhZ2VudF9pZCI6ImEiLCJzZXNzaW9uX3RvcGljIjoiYjY0Iiwic3RhdHVzIjoicnVubmluZyJ9"}]`,
		"Content-Type: application/cloudevents-batch+json")
	require.Equal(t, 200, w.Code, w.Body)
	require.Len(t, s.statusesOf(t, "a", "t"), 1)

	for body, want := range map[string]string{
		"[" + good + "," + event("2", `"data_base64":"e30="`): "malformed JSON",
		"[" + good + "] 1":                 "nothing may follow the array of reports",
		"[" + good + "," + good[:30] + "]": "malformed JSON",
		"[]":                               "the body has no report",
		"":                                 "the body has no report",
		"{}":                               "a batch of CloudEvents must be an array, not an object",
		"\xff":                             "malformed JSON at byte 0",
	} {
		w := s.do("POST", "/webhook/status", body, "Content-Type: application/cloudevents-batch+json")
		require.Equal(t, 400, w.Code, w.Body)
		require.Contains(t, w.Body.String(), want)
	}
	w = s.do("POST", "/webhook/status", "["+strings.Repeat(good+",", 10_000)+good+"]", "Content-Type: application/cloudevents-batch+json")
	require.Equal(t, 413, w.Code)
	w = s.do("POST", "/webhook/status", "[]", "Content-Type: application/cloudevents-batch+xml")
	require.Equal(t, 415, w.Code)
	require.Contains(t, w.Body.String(), "Content-Type of a batch of CloudEvents must be application/cloudevents-batch+json")
}
