package datadir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

// TestExplain checks what operators are told about the usual causes, and that other errors stay as they are.
func TestExplain(t *testing.T) {
	const denied = "this user may not use DATA_DIR /data (permission denied: /data/LOCK): " +
		"let the server's user own that directory and what is in it, or set DATA_DIR to another directory"
	for cause, want := range map[error]string{
		syscall.EROFS:   "DATA_DIR is /data, which is on a read-only file system: set DATA_DIR to a directory on one that can be written",
		syscall.EACCES:  denied,
		syscall.EPERM:   denied,
		syscall.ENOSPC:  "lock it: open /data/LOCK: no space left on device",
		syscall.ENOTDIR: "lock it: open /data/LOCK: not a directory",
	} {
		err := fmt.Errorf("lock it: %w", &fs.PathError{Op: "open", Path: "/data/LOCK", Err: cause})
		require.EqualError(t, datadir.Explain("/data", err), want)
		require.ErrorIs(t, datadir.Explain("/data", err), cause)
		var setting *config.SettingError
		require.Equal(t, want != err.Error(), errors.As(datadir.Explain("/data", err), &setting), "what the message explains is a matter of settings")
	}
	require.NoError(t, datadir.Explain("/data", nil))
}

// TestDirectoriesThatAreFiles prepares a directory that is a file, and one below a file.
func TestDirectoriesThatAreFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	lock := func(string) (func() error, error) { return nil, errors.New("nothing is moved") }
	for _, dir := range []string{file, filepath.Join(file, "data"), filepath.Join(file, "data", "more")} {
		_, err := datadir.Prepare(dir, lock)
		require.EqualError(t, datadir.Explain(dir, err), "DATA_DIR is "+dir+", which is a file or has one in its path: set DATA_DIR to a directory")
	}
}
