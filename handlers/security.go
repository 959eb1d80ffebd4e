package handlers

import (
	"net/http"
	"net/url"

	"github.com/kubeagents/kubeagents/models"
)

// Header values of every response. They must not be modified. Pages set their own Content-Security-Policy.
var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	denyFrames = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	twoYears   = []string{"max-age=63072000"}
)

// setSecurity sets the security headers, which keep a browser from doing anything with a response but displaying it.
func setSecurity(header http.Header, encrypted bool) {
	header["X-Content-Type-Options"] = noSniff
	header["Referrer-Policy"] = noReferrer
	header["X-Frame-Options"] = denyFrames
	header["Content-Security-Policy"] = noContent
	if encrypted {
		header["Strict-Transport-Security"] = twoYears
	}
}

// setPersonal marks a response as dependent on the client. Shared caches must not store it, and no cache may unless the
// endpoint allows it (RFC 9111, section 5.2.2).
func setPersonal(header http.Header) {
	header["Cache-Control"] = noStore
	header.Add("Vary", "Authorization, Cookie")
}

// ownOrigin returns the protection against requests from pages of other origins. [Handler.CheckHost] checks that the
// host name is the server's own.
func ownOrigin(public *url.URL) *http.CrossOriginProtection {
	own := http.NewCrossOriginProtection()
	if public != nil { // a proxy may not pass its host on
		if err := own.AddTrustedOrigin(public.Scheme + "://" + public.Host); err != nil {
			panic("PUBLIC_URL: " + err.Error()) // can't happen: validated by config
		}
	}
	return own
}

// SameOrigin refuses requests that a browser sends from a page of another origin.
func (h *Handler) SameOrigin(next http.Handler) http.Handler {
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		if err := h.sameOrigin.Check(r); err != nil {
			return models.Forbidden("pages of other origins may not do this")
		}
		return nil
	})
}

// CheckOrigin is like SameOrigin, but also allows the origins that CORS_ALLOWED_ORIGINS names.
func (h *Handler) CheckOrigin(next http.Handler) http.Handler {
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		named := h.Access.Origins != nil && h.Access.Origins(r.Header.Get("Origin"))
		if !named && h.sameOrigin.Check(r) != nil {
			return models.Forbidden("pages of this origin may not call tools here: name the origin in CORS_ALLOWED_ORIGINS")
		}
		return nil
	})
}
