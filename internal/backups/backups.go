// Package backups writes backups of a server's state to directories, keeps the newest ones in a folder, and restores
// them.
//
// # Invariants
//
// A backup has its name only once it is complete, synced and checked. Until then, and while it is being removed, it is
// a partial backup, whose name begins with a dot.
package backups

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
)

// Receive writes a backup that arrives as a tar archive, as GET /api/backup sends it, to a directory that must not
// exist yet. If the archive breaks off, or if the backup in it can't be restored, nothing is left.
func Receive(ctx context.Context, archive io.Reader, dir string) error {
	if err := checkNew(dir); err != nil {
		return err
	}
	partial := partialOf(dir)
	if err := os.Mkdir(partial, 0o700); err != nil {
		return err
	}
	err := extract(archive, partial)
	if err == nil {
		err = datadir.SyncDir(partial)
	}
	if err == nil {
		err = journal.Check(ctx, partial)
	}
	if err == nil {
		err = os.Rename(partial, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	return datadir.SyncDir(filepath.Dir(dir))
}

// checkNew returns an error unless a directory can be made.
func checkNew(dir string) error {
	switch _, err := os.Lstat(dir); {
	case err == nil:
		return fmt.Errorf("%s already exists: choose a directory that does not exist yet", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s to write the backup to: make it first, or choose another directory", filepath.Dir(dir))
	}
	return nil
}

// partialOf returns a name for a backup that is not complete. The server uses such names, too.
func partialOf(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-"+rand.Text()[:8])
}
