package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/version"
)

const (
	// recordSize is the length of each request's body, in bytes. Payloads are padded to it, so that their length tells
	// nothing. Push services must take 4,096 bytes (RFC 8030, section 7.2), but that of Mozilla takes only 3,070 for
	// Firefox on Android.
	recordSize = 2816

	// maxPayload is the maximum length of a payload, in bytes: without the header of the record, with its 16 bytes of
	// salt, 4 of size, 1 of length and 65 of key, without the 16 bytes of the tag, and without the delimiter (RFC 8188).
	maxPayload = recordSize - 86 - 16 - 1

	// keepImportant and keepOther are how long the push service keeps a notification for a browser that is not
	// connected.
	keepImportant = 24 * time.Hour
	keepOther     = 4 * time.Hour
)

// sender sends messages to a browser.
type sender struct {
	client       *http.Client
	keys         func() *Keys // returns nil while they are not known
	subject      string
	subscription Subscription
}

// NewSender returns a Sender that shows messages in a browser. keys returns the server's keys, nil while they are not
// known. subject is a mailto: or https: URL of whoever runs the server, which push services may turn to. The
// subscription must have passed [Subscription.Check]. client should be one of [NewClient].
//
// A message replaces those of the same thread, in the browser and at the push service. A withdrawn one is replaced by
// one that says so, which the browser removes after a few seconds. The error names the push service's host, and
// contains nothing else of the subscription.
func NewSender(keys func() *Keys, subject string, subscription Subscription, client *http.Client) notify.Sender {
	return &sender{client: client, keys: keys, subject: subject, subscription: subscription}
}

// Send implements [notify.Sender].
func (s *sender) Send(ctx context.Context, m *notify.Message) (string, error) {
	return "", s.push(ctx, m, payloadOf(m))
}

// Withdraw implements [notify.Sender].
func (s *sender) Withdraw(ctx context.Context, m *notify.Message) error {
	return s.push(ctx, m, withdrawalOf(m))
}

func (s *sender) push(ctx context.Context, m *notify.Message, p *payload) error {
	body, err := p.encode(maxPayload)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	options := &webpush.Options{Topic: topicOf(m), TTL: int(keepImportant.Seconds()), Urgency: webpush.UrgencyNormal}
	if important, urgent := weigh(m); urgent && !p.Withdrawn {
		options.Urgency = webpush.UrgencyHigh
	} else if !important {
		options.TTL = int(keepOther.Seconds())
	}
	r, err := s.request(ctx, body, options)
	if err != nil {
		return err
	}
	err = notify.Exchange(s.client, r)
	if status := notify.StatusOf(err); status == http.StatusNotFound || status == http.StatusGone {
		return fmt.Errorf("%s: %w", err, notify.ErrGone)
	}
	return err
}

// weigh reports whether a message is about something that needs a person, and whether it should reach them even if their
// phone saves power.
func weigh(m *notify.Message) (important, urgent bool) {
	if m.Summary != nil {
		urgent = m.Summary[notify.Waits] > 0
		return urgent || m.Summary[notify.Lost]+m.Summary[notify.Failed] > 0, urgent
	}
	return m.Change != notify.Finished, m.Change == notify.Waits
}

// request returns the request that pushes a payload, encrypted and signed.
func (s *sender) request(ctx context.Context, payload []byte, options *webpush.Options) (*http.Request, error) {
	keys := s.keys()
	if keys == nil {
		return nil, errors.New("the keys of Web Push are not known yet")
	}
	var taken requestTaker
	options.HTTPClient, options.RecordSize = &taken, recordSize
	options.Subscriber = strings.TrimPrefix(s.subject, "mailto:") // which the library adds
	options.VAPIDPublicKey, options.VAPIDPrivateKey = keys.Public(), keys.text()
	subscription := &webpush.Subscription{
		Endpoint: s.subscription.Endpoint, Keys: webpush.Keys{P256dh: s.subscription.P256dh, Auth: s.subscription.Auth},
	}
	webpush.SendNotificationWithContext(ctx, payload, subscription, options) //nolint:errcheck,bodyclose // it sends nothing
	if taken.request == nil {
		return nil, fmt.Errorf("the message can't be encrypted for this subscription: %w", notify.ErrRefused)
	}
	taken.request.Header.Set("User-Agent", "KubeAgents/"+version.String())
	return taken.request, nil
}

// requestTaker is an HTTP client that keeps the library's request instead of sending it.
type requestTaker struct{ request *http.Request }

// Do implements [webpush.HTTPClient].
func (t *requestTaker) Do(r *http.Request) (*http.Response, error) {
	t.request = r
	return nil, errors.New("not sent")
}
