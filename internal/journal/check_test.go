package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCheck checks journals of every version of the format, which stay as they are, and each of them with a damaged
// table.
func TestCheck(t *testing.T) {
	for version := range formatVersion {
		dir := filepath.Join(t.TempDir(), "data")
		require.NoError(t, os.CopyFS(dir, os.DirFS(fmt.Sprintf("testdata/v%d/data", version+1))))
		before := contentOf(t, dir)
		require.NoError(t, Check(t.Context(), dir))
		require.Equal(t, before, contentOf(t, dir))

		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		table, err := os.ReadFile(tables[0])
		require.NoError(t, err)
		table[len(table)*2/3] ^= 1 // in a block of records that no start reads
		require.NoError(t, os.WriteFile(tables[0], table, 0o600))
		require.ErrorContains(t, Check(t.Context(), dir), "the journal in "+dir+" is damaged: ")
	}
}

// contentOf returns the content of each file in a directory.
func contentOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		content[e.Name()] = string(text)
	}
	return content
}

func TestCheckRefusesOtherDirectories(t *testing.T) {
	require.ErrorContains(t, Check(t.Context(), t.TempDir()), "contains no journal")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Check(ctx, "testdata/v1/data"), context.Canceled)
}
