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
	"github.com/kubeagents/kubeagents/models"
)

// maxWebhookID is how long the ID of a signed webhook may be, in bytes.
const maxWebhookID = 255

// signedAlone reduces a request whose signature holds to what is signed: its body and its ID, which serves as the key of its reports. It
// refuses what would give the body another meaning and is not signed. The error is a *models.Error.
func signedAlone(r *http.Request) error {
	id := r.Header.Get(access.WebhookID)
	if len(id) > maxWebhookID {
		return models.BadRequest(access.WebhookID, fmt.Sprintf("must be at most %d bytes", maxWebhookID))
	}
	for _, name := range []string{"X-Agent-Id", "X-Agent-Name", "X-Agent-Host", "Ce-Specversion"} {
		if strings.TrimSpace(strings.Join(r.Header[name], "")) != "" {
			return unsigned(name)
		}
	}
	query := r.URL.Query()
	for _, name := range []string{"agent_id", "agent_name", "agent_host", "event", "ttl_minutes"} {
		if query.Get(name) != "" {
			return unsigned(name)
		}
	}
	r.Header.Set(idempotencyKey, reportKey(id))
	return nil
}

func unsigned(name string) error {
	return models.BadRequest(name, "is not allowed in a signed webhook, because the signature does not cover it: put it into the body, or use a token")
}

// reportKey returns the key of the reports of a webhook: its ID, or a hash of one that can't be a key, with the place of a report behind it.
func reportKey(id string) string {
	if utf8.ValidString(id) && models.ValidateName(access.WebhookID, id, true, models.MaxReportID-len("/9999")) == nil {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "wh:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Once has a signed webhook take effect once: another request with its ID changes nothing, and is answered as if it had, unless the first
// was refused or is to be sent again.
func (h *Handler) Once(next http.Handler) http.Handler {
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
		case access.DeliveryBegun:
			return models.Conflict("another request with this webhook-id is being answered: send it again")
		case access.DeliveryRefused:
			return models.Unavailable("too many signed webhooks arrived in the last minutes")
		case access.DeliveryTaken:
			env.repeated = true
			next.ServeHTTP(w, r)
			return nil
		}
		taken := false
		defer func() { h.Access.Deliveries.End(env.webhookID, taken, time.Now()) }()
		next.ServeHTTP(w, r)
		taken = env.status/100 == 2 && w.Header().Get("Retry-After") == ""
		return nil
	})
}

// take has the reports of a request recorded as accept does, unless it repeats a webhook that was taken.
func (h *Handler) take(w http.ResponseWriter, in *intake) {
	if env := envelopeOf(w); env == nil || !env.repeated {
		h.accept(in, grantOf(w))
		return
	}
	count := metrics.Reports{}
	for i := range in.reports {
		if in.faults[i] == nil {
			in.faults[i] = in.reports[i].Validate(time.Now())
		}
		if in.faults[i] == nil {
			count.Duplicate++
		} else {
			count.Invalid++
		}
	}
	h.Metrics.CountReports(count)
}
