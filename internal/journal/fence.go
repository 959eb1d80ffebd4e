package journal

import (
	"cmp"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is a file system that stands between an engine and the disk, and can be closed. After that, no change reaches
// the disk. An engine that failed is abandoned behind its closed fence, whatever its goroutines still do, and a new
// engine is opened in the same directory.
//
// Behind a closed fence, changes first wait, so that the engine continues to serve reads. When the fence is released,
// all changes pretend to succeed without having any effect, so that the engine finishes what it is doing and can be
// closed. Nothing that it reports after the fence was closed can be trusted. Vital changes never return an error. These
// are changes to the engine's log, its manifest and its directory. To make them, the engine releases locks that it
// doesn't reacquire after an error, which would end the process. Instead, the fence reports the error with fail and
// closes, and the change waits. While the engine is being opened, all changes are vital, because its cleanup after an
// error would interfere with what it has started in the background.
type fence struct {
	vfs.FS
	dir          string       // the engine's directory
	fail         func(error)  // abandons the engine and closes the fence
	checkPresent func() error // returns an error if the directory was removed or replaced

	opened atomic.Bool          // the engine is open
	log    atomic.Pointer[file] // the engine's current log file

	mu       sync.RWMutex  // held for reading during each change
	err      error         // why the fence is closed; nil while it is open
	released chan struct{} // closed when the fence is released
	once     sync.Once
}

// file is an open file with its name.
type file struct {
	vfs.File
	name string
}

func newFence(fs vfs.FS, dir string, fail func(error), checkPresent func() error) *fence {
	return &fence{FS: fs, dir: fs.PathDir(fs.PathJoin(dir, "name")), fail: fail, checkPresent: checkPresent, released: make(chan struct{})}
}

// close waits for changes in progress, and closes the fence.
func (f *fence) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// release ends the wait of changes at the closed fence.
func (f *fence) release() { f.once.Do(func() { close(f.released) }) }

// through makes a change if the fence is open. If it is closed, or if a vital change fails, through waits until the
// fence is released, and returns nil.
func (f *fence) through(vital bool, change func() error) error {
	closed, err := f.try(change)
	if !closed && err != nil && (vital || !f.opened.Load()) {
		f.fail(err)
		closed = true
	}
	if !closed {
		return err
	}
	<-f.released
	return nil
}

func (f *fence) try(change func() error) (closed bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.err != nil {
		return true, f.err
	}
	return false, change()
}

// The write categories of the engine's vital files.
const (
	categoryLog      vfs.DiskWriteCategory = "pebble-wal"
	categoryManifest vfs.DiskWriteCategory = "pebble-manifest"
)

// vital reports whether changes to a file are vital: whether it is a log, a manifest, or a marker that names the
// current manifest.
func (f *fence) vital(name string, category vfs.DiskWriteCategory) bool {
	return f.PathDir(name) == f.dir &&
		(category == categoryLog || category == categoryManifest || strings.HasPrefix(f.PathBase(name), "marker."))
}

// open opens a file, as a change.
func (f *fence) open(name string, vital bool, open func() (vfs.File, error)) (*fencedFile, error) {
	opened := &fencedFile{File: discardFile{}, fence: f, vital: vital}
	err := f.through(vital, func() error {
		file, err := open()
		if err == nil {
			opened.File = file
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// write is open for a file that is about to be written.
func (f *fence) write(name string, category vfs.DiskWriteCategory, open func() (vfs.File, error)) (vfs.File, error) {
	if f.PathDir(name) == f.dir {
		open = f.inPlace(open)
	}
	opened, err := f.open(name, f.vital(name, category), open)
	if err != nil {
		return nil, err
	}
	if category == categoryLog && f.PathDir(name) == f.dir {
		f.log.Store(&file{opened.File, name})
	}
	opened.manifest = opened.vital && category == categoryManifest
	return opened, nil
}

// inPlace wraps open with checks that the directory has not been replaced, before and after. Otherwise a table could be
// written to the directory that took its place, while the manifest that names the table is in the old one.
func (f *fence) inPlace(open func() (vfs.File, error)) func() (vfs.File, error) {
	return func() (vfs.File, error) {
		if err := f.checkPresent(); err != nil {
			return nil, err
		}
		opened, err := open()
		if err != nil {
			return nil, err
		}
		if err := f.checkPresent(); err != nil {
			return nil, errors.Join(err, opened.Close())
		}
		return opened, nil
	}
}

// Create implements vfs.FS.
func (f *fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.write(name, category, func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.write(name, category, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.write(newname, category, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir implements vfs.FS. The engine opens a directory to sync it, which is a change.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	opened, err := f.open(name, f.PathJoin(name) == f.dir, func() (vfs.File, error) { return f.FS.OpenDir(name) })
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	return f.through(false, func() error { return f.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	var missing error // removing a missing file is not a failure
	err := f.through(f.vital(name, ""), func() error {
		err := f.FS.Remove(name)
		if errors.Is(err, os.ErrNotExist) {
			missing, err = err, nil
		}
		return err
	})
	return cmp.Or(err, missing)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	return f.through(false, func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	return f.through(f.vital(newname, ""), func() error { return f.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	return f.through(false, func() error { return f.FS.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS. It does nothing, because the journal itself holds the lock of its directory for the lifetime
// of all engines.
func (f *fence) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file opened through a fence.
type fencedFile struct {
	vfs.File
	fence    *fence
	vital    bool
	manifest bool
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.fence.through(f.vital, func() error {
		if f.manifest { // the tables that it is about to name must be in this directory
			if err := f.fence.checkPresent(); err != nil {
				return err
			}
		}
		n, err = f.File.Write(p)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fence.through(f.vital, func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// Preallocate implements vfs.File.
func (f *fencedFile) Preallocate(offset, length int64) (failed error) {
	f.fence.through(false, func() error { //nolint:errcheck // preallocation is optional
		failed = f.File.Preallocate(offset, length)
		return nil
	})
	return failed
}

// Close implements vfs.File. It closes the file even behind a closed fence.
func (f *fencedFile) Close() error {
	err := f.File.Close()
	if err == nil || !f.vital {
		return err
	}
	return f.fence.through(true, func() error { return err })
}

// Stat implements vfs.File.
func (f *fencedFile) Stat() (info vfs.FileInfo, err error) {
	info, err = f.File.Stat()
	if err == nil || !f.vital {
		return info, err
	}
	info, _ = discardFile{}.Stat()
	return info, f.fence.through(true, func() error { return err })
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error { return f.fence.through(f.vital, f.File.Sync) }

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error { return f.fence.through(f.vital, f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.fence.through(f.vital, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
