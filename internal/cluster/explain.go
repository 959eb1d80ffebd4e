package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// explain says in words what an error of a connection means, and which setting to look at.
func (c *Conn) explain(err error) string {
	if text := c.explainTLS(err); text != "" {
		return text
	}
	switch {
	case refused(err):
		return c.explainRefused(err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return "NATS denies this server something that it needs: " + strings.TrimPrefix(err.Error(), "nats: ")
	case errors.Is(err, errTooOld), errors.Is(err, errNoGreeting):
		return err.Error()
	case errors.Is(err, nats.ErrStaleConnection):
		return "the node does not answer any more"
	case errors.Is(err, io.EOF):
		return "the node closed the connection"
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "dial" {
		return "can't be reached (see NATS_URL): " + failed.Error()
	}
	if failed, ok := errors.AsType[net.Error](err); ok && failed.Timeout() {
		return "does not answer in time: " + err.Error()
	}
	return err.Error()
}

func (c *Conn) explainTLS(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is not signed by an authority that this server trusts " +
			"(set NATS_CA_FILE to the certificate of the one that did): " + err.Error()
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another name (use one of its names in NATS_URL): " + err.Error()
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "its certificate is not valid: " + err.Error()
	}
	if errors.Is(err, nats.ErrSecureConnWanted) {
		return "it does not offer TLS, which NATS_CA_FILE, NATS_CERT_FILE or tls:// in NATS_URL require"
	}
	text := err.Error()
	if !strings.Contains(text, "remote error: tls: ") && !strings.Contains(text, "after TLS handshake") {
		return ""
	}
	if c.settings.CertFile == "" {
		return "it may want a certificate of this server (set NATS_CERT_FILE and NATS_KEY_FILE): " + text
	}
	return "it does not accept the certificate in NATS_CERT_FILE: " + text
}

func (c *Conn) explainRefused(err error) string {
	cause := strings.TrimPrefix(err.Error(), "nats: ")
	switch setting := c.settings.credentials(); {
	case setting != "":
		return "NATS refuses the credentials in " + setting + ": " + cause
	case c.settings.CertFile != "":
		return "NATS refuses the certificate in NATS_CERT_FILE: " + cause
	}
	return "NATS wants credentials (set NATS_CREDS_FILE, NATS_NKEY_FILE, or NATS_USER and NATS_PASSWORD_FILE): " + cause
}

// refused reports whether an error means that NATS does not let this server in.
func refused(err error) bool {
	for _, refusal := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrNkeysNotSupported,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// needsOperator reports whether a connection that failed so will fail until somebody does something.
func needsOperator(err error) bool {
	return refused(err) || errors.Is(err, errTooOld)
}

// temporary reports whether a request to JetStream that failed so may succeed in a moment.
func temporary(err error) bool {
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok {
		return failed.ErrorCode == codeClusterNotAvailable || failed.ErrorCode == codeClusterNotLeader
	}
	for _, passing := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, errBeingMade,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
