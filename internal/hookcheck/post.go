package hookcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"

	"github.com/kubeagents/kubeagents/internal/connect"
)

// maxReply is the maximum number of bytes of a response that are read.
const maxReply = 64 << 10

// post posts an event as a hook does that runs this program, and returns what came back.
func (c Checker) post(ctx context.Context, address, event string) (r reply, err error) {
	if _, err := exec.LookPath(connect.Program); err != nil {
		return r, fmt.Errorf("%s is not in a folder of PATH, and the hooks run it", connect.Program)
	}
	resp, err := connect.Post(ctx, address, []byte(event), c.Environment, http.Header{"X-Dry-Run": {"true"}})
	if err != nil {
		r.failure, r.detail = failureOf(err), err.Error()
		if e, ok := errors.AsType[*url.Error](err); ok {
			r.detail = e.Err.Error()
		}
		return r, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	r.status, r.location = resp.StatusCode, resp.Header.Get("Location")
	r.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxReply)) //nolint:errcheck // the status says enough
	return r, nil
}

// failureOf returns why a request got no response.
func failureOf(err error) failure {
	var lookup *net.DNSError
	var dial *net.OpError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &lookup):
		return nameUnknown
	case errors.As(err, &verification):
		return certificate
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return encryption
	case errors.As(err, &timeout) && timeout.Timeout():
		return tooSlow
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return viaProxy
	case errors.As(err, &dial):
		return unreachable
	}
	return unknown
}
