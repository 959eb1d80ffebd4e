package journal

import (
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is a file system that can be closed to whoever writes through it: once closed, nothing reaches
// the disk any more. An engine that failed is given up behind its fence, whatever its goroutines still do, and
// another is opened on the same directory.
//
// Whoever wants to write then waits, because an engine tries again and again what it can't do; once the fence is
// released, all get an error.
type fence struct {
	vfs.FS

	mu       sync.RWMutex  // held for reading by each change under way
	err      error         // why it is closed; nil while it is open
	released chan struct{} // closed to let go of those who wait
	once     sync.Once
}

func newFence(fs vfs.FS) *fence { return &fence{FS: fs, released: make(chan struct{})} }

// close closes the fence, and waits for changes under way.
func (f *fence) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// release lets go of those who wait at a closed fence.
func (f *fence) release() { f.once.Do(func() { close(f.released) }) }

// through makes a change if the fence is open.
func (f *fence) through(change func() error) error {
	closed, err := f.try(change)
	if closed {
		<-f.released
	}
	return err
}

func (f *fence) try(change func() error) (closed bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.err != nil {
		return true, f.err
	}
	return false, change()
}

// file makes a change that opens a file.
func (f *fence) file(open func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.through(func() error {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &fencedFile{file, f}, nil
}

// Create implements vfs.FS.
func (f *fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir implements vfs.FS: a directory is opened to be synced.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	return f.through(func() error { return f.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	return f.through(func() error { return f.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	return f.through(func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	return f.through(func() error { return f.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	return f.through(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS. The journal holds the lock of its directory itself, over the life of all engines.
func (f *fence) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file that was opened through a fence.
type fencedFile struct {
	vfs.File
	fence *fence
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.fence.through(func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fence.through(func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// Preallocate implements vfs.File.
func (f *fencedFile) Preallocate(offset, length int64) error {
	return f.fence.through(func() error { return f.File.Preallocate(offset, length) })
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error { return f.fence.through(f.File.Sync) }

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error { return f.fence.through(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.fence.through(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
