//go:build unix

package e2e

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// damage flips a bit of a file in the store of a NATS node, which must not run, and says where. The file is one of those
// whose path contains part and that are not empty. It returns "" if there is none.
func damage(t testing.TB, random *rand.Rand, store, part string) string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(store, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, part) {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	if len(files) == 0 {
		return ""
	}
	path := files[random.IntN(len(files))]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	at, bit := random.IntN(len(content)), random.IntN(8)
	content[at] ^= 1 << bit
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt(content[at:at+1], int64(at))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return fmt.Sprintf("bit %d of byte %d of %d in %s", bit, at, len(content), strings.TrimPrefix(path, store))
}
