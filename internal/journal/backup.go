package journal

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Backup writes a consistent copy of the journal, with every record that was acknowledged before, to a directory that must not
// be there yet. Tables are linked where they can be, so that it costs little. Records are taken meanwhile. A journal
// opens in the copy as it is.
func (j *Journal) Backup(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s is not an absolute path", dir)
	}
	if err := j.fit(dir); err != nil {
		return err
	}
	partial := j.fs.PathJoin(j.fs.PathDir(dir), "."+j.fs.PathBase(dir)+".partial-"+rand.Text()[:8])
	err := j.copyTo(partial)
	if err == nil {
		err = j.fs.Rename(partial, dir)
	}
	if err != nil {
		return errors.Join(err, j.fs.RemoveAll(partial))
	}
	return j.syncDir(j.fs.PathDir(dir))
}

// fit returns why a copy can't be written to a directory, or nil.
func (j *Journal) fit(dir string) error {
	_, err := j.fs.Stat(dir)
	if vfs.Root(j.fs) == vfs.Default {
		_, err = os.Lstat(dir) // a link that leads nowhere is there, too
	}
	switch {
	case err == nil:
		return fmt.Errorf("%s is there already", dir)
	case !errors.Is(err, os.ErrNotExist):
		return err
	case vfs.Root(j.fs) != vfs.Default:
		return nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("the directory that %s would be in: %w", dir, err)
	}
	home, err := filepath.EvalSymlinks(j.dir)
	if err != nil {
		return err
	}
	if parent == home || strings.HasPrefix(parent, home+string(filepath.Separator)) {
		return fmt.Errorf("%s is in %s, where the server keeps its state: name a directory elsewhere", dir, home)
	}
	return nil
}

// syncDir has the names in a directory be durable.
func (j *Journal) syncDir(dir string) error {
	d, err := j.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyTo has the engine write the copy.
func (j *Journal) copyTo(dir string) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	return j.engine.apart(func() error { return j.engine.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
}

// sentBackups begins the names of the directories, in that of the journal, that hold copies while they are sent.
const sentBackups = "sent-backup-"

// SendBackup has begin return where to write a tar archive of such a copy (the files of one directory, without its name) once the
// copy is there, and writes it.
func (j *Journal) SendBackup(begin func() io.Writer) (err error) {
	dir := j.fs.PathJoin(j.dir, sentBackups+rand.Text())
	defer func() { err = errors.Join(err, j.fs.RemoveAll(dir)) }()
	if err := j.copyTo(dir); err != nil {
		return err
	}
	names, err := j.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	archive := tar.NewWriter(begin())
	for _, name := range names {
		if err := j.archive(archive, dir, name); err != nil {
			return err
		}
	}
	return archive.Close()
}

// archive adds a file of a directory to an archive.
func (j *Journal) archive(to *tar.Writer, dir, name string) error {
	file, err := j.fs.Open(j.fs.PathJoin(dir, name))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it is only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := to.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return err
	}
	_, err = io.Copy(to, file)
	return err
}

// removeSent removes what was being sent when an earlier process ended.
func (j *Journal) removeSent() error {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, sentBackups) {
			if err := j.fs.RemoveAll(j.fs.PathJoin(j.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
