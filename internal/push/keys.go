// Package push sends notifications to browsers by Web Push, even if no page of the dashboard is open: the push service
// of the browser's vendor passes them on (RFC 8030). Only the browser can read them (RFC 8291), and the service knows
// by which server they are sent (VAPID, RFC 8292).
//
// A browser names the address of its push service itself, so the address may be that of an attacker. [NewClient] makes
// sure that it is one on the internet, each time it connects.
package push

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Keys is the pair of keys that identifies the server to push services. A browser accepts notifications only from the
// server whose public key it got when it subscribed.
type Keys struct{ private *ecdh.PrivateKey }

// NewKeys returns a new pair of keys.
func NewKeys() (*Keys, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make keys for Web Push: %w", err)
	}
	return &Keys{private}, nil
}

// The lengths of P-256 keys, in bytes.
const (
	privateKeyLength = 32
	publicKeyLength  = 65 // an uncompressed point
)

// ParseKeys returns the keys with a private key as npx web-push generate-vapid-keys prints it: 32 bytes as base64url.
// The error does not contain it.
func ParseKeys(text string) (*Keys, error) {
	b, err := decode(text)
	if len(b) == publicKeyLength {
		return nil, errors.New("must be the private key, not the public key")
	}
	if err != nil || len(b) != privateKeyLength {
		return nil, errors.New("must be the base64url of a private key of 32 bytes")
	}
	private, err := ecdh.P256().NewPrivateKey(b)
	if err != nil {
		return nil, errors.New("must be a private key of the curve P-256")
	}
	return &Keys{private}, nil
}

// Public returns the public key as a browser takes it, as applicationServerKey.
func (k *Keys) Public() string {
	return base64.RawURLEncoding.EncodeToString(k.private.PublicKey().Bytes())
}

// text returns the private key as [ParseKeys] takes it.
func (k *Keys) text() string { return base64.RawURLEncoding.EncodeToString(k.private.Bytes()) }

// String returns a placeholder, so that the private key is never printed, or "" for no keys.
func (k *Keys) String() string {
	if k == nil {
		return ""
	}
	return "(secret)"
}

// GoString implements [fmt.GoStringer], so that %#v does not print the private key either.
func (k *Keys) GoString() string { return k.String() }

// decode decodes base64url, with or without padding.
func decode(text string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}
