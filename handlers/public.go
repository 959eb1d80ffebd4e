package handlers

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// reached says under which path a client reached the server.
type reached struct {
	prefix string // without a trailing slash
	bare   bool   // the request was for the prefix itself, without a trailing slash
}

type reachedKey struct{}

// StripPrefix serves every path both with and without a prefix, since some proxies strip the prefix and some don't. The
// prefix is the one in X-Forwarded-Prefix of a trusted proxy, or the path of PUBLIC_URL.
func (h *Handler) StripPrefix(next http.Handler) http.Handler {
	own := h.publicPath()
	if own == "" && len(h.Access.Proxies) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forwarded, _ := h.forwardedPrefix(r) // Connect refuses one that is malformed
		for _, prefix := range []string{forwarded, own} {
			rest, found := strings.CutPrefix(r.URL.EscapedPath(), prefix)
			switch {
			case prefix == "" || !found:
			case rest == "":
				r = r.WithContext(context.WithValue(r.Context(), reachedKey{}, reached{prefix, true}))
				r.URL = &url.URL{Path: "/", RawQuery: r.URL.RawQuery}
				next.ServeHTTP(w, r)
				return
			case rest[0] == '/':
				r = r.WithContext(context.WithValue(r.Context(), reachedKey{}, reached{prefix, false}))
				http.StripPrefix(prefix, next).ServeHTTP(w, r)
				return
			}
		}
		if forwarded != "" {
			r = r.WithContext(context.WithValue(r.Context(), reachedKey{}, reached{forwarded, false}))
		}
		next.ServeHTTP(w, r)
	})
}

// publicPath returns the path of PUBLIC_URL without a trailing slash, "" if it has none.
func (h *Handler) publicPath() string {
	if h.PublicURL == nil {
		return ""
	}
	return h.PublicURL.Path
}

// forwardedPrefix returns the path that trusted proxies stripped from the request, without a trailing slash. Each proxy
// in a chain adds what it stripped, so the values are joined.
func (h *Handler) forwardedPrefix(r *http.Request) (prefix string, err error) {
	values := r.Header.Values("X-Forwarded-Prefix")
	if len(values) == 0 || !h.viaProxy(r) {
		return "", nil
	}
	for value := range strings.SplitSeq(strings.Join(values, ","), ",") {
		part, err := access.ParsePathPrefix(strings.TrimSpace(value))
		if err != nil {
			return "", models.BadRequest("X-Forwarded-Prefix", "must be a path such as /kubeagents")
		}
		prefix += part
	}
	return prefix, nil
}

// prefix returns the path under which the client reaches the server, without a trailing slash, "" for the root of its
// host.
func (h *Handler) prefix(r *http.Request) string {
	if at, ok := r.Context().Value(reachedKey{}).(reached); ok {
		return at.prefix
	}
	return h.publicPath()
}

// atPrefix reports whether the browser made the request under [Handler.prefix], even if a proxy stripped that path.
func (h *Handler) atPrefix(r *http.Request) bool {
	return r.Context().Value(reachedKey{}) != nil || h.atPublicHost(r)
}

// withSlash redirects from the prefix itself to the same path with a trailing slash, which the page's relative links
// depend on. It reports whether the request was for such a path.
func (h *Handler) withSlash(w http.ResponseWriter, r *http.Request) bool {
	at, _ := r.Context().Value(reachedKey{}).(reached)
	if !at.bare {
		return false
	}
	location := path.Base(at.prefix) + "/"
	if query := viewOf(r.URL.RawQuery); query != "" {
		location += "?" + query
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusPermanentRedirect)
	return true
}

// atPublicHost reports whether the browser made the request to the host of PUBLIC_URL, as far as a proxy passes that
// on.
func (h *Handler) atPublicHost(r *http.Request) bool {
	if h.PublicURL == nil {
		return false
	}
	return strings.EqualFold(r.Host, h.PublicURL.Host) ||
		h.viaProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Host"), h.PublicURL.Host)
}
