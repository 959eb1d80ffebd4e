// Package certs keeps the certificates with which connections are encrypted.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// Certs is a certificate with its key, and the authority of clients' certificates, where there is one. Its methods are safe
// for concurrent use.
type Certs struct{ current atomic.Pointer[tls.Config] }

// Use takes PEM: a certificate (with those that lead to its authority), its key, and, where clients are to have certificates,
// those of the authorities that sign them. New connections are encrypted with them. The error says which is at fault,
// and holds nothing of the key.
func (c *Certs) Use(cert, key, clientCA []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("the certificate and its key can't be used: %w", err)
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
	return nil
}

// safeSuites are those of TLS 1.2 that keep past connections secret and authenticate what they encrypt (RFC 9325, section
// 4.2). Those of TLS 1.3 all do.
var safeSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Config returns what a server needs to encrypt each new connection with what was used last. [Certs.Use] must have been called.
func (c *Certs) Config() *tls.Config {
	config := c.current.Load().Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil }
	return config
}
