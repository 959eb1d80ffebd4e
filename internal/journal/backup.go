package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	if _, err := j.fs.Stat(dir); err == nil {
		return fmt.Errorf("%s is there already", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	err := j.engine.apart(func() error { return j.engine.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
	if err == nil && j.fs == vfs.Default {
		err = os.Chmod(dir, 0o700)
	}
	return err
}
