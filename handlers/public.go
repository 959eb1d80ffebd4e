package handlers

import (
	"context"
	"net/http"
	"path"
	"strings"
)

// prefix returns the path of PUBLIC_URL without a trailing slash, "" if it has none.
func (h *Handler) prefix() string {
	if h.PublicURL == nil {
		return ""
	}
	return h.PublicURL.Path
}

type prefixedKey struct{}

// UnderPrefix serves every path both with and without the path of PUBLIC_URL as its prefix, since some proxies strip the prefix and some
// don't.
func (h *Handler) UnderPrefix(next http.Handler) http.Handler {
	prefix := h.prefix()
	if prefix == "" {
		return next
	}
	within := http.StripPrefix(prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix+"/") {
			within.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), prefixedKey{}, true)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Prefix redirects from the path of PUBLIC_URL to the same path with a trailing slash, which the page's relative links depend on.
func (h *Handler) Prefix(w http.ResponseWriter, r *http.Request) error {
	location := path.Base(r.URL.Path) + "/"
	if query := viewOf(r.URL.RawQuery); query != "" {
		location += "?" + query
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusPermanentRedirect)
	return nil
}

// underPrefix reports whether the browser made the request under the path of PUBLIC_URL, even if a proxy stripped that path.
func (h *Handler) underPrefix(r *http.Request) bool {
	return r.Context().Value(prefixedKey{}) != nil || h.atPublicHost(r)
}

// atPublicHost reports whether the browser made the request to the host of PUBLIC_URL, as far as a proxy passes that on.
func (h *Handler) atPublicHost(r *http.Request) bool {
	if h.PublicURL == nil {
		return false
	}
	return strings.EqualFold(r.Host, h.PublicURL.Host) ||
		h.viaProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Host"), h.PublicURL.Host)
}
