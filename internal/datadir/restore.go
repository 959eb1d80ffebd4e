package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kubeagents/kubeagents/config"
)

// restoringFolder is the name of the folder in which [Restore] puts the state together.
const restoringFolder = ".kubeagents.restoring"

// LockFile is the name of the file by which a server, or a restore, locks a directory. Backups have none.
const LockFile = "LOCK"

// HoldsState reports whether a server has kept state in a directory that an operator named. The directory need not
// exist.
func HoldsState(dir string) (bool, error) {
	entries, err := entriesOf(dir)
	return slices.ContainsFunc(entries, func(name string) bool {
		return name == Folder || name == movingFolder || isState(name)
	}), err
}

// Restore fills a directory that an operator named with the state that write writes to the directory that it is given.
// The directory must be missing or empty: the directory lost+found of a new file system may be in it. [Find] and
// [Prepare] return the new home afterwards.
//
// The state is in place as a whole, or not at all, even after a crash: it is put together in a folder, which gets the
// name of a home when it is complete. [Prepare] refuses a directory with such a folder, so that a server does not start
// without the state that was to be restored. The next Restore starts over.
//
// Restore calls lock before it changes anything in the directory, as Prepare does.
func Restore(dir string, lock func(dir string) (unlock func() error, err error), write func(staging string) error) (err error) {
	if err := checkEmpty(dir); err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(filepath.Join(dir, LockFile)) //nolint:errcheck // where an open file can't be removed, it stays
		err = errors.Join(err, unlock())
	}()
	if err := checkEmpty(dir); err != nil { // again, because another restore may have ended meanwhile
		return err
	}
	staging, err := stage(dir)
	if err != nil {
		return err
	}
	err = write(staging)
	if err == nil {
		err = finish(dir, staging)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	return SyncDir(dir)
}

// makeDir makes a directory, unless it exists.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, privateDir); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}

// stage returns the folder in which the state is put together. It is empty, even if a restore broke off.
func stage(dir string) (staging string, err error) {
	staging = filepath.Join(dir, restoringFolder)
	if err := checkOwned(staging); err != nil {
		return "", err
	}
	if err := os.Mkdir(staging, privateDir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	leftovers, err := os.ReadDir(staging)
	if err != nil {
		return "", err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(filepath.Join(staging, leftover.Name())); err != nil {
			return "", err
		}
	}
	return staging, SyncDir(dir)
}

// finish makes the state the home, unless a server has started meanwhile.
func finish(dir, staging string) error {
	if err := SyncDir(staging); err != nil {
		return err
	}
	if err := checkEmpty(dir); err != nil {
		return err
	}
	return os.Rename(staging, filepath.Join(dir, Folder))
}

// checkEmpty returns an error that says what to do unless state can be restored into a directory.
func checkEmpty(dir string) error {
	entries, err := entriesOf(dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	held, err := HoldsState(dir)
	if held {
		err = fmt.Errorf("DATA_DIR %s already holds state: stop the server and move the directory away, or set DATA_DIR to another one", dir)
	} else if err == nil {
		err = fmt.Errorf("DATA_DIR %s is not empty, it contains %s: move that away, or set DATA_DIR to a directory that is empty or does not exist", dir, entries[0])
	}
	return err
}

// entriesOf returns the names of what is in a directory, except for what a restore or a file system puts there.
func entriesOf(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !slices.Contains([]string{LockFile, restoringFolder, "lost+found"}, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// checkRestored returns an error if a restore into a directory broke off.
func checkRestored(dir string) error {
	staging := filepath.Join(dir, restoringFolder)
	if _, err := os.Lstat(staging); err != nil {
		return nil // Prepare finds out whether the directory can be used
	}
	return &config.SettingError{Err: fmt.Errorf("a restore into DATA_DIR %s is under way or broke off: run kubeagents restore again, or remove %s to do without it", dir, staging)}
}
