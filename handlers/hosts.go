package handlers

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// OwnHosts lets requests through that name the server by a name of its own, where everybody is let in; see [access.Hosts]. With tokens, a
// page that has its own name lead here gets no further than any stranger: no browser sends a token by itself, and a cookie only to the
// name that set it.
func (h *Handler) OwnHosts(next http.Handler) http.Handler {
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

// foreignHost returns a name by which a request calls the server and that is not its own. That which a proxy passes on counts as well as
// that of the request itself: a page can set either header where the browser runs beside the proxy.
func (h *Handler) foreignHost(r *http.Request) (host string, found bool) {
	if h.Access.Hosts == nil {
		return "", false
	}
	if !h.Access.Hosts.Own(r.Host) {
		return r.Host, true
	}
	if !h.viaProxy(r) {
		return "", false
	}
	for _, host := range forwardedHosts(r) {
		if !h.Access.Hosts.Own(host) {
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

// longestName is that of the domain name system, in bytes.
const longestName = 253

func shortened(host string) string {
	if len(host) > longestName {
		return host[:longestName] + "…"
	}
	return host
}
