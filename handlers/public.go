package handlers

import (
	"context"
	"fmt"
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
	err    error  // the trusted proxies' prefix is malformed; prefix is ""
}

type reachedKey struct{}

// StripPrefix serves every path both with and without the path of PUBLIC_URL as its prefix, since some proxies strip it
// and some don't. It also notes the prefix that trusted proxies say they stripped.
func (h *Handler) StripPrefix(next http.Handler) http.Handler {
	own := h.publicPath()
	if own == "" && len(h.Access.Proxies) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, found := strings.CutPrefix(r.URL.EscapedPath(), own); own != "" && found && (rest == "" || rest[0] == '/') {
			r = r.WithContext(context.WithValue(r.Context(), reachedKey{}, reached{prefix: own, bare: rest == ""}))
			if rest == "" {
				r.URL = &url.URL{Path: "/", RawQuery: r.URL.RawQuery}
				next.ServeHTTP(w, r)
				return
			}
			http.StripPrefix(own, next).ServeHTTP(w, r)
			return
		}
		if forwarded, err := h.forwardedPrefix(r); forwarded != "" || err != nil {
			r = r.WithContext(context.WithValue(r.Context(), reachedKey{}, reached{prefix: forwarded, err: err}))
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

// maxForwardedPrefix is the maximum length of X-Forwarded-Prefix, in bytes.
const maxForwardedPrefix = 256

// forwardedPrefix returns the path that trusted proxies stripped from the request, without a trailing slash. Each proxy
// in a chain adds what it stripped, so the values are joined.
func (h *Handler) forwardedPrefix(r *http.Request) (prefix string, err error) {
	values := r.Header.Values("X-Forwarded-Prefix")
	if len(values) == 0 || !h.viaProxy(r) {
		return "", nil
	}
	joined := strings.Join(values, ",")
	if len(joined) > maxForwardedPrefix {
		return "", models.BadRequest("X-Forwarded-Prefix", fmt.Sprintf("must be at most %d bytes", maxForwardedPrefix))
	}
	for value := range strings.SplitSeq(joined, ",") {
		part, err := access.ParsePathPrefix(strings.TrimSpace(value))
		if err != nil {
			return "", models.BadRequest("X-Forwarded-Prefix", "must be a path such as /kubeagents")
		}
		prefix += part
	}
	return prefix, nil
}

// reachedAt returns under which path the client reached the server, as [Handler.StripPrefix] found out.
func reachedAt(r *http.Request) (at reached, known bool) {
	at, known = r.Context().Value(reachedKey{}).(reached)
	return at, known && at.err == nil
}

// prefix returns the path under which the client reaches the server, without a trailing slash, "" for the root of its
// host.
func (h *Handler) prefix(r *http.Request) string {
	if at, known := reachedAt(r); known {
		return at.prefix
	}
	return h.publicPath()
}

// atPrefix reports whether the browser made the request under [Handler.prefix], even if a proxy stripped that path.
func (h *Handler) atPrefix(r *http.Request) bool {
	_, known := reachedAt(r)
	return known || h.atPublicHost(r)
}

// base returns the path that the links of the page at / are relative to, "" for the address of the page. A proxy that
// strips a prefix does not say whether the browser's address ends with a slash, and without one, relative links would
// lead out of the prefix.
func (h *Handler) base(r *http.Request) string {
	if prefix := h.prefix(r); prefix != "" && h.atPrefix(r) {
		return prefix + "/"
	}
	return ""
}

// withSlash redirects from the prefix itself to the same path with a trailing slash, which the page's relative links
// depend on. It reports whether the request was for such a path.
func (h *Handler) withSlash(w http.ResponseWriter, r *http.Request) bool {
	at, _ := reachedAt(r)
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
