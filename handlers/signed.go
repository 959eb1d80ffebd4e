package handlers

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
)

// maxWebhookID is the maximum length of a signed webhook's ID, in bytes.
const maxWebhookID = 255

// restrictToSigned makes sure that only the signed parts of a request with a valid signature have an effect: its body
// and its ID, which becomes the key of its reports. It refuses headers and parameters that are not signed and would
// change the meaning of the body. The error is a *models.Error.
func restrictToSigned(r *http.Request) error {
	id := r.Header.Get(access.WebhookID)
	if len(id) > maxWebhookID {
		return models.BadRequest(access.WebhookID, fmt.Sprintf("must be at most %d bytes", maxWebhookID))
	}
	for _, name := range []string{"X-Agent-Id", "X-Agent-Name", "X-Agent-Host", dryRunHeader, "Ce-Specversion"} {
		if strings.TrimSpace(strings.Join(r.Header[name], "")) != "" {
			return unsignedError(name)
		}
	}
	query := r.URL.Query()
	for _, name := range []string{"agent_id", "agent_name", "agent_host", "event", "ttl_minutes"} {
		if query.Get(name) != "" {
			return unsignedError(name)
		}
	}
	r.Header.Set(idempotencyKey, reportKey(id))
	return nil
}

func unsignedError(name string) error {
	return models.BadRequest(name, "is not allowed in a signed webhook, because the signature does not cover it: put it into the body, or use a token")
}

// reportKey returns the key for the reports of a webhook: its ID, or a hash of the ID if that can't be a key with an
// index appended.
func reportKey(id string) string {
	if utf8.ValidString(id) && models.ValidateName(access.WebhookID, id, true, models.MaxReportID-len("/9999")) == nil {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "wh:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// DeduplicateWebhooks makes each signed webhook take effect only once. Another request with the same ID changes nothing and gets the
// same kind of response, unless the first was refused or must be sent again.
func (h *Handler) DeduplicateWebhooks(next http.Handler) http.Handler {
	if h.Access.Signatures == nil {
		return next
	}
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		env := envelopeOf(w)
		if env.webhookID == "" {
			next.ServeHTTP(w, r)
			return nil
		}
		switch h.Access.Deliveries.Begin(env.webhookID, time.Now()) {
		case access.DeliveryInProgress:
			return models.Conflict("another request with this webhook-id is in progress: try again later")
		case access.DeliveryRefused:
			return models.Unavailable("too many signed webhooks arrived in the last minutes")
		case access.DeliveryAccepted:
			env.repeated = true
			next.ServeHTTP(w, r)
			return nil
		}
		accepted := false
		defer func() { h.Access.Deliveries.End(env.webhookID, accepted, time.Now()) }()
		next.ServeHTTP(w, r)
		accepted = env.status/100 == 2 && w.Header().Get("Retry-After") == ""
		return nil
	})
}

// take accepts the reports of a request, unless it repeats a webhook that was accepted before.
func (h *Handler) take(w http.ResponseWriter, in *intake) {
	env := envelopeOf(w)
	switch {
	case env != nil && env.repeated:
	case env != nil && env.span != nil && env.span.IsRecording():
		count, decoded, steps := len(in.reports), time.Now(), &recorder.Steps{}
		h.accept(in, grantOf(w), steps)
		traceReports(env, count, decoded, steps)
		return
	default:
		h.accept(in, grantOf(w), nil)
		return
	}
	count := metrics.Reports{}
	for i := range in.reports {
		if in.faults[i] == nil {
			in.faults[i] = in.reports[i].Validate(h.now())
		}
		if in.faults[i] == nil {
			count.Duplicate++
		} else {
			count.Invalid++
		}
	}
	h.Metrics.CountReports(count)
}
