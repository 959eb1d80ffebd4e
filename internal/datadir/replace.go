package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	replacingFolder = ".kubeagents.replacing" // in which [Replace] puts the state together
	replacedFolder  = ".kubeagents.replaced"  // the home that is being replaced
)

// Replace is like [Restore] for a directory that may hold state already: the new state takes its place. [Prepare]
// returns the new home afterwards, which may differ from the old one.
//
// A crash at any moment leaves the old state or the new one, as a whole: Prepare, and the next Replace, finish or undo
// what broke off. Both are on the disk until the new one is in place.
//
// Replace calls lock for the old home before it changes anything.
func Replace(dir string, lock func(dir string) (unlock func() error, err error), write func(staging string) error) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := checkRestored(dir); err != nil {
		return err
	}
	if err := settle(dir, lock); err != nil {
		return err
	}
	unlock, err := lock(Find(dir))
	if err != nil {
		return err
	}
	staging := filepath.Join(dir, replacingFolder)
	err = os.Mkdir(staging, privateDir)
	if err == nil {
		err = write(staging)
	}
	if err == nil {
		err = SyncDir(staging)
	}
	err = errors.Join(err, unlock()) // some systems don't rename a directory with an open file
	if err == nil {
		err = swap(dir, staging)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	return settle(dir, lock)
}

// swap makes the state in a folder the home.
func swap(dir, staging string) error {
	inner, replaced := filepath.Join(dir, Folder), filepath.Join(dir, replacedFolder)
	if Find(dir) != inner {
		// settle removes the state beside the new home if it finds this folder.
		if err := errors.Join(os.Mkdir(replaced, privateDir), SyncDir(dir)); err != nil {
			return err
		}
		return errors.Join(os.Rename(staging, inner), SyncDir(dir))
	}
	if err := errors.Join(os.Rename(inner, replaced), SyncDir(dir)); err != nil {
		return err
	}
	if err := os.Rename(staging, inner); err != nil {
		return errors.Join(err, os.Rename(replaced, inner))
	}
	return SyncDir(dir)
}

// settle finishes a replacement of the home that is in place, and undoes one that is not.
func settle(dir string, lock func(dir string) (unlock func() error, err error)) (err error) {
	replacing, replaced := filepath.Join(dir, replacingFolder), filepath.Join(dir, replacedFolder)
	for _, path := range []string{replacing, replaced, filepath.Join(dir, Folder)} {
		if err := checkOwned(path); err != nil {
			return err
		}
	}
	if !exists(replacing) && !exists(replaced) {
		return nil
	}
	unlock, err := lock(Find(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(replaced) {
		if err := settleReplaced(dir, replaced); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(replacing), SyncDir(dir))
}

// settleReplaced removes the old state if the new one is in place, and else makes it the home again.
func settleReplaced(dir, replaced string) error {
	inner := filepath.Join(dir, Folder)
	if exists(inner) {
		if err := removeState(dir); err != nil {
			return err
		}
		return os.RemoveAll(replaced)
	}
	entries, err := os.ReadDir(replaced)
	if err != nil {
		return err
	}
	if len(entries) == 0 { // the old state is in the directory itself
		return os.Remove(replaced)
	}
	return errors.Join(os.Rename(replaced, inner), SyncDir(dir))
}

// removeState removes the state that is directly in a directory.
func removeState(dir string) error {
	names, err := stateIn(dir)
	for _, name := range append(names, movingFolder) {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(err, SyncDir(dir))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
