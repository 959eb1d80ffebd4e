package handlers

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/recorder"
)

// TestErrorsOfTheStream checks what clients read while the stream is unavailable: whether something was stored, why not,
// and whether they may send it again.
func TestErrorsOfTheStream(t *testing.T) {
	h := &Handler{Options: Options{Logger: slog.New(slog.DiscardHandler)}}
	const cause, again = "NATS can't be reached", "it is not known whether this was stored, because the stream is unavailable: NATS can't be reached. " +
		"Send it again with the same report_id or Idempotency-Key, and it counts once"
	for _, test := range []struct {
		unknown      bool
		report, rest string
	}{
		{false, "nothing of this request was stored, because the stream is unavailable: NATS can't be reached", "the stream is unavailable: NATS can't be reached"},
		{true, again, again},
	} {
		err := errors.Join(&recorder.Unavailable{Cause: cause, Unknown: test.unknown})
		require.Equal(t, test.report, recordingError(err).Message)
		require.EqualError(t, h.callerError(err), test.rest)
		w := httptest.NewRecorder()
		h.fail(w, httptest.NewRequest(http.MethodDelete, "/api/agents/a", nil), err)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, retryAfter, w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), test.rest)
	}
}
