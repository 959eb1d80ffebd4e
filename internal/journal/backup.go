package journal

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Backup writes a consistent copy of the journal to a directory that must not exist yet. The copy contains every record
// acknowledged before the call, and can be opened as a journal. It is cheap where tables can be hard-linked. The
// journal accepts records during the backup.
func (j *Journal) Backup(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s is not an absolute path", dir)
	}
	if err := j.checkBackupDir(dir); err != nil {
		return err
	}
	partial := j.fs.PathJoin(j.fs.PathDir(dir), "."+j.fs.PathBase(dir)+".partial-"+rand.Text()[:8])
	err := j.copyTo(partial)
	if err == nil {
		err = j.fs.Rename(partial, dir)
	}
	if errors.Is(err, fs.ErrPermission) {
		err = &wrapped{fmt.Sprintf("the server's user may not write to %s: let it, or choose another directory", filepath.Dir(dir)), err}
	}
	if err != nil {
		return errors.Join(err, j.fs.RemoveAll(partial))
	}
	return j.syncDir(j.fs.PathDir(dir))
}

// checkBackupDir returns nil if a copy can be written to a directory, and the reason if not.
func (j *Journal) checkBackupDir(dir string) error {
	_, err := j.fs.Stat(dir)
	if vfs.Root(j.fs) == vfs.Default {
		_, err = os.Lstat(dir) // a dangling link exists, too
	}
	switch {
	case err == nil:
		return fmt.Errorf("%s already exists: choose a directory that does not exist yet", dir)
	case !errors.Is(err, os.ErrNotExist):
		return err
	case vfs.Root(j.fs) != vfs.Default:
		return nil
	}
	parent, err := absolute(filepath.Dir(dir))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no directory %s to write the backup to: make it first, or choose another directory", filepath.Dir(dir))
	case err != nil:
		return fmt.Errorf("the parent directory of %s: %w", dir, err)
	}
	home, err := absolute(j.dir)
	if err != nil {
		return err
	}
	if parent == home || strings.HasPrefix(parent, home+string(filepath.Separator)) {
		return fmt.Errorf("%s is inside %s, which holds the server's state: choose a directory outside of it", dir, home)
	}
	return nil
}

// absolute returns the absolute path of what is at path, without links.
func absolute(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// syncDir makes the renames in a directory durable.
func (j *Journal) syncDir(dir string) error {
	d, err := j.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyTo makes the engine write a copy of itself to a directory.
func (j *Journal) copyTo(dir string) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	return j.engine.isolate(func() error { return j.engine.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
}

// sentBackupPrefix starts the names of the directories within the journal's that hold copies while they are sent.
const sentBackupPrefix = "sent-backup-"

// SendBackup makes a copy as [Journal.Backup] does and writes it as a tar archive, which contains the files of the copy
// without a directory. It calls begin when the copy is complete, and writes the archive to the writer that begin
// returns.
func (j *Journal) SendBackup(begin func() io.Writer) (err error) {
	dir := j.fs.PathJoin(j.dir, sentBackupPrefix+rand.Text())
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

// archive adds a file in a directory to an archive.
func (j *Journal) archive(to *tar.Writer, dir, name string) error {
	file, err := j.fs.Open(j.fs.PathJoin(dir, name))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
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

// removeSentBackups removes the copies that an earlier process was still sending when it ended.
func (j *Journal) removeSentBackups() error {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, sentBackupPrefix) {
			if err := j.fs.RemoveAll(j.fs.PathJoin(j.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
