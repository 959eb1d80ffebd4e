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

// Reasons why writes to a directory or a file can succeed and still be lost.
var (
	errRemoved  = errors.New("it was removed")
	errReplaced = errors.New("another directory is in its place")
	errForeign  = errors.New("it doesn't contain the data that this server wrote: restore that data, or restart the server to continue with what is there")
)

// home identifies the directory of a journal as it was when the journal was opened. Writes to an open file succeed even
// if its directory was moved away, removed, or hidden by a mount. Only a look at the directory itself reveals that.
//
// This can't happen to a file system other than the operating system's.
type home struct {
	dir   string
	found atomic.Pointer[os.FileInfo] // nil if the file system is not the operating system's
}

// findHome records which directory dir is now.
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

// checkPresent returns nil if the directory is still the same, and the reason if not.
func (h *home) checkPresent() error {
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

// unlinked reports whether an open file was removed from its directory.
func unlinked(file vfs.File) bool {
	if file.Fd() == vfs.InvalidFd {
		return false // not a file of the operating system, or closed
	}
	info, err := file.Stat()
	if err != nil {
		return false // a write will report the error
	}
	n, ok := links(info)
	return ok && n == 0
}

// recheckHome checks that the directory is still there. If another one is in its place, recheckHome adopts and locks
// it, provided that it contains an engine: it may be the same directory on a file system that was mounted again.
func (j *Journal) recheckHome() error {
	if err := j.home.checkPresent(); !errors.Is(err, errReplaced) {
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

// lockAgain locks the directory that is in place now.
func (j *Journal) lockAgain() error {
	if j.lock != nil {
		j.lock.Close() //nolint:errcheck // the directory that it locks can't be reached any more
		j.lock = nil
	}
	return j.lockDir()
}
