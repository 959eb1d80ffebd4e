package handlers

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// deadlineRecorder is a ResponseRecorder that records deadlines.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

// SetReadDeadline is called by [http.ResponseController].
func (d *deadlineRecorder) SetReadDeadline(at time.Time) error {
	d.read = at
	return nil
}

// SetWriteDeadline is called by [http.ResponseController].
func (d *deadlineRecorder) SetWriteDeadline(at time.Time) error {
	d.write = at
	return nil
}

// TestDeadlinesOfSignedRequests checks that a signed webhook with an invalid signature has the deadlines of a stranger,
// and one with a valid signature those of an identified client.
func TestDeadlinesOfSignedRequests(t *testing.T) {
	const secret, body = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", `{"agent_id":"a","session_topic":"t","status":"running"}`
	signatures, err := access.NewSignatures(secret, access.Limits{})
	require.NoError(t, err)
	key, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for _, good := range []bool{false, true} {
		st := store.New(store.Options{EventWindow: 1})
		h := New(Options{Store: st, Metrics: metrics.New(st, "test"), Access: Access{Signatures: signatures, Deliveries: &access.Deliveries{}}})
		now := time.Now()
		signature, err := key.Sign("msg_1", now, []byte(body))
		require.NoError(t, err)
		r := httptest.NewRequest(http.MethodPost, "/webhook/status", strings.NewReader(body))
		for name, value := range map[string]string{"webhook-id": "msg_1", "webhook-timestamp": strconv.FormatInt(now.Unix(), 10), "webhook-signature": signature} {
			r.Header.Set(name, value)
		}
		if !good {
			r.Header.Set("webhook-signature", "v1,AAAA")
		}
		w := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		grant, err := h.checkSignature(w, r)
		require.Equal(t, good, err == nil, "%v", err)
		require.Equal(t, good, grant != nil)
		read, write := strangerTimeout, strangerTimeout
		if good {
			read, write = identifiedTimeout, 2*identifiedTimeout
		}
		require.WithinDuration(t, now.Add(read), w.read, 5*time.Second)
		require.WithinDuration(t, now.Add(write), w.write, 5*time.Second)
		require.Zero(t, h.strangers.count(), "it no longer counts as a stranger")
	}
}

// TestStrangersAreLimitedByAddress checks that a stranger that exceeds its rate limit does not affect another.
func TestStrangersAreLimitedByAddress(t *testing.T) {
	st := store.New(store.Options{EventWindow: 1})
	h := New(Options{Store: st, Metrics: metrics.New(st, "test"), Access: Access{Limits: access.NewRateLimiter(access.Limits{Reads: 1})}})
	ask := func(address string) error {
		r := httptest.NewRequest(http.MethodPost, "/sign-in", nil)
		r.RemoteAddr = address
		return h.countStranger(&envelope{ResponseWriter: httptest.NewRecorder()}, r)
	}
	var refused error
	for range 1000 {
		if refused = ask("192.0.2.1:1"); refused != nil {
			break
		}
	}
	require.ErrorContains(t, refused, "more than 1 requests per second")
	require.NoError(t, ask("192.0.2.2:1"))
}
