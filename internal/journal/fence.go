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

// fence is a file system that can be closed to whoever writes through it: once closed, nothing reaches
// the disk any more. An engine that failed is given up behind its fence, whatever its goroutines still do, and
// another is opened on the same directory.
//
// Whoever wants to write then waits, so that the engine goes on to answer reads. Once the fence is released, all are told
// that what they wanted went well, so that the engine comes to an end of what it does and can be closed. Nothing that
// it says after the fence closed may be believed.
//
// What is vital never fails: where the engine writes its log, its manifest and its directory, it has let go of locks that
// it does not get back after an error, and the process would end. So the fence itself reports such an error and closes,
// and the engine waits as well. While the engine opens, everything is vital: it would clean up after an error under the
// feet of what it has begun in the background.
type fence struct {
	vfs.FS
	dir     string       // what is vital is there
	fail    func(error)  // gives the engine up, and closes the fence
	present func() error // says whether the directory is still the one that it was

	opened atomic.Bool          // the engine is open
	log    atomic.Pointer[file] // the engine's log, as it is now

	mu       sync.RWMutex  // held for reading by each change under way
	err      error         // why it is closed; nil while it is open
	released chan struct{} // closed to let go of those who wait
	once     sync.Once
}

// file is an open file, and what it is called.
type file struct {
	vfs.File
	name string
}

func newFence(fs vfs.FS, dir string, fail func(error), present func() error) *fence {
	return &fence{FS: fs, dir: fs.PathDir(fs.PathJoin(dir, "name")), fail: fail, present: present, released: make(chan struct{})}
}

// close closes the fence, and waits for changes under way.
func (f *fence) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// release lets go of those who wait at a closed fence.
func (f *fence) release() { f.once.Do(func() { close(f.released) }) }

// through makes a change if the fence is open.
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

// The categories of files that the engine can't go on without.
const (
	categoryLog      vfs.DiskWriteCategory = "pebble-wal"
	categoryManifest vfs.DiskWriteCategory = "pebble-manifest"
)

// vital reports whether the engine can't take an error of a file: it is its log or its manifest, or says which manifest counts.
func (f *fence) vital(name string, category vfs.DiskWriteCategory) bool {
	return f.PathDir(name) == f.dir &&
		(category == categoryLog || category == categoryManifest || strings.HasPrefix(f.PathBase(name), "marker."))
}

// open makes a change that opens a file.
func (f *fence) open(name string, vital bool, open func() (vfs.File, error)) (*fencedFile, error) {
	opened := &fencedFile{File: nowhere{}, fence: f, vital: vital}
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

// write is open for a file that is written from its beginning.
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

// inPlace is open where the directory is the one that it was, before and after. Else a table would be written to what is in its place
// now, and be named by a manifest that is not there.
func (f *fence) inPlace(open func() (vfs.File, error)) func() (vfs.File, error) {
	return func() (vfs.File, error) {
		if err := f.present(); err != nil {
			return nil, err
		}
		opened, err := open()
		if err != nil {
			return nil, err
		}
		if err := f.present(); err != nil {
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

// OpenDir implements vfs.FS: a directory is opened to be synced.
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
	var missing error // which is no failure
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

// Lock implements vfs.FS. The journal holds the lock of its directory itself, over the life of all engines.
func (f *fence) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file that was opened through a fence.
type fencedFile struct {
	vfs.File
	fence    *fence
	vital    bool
	manifest bool
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.fence.through(f.vital, func() error {
		if f.manifest { // the tables that it is about to name must be there
			if err := f.fence.present(); err != nil {
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
	f.fence.through(false, func() error { //nolint:errcheck // nobody needs it to go well
		failed = f.File.Preallocate(offset, length)
		return nil
	})
	return failed
}

// Close implements vfs.File. It closes the file behind a closed fence, too.
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
	info, _ = nowhere{}.Stat()
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
