package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/kubeagents/kubeagents/internal/access"
)

// WebhookFormat is the format of a webhook's body.
type WebhookFormat string

// The formats of a webhook's body.
const (
	// JSON is the payload alone, as application/json.
	JSON WebhookFormat = "json"

	// CloudEvent is a CloudEvent (CloudEvents 1.0, structured mode) whose data is the payload. Its type is
	// dev.kubeagents.notification, dev.kubeagents.summary or dev.kubeagents.withdrawn, its source is the dashboard's
	// URL, and its subject is the agent's ID and the session's topic.
	CloudEvent WebhookFormat = "cloudevent"
)

// webhook posts messages to a URL.
type webhook struct {
	client *http.Client
	url    *url.URL
	key    *webhooks.Webhook // nil for no signature
	format WebhookFormat
	header http.Header
}

// NewWebhook returns a Sender that posts messages to a URL as JSON, with further headers. The body is described at the
// type payload, and contains the texts of agents as they are. If secret is not "", requests are signed (Standard
// Webhooks 1.0); webhook-id is the body's ID.
//
// It takes a message back by posting a payload of the type "withdrawn". The error contains neither the URL, nor the
// secret, nor the headers' values.
func NewWebhook(address, secret string, format WebhookFormat, header map[string]string) (Sender, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("the URL of a webhook %w", err)
	}
	w := &webhook{client: httpClient, url: u, format: format, header: http.Header{}}
	if secret != "" {
		if w.key, err = access.ParseWebhookSecret(secret); err != nil {
			return nil, err
		}
	}
	if format != JSON && format != CloudEvent {
		return nil, fmt.Errorf("the format of a webhook must be %s or %s", JSON, CloudEvent)
	}
	for name, value := range header {
		if err := checkHeader(name, value); err != nil {
			return nil, err
		}
		w.header.Set(name, value)
	}
	return w, nil
}

// Send implements [Sender].
func (w *webhook) Send(ctx context.Context, m *Message) (string, error) {
	return "", w.post(ctx, payloadOf(m), m.now())
}

// Withdraw implements [Sender].
func (w *webhook) Withdraw(ctx context.Context, m *Message) error {
	return w.post(ctx, withdrawalOf(m), m.now())
}

func (w *webhook) post(ctx context.Context, p *payload, now time.Time) error {
	body, contentType, err := w.encode(p)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	r, err := newRequest(ctx, http.MethodPost, w.url, body)
	if err != nil {
		return err
	}
	for name, values := range w.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", contentType)
	if err := w.sign(r.Header, p.ID, body, now); err != nil {
		return err
	}
	return Exchange(w.client, r)
}

func (w *webhook) encode(p *payload) (body []byte, contentType string, err error) {
	if w.format == JSON {
		body, err = p.encode()
		return body, "application/json", err
	}
	body, err = cloudEventOf(p)
	return body, event.ApplicationCloudEventsJSON, err
}

// sign adds the headers of Standard Webhooks. A receiver rejects a signature that is too old, so each attempt has its
// own time.
func (w *webhook) sign(header http.Header, id string, body []byte, now time.Time) error {
	if w.key == nil {
		return nil
	}
	signature, err := w.key.Sign(id, now, body)
	if err != nil {
		return errors.New("the message can't be signed")
	}
	header.Set(webhooks.HeaderWebhookID, id)
	header.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(webhooks.HeaderWebhookSignature, signature)
	return nil
}

func cloudEventOf(p *payload) ([]byte, error) {
	data, err := p.encode()
	if err != nil {
		return nil, err
	}
	e := event.New(event.CloudEventsVersionV1)
	e.SetID(p.ID)
	e.SetType("dev.kubeagents." + p.Type)
	e.SetSource(sourceOf(p.URL))
	e.SetTime(p.SentAt)
	if p.Session != nil {
		e.SetSubject(p.Session.AgentID + "/" + p.Session.Topic)
	}
	if err := e.SetData(event.ApplicationJSON, data); err != nil {
		return nil, err
	}
	return e.MarshalJSON()
}

// sourceOf returns the dashboard's URL, from that of one of its pages.
func sourceOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return "kubeagents"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// ownHeaders are the headers that a webhook sets itself, or that belong to the connection.
var ownHeaders = map[string]bool{
	"Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Host": true,
	"Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Webhook-Id": true, "Webhook-Signature": true, "Webhook-Timestamp": true,
}

// checkHeader returns an error if a webhook can't have this header.
func checkHeader(name, value string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
		return errors.New("the name of a webhook's header must consist of letters, digits and hyphens")
	}
	if ownHeaders[http.CanonicalHeaderKey(name)] {
		return fmt.Errorf("a webhook can't have the header %s", name)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fmt.Errorf("the value of a webhook's header %s must be one line", name)
	}
	return nil
}

// isToken reports whether a header's name may contain r (RFC 9110, section 5.6.2).
func isToken(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	return letter || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
