package notify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	secret, large := filepath.Join(dir, "secret"), filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(secret, []byte(" hidden\n"), 0o600))
	require.NoError(t, os.WriteFile(large, []byte(strings.Repeat("x", 64<<10+1)), 0o600))
	resolve := notify.Resolve(func(name string) (string, bool) {
		value, ok := map[string]string{"TOKEN": "value", "EMPTY": ""}[name]
		return value, ok
	})
	for reference, want := range map[string]string{"TOKEN": "value", "file:" + secret: "hidden"} {
		got, err := resolve(reference)
		require.NoError(t, err, reference)
		require.Equal(t, want, got)
	}
	for reference, want := range map[string]string{
		"EMPTY": "EMPTY is not set", "OTHER": "OTHER is not set", "file:" + secret + "s": "no such file",
		"file:" + dir: "is not a regular file", "file:" + large: "has more than 64 KiB",
	} {
		_, err := resolve(reference)
		require.ErrorContains(t, err, want, reference)
	}
}
