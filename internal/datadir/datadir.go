// Package datadir finds the directory that the server keeps its state in, and keeps others out of it.
//
// # Invariants
//
// What lies in a [Home] can be read and changed by the server's own user alone: its directories have mode 0700, its files 0600. A
// directory that the operator names is used as it is where it is the server's own and private. Any other one, which others may read
// or which something else lies in, is left as it is: the state is in a folder of the server's own in there. Once there is such a
// folder, it is the home, whatever becomes of the directory around it.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is the name of the folder of the server's own in a directory that is not.
const Folder = "kubeagents"

// moving is the name of that folder while the state of an earlier version is moved into it.
const moving = ".kubeagents.moving"

const (
	private     = 0o700
	privateFile = 0o600
	others      = 0o077
)

// Find returns where the state is that belongs to a directory which an operator named. It changes nothing.
func Find(dir string) string {
	inner := filepath.Join(dir, Folder)
	if info, err := os.Stat(inner); err == nil && info.IsDir() {
		return inner
	}
	return dir
}

// Prepare returns where to keep the state that belongs to a directory which an operator named: [Find] finds it afterwards. It makes the
// directory if there is none, moves the state of an earlier version that lies open, and takes from others what they may do with it. lock
// is called with a directory that something is to be moved out of; it returns an error where another program uses it, or what gives
// the lock back.
func Prepare(dir string, lock func(dir string) (unlock func() error, err error)) (home string, err error) {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return dir, os.MkdirAll(dir, private)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s is not a directory", dir)
	}
	home = Find(dir)
	if home == dir {
		if home, err = settle(dir, lock); err != nil {
			return "", err
		}
	}
	return home, closeOff(home)
}

// settle returns the home in a directory that has no folder of the server's own yet.
func settle(dir string, lock func(dir string) (func() error, error)) (home string, err error) {
	began := filepath.Join(dir, moving)
	_, err = os.Stat(began)
	interrupted := err == nil
	if !interrupted && own(dir) {
		return dir, nil
	}
	earlier, err := stateIn(dir)
	if err != nil {
		return "", err
	}
	home = filepath.Join(dir, Folder)
	if len(earlier) == 0 && !interrupted {
		return home, os.Mkdir(home, private)
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if earlier, err = stateIn(dir); err != nil { // now with the lock's file
		return "", err
	}
	if err := os.Mkdir(began, private); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	for _, name := range earlier {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(began, name)); err != nil {
			return "", fmt.Errorf("move the state that lies open in %s: %w", dir, err)
		}
	}
	if err := os.Rename(began, home); err != nil {
		return "", err
	}
	return home, sync(dir)
}

// own reports whether a directory is the server's own, and private.
func own(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&others == 0 && isMine(info)
}

// stateIn returns the names of what an earlier version kept directly in a directory.
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

// isState reports whether a name is one of the journal's files: those of its engine, and its own.
func isState(name string) bool {
	known := []string{"LOCK", "CURRENT", "control.sock"}
	begin := []string{"MANIFEST-", "OPTIONS-", "marker.", "sent-backup-"}
	end := []string{".sst", ".log", ".blob"}
	return slices.Contains(known, name) ||
		slices.ContainsFunc(begin, func(s string) bool { return strings.HasPrefix(name, s) }) ||
		slices.ContainsFunc(end, func(s string) bool { return strings.HasSuffix(name, s) && numbered(strings.TrimSuffix(name, s)) })
}

func numbered(name string) bool {
	return name != "" && strings.Trim(name, "0123456789") == ""
}

// closeOff takes from others what they may do with a home and what lies in it.
func closeOff(home string) error {
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
			mode = private
		case !e.Type().IsRegular():
			return nil // a socket has a mode of its own; a link is none of ours
		}
		info, err := e.Info()
		if err != nil || info.Mode().Perm()&others == 0 {
			return err
		}
		return os.Chmod(path, mode)
	})
}

// sync has the names in a directory be durable.
func sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
