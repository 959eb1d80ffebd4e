package handlers

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// newGuarded returns a handler with one token, and the token.
func newGuarded(t testing.TB) (h *Handler, token string) {
	st := store.New(store.Options{EventWindow: 1})
	keyring := access.NewKeyring(st, access.Limits{})
	token, entry := access.NewToken("x")
	entry.Scopes = []string{"report", "read"}
	_, err := keyring.Load([]byte(entry.String()))
	require.NoError(t, err)
	return New(Options{Store: st, Metrics: metrics.New(st, "test"), Logger: slog.New(slog.DiscardHandler),
		Access: Access{Tokens: keyring, SignIns: access.NewSignIns()}}), token
}

// admits reports whether h admits a request that needs scope.
func admits(h *Handler, scope access.Scope, r *http.Request) bool {
	in := false
	router := chi.NewRouter()
	router.Use(h.Observe)
	router.With(h.Require(scope)).HandleFunc("/", func(http.ResponseWriter, *http.Request) { in = true })
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	if !in && w.Code != http.StatusUnauthorized && w.Code != http.StatusBadRequest {
		panic(w.Body.String())
	}
	return in
}

// FuzzAuthorization checks that a request is admitted only if its Authorization header is the scheme and the token.
func FuzzAuthorization(f *testing.F) {
	h, token := newGuarded(f)
	for _, seed := range []string{"", "Bearer", "Bearer ", "bearer TOKEN", "Bearer TOKEN", "Bearer  TOKEN ", "Basic TOKEN", "Bearer TOKEN,TOKEN", "Bearer\tTOKEN", "BEARER TOKENTOKEN", "Bearer \x00TOKEN", "TOKEN"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		header = strings.ReplaceAll(header, "TOKEN", token)
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header["Authorization"] = []string{header}
		scheme, rest, _ := strings.Cut(header, " ")
		want := strings.EqualFold(scheme, "bearer") && strings.TrimSpace(rest) == token
		for _, scope := range []access.Scope{access.Report, access.Read} {
			require.Equal(t, want, admits(h, scope, r), "%q", header)
		}
	})
}

// FuzzCookies checks that a request is admitted only if its cookies contain the secret of a sign-in, and then only to
// read.
func FuzzCookies(f *testing.F) {
	h, token := newGuarded(f)
	grant, err := h.Access.Tokens.Grant(token)
	require.NoError(f, err)
	secret := h.Access.SignIns.Add(grant)
	for _, seed := range []string{"", "kubeagents=SECRET", "__Host-kubeagents=SECRET", "a=b; kubeagents=SECRET", "kubeagents=x; kubeagents=SECRET", "kubeagents=SECRET2", "kubeagents==SECRET", `kubeagents="SECRET"`, "KUBEAGENTS=SECRET", ";;;=", "kubeagents", "theme=SECRET"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		header = strings.ReplaceAll(header, "SECRET", secret)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", header)
		if admits(h, access.Read, r) {
			require.Contains(t, header, secret)
		}
		require.False(t, admits(h, access.Report, r), "%q", header)
		r.Method = http.MethodPost
		require.False(t, admits(h, access.Read, r), "%q", header)
	})
	require.NotNil(f, h.Access.SignIns.Grant(secret))
}
