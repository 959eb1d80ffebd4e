package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/certs"
)

// TestExpires loads certificates alone and with an intermediate certificate.
func TestExpires(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	certificate := func(expires time.Time) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: expires}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	sooner, later := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	var c certs.Certs
	for _, test := range []struct {
		chain [][]byte
		want  time.Time
	}{
		{[][]byte{certificate(later)}, later},
		{[][]byte{certificate(sooner), certificate(later)}, sooner},
		{[][]byte{certificate(later), certificate(sooner)}, sooner},
	} {
		var text []byte
		for _, block := range test.chain {
			text = append(text, block...)
		}
		require.NoError(t, c.Load(text, private, nil))
		require.Equal(t, test.want, c.Expires())
	}
	require.Error(t, c.Load(certificate(later), nil, nil))
	require.Equal(t, sooner, c.Expires(), "a certificate that can't be used changes nothing")
}
