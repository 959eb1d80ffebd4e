package handlers

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"
)

// routed returns the agent_id that the router extracts from a path.
func routed(t *testing.T, path string) (id string) {
	t.Helper()
	r := chi.NewRouter()
	r.Use(EncodedPath)
	r.Get("/api/agents/{agent_id}", func(_ http.ResponseWriter, r *http.Request) { id = pathParam(r, "agent_id") })
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	require.Equal(t, http.StatusOK, w.Code, path)
	return id
}

func TestIfNoneMatch(t *testing.T) {
	for _, test := range []struct {
		values []string
		want   bool
	}{
		{nil, false},
		{[]string{`"x"`}, false},
		{[]string{`"e"`}, true},
		{[]string{`W/"e"`}, true},
		{[]string{`"x", "e"`}, true},
		{[]string{`"x"`, `"e"`}, true},
		{[]string{"*"}, true},
		{[]string{"e"}, false},
	} {
		require.Equal(t, test.want, matches(test.values, `"e"`), test.values)
	}
}

func TestTextLengthIsLimited(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "äöü": true, "äöüß": false} {
		p := newParams(httptest.NewRequest(http.MethodGet, "/?search="+url.QueryEscape(text), nil))
		require.Equal(t, text, p.text("search", 3))
		require.Equal(t, ok, p.err == nil, "%q: %v", text, p.err)
	}
}
