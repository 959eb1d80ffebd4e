package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What has become of a directory or a file, where a change to it may go well and still be lost.
var (
	errRemoved  = errors.New("it was removed")
	errReplaced = errors.New("another directory is in its place")
	errForeign  = errors.New("it does not hold what this server wrote: bring that back, or restart the server to go on with what is there")
)

// home is the directory of a journal, as it was when the journal was opened there. Whoever writes to a file of a directory that was
// moved away, removed, or hidden by another file system is told that all went well; only the directory itself tells.
//
// A file system that is not the machine's own has no such troubles.
type home struct {
	dir   string
	found atomic.Pointer[os.FileInfo] // nil where the file system is not the machine's
}

// findHome finds out which directory dir is.
func findHome(fs vfs.FS, dir string) (*home, error) {
	h := &home{dir: dir}
	if vfs.Root(fs) != vfs.Default {
		return h, nil
	}
	return h, h.find()
}

func (h *home) find() error {
	info, err := os.Stat(h.dir)
	if err == nil {
		h.found.Store(&info)
	}
	return err
}

// present returns nil if the directory is the one that it was.
func (h *home) present() error {
	found := h.found.Load()
	if found == nil {
		return nil
	}
	info, err := os.Stat(h.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %w", h.dir, errRemoved)
	case err != nil:
		return err
	case !os.SameFile(*found, info):
		return fmt.Errorf("%s: %w", h.dir, errReplaced)
	}
	return nil
}

// unlinked reports whether a file has no name any more.
func unlinked(file vfs.File) bool {
	if file.Fd() == vfs.InvalidFd {
		return false // it is none of the machine's, or closed
	}
	info, err := file.Stat()
	if err != nil {
		return false // what is written to it says so
	}
	n, ok := links(info)
	return ok && n == 0
}

// comeHome goes on in the directory where another is in its place now: it may be the same one on a file system that was mounted again.
func (j *Journal) comeHome() error {
	if err := j.home.present(); !errors.Is(err, errReplaced) {
		return err
	}
	names, err := j.fs.List(j.dir)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "marker.manifest.") }) {
		return fmt.Errorf("%s: %w", j.dir, errForeign)
	}
	if err := j.lockAgain(); err != nil {
		return err
	}
	return j.home.find()
}

// lockAgain locks the directory that is there now.
func (j *Journal) lockAgain() error {
	if j.lock != nil {
		j.lock.Close() //nolint:errcheck // nobody can use what it locks
		j.lock = nil
	}
	return j.lockDir()
}
