package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

// lockAs locks a directory as the journal does, with a file in it.
func lockAs(dir string) (func() error, error) {
	return func() error { return nil }, os.WriteFile(filepath.Join(dir, LockFile), nil, 0o600)
}

// writeState writes a file of state.
func writeState(staging string) error {
	return os.WriteFile(filepath.Join(staging, "CURRENT"), []byte("restored"), 0o600)
}

// TestRestoreOnlyIntoAnEmptyDirectory restores into directories with different contents.
func TestRestoreOnlyIntoAnEmptyDirectory(t *testing.T) {
	for name, test := range map[string]struct {
		contents []string // those that end with a slash are directories
		held     bool
		want     string
	}{
		"nothing":                     {nil, false, ""},
		"what a file system puts in":  {[]string{"lost+found/"}, false, ""},
		"a lock":                      {[]string{"LOCK"}, false, ""},
		"a restore that broke off":    {[]string{"LOCK", restoringFolder + "/", restoringFolder + "/000001.sst", restoringFolder + "/a/", "lost+found/"}, false, ""},
		"state":                       {[]string{"LOCK", "CURRENT"}, true, "already holds state: stop the server and move the directory away"},
		"state in a folder":           {[]string{Folder + "/"}, true, "already holds state"},
		"state that was being moved":  {[]string{movingFolder + "/"}, true, "already holds state"},
		"state, and part of a backup": {[]string{Folder + "/", restoringFolder + "/"}, true, "already holds state"},
		"somebody's files":            {[]string{"notes.txt"}, false, "is not empty, it contains notes.txt: move that away"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, path := range test.contents {
				if path[len(path)-1] == '/' {
					require.NoError(t, os.Mkdir(filepath.Join(dir, path), 0o700))
				} else {
					require.NoError(t, os.WriteFile(filepath.Join(dir, path), nil, 0o600))
				}
			}
			held, err := HoldsState(dir)
			require.NoError(t, err)
			require.Equal(t, test.held, held)
			err = Restore(dir, lockAs, writeState)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			home, err := Prepare(dir, lockAs)
			require.NoError(t, err)
			require.Equal(t, filepath.Join(dir, Folder), home)
			entries, err := os.ReadDir(home)
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing of the restore that broke off is left")
		})
	}
}

// TestAServerWaitsForARestore starts a server in the middle of a restore and after one broke off, starts one that does
// not know about restores, and lets a restore fail.
func TestAServerWaitsForARestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	staging := filepath.Join(dir, restoringFolder)
	prepare := func() error {
		_, err := Prepare(dir, lockAs)
		return err
	}
	require.PanicsWithValue(t, "killed", func() {
		Restore(dir, lockAs, func(staging string) error { //nolint:errcheck // it does not return
			require.NoError(t, writeState(staging))
			require.ErrorAs(t, prepare(), new(*config.SettingError))
			panic("killed")
		})
	})
	err := prepare()
	require.ErrorAs(t, err, new(*config.SettingError))
	require.EqualError(t, err, "a restore into DATA_DIR "+dir+" is under way or broke off: run kubeagents restore again, or remove "+staging+" to do without it")
	require.DirExists(t, staging)

	err = Restore(dir, lockAs, func(string) error { return os.WriteFile(filepath.Join(dir, "CURRENT"), nil, 0o600) })
	require.ErrorContains(t, err, "already holds state", "a server has started")
	require.FileExists(t, filepath.Join(dir, "CURRENT"))
	require.NoDirExists(t, staging)
	require.NoDirExists(t, filepath.Join(dir, Folder))

	require.NoError(t, os.Remove(filepath.Join(dir, "CURRENT")))
	require.EqualError(t, Restore(dir, lockAs, func(string) error { return errors.New("damaged") }), "damaged")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.ErrorContains(t, Restore(dir, func(string) (func() error, error) { return nil, errors.New("in use") }, writeState), "in use")
}
