package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// observed returns a router with some endpoints behind Observe, and its log at the given level.
func observed(level slog.Level) (http.Handler, *bytes.Buffer) {
	var log bytes.Buffer
	h := newHandler(10, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: level})))
	r := chi.NewRouter()
	r.Use(h.Observe)
	r.NotFound(h.Handle(h.NotFound))
	r.Get("/fine", h.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		writeJSON(w, http.StatusOK, 1)
		return nil
	}))
	r.Get("/broken", h.Handle(func(http.ResponseWriter, *http.Request) error { return errors.New("password of the disk is 1234") }))
	r.Get("/panic", h.Handle(func(http.ResponseWriter, *http.Request) error { panic("index 7 out of range") }))
	r.Get("/late-panic", h.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		panic("too late")
	}))
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	return r, &log
}

func ask(h http.Handler, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("X-Request-Id", "id-1")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestInternalErrorsAreOnlyLogged(t *testing.T) {
	for target, cause := range map[string]string{"/broken": "password of the disk is 1234", "/panic": "index 7 out of range"} {
		h, log := observed(slog.LevelInfo)
		w := ask(h, target)
		require.Equal(t, http.StatusInternalServerError, w.Code)
		var e models.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.Equal(t, models.CodeInternal, e.Code)
		require.NotContains(t, w.Body.String(), cause)
		require.NotContains(t, w.Body.String(), "goroutine")
		require.Equal(t, "id-1", w.Header().Get("X-Request-Id"))

		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line: %s", log)
		require.Equal(t, "ERROR", line["level"])
		require.Equal(t, "id-1", line["request_id"])
		require.Contains(t, line["error"], cause)
	}
}

func TestPanicHalfwayAbortsTheConnection(t *testing.T) {
	h, log := observed(slog.LevelInfo)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(h, "/late-panic") })
	require.Contains(t, log.String(), "too late")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(h, "/abort") })
}

func TestRequestsAreLoggedByOutcome(t *testing.T) {
	h, log := observed(slog.LevelDebug)
	ask(h, "/fine?token=secret")
	ask(h, "/nowhere?token=secret")
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 2)
	for i, want := range []string{`"level":"DEBUG"`, `"level":"WARN"`} {
		require.Contains(t, lines[i], want)
		require.Contains(t, lines[i], `"request_id":"id-1"`)
		require.Contains(t, lines[i], `"method":"GET"`)
	}
	require.Contains(t, lines[0], `"path":"/fine","status":200,"bytes":2`)
	require.NotContains(t, log.String(), "secret")

	h, log = observed(slog.LevelInfo)
	ask(h, "/fine")
	require.Empty(t, log.String(), "successful requests are logged at debug level")
}

func TestRequestIDsDiffer(t *testing.T) {
	ids := newRequestIDs()
	seen := map[string]bool{}
	for range 1000 {
		seen[ids.of(httptest.NewRequest(http.MethodGet, "/", nil))] = true
	}
	require.Len(t, seen, 1000)
}
