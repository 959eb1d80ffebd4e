package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The headers of a signed webhook (Standard Webhooks 1.0).
const (
	WebhookID        = webhooks.HeaderWebhookID
	webhookSignature = webhooks.HeaderWebhookSignature
)

// signatureTolerance is how far in the past or future a signature may be dated.
const signatureTolerance = 5 * time.Minute

// Signatures checks the signatures of webhooks.
type Signatures struct {
	keys  []*webhooks.Webhook
	grant *Grant
}

// The minimum and maximum length of a secret in bytes, from Standard Webhooks.
const (
	minSecret = 24
	maxSecret = 64
)

// NewSignatures returns Signatures that accept webhooks signed with one of secrets, which are separated by commas. The
// error says what a secret must look like, and never contains it.
func NewSignatures(secrets string, limits Limits) (*Signatures, error) {
	s := &Signatures{grant: &Grant{name: "webhook signature", scopes: Report, ended: context.Background(), reports: limits.Reports.limiter()}}
	for secret := range strings.SplitSeq(secrets, ",") {
		key, err := ParseWebhookSecret(secret)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// ParseWebhookSecret returns the key that a secret of Standard Webhooks stands for. The error says what a secret must
// look like, and never contains it.
func ParseWebhookSecret(secret string) (*webhooks.Webhook, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(secret), "whsec_"))
	if err != nil || len(raw) < minSecret || len(raw) > maxSecret {
		return nil, fmt.Errorf("a webhook secret must be whsec_ and the base64 of %d to %d bytes", minSecret, maxSecret)
	}
	key, err := webhooks.NewWebhookRaw(raw)
	if err != nil {
		return nil, errors.New("a webhook secret can't be used")
	}
	return key, nil
}

// Signed reports whether a request has a signature, valid or not.
func Signed(header http.Header) bool { return header.Get(webhookSignature) != "" }

// Grant returns what a signed request with this body may do, or an error that says what is wrong with its signature.
func (s *Signatures) Grant(body []byte, header http.Header) (*Grant, error) {
	var err error
	for _, key := range s.keys {
		if err = key.Verify(body, header); err == nil {
			return s.grant, nil
		}
	}
	for _, known := range []error{webhooks.ErrRequiredHeaders, webhooks.ErrMessageTooOld, webhooks.ErrMessageTooNew, webhooks.ErrNoMatchingSignature} {
		if errors.Is(err, known) {
			return nil, known
		}
	}
	return nil, webhooks.ErrInvalidHeaders
}
