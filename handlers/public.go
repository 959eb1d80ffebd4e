package handlers

import (
	"context"
	"net/http"
	"path"
	"strings"
)

// prefix returns the path of PUBLIC_URL, without a slash at the end; "" where it has none.
func (h *Handler) prefix() string {
	if h.PublicURL == nil {
		return ""
	}
	return h.PublicURL.Path
}

type prefixedKey struct{}

// UnderPrefix serves what is asked for under the path of PUBLIC_URL as what is asked for without it, since some proxies take it off and some
// do not.
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

// Prefix sends a browser from the path of PUBLIC_URL itself to that with a slash at the end, on which the page's links rest.
func (h *Handler) Prefix(w http.ResponseWriter, r *http.Request) error {
	location := path.Base(r.URL.Path) + "/"
	if query := viewOf(r.URL.RawQuery); query != "" {
		location += "?" + query
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusPermanentRedirect)
	return nil
}

// underPrefix reports whether a browser has the answer under the path of PUBLIC_URL, be it by way of a proxy that took that off.
func (h *Handler) underPrefix(r *http.Request) bool {
	return r.Context().Value(prefixedKey{}) != nil || h.atPublicHost(r)
}

// atPublicHost reports whether a browser asks at the host of PUBLIC_URL, as far as a proxy passes that on.
func (h *Handler) atPublicHost(r *http.Request) bool {
	if h.PublicURL == nil {
		return false
	}
	return strings.EqualFold(r.Host, h.PublicURL.Host) ||
		h.viaProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Host"), h.PublicURL.Host)
}
