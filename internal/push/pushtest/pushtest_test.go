package pushtest_test

import (
	"crypto/ecdh"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

// TestDecrypt checks the decryption with the example of RFC 8291, appendix A.
func TestDecrypt(t *testing.T) {
	of := func(text string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(text)
		require.NoError(t, err)
		return b
	}
	private, err := ecdh.P256().NewPrivateKey(of("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	require.NoError(t, err)
	b := pushtest.Browser{Private: private, Auth: of("BTBZMqHH6r4Tts7J_aSIgg")}
	body := of("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	assert.Equal(t, "When I grow up, I want to be a watermelon", string(b.Decrypt(t, body)))
}
