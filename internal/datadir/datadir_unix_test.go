//go:build unix

package datadir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

func noLock(string) (func() error, error) { return func() error { return nil }, nil }

// TestFoldersOfOthersAreRefused puts something of another user, or a link, where the state would be kept.
func TestFoldersOfOthersAreRefused(t *testing.T) {
	for _, name := range []string{Folder, movingFolder, restoringFolder} {
		for kind, put := range map[string]func(t *testing.T, path string){
			"a link to a directory": func(t *testing.T, path string) { require.NoError(t, os.Symlink(t.TempDir(), path)) },
			"a dangling link":       func(t *testing.T, path string) { require.NoError(t, os.Symlink("nowhere", path)) },
			"a file":                func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) },
			"another user's directory": func(t *testing.T, path string) {
				if os.Geteuid() != 0 {
					t.Skip("only root may give a directory to another user: run the tests as root")
				}
				require.NoError(t, os.Mkdir(path, 0o777))
				require.NoError(t, os.Chown(path, 65534, 65534))
			},
		} {
			t.Run(name+" is "+kind, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "data")
				require.NoError(t, os.Mkdir(dir, 0o755))
				put(t, filepath.Join(dir, name))
				_, err := Prepare(dir, noLock)
				if name == restoringFolder {
					err = Restore(dir, noLock, func(string) error { return nil })
				}
				require.ErrorAs(t, err, new(*config.SettingError))
				require.ErrorContains(t, err, "remove it, or set DATA_DIR to a directory that only the server's user can write to")
			})
		}
	}
}

// TestALinkToTheDirectory names the data directory by a link: what is in it becomes private.
func TestALinkToTheDirectory(t *testing.T) {
	dir, link := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, "000001.sst")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.NoError(t, os.Symlink(dir, link))
	home, err := Prepare(link, noLock)
	require.NoError(t, err)
	require.Equal(t, link, home)
	require.Equal(t, home, Find(link))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&othersMask)
}
