package handlers

import (
	"net/http"
	"net/http/pprof"

	"github.com/go-chi/chi/v5"
)

// Profile serves the profiles of net/http/pprof: GET /debug/pprof/*. They are not available without tokens, because
// then nobody has the required scope.
func (h *Handler) Profile(w http.ResponseWriter, r *http.Request) error {
	if h.Access.Tokens == nil {
		return h.NotFound(w, r)
	}
	w.Header()["Cache-Control"] = noStore
	switch name := chi.URLParam(r, "*"); name {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	case "":
		pprof.Index(w, r)
	default:
		pprof.Handler(name).ServeHTTP(w, r)
	}
	return nil
}
