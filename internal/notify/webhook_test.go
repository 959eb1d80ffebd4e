package notify_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/jsonschema-go/jsonschema"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

// payloadSchema is what receivers may rely on.
const payloadSchema = `{
	"$defs": {
		"session": {
			"type": "object", "additionalProperties": false, "required": ["agent_id", "session_topic"],
			"properties": {
				"agent_id": {"type": "string"}, "agent_name": {"type": "string"}, "agent_source": {"type": "string"}, "agent_host": {"type": "string"},
				"session_topic": {"type": "string"}, "title": {"type": "string"}, "message": {"type": "string"},
				"status": {"enum": ["running", "pending", "success", "failed"]}
			}
		},
		"question": {
			"type": "object", "additionalProperties": false, "required": ["id", "kind"],
			"properties": {
				"id": {"type": "string"}, "kind": {"enum": ["permission", "choice", "plan", "text"]}, "text": {"type": "string"},
				"choices": {"type": "array", "items": {"type": "string"}}
			}
		},
		"counts": {
			"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer", "minimum": 0},
			"propertyNames": {"$ref": "#/$defs/change"}
		},
		"change": {"enum": ["waits", "lost", "failed", "finished"]},
		"time": {"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$"}
	},
	"type": "object", "additionalProperties": false, "required": ["type", "id", "thread", "rule", "sent_at"],
	"properties": {
		"type": {"enum": ["notification", "summary", "withdrawn"]}, "id": {"type": "string", "minLength": 1}, "thread": {"type": "string", "minLength": 1},
		"withdraws": {"type": "string"}, "change": {"$ref": "#/$defs/change"}, "since": {"$ref": "#/$defs/time"},
		"session": {"$ref": "#/$defs/session"}, "question": {"$ref": "#/$defs/question"}, "summary": {"$ref": "#/$defs/counts"},
		"url": {"type": "string", "pattern": "^https?://"}, "rule": {"type": "string"}, "sent_at": {"$ref": "#/$defs/time"}
	},
	"oneOf": [{"required": ["change", "since", "session"]}, {"required": ["summary"]}],
	"if": {"properties": {"type": {"const": "withdrawn"}}}, "then": {"required": ["withdraws"]}, "else": {"not": {"required": ["withdraws"]}}
}`

// checkPayload holds a payload to its schema, and returns it.
func checkPayload(t *testing.T, body []byte) (payload map[string]any) {
	t.Helper()
	var schema jsonschema.Schema
	require.NoError(t, json.Unmarshal([]byte(payloadSchema), &schema))
	resolved, err := schema.Resolve(nil)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(body, &payload))
	require.NoError(t, resolved.Validate(payload), "%s", body)
	return payload
}

// receiver is a destination that keeps the requests it gets.
type receiver struct {
	*httptest.Server
	requests []*http.Request
	bodies   [][]byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		assert.NoError(t, err)
		r.requests, r.bodies = append(r.requests, request), append(r.bodies, body)
	}))
	t.Cleanup(r.Close)
	return r
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestWebhookPostsJSON(t *testing.T) {
	r := newReceiver(t)
	hook, err := notify.NewWebhook(r.URL+"/hooks/1?token=t", "", notify.JSON, map[string]string{"authorization": "Bearer b"})
	require.NoError(t, err)

	remote, err := hook.Send(t.Context(), waiting())
	require.NoError(t, err)
	assert.Empty(t, remote)
	request := r.requests[0]
	assert.Equal(t, "POST", request.Method)
	assert.Equal(t, "/hooks/1?token=t", request.RequestURI)
	assert.Equal(t, "application/json", request.Header.Get("Content-Type"))
	assert.Equal(t, "Bearer b", request.Header.Get("Authorization"))
	assert.Regexp(t, "^KubeAgents/.", request.Header.Get("User-Agent"))
	assert.Empty(t, request.Header.Get("Webhook-Signature"))
	checkPayload(t, r.bodies[0])
	assert.JSONEq(t, `{
		"type": "notification", "id": "n-12", "thread": "n-12", "change": "waits", "since": "2026-01-02T03:04:05Z",
		"session": {
			"agent_id": "payments", "agent_name": "Payments", "agent_source": "claude-code", "agent_host": "laptop",
			"session_topic": "0198c5f2", "title": "Fix the refunds", "status": "pending", "message": "Run the migration?"
		},
		"question": {"id": "q-3", "kind": "permission", "text": "Bash: make migrate", "choices": ["yes", "no"]},
		"url": "https://hub.example.com/fleet/?agent=payments&session=0198c5f2", "rule": "on-call", "sent_at": "2026-01-02T03:04:10Z"
	}`, string(r.bodies[0]))
}

func TestWebhookPostsEveryMessage(t *testing.T) {
	bare := changed(notify.Finished)
	bare.URL, bare.Session.Title, bare.Session.AgentName, bare.Session.AgentHost, bare.Session.AgentSource = "", "", "", "", ""
	hidden := waiting()
	hidden.Question.Text, hidden.Question.Choices, hidden.Session.CurrentMessage = "", nil, ""
	gone := changed(notify.Lost)
	gone.Session = &models.FleetSession{Session: models.Session{AgentID: "payments", Topic: "0198c5f2"}}
	for name, m := range map[string]*notify.Message{
		"waits": waiting(), "lost": changed(notify.Lost), "failed": changed(notify.Failed), "finished": changed(notify.Finished),
		"reminder": reminder(waiting(), 0), "without text": hidden, "without anything": bare,
		"session that is gone": gone,
		"summary":              summary(map[notify.Change]int{notify.Waits: 7, notify.Lost: 5}),
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			hook, err := notify.NewWebhook(r.URL, "", notify.JSON, nil)
			require.NoError(t, err)

			_, err = hook.Send(t.Context(), m)
			require.NoError(t, err)
			require.NoError(t, hook.Withdraw(t.Context(), m))
			require.NoError(t, hook.Withdraw(t.Context(), m))

			sent, withdrawn := checkPayload(t, r.bodies[0]), checkPayload(t, r.bodies[1])
			assert.Equal(t, m.ID, sent["id"])
			assert.Equal(t, m.Thread, sent["thread"])
			assert.Equal(t, "withdrawn", withdrawn["type"])
			assert.NotEqual(t, m.ID, withdrawn["id"])
			assert.Equal(t, m.ID, withdrawn["withdraws"])
			assert.Equal(t, sent["session"], withdrawn["session"])
			assert.Equal(t, r.bodies[1], r.bodies[2], "a repeated withdrawal is the same")
		})
	}
}

func TestWebhookCountsInSummary(t *testing.T) {
	r := newReceiver(t)
	hook, err := notify.NewWebhook(r.URL, "", notify.JSON, nil)
	require.NoError(t, err)

	_, err = hook.Send(t.Context(), summary(map[notify.Change]int{notify.Waits: 7, notify.Lost: 5}))
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"type": "summary", "id": "n-20", "thread": "n-20", "summary": {"waits": 7, "lost": 5},
		"url": "https://hub.example.com/fleet/", "rule": "on-call", "sent_at": "2026-01-02T03:04:05Z"
	}`, string(r.bodies[0]))
}

func TestWebhookIsSigned(t *testing.T) {
	for _, format := range []notify.WebhookFormat{notify.JSON, notify.CloudEvent} {
		t.Run(string(format), func(t *testing.T) {
			r := newReceiver(t)
			hook, err := notify.NewWebhook(r.URL, secret, format, nil)
			require.NoError(t, err)
			key, err := webhooks.NewWebhook(secret)
			require.NoError(t, err)

			m := waiting()
			for range 2 {
				_, err = hook.Send(t.Context(), m)
				require.NoError(t, err)
			}
			require.NoError(t, hook.Withdraw(t.Context(), m))
			wrong := waiting()
			wrong.Ahead = -time.Hour
			_, err = hook.Send(t.Context(), wrong)
			require.NoError(t, err)
			last := len(r.requests) - 1
			require.ErrorIs(t, key.Verify(r.bodies[last], r.requests[last].Header), webhooks.ErrMessageTooOld, "the clock of the machine doesn't count")
			for i, request := range r.requests[:last] {
				require.NoError(t, key.Verify(r.bodies[i], request.Header))
				require.Error(t, key.Verify(append(r.bodies[i], ' '), request.Header))
				var body struct{ ID string }
				require.NoError(t, json.Unmarshal(r.bodies[i], &body))
				assert.Equal(t, body.ID, request.Header.Get("Webhook-Id"))
			}
			assert.Equal(t, "n-12", r.requests[0].Header.Get("Webhook-Id"))
			assert.Equal(t, "n-12", r.requests[1].Header.Get("Webhook-Id"), "the message is sent again")
			assert.NotEqual(t, "n-12", r.requests[2].Header.Get("Webhook-Id"))
		})
	}
}

func TestWebhookPostsCloudEvents(t *testing.T) {
	noURL := changed(notify.Lost)
	noURL.URL = ""
	for name, test := range map[string]struct {
		message               *notify.Message
		kind, source, subject string
	}{
		"notification": {message: waiting(), kind: "dev.kubeagents.notification", source: "https://hub.example.com/fleet/", subject: "payments/0198c5f2"},
		"without URL":  {message: noURL, kind: "dev.kubeagents.notification", source: "kubeagents", subject: "payments/0198c5f2"},
		"summary":      {message: summary(map[notify.Change]int{notify.Waits: 7}), kind: "dev.kubeagents.summary", source: "https://hub.example.com/fleet/"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			hook, err := notify.NewWebhook(r.URL, "", notify.CloudEvent, nil)
			require.NoError(t, err)

			_, err = hook.Send(t.Context(), test.message)
			require.NoError(t, err)
			require.NoError(t, hook.Withdraw(t.Context(), test.message))
			for i, kind := range []string{test.kind, "dev.kubeagents.withdrawn"} {
				assert.Equal(t, "application/cloudevents+json", r.requests[i].Header.Get("Content-Type"))
				e, err := cehttp.NewEventFromHTTPResponse(&http.Response{Header: r.requests[i].Header, Body: newBody(r.bodies[i])})
				require.NoError(t, err)
				require.NoError(t, e.Validate())
				assert.Equal(t, "1.0", e.SpecVersion())
				assert.Equal(t, kind, e.Type())
				assert.Equal(t, test.source, e.Source())
				assert.Equal(t, test.subject, e.Subject())
				assert.Equal(t, test.message.SentAt, e.Time())
				assert.Equal(t, "application/json", e.DataContentType())
				assert.Equal(t, e.ID(), checkPayload(t, e.Data())["id"])
			}
		})
	}
}

func TestWebhookSettings(t *testing.T) {
	for name, test := range map[string]struct {
		address, secret string
		format          notify.WebhookFormat
		header          map[string]string
		want            string
	}{
		"no URL":             {"", "", notify.JSON, nil, "the URL of a webhook must be a URL that begins with http:// or https://"},
		"another scheme":     {"file:///s3cret", "", notify.JSON, nil, "the URL of a webhook must be a URL that begins with http:// or https://"},
		"no host":            {"https:///s3cret", "", notify.JSON, nil, "the URL of a webhook must be a URL that begins with http:// or https://"},
		"no valid URL":       {"https://a:s3cret@b/%zz", "", notify.JSON, nil, "the URL of a webhook must be a URL that begins with http:// or https://"},
		"short secret":       {"https://a/", "whsec_czNjcmV0", notify.JSON, nil, "a webhook secret must be whsec_ and the base64 of 24 to 64 bytes"},
		"unknown format":     {"https://a/", "", "xml", nil, "the format of a webhook must be json or cloudevent"},
		"no format":          {"https://a/", "", "", nil, "the format of a webhook must be json or cloudevent"},
		"header of its own":  {"https://a/", "", notify.JSON, map[string]string{"content-type": "s3cret"}, "a webhook can't have the header content-type"},
		"signature":          {"https://a/", "", notify.JSON, map[string]string{"webhook-id": "s3cret"}, "a webhook can't have the header webhook-id"},
		"host":               {"https://a/", "", notify.JSON, map[string]string{"HOST": "s3cret"}, "a webhook can't have the header HOST"},
		"header without":     {"https://a/", "", notify.JSON, map[string]string{"": "s3cret"}, "the name of a webhook's header must consist of letters, digits and hyphens"},
		"header in the name": {"https://a/", "", notify.JSON, map[string]string{"X: s3cret": ""}, "the name of a webhook's header must consist of letters, digits and hyphens"},
		"two headers in one": {"https://a/", "", notify.JSON, map[string]string{"X-Key": "s3cret\r\nHost: b"}, "the value of a webhook's header X-Key must be one line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewWebhook(test.address, test.secret, test.format, test.header)
			require.EqualError(t, err, test.want)
		})
	}
}
