package handlers

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/go-chi/chi/v5/middleware"
)

// TrustProxies takes the client address of requests that arrive through trusted proxies from X-Forwarded-For.
func (h *Handler) TrustProxies(next http.Handler) http.Handler {
	if len(h.Access.Proxies) == 0 {
		return next
	}
	prefixes := make([]string, len(h.Access.Proxies))
	for i, prefix := range h.Access.Proxies {
		prefixes[i] = prefix.String()
	}
	return middleware.ClientIPFromXFF(prefixes...)(next)
}

// clientOf returns the client's address. It is invalid if a trusted proxy does not state it.
func (h *Handler) clientOf(r *http.Request) netip.Addr {
	if len(h.Access.Proxies) > 0 {
		return middleware.GetClientIPAddr(r.Context())
	}
	return peerOf(r)
}

// peerOf returns the address at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// viaProxy reports whether a request arrived through a trusted proxy.
func (h *Handler) viaProxy(r *http.Request) bool {
	if len(h.Access.Proxies) == 0 {
		return false
	}
	peer := peerOf(r)
	return slices.ContainsFunc(h.Access.Proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// clientText returns the client's address for the log.
func clientText(r *http.Request, env *envelope) string {
	if env.client.IsValid() && env.client != peerOf(r) {
		return env.client.String() // behind a proxy
	}
	return r.RemoteAddr
}
