package handlers

import (
	"net/http"
	"net/url"

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

// setPersonal says that an answer depends on who asks: no cache that others share may keep it, and none at all unless the endpoint says so
// (RFC 9111, section 5.2.2).
func setPersonal(header http.Header) {
	header["Cache-Control"] = noStore
	header.Add("Vary", "Authorization, Cookie")
}

// ownOrigin tells requests of the server's own pages from those of other origins. That its name is its own, [Handler.OwnHosts] sees to.
func ownOrigin(public *url.URL) *http.CrossOriginProtection {
	own := http.NewCrossOriginProtection()
	if public != nil { // whose host a proxy may not pass on
		if err := own.AddTrustedOrigin(public.Scheme + "://" + public.Host); err != nil {
			panic("PUBLIC_URL: " + err.Error()) // it was checked
		}
	}
	return own
}

// SameOrigin refuses requests that a browser sends for a page of another origin.
func (h *Handler) SameOrigin(next http.Handler) http.Handler {
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		if err := h.sameOrigin.Check(r); err != nil {
			return models.Forbidden("pages of other origins may not do this")
		}
		return nil
	})
}

// OwnPages is SameOrigin, but lets through those of the origins that CORS_ALLOWED_ORIGINS names as well.
func (h *Handler) OwnPages(next http.Handler) http.Handler {
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		named := h.Access.Origins != nil && h.Access.Origins(r.Header.Get("Origin"))
		if !named && h.sameOrigin.Check(r) != nil {
			return models.Forbidden("pages of this origin may not call tools here: name the origin in CORS_ALLOWED_ORIGINS")
		}
		return nil
	})
}
