// Package datadir finds the directory in which the server keeps its state, called its home, and denies other users
// access to it.
//
// # Invariants
//
// Only the server's own user can read and change the files in the home: its directories have mode 0700, its files mode
// 0600.
//
// A directory that the operator names is the home itself if the server's user owns it and nobody else has access. Any
// other directory is left as it is, and the home is a folder named [Folder] in it. Once that folder exists, it stays
// the home, even if the directory around it becomes private later.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kubeagents/kubeagents/config"
)

// Folder is the name of the home in a directory that is not private to the server's user.
const Folder = "kubeagents"

// movingFolder is the name of that folder while the state of an earlier version is being moved into it.
const movingFolder = ".kubeagents.moving"

// Permissions.
const (
	privateDir  = 0o700
	privateFile = 0o600
	othersMask  = 0o077
)

// Find returns the home for a directory that an operator named. It changes nothing.
func Find(dir string) string {
	inner := filepath.Join(dir, Folder)
	if info, err := os.Lstat(inner); err == nil && info.IsDir() {
		return inner
	}
	return dir
}

// checkOwned returns an error if there is something at path that is not a directory of the server's own user. In a
// directory that others may write to, anybody could have put it there, to read or to redirect what the server writes.
func checkOwned(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return notOwned(path, "is not a directory")
	case !isMine(info):
		return notOwned(path, "belongs to another user")
	}
	return nil
}

func notOwned(path, problem string) error {
	return &config.SettingError{Err: fmt.Errorf("%s %s: remove it, or set DATA_DIR to a directory that only the server's user can write to", path, problem)}
}

// Prepare returns the home for a directory that an operator named, creating it if necessary. [Find] returns the same
// home afterwards. Prepare moves the state that an earlier version kept in a directory open to others, and removes the
// permissions of other users.
//
// Prepare refuses a directory into which a restore broke off: see [Restore]. It settles a replacement that broke off: see
// [Replace].
//
// Prepare calls lock before it moves anything out of a directory. lock returns a function that releases the lock, or an
// error if another program uses the directory.
func Prepare(dir string, lock func(dir string) (unlock func() error, err error)) (home string, err error) {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return dir, os.MkdirAll(dir, privateDir)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if err := checkRestored(dir); err != nil {
		return "", err
	}
	if err := settle(dir, lock); err != nil {
		return "", err
	}
	for _, name := range []string{Folder, movingFolder} {
		if err := checkOwned(filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	home = Find(dir)
	if home == dir {
		if home, err = chooseHome(dir, lock); err != nil {
			return "", err
		}
	}
	return home, makePrivate(home)
}

// chooseHome returns the home for a directory that has no [Folder] yet: the directory itself if it is private, else a
// new [Folder], with the state of an earlier version moved into it.
func chooseHome(dir string, lock func(dir string) (func() error, error)) (home string, err error) {
	staging := filepath.Join(dir, movingFolder)
	_, err = os.Stat(staging)
	interrupted := err == nil
	if !interrupted && isPrivate(dir) {
		return dir, nil
	}
	names, err := stateIn(dir)
	if err != nil {
		return "", err
	}
	home = filepath.Join(dir, Folder)
	if len(names) == 0 && !interrupted {
		return home, os.Mkdir(home, privateDir)
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if names, err = stateIn(dir); err != nil { // again, because it now includes the lock file
		return "", err
	}
	if err := os.Mkdir(staging, privateDir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(staging, name)); err != nil {
			return "", fmt.Errorf("move the state in %s, which other users have access to: %w", dir, err)
		}
	}
	if err := os.Rename(staging, home); err != nil {
		return "", err
	}
	return home, SyncDir(dir)
}

// stateIn returns the names of the files that an earlier version kept directly in a directory.
func stateIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if isState(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// isState reports whether a name is that of a file of the journal or of its storage engine.
func isState(name string) bool {
	known := []string{LockFile, "CURRENT", "control.sock"}
	begin := []string{"MANIFEST-", "OPTIONS-", "marker.", "sent-backup-"}
	end := []string{".sst", ".log", ".blob"}
	return slices.Contains(known, name) ||
		slices.ContainsFunc(begin, func(s string) bool { return strings.HasPrefix(name, s) }) ||
		slices.ContainsFunc(end, func(s string) bool { return strings.HasSuffix(name, s) && isNumber(strings.TrimSuffix(name, s)) })
}

func isNumber(name string) bool {
	return name != "" && strings.Trim(name, "0123456789") == ""
}

// makePrivate removes the permissions of other users for a home and everything in it.
func makePrivate(home string) error {
	home, err := filepath.EvalSymlinks(home) // the walk does not follow links
	if err != nil {
		return err
	}
	return filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		mode := fs.FileMode(privateFile)
		switch {
		case e.IsDir():
			mode = privateDir
		case !e.Type().IsRegular():
			return nil // the control socket sets its own mode; a link is not ours
		}
		info, err := e.Info()
		if err != nil || info.Mode().Perm()&othersMask == 0 {
			return err
		}
		return os.Chmod(path, mode)
	})
}
