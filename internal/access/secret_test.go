package access

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLooksSecret(t *testing.T) {
	for range 100 {
		token, _ := NewToken("t")
		require.True(t, LooksSecret(token))
		require.True(t, LooksSecret("Bearer "+token+"x"))
		require.True(t, LooksSecret(token[:10]), "the beginning of a token")
		require.True(t, LooksSecret("?"+rand.Text()+rand.Text()), "the secret of a sign-in")
	}
	for text, want := range map[string]bool{
		"ka_x": true, "whsec_": true, "x&ka_x": true, "kafka_topic": false, "waka_id": false, "whsecs": false,
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": true, "Mf/Q9r8+KYqrTw-jUPD_8": true, strings.Repeat("0a", 10): true, strings.Repeat("0a", 10)[1:]: false,
		"agent_id": false, "titel": false, "": false, "include_finished_sessions": false, "thisIsCamelCaseAndQuiteLong": false,
		"user1 " + strings.Repeat("x", 30): false, strings.Repeat("é1", 30): false,
	} {
		require.Equal(t, want, LooksSecret(text), fmt.Sprintf("%q", text))
	}
}

func TestHideSecrets(t *testing.T) {
	token, _ := NewToken("t")
	hex := "ka_" + strings.Repeat("0123456789abcdef", 4)
	for text, want := range map[string]string{
		"/api/agents/" + token:                     "/api/agents/ka_…",
		"/x%20" + token + "/y/" + hex:              "/x%20ka_…/y/ka_…",
		"/whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=": "/whsec_…",
		"/whsec_MfKQ9r8G%2FYqrTwjUPD8ILPZIo2LaLaS": "/whsec_…",
		"/api/agents/ka_build":                     "/api/agents/ka_build",
		"/api/agents/kafka_consumer_of_all_topics": "/api/agents/kafka_consumer_of_all_topics",
		"/api/agents/" + token[3:]:                 "/api/agents/" + token[3:],
	} {
		require.Equal(t, want, HideSecrets(text))
	}
}
