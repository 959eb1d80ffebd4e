//go:build unix

package watch_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/watch"
	"github.com/kubeagents/kubeagents/store"
)

// TestOnlyRegularFilesAreRead names things that would never end, or never begin to be read.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 17<<20))
	m := metrics.New(store.New(store.Options{}), "test")
	for path, want := range map[string]string{pipe: "is not a regular file", "/dev/zero": "is not a regular file", dir: "is not a regular file", large: "has more than 16 MiB"} {
		_, err := watch.Open("tokens", []watch.File{{Setting: "TOKENS_FILE", Path: path}}, func([][]byte) error { return nil }, m, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "TOKENS_FILE: "+path+" "+want)
	}
}
