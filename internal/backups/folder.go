package backups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/kubeagents/kubeagents/internal/datadir"
)

// nameFormat is the format of the names of backups in a folder, which are times in UTC. They sort by age.
const nameFormat = "20060102T150405Z"

// lockName is the name of the file by which a folder is locked.
const lockName = ".lock"

// partialName matches the names of partial backups in a folder.
var partialName = regexp.MustCompile(`^\.(\d{8}T\d{6}Z)\.partial-[A-Z2-7]{8}$`)

// Folder is a folder of backups that is locked for this process. Other things in it are left alone.
type Folder struct {
	path string
	lock io.Closer
}

// OpenFolder opens a folder, which must exist. The error says whether another process makes a backup in it.
func OpenFolder(path string) (*Folder, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s for the backups: make it first, or choose another one", path)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a folder: choose another one for the backups", path)
	}
	lock, err := vfs.Default.Lock(filepath.Join(path, lockName))
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && !errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("another command makes a backup in %s: wait until it has finished", path)
	case err != nil:
		return nil, fmt.Errorf("lock the folder of backups: %w", err)
	}
	return &Folder{path, lock}, nil
}

// Close unlocks the folder.
func (f *Folder) Close() error { return f.lock.Close() }

// New returns the path for a backup that is made now.
func (f *Folder) New(now time.Time) string {
	return filepath.Join(f.path, now.UTC().Format(nameFormat))
}

// RemovePartial removes the partial backups that commands have left that were interrupted.
func (f *Folder) RemovePartial() error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && partialName.MatchString(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.path, e.Name())))
		}
	}
	return err
}

// Keep removes the oldest backups until there are n, and returns the paths of those that it removed. It does not remove
// the backup newest, even if the clock says that it is the oldest.
func (f *Folder) Keep(n int, newest string) (removed []string, err error) {
	names, err := namesIn(f.path)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == filepath.Base(newest) })
	for _, name := range names[:max(0, len(names)+1-n)] {
		path := filepath.Join(f.path, name)
		if err := f.Remove(path); err != nil {
			return removed, err
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// Remove removes a backup.
func (f *Folder) Remove(path string) error {
	partial := partialOf(path)
	if err := os.Rename(path, partial); err != nil {
		return err
	}
	if err := datadir.SyncDir(f.path); err != nil {
		return err
	}
	return os.RemoveAll(partial)
}

// namesIn returns the names of the backups in a folder, the oldest first.
func namesIn(folder string) (names []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := time.Parse(nameFormat, e.Name()); err == nil && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil // os.ReadDir sorts them
}
