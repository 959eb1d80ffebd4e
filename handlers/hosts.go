package handlers

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// CheckHost refuses requests under a host name that is not the server's own, if the server has no tokens; see
// [access.Hosts]. With tokens, DNS rebinding gains an attacker nothing: a browser does not send a token by itself, and
// sends a cookie only to the host that set it.
func (h *Handler) CheckHost(next http.Handler) http.Handler {
	if h.Access.Hosts == nil {
		return next
	}
	return h.before(next, func(_ http.ResponseWriter, r *http.Request) error {
		if foreign, found := h.foreignHost(r); found {
			return models.Misdirected(fmt.Sprintf("this server has no tokens, so it answers only under its own names, and %+q is not one of them: "+
				"set PUBLIC_URL to the address that people use, name its origin in CORS_ALLOWED_ORIGINS, or set TOKENS_FILE", shortened(foreign)))
		}
		return nil
	})
}

// foreignHost returns a host name in the request that is not the server's own. It checks both Host and the
// X-Forwarded-Host of a trusted proxy: if the browser runs on the same machine as the proxy, a page can control either.
func (h *Handler) foreignHost(r *http.Request) (host string, found bool) {
	if h.Access.Hosts == nil {
		return "", false
	}
	if !h.Access.Hosts.Allowed(r.Host) {
		return r.Host, true
	}
	if !h.viaProxy(r) {
		return "", false
	}
	for _, host := range forwardedHosts(r) {
		if !h.Access.Hosts.Allowed(host) {
			return host, true
		}
	}
	return "", false
}

// forwardedHosts returns the names in X-Forwarded-Host.
func forwardedHosts(r *http.Request) (hosts []string) {
	for _, value := range r.Header.Values("X-Forwarded-Host") {
		for host := range strings.SplitSeq(value, ",") {
			if host = strings.TrimSpace(host); host != "" {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// maxHostName is the maximum length of a DNS name, in bytes.
const maxHostName = 253

func shortened(host string) string {
	if len(host) > maxHostName {
		return host[:maxHostName] + "…"
	}
	return host
}
