// Package certs holds the TLS certificates of the server, which can be replaced while it runs.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Certs is a certificate with its key, and optionally the authorities that sign client certificates. Its methods are
// safe for concurrent use.
type Certs struct {
	current atomic.Pointer[tls.Config]
	expires atomic.Pointer[time.Time]
}

// Load replaces the certificate for new connections. All arguments are PEM: cert is the certificate, followed by its
// chain of intermediate certificates; key is its private key; clientCA holds the authorities that must have signed a
// client's certificate, or is nil if clients need none. The error says which argument is at fault, and contains no part
// of the key.
func (c *Certs) Load(cert, key, clientCA []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("the certificate and its key can't be used: %w", err)
	}
	expires, err := firstExpiry(pair)
	if err != nil {
		return fmt.Errorf("the certificate's chain can't be used: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: safeSuites,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if clientCA != nil {
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(clientCA) {
			return errors.New("the file of client authorities has no certificate")
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.current.Store(config)
	c.expires.Store(&expires)
	return nil
}

// firstExpiry returns when the first certificate of a chain expires.
func firstExpiry(chain tls.Certificate) (first time.Time, err error) {
	for _, der := range chain.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return first, err
		}
		if first.IsZero() || cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first, nil
}

// Expires returns when the certificate that was last passed to [Certs.Load] expires, or the one in its chain that
// expires first. Load must have been called before.
func (c *Certs) Expires() time.Time { return *c.expires.Load() }

// safeSuites are the cipher suites of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, section
// 4.2). All suites of TLS 1.3 have both.
var safeSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Config returns a configuration for a server. Each new connection uses the certificate that was last passed to
// [Certs.Load], which must have been called before Config.
func (c *Certs) Config() *tls.Config {
	config := c.current.Load().Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil }
	return config
}
