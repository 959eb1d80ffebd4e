package push

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// errNotPublic is why [NewClient] refuses to connect.
const errNotPublic = notify.Refusal("its address is not public: see PUSH_ALLOW_PRIVATE")

// NewClient returns an HTTP client for requests to push services. It follows no redirects.
//
// Unless allowPrivate is set, it connects only to addresses of the internet. It checks that after it has resolved the
// host's name, so a name that leads into the server's network does not help. It then uses no proxy either, even if
// HTTPS_PROXY is set, because the proxy resolves names itself.
func NewClient(allowPrivate bool) *http.Client {
	client := notify.NewHTTPClient()
	if allowPrivate {
		return client
	}
	dialer := &net.Dialer{ControlContext: refusePrivate}
	transport := client.Transport.(*http.Transport)
	transport.Proxy, transport.DialContext = nil, dialer.DialContext
	return client
}

// refusePrivate is a [net.Dialer.ControlContext] that returns an error for an address that is not public.
func refusePrivate(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !isPublic(at.Addr()) {
		return errNotPublic
	}
	return nil
}
