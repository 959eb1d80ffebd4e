package hookcheck

import (
	"errors"
	"fmt"
)

// failure is the reason why there is no response.
type failure int

const (
	unknown failure = iota
	nameUnknown
	unreachable
	tooSlow
	certificate
	encryption
	viaProxy
	notSent
)

// explain returns the error for a failure. detail is what the program that sent the event said, may be "".
func (f failure) explain(detail string) error {
	words := map[failure]string{
		unknown:     "no response arrived",
		nameUnknown: "the server's name can't be resolved: check the address, and this machine's network",
		unreachable: "the server can't be reached: nothing listens at this address, or a firewall is in the way",
		tooSlow:     "the server does not respond in time",
		certificate: "the server's certificate is not trusted on this machine, or is for another name: install the authority's certificate, or connect to the name in the certificate",
		encryption:  "no encrypted connection is possible: does the server use https?",
		viaProxy:    "the proxy of this machine can't be reached, or does not let this through",
		notSent:     "nothing was sent",
	}[f]
	if detail == "" {
		return errors.New(words)
	}
	return fmt.Errorf("%s (%s)", words, detail)
}

// ofCurl are the failures for curl's exit statuses.
var ofCurl = map[int]failure{
	5: viaProxy, 6: nameUnknown, 7: unreachable, 28: tooSlow, 35: encryption, 51: certificate, 58: certificate, 60: certificate, 77: certificate,
	83: certificate, 90: certificate, 91: certificate, 97: viaProxy,
}

// ofFetch are the failures for the codes of errors in Node.js and in Bun.
var ofFetch = map[string]failure{
	"ENOTFOUND": nameUnknown, "EAI_AGAIN": nameUnknown, "EAI_FAIL": nameUnknown,
	"ECONNREFUSED": unreachable, "EHOSTUNREACH": unreachable, "ENETUNREACH": unreachable, "ECONNRESET": unreachable,
	"ConnectionRefused": unreachable, "FailedToOpenSocket": unreachable, "ConnectionClosed": unreachable,
	"TimeoutError": tooSlow, "UND_ERR_CONNECT_TIMEOUT": tooSlow, "ETIMEDOUT": tooSlow,
	"SELF_SIGNED_CERT_IN_CHAIN": certificate, "DEPTH_ZERO_SELF_SIGNED_CERT": certificate, "UNABLE_TO_VERIFY_LEAF_SIGNATURE": certificate,
	"UNABLE_TO_GET_ISSUER_CERT_LOCALLY": certificate, "UNABLE_TO_GET_ISSUER_CERT": certificate, "UNKNOWN_CERTIFICATE_VERIFICATION_ERROR": certificate,
	"ERR_TLS_CERT_ALTNAME_INVALID": certificate, "CERT_HAS_EXPIRED": certificate, "CERT_NOT_YET_VALID": certificate, "CERT_UNTRUSTED": certificate,
	"EPROTO": encryption, "ERR_SSL_WRONG_VERSION_NUMBER": encryption,
}
