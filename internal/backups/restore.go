package backups

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
)

// Restore copies a backup into a directory for DATA_DIR, which must be missing or empty: see [datadir.Restore]. The
// copy is checked before it takes its place.
func Restore(ctx context.Context, backup, dataDir string) error {
	backup = datadir.Find(backup)
	names, err := filesOf(backup)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(backup, datadir.LockFile)); err == nil {
		unlock, err := journal.Lock(backup)
		if err != nil {
			return fmt.Errorf("%s is no backup, but the state of a server that may be running: make a backup with kubeagents backup, or stop that server", backup)
		}
		defer unlock() //nolint:errcheck // nothing is written
	}
	return datadir.Restore(dataDir, journal.Lock, func(staging string) error {
		for _, name := range names {
			if err := copyFile(ctx, filepath.Join(backup, name), filepath.Join(staging, name)); err != nil {
				return err
			}
		}
		if err := journal.Check(ctx, staging); err != nil {
			return fmt.Errorf("%s can't be restored: %w", backup, err)
		}
		return nil
	})
}

// filesOf returns the names of the files in a backup.
func filesOf(backup string) (names []string, err error) {
	entries, err := os.ReadDir(backup)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no backup %s", backup)
	case err != nil:
		return nil, fmt.Errorf("the backup can't be read: %v", err) //nolint:errorlint // it is no error of DATA_DIR
	}
	found := false
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != datadir.LockFile {
			names = append(names, e.Name())
			found = found || strings.HasPrefix(e.Name(), "marker.manifest.")
		}
	}
	if found {
		return names, nil
	}
	if several, err := namesIn(backup); err == nil && len(several) > 0 {
		return nil, fmt.Errorf("%s is a folder of backups: name one of them, such as the newest, %s", backup, filepath.Join(backup, several[len(several)-1]))
	}
	return nil, fmt.Errorf("%s is no backup", backup)
}

// copyFile copies a file, unless ctx is done.
func copyFile(ctx context.Context, from, to string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	file, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("the backup can't be read: %v", err) //nolint:errorlint // it is no error of DATA_DIR
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return writeFile(to, file, info.Size())
}

// Replace puts the backup in a tar archive into a directory for DATA_DIR, in the place of the state that may be there:
// see [datadir.Replace]. It is checked before it takes its place. No server may use the directory.
func Replace(ctx context.Context, archive io.Reader, dataDir string) error {
	return datadir.Replace(dataDir, journal.Lock, func(staging string) error {
		if err := extract(archive, staging); err != nil {
			return err
		}
		return journal.Check(ctx, staging)
	})
}
