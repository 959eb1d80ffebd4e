package nearest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/nearest"
)

func TestTo(t *testing.T) {
	known := []string{"status", "sort", "limit", "TOKENS_FILE", "TLS_KEY_FILE"}
	for name, want := range map[string]string{
		"statsu": "status", "stat": "status", "Status": "status", "sorts": "sort", "srot": "", "limits": "limit", "lim": "",
		"TOKEN_FILE": "TOKENS_FILE", "TOKENFILE": "TOKENS_FILE", "TLS_KEYFILE": "TLS_KEY_FILE", "": "", "x": "",
	} {
		found, ok := nearest.To(name, known)
		require.Equal(t, want, found, name)
		require.Equal(t, want != "", ok, name)
	}
	_, ok := nearest.To("status", nil)
	require.False(t, ok)
}
