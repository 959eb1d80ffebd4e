package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestClientGoneIsNotAServerError checks that a request whose client went away is not logged as a failure of the
// server.
func TestClientGoneIsNotAServerError(t *testing.T) {
	for level, logged := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var log bytes.Buffer
		h := &Handler{Options: Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}}
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/sessions", nil)
		cancel()
		w := httptest.NewRecorder()
		env := &envelope{ResponseWriter: w}
		h.fail(env, r, fmt.Errorf("search: %w", context.Canceled))
		h.log(r, env, 0)
		require.Equal(t, statusClientGone, env.status)
		require.Empty(t, w.Body.String())
		require.Empty(t, w.Header().Get("Retry-After"))
		if logged {
			require.Contains(t, log.String(), "level=DEBUG msg=request")
			require.Contains(t, log.String(), "status=499")
		} else {
			require.Empty(t, log.String())
		}
	}
	h := &Handler{}
	w := httptest.NewRecorder()
	h.fail(&envelope{ResponseWriter: w}, httptest.NewRequest("GET", "/", nil), errors.New("broken"))
	require.Equal(t, 500, w.Code, "an error while the client is still waiting is a server error")
}
