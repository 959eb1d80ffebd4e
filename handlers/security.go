package handlers

import (
	"net/http"

	"github.com/kubeagents/kubeagents/models"
)

// Headers that every answer has; they are never changed. Pages set a policy of their own.
var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	denyFrames = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	twoYears   = []string{"max-age=63072000"}
)

// setSecurity sets the headers that keep a browser from doing more with an answer than to show it.
func setSecurity(header http.Header, encrypted bool) {
	header["X-Content-Type-Options"] = noSniff
	header["Referrer-Policy"] = noReferrer
	header["X-Frame-Options"] = denyFrames
	header["Content-Security-Policy"] = noContent
	if encrypted {
		header["Strict-Transport-Security"] = twoYears
	}
}

// sameOrigin lets no page of another origin change anything.
var sameOrigin = http.NewCrossOriginProtection()

// SameOrigin refuses requests that a browser sends for a page of another origin.
func (h *Handler) SameOrigin(next http.Handler) http.Handler {
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		if err := sameOrigin.Check(r); err != nil {
			return models.Forbidden("a page of another origin must not do this")
		}
		return nil
	})
}
