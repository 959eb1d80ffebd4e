package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lay puts files into a new directory. The content of each is "old" or "new".
func lay(t *testing.T, mode os.FileMode, files map[string]string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for path, content := range files {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if content == "folder" {
			require.NoError(t, os.Mkdir(path, 0o700))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	require.NoError(t, os.Chmod(dir, mode)) //nolint:gosec // as an operator made it
	return dir
}

func namesInDir(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() != LockFile {
			names = append(names, e.Name())
		}
	}
	return names
}

// checkState checks that the state in a directory is the old or the new one as a whole, and that nothing else is left
// but a file that is not the server's.
func checkState(t *testing.T, dir, want string) {
	t.Helper()
	home, err := Prepare(dir, lockAs)
	require.NoError(t, err)
	for _, name := range []string{"CURRENT", "000001.sst"} {
		content, err := os.ReadFile(filepath.Join(home, name)) //nolint:gosec // in a directory of the test
		require.NoError(t, err)
		assert.Equal(t, want, string(content))
	}
	left := []string{"notes.txt"}
	if home == dir {
		left = []string{"000001.sst", "CURRENT", "notes.txt"}
	} else {
		left = append([]string{Folder}, left...)
		assert.Equal(t, []string{"000001.sst", "CURRENT"}, namesInDir(t, home))
	}
	assert.Equal(t, left, namesInDir(t, dir))
}

func writeNew(staging string) error {
	return errors.Join(os.WriteFile(filepath.Join(staging, "CURRENT"), []byte("new"), 0o600),
		os.WriteFile(filepath.Join(staging, "000001.sst"), []byte("new"), 0o600))
}

// TestReplace replaces the state wherever it is, also after an attempt that broke off or failed.
func TestReplace(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":          {"notes.txt": ""},
		"in the directory": {"CURRENT": "old", "000001.sst": "old", "LOCK": "", "notes.txt": ""},
		"in the folder":    {Folder + "/CURRENT": "old", Folder + "/000001.sst": "old", Folder + "/LOCK": "", "notes.txt": ""},
		"after one broke off": {"CURRENT": "old", "000001.sst": "old", "notes.txt": "",
			replacingFolder + "/000002.sst": "new", replacedFolder: "folder"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []os.FileMode{0o700, 0o755} {
				dir := lay(t, mode, files)
				require.EqualError(t, Replace(dir, lockAs, func(staging string) error {
					return errors.Join(writeNew(staging), errors.New("damaged"))
				}), "damaged")
				if len(files) > 1 {
					checkState(t, dir, "old")
				}
				require.NoError(t, Replace(dir, lockAs, writeNew))
				checkState(t, dir, "new")
				require.NoError(t, Replace(dir, lockAs, writeNew))
				checkState(t, dir, "new")
				require.ErrorContains(t, Replace(dir, func(string) (func() error, error) { return nil, errors.New("in use") }, writeNew), "in use")
				checkState(t, dir, "new")
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "missing")
	require.NoError(t, Replace(dir, lockAs, writeNew))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	checkState(t, dir, "new")
}

// TestReplaceIsAtomic starts a server after a crash at each step of a replacement.
func TestReplaceIsAtomic(t *testing.T) {
	old := func(prefix string) map[string]string {
		return map[string]string{"notes.txt": "", prefix + "CURRENT": "old", prefix + "000001.sst": "old"}
	}
	in := func(files map[string]string, more ...string) map[string]string {
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"while it is written": {in(old(""), replacingFolder+"/CURRENT", "new"), "old"},
		"before the new home has its name": {in(old(""), replacingFolder+"/CURRENT", "new", replacingFolder+"/000001.sst", "new",
			replacedFolder, "folder"), "old"},
		"after the new home has its name": {in(old(""), Folder+"/CURRENT", "new", Folder+"/000001.sst", "new",
			replacedFolder, "folder"), "new"},
		"while the old state is removed": {map[string]string{"notes.txt": "", "CURRENT": "old", Folder + "/CURRENT": "new",
			Folder + "/000001.sst": "new", replacedFolder: "folder"}, "new"},
		"while it is written beside a folder": {in(old(Folder+"/"), replacingFolder+"/CURRENT", "new"), "old"},
		"between the two folders": {in(old(replacedFolder+"/"), replacingFolder+"/CURRENT", "new",
			replacingFolder+"/000001.sst", "new"), "old"},
		"after the two folders": {in(old(replacedFolder+"/"), Folder+"/CURRENT", "new", Folder+"/000001.sst", "new"), "new"},
		"while the old folder is removed": {map[string]string{"notes.txt": "", replacedFolder + "/CURRENT": "old",
			Folder + "/CURRENT": "new", Folder + "/000001.sst": "new"}, "new"},
		"before the empty old folder is removed": {map[string]string{"notes.txt": "", replacedFolder: "folder",
			Folder + "/CURRENT": "new", Folder + "/000001.sst": "new"}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			checkState(t, lay(t, 0o700, test.files), test.want)
			dir := lay(t, 0o700, test.files)
			require.NoError(t, Replace(dir, lockAs, writeNew))
			checkState(t, dir, "new")
		})
	}
}

// TestReplaceWaitsForAServer checks that a server that runs, or another replacement, keeps its files.
func TestReplaceWaitsForAServer(t *testing.T) {
	dir := lay(t, 0o700, map[string]string{"CURRENT": "old", "000001.sst": "old", replacingFolder + "/CURRENT": "new"})
	inUse := func(string) (func() error, error) { return nil, errors.New("in use") }
	_, err := Prepare(dir, inUse)
	require.ErrorContains(t, err, "in use")
	require.ErrorContains(t, Replace(dir, inUse, writeNew), "in use")
	assert.True(t, slices.Contains(namesInDir(t, dir), replacingFolder))
}
