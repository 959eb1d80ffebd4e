//go:build unix

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

// requirePrivate fails the test if other users have any permission for a directory or anything in it.
func requirePrivate(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s: %s", path, info.Mode())
		return nil
	}))
}

// requireSessions fails the test unless the agent a has the sessions 0 to n-1, each with its content.
func requireSessions(t *testing.T, p *process, n int) {
	t.Helper()
	for i := range n {
		require.Equal(t, "what it does", teamClient{p: p}.requireSession(t, "a", fmt.Sprint(i), 1))
	}
}

// reportSessions reports n sessions, starting with the number from.
func reportSessions(t *testing.T, p *process, from, n int) {
	t.Helper()
	teamClient{p: p}.batch(t, n, func(i int) string {
		return fmt.Sprintf(`{"agent_id":"a","session_topic":"%d","status":"running","content":"what it does"}`, from+i)
	})
}

// TestStateIsPrivate runs the program on different kinds of directories, with the umask of the tests, which usually
// lets everyone read, and checks the permissions of everything that it writes, including backups.
func TestStateIsPrivate(t *testing.T) {
	for name, test := range map[string]struct {
		make func(dir string) error
		home string // directory of the state, relative to DATA_DIR
	}{
		"it does not exist":                         {func(string) error { return nil }, ""},
		"it is private":                             {func(dir string) error { return os.Mkdir(dir, 0o700) }, ""},
		"everyone may read it":                      {func(dir string) error { return os.Mkdir(dir, 0o755) }, datadir.Folder},
		"its group may read it":                     {func(dir string) error { return os.Mkdir(dir, 0o750) }, datadir.Folder},
		"it contains something else":                {func(dir string) error { return os.MkdirAll(filepath.Join(dir, "lost+found"), 0o755) }, datadir.Folder},
		"its path is very long":                     {func(dir string) error { return os.MkdirAll(dir, 0o700) }, ""},
		"everyone may read it and the folder in it": {func(dir string) error { return os.MkdirAll(filepath.Join(dir, datadir.Folder), 0o755) }, datadir.Folder},
		"it is private, and the folder exists":      {func(dir string) error { return os.MkdirAll(filepath.Join(dir, datadir.Folder), 0o700) }, datadir.Folder},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "data")
			if strings.Contains(name, "long") {
				dir = filepath.Join(parent, strings.Repeat("long/", 40), "data")
			}
			require.NoError(t, test.make(dir))
			p := start(t, "DATA_DIR="+dir)
			reportSessions(t, p, 0, 10)
			copied := filepath.Join(parent, "copy")
			status, output := runProgram(t, []string{"DATA_DIR=" + dir}, "backup", copied)
			require.Zero(t, status, output)
			requirePrivate(t, filepath.Join(dir, test.home))
			requirePrivate(t, copied)
			require.Zero(t, p.stop(t))
			requirePrivate(t, filepath.Join(dir, test.home))
			for _, dir := range []string{dir, copied} {
				p = start(t, "DATA_DIR="+dir)
				requireSessions(t, p, 10)
				require.Zero(t, p.stop(t))
			}
		})
	}
}

// TestReadableStateIsMoved starts the program on state that an earlier version left where everyone may read it, and on
// a move that a crash interrupted. It also checks that state in use by another process is refused.
func TestReadableStateIsMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir)
	reportSessions(t, p, 0, 10)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("of someone else"), 0o644))
	status, output := runProgram(t, []string{"DATA_DIR=" + dir, "PORT=0", "HOST=127.0.0.1"})
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "in use by another process")
	require.Zero(t, p.stop(t))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Type().IsRegular() {
			require.NoError(t, os.Chmod(filepath.Join(dir, e.Name()), 0o644))
		}
	}

	moved := filepath.Join(dir, datadir.Folder)
	for round := range 3 {
		p = start(t, "DATA_DIR="+dir)
		requireSessions(t, p, 10+round)
		reportSessions(t, p, 10+round, 1)
		require.Zero(t, p.stop(t))
		requirePrivate(t, moved)
		entries, err = os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 2, "the folder and the other file: %v", entries)
		if round == 1 { // simulate a crash in the middle of the move
			require.NoError(t, os.Rename(moved, filepath.Join(dir, ".kubeagents.moving")))
			files, err := os.ReadDir(filepath.Join(dir, ".kubeagents.moving"))
			require.NoError(t, err)
			for i, file := range files {
				if i%2 == 0 {
					require.NoError(t, os.Rename(filepath.Join(dir, ".kubeagents.moving", file.Name()), filepath.Join(dir, file.Name())))
				}
			}
		}
	}
}

// TestBackupErrors requests backups to directories that can't be used.
func TestBackupErrors(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	p := start(t, "DATA_DIR="+dir)
	reportSessions(t, p, 0, 10)
	dangling, existing := filepath.Join(parent, "dangling"), filepath.Join(parent, "existing")
	require.NoError(t, os.Symlink(filepath.Join(parent, "nowhere"), dangling))
	require.NoError(t, os.Mkdir(existing, 0o700))
	link := filepath.Join(parent, "link")
	require.NoError(t, os.Symlink(dir, link))
	for to, want := range map[string]string{
		filepath.Join(dir, "backup"):         "choose a directory outside of it",
		filepath.Join(link, "backup"):        "choose a directory outside of it",
		dangling:                             "already exists: choose a directory that does not exist yet",
		existing:                             "already exists: choose a directory that does not exist yet",
		filepath.Join(parent, "no", "where"): "there is no directory " + filepath.Join(parent, "no") + " to write the backup to: make it first, or choose another directory",
	} {
		status, output := runProgram(t, []string{"DATA_DIR=" + dir}, "backup", to)
		require.Equal(t, command.ExitFailure, status, to)
		require.Contains(t, output, want)
	}
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, entries, 4, "failed backups leave nothing behind")
	require.Zero(t, p.stop(t))
}
