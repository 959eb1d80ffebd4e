package push

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Subscription is where and how a browser gets notifications: what its PushSubscription says (Push API, W3C). Whoever
// knows it can't send any without the server's keys, but the endpoint is a secret all the same.
type Subscription struct {
	Endpoint string `json:"endpoint"` // URL at the push service
	P256dh   string `json:"p256dh"`   // public key of the browser, as base64url
	Auth     string `json:"auth"`     // secret that the browser shares with the server, as base64url
}

// Host returns the host of the push service.
func (s Subscription) Host() string {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

const (
	maxEndpoint = 2048 // length of an endpoint, in bytes
	authLength  = 16   // of the shared secret, in bytes
)

// Check returns an error if no notification can be sent to the subscription: it says what is wrong and what is allowed,
// and contains nothing of the subscription. With allowPrivate, the push service may be in a private network.
//
// The host may still turn out to have an address that is not public: [NewClient] checks that.
func (s Subscription) Check(allowPrivate bool) error {
	if err := checkEndpoint(s.Endpoint, allowPrivate); err != nil {
		return fmt.Errorf("endpoint %w", err)
	}
	if key, err := decode(s.P256dh); err != nil || len(key) != publicKeyLength {
		return errors.New("p256dh must be the base64url of a public key of 65 bytes")
	} else if _, err := ecdh.P256().NewPublicKey(key); err != nil {
		return errors.New("p256dh must be a point of the curve P-256, uncompressed")
	}
	if auth, err := decode(s.Auth); err != nil || len(auth) != authLength {
		return errors.New("auth must be the base64url of 16 bytes")
	}
	return nil
}

func checkEndpoint(endpoint string, allowPrivate bool) error {
	if len(endpoint) > maxEndpoint {
		return fmt.Errorf("must have at most %d bytes", maxEndpoint)
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsFunc(endpoint, outsideURL):
		return errors.New("must be a URL that begins with https://")
	case u.User != nil:
		return errors.New("must not contain a user or a password")
	case strings.Contains(endpoint, "#"):
		return errors.New("must not have a fragment")
	}
	return checkHost(u.Hostname(), allowPrivate)
}

// outsideURL reports whether r can't be a character of a URL as browsers write it.
func outsideURL(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }

var (
	// hostName matches the names of hosts.
	hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

	// numberLike matches hosts that some programs take for an IPv4 address, such as 127.1 or 0x7f000001.
	numberLike = regexp.MustCompile(`(^|\.)(0x[0-9a-f]*|[0-9]+)$`)

	// privateName matches names that have no meaning on the internet: those without a dot, and those of domains that
	// are reserved for private networks.
	privateName = regexp.MustCompile(`^[^.]+$|\.(localhost|local|internal|intranet|private|corp|home|lan|home\.arpa|onion|test|invalid)$`)
)

// checkHost returns an error if a push service can't have this host name or address.
func checkHost(host string, allowPrivate bool) error {
	if address, err := netip.ParseAddr(host); err == nil {
		if !allowPrivate && !isPublic(address) {
			return errors.New("must not be at an address that is not public")
		}
		return nil
	}
	host = strings.ToLower(host)
	if len(host) > 253 || !hostName.MatchString(host) || numberLike.MatchString(host) {
		return errors.New("must have a valid host name")
	}
	if !allowPrivate && privateName.MatchString(host) {
		return errors.New("must not be on a host of a private network")
	}
	return nil
}
