package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// failingDisk makes some changes to a disk fail while it is on.
type failingDisk struct {
	on    atomic.Bool
	fails func(op errorfs.Op) error
	hits  atomic.Int64
}

// MaybeError implements errorfs.Injector.
func (f *failingDisk) MaybeError(op errorfs.Op) error {
	if !f.on.Load() {
		return nil
	}
	err := f.fails(op)
	if err != nil {
		f.hits.Add(1)
	}
	return err
}

func (f *failingDisk) String() string { return "failing disk" }

// changesDir reports whether an operation changes a directory: whether it creates, renames, links or removes something
// in it.
func changesDir(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpRename, errorfs.OpLink, errorfs.OpRemove, errorfs.OpMkdirAll:
		return true
	}
	return false
}

// failures returns ways in which a disk fails, by name. Each returns the error for a change, or nil if that change
// succeeds.
func failures() map[string]func(op errorfs.Op) error {
	only := func(err error, when func(op errorfs.Op) bool) func(op errorfs.Op) error {
		return func(op errorfs.Op) error {
			if when(op) {
				return err
			}
			return nil
		}
	}
	named := func(match string) func(op errorfs.Op) bool {
		return func(op errorfs.Op) bool {
			ok, _ := path.Match(match, path.Base(op.Path))
			return ok && op.Kind.ReadOrWrite() == errorfs.OpIsWrite
		}
	}
	syncs := func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	}
	all := map[string]func(op errorfs.Op) error{
		"no inodes are left":                      only(syscall.ENOSPC, func(op errorfs.Op) bool { return changesDir(op) && op.Kind != errorfs.OpRemove }),
		"permission is denied":                    only(syscall.EACCES, changesDir),
		"the files are immutable":                 only(syscall.EPERM, changesDir),
		"the directory is gone":                   only(syscall.ENOENT, changesDir),
		"the disk is read-only":                   only(syscall.EROFS, func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }),
		"every change is an I/O error":            only(syscall.EIO, func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }),
		"every sync is an I/O error":              only(syscall.EIO, syncs),
		"writes to logs are I/O errors":           only(syscall.EIO, named("*.log")),
		"writes to tables are I/O errors":         only(syscall.EIO, named("*.sst")),
		"writes to manifests are I/O errors":      only(syscall.EIO, named("MANIFEST-*")),
		"writes to markers are I/O errors":        only(syscall.EIO, named("marker.*")),
		"changes to the directory are I/O errors": only(syscall.EIO, named("data")),
		"too many files are open":                 only(syscall.EMFILE, changesDir),
	}
	return all
}

// TestADiskThatFailsInEachWay makes the disk fail and recover ten times, while enough is recorded that the engine needs
// new logs, tables and manifests. Acknowledged records are kept, refused ones are not, and reads work throughout.
func TestADiskThatFailsInEachWay(t *testing.T) {
	for name, fails := range failures() {
		t.Run(name, func(t *testing.T) {
			disk := &failingDisk{fails: fails}
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, disk)
			j, st := openFailing(t, fs)
			before := runtime.NumGoroutine()
			n := 0
			for round := range 10 {
				n = fillUntilRefused(t, j, st, disk, n, round)
				requireRecorded(t, j, n)
			}
			waitForGoroutines(t, before)
			require.NoError(t, j.Close())
			j, _ = openFailing(t, mem.CrashClone(vfs.CrashCloneCfg{}))
			requireRecorded(t, j, n)
			require.NoError(t, j.Close())
		})
	}
}

func openFailing(t *testing.T, fs vfs.FS) (*Journal, *store.Store) {
	t.Helper()
	return openSyncing(t, fs, 0)
}

// openSyncing is openFailing with the interval at which commits from a stream are synced.
func openSyncing(t *testing.T, fs vfs.FS, every time.Duration) (*Journal, *store.Store) {
	t.Helper()
	small := func(o *pebble.Options) { o.MemTableSize, o.MaxManifestFileSize = 512<<10, 1 }
	j, err := Open(Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler), syncEvery: every, tune: small})
	require.NoError(t, err)
	st := store.New(opts)
	require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, epoch, func(Progress) {}))
	return j, st
}

// largeRecord returns a record that is large enough to fill a log soon.
func largeRecord(n int) models.Record {
	r := recordOf("a", "t", n)
	r.Content = strings.Repeat("x", 40<<10)
	return r
}

// fillUntilRefused records until a record is refused because of the failing disk, repairs the disk, and waits until
// records are accepted again. n is the number of records acknowledged before; it returns the new number.
func fillUntilRefused(t *testing.T, j *Journal, st *store.Store, disk *failingDisk, n, round int) int {
	t.Helper()
	add := func() error {
		r := []models.Record{largeRecord(n)}
		err := j.Append(Commit{Records: r}, func() { st.Apply(r...) })
		if err == nil {
			n++
		}
		return err
	}
	for range 1 + round%4 {
		require.NoError(t, add())
	}
	disk.on.Store(true)
	var err error
	for tries := 0; err == nil; tries++ {
		if tries%8 == 7 {
			j.File() //nolint:errcheck // it may fail as well
		}
		err = add()
		require.Less(t, tries, 2000, "the disk never fails")
	}
	var failure *Failure
	require.ErrorAs(t, err, &failure)
	require.NotEmpty(t, failure.Cause)
	require.NotNil(t, j.Failure())
	_, ok := st.Agent("a")
	require.True(t, ok)
	require.Error(t, add())
	disk.on.Store(false)
	for !errors.Is(add(), nil) {
		runtime.Gosched()
	}
	return n
}

func requireRecorded(t *testing.T, j *Journal, n int) {
	t.Helper()
	require.NoError(t, j.File())
	all := messages(t, j, "a", "t")
	require.Equal(t, n, len(all))
	for i, message := range all {
		require.Equal(t, fmt.Sprint("message ", n-1-i), message)
	}
}

// waitForGoroutines waits until the goroutines of all failed engines have ended.
func waitForGoroutines(t *testing.T, before int) {
	t.Helper()
	for range 500 {
		if runtime.NumGoroutine() <= before+5 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("%d goroutines, of %d before: %s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

// TestAFailedBackupLeavesNothing makes the disk fail at each change in turn that a backup makes.
func TestAFailedBackupLeavesNothing(t *testing.T) {
	changes := 0
	for at, broke := 0, true; broke; at++ {
		n := 0
		disk := &failingDisk{fails: func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !strings.Contains(op.Path, ".copy.partial") || op.Kind == errorfs.OpRemoveAll {
				return nil
			}
			if n++; n-1 != at {
				return nil
			}
			return syscall.ENOSPC
		}}
		mem := vfs.NewMem()
		j, st := openFailing(t, errorfs.Wrap(mem, disk))
		for i := range 20 {
			record(t, j, st, recordOf("a", "t", i))
		}
		require.NoError(t, j.File())
		require.NoError(t, mem.MkdirAll("/backups", 0o700))
		disk.on.Store(true)
		err := j.Backup("/backups/copy")
		disk.on.Store(false)
		if broke = err != nil; broke {
			changes++
			names, err := mem.List("/backups")
			require.NoError(t, err)
			require.Empty(t, names)
		} else {
			_, err := mem.Stat("/backups/copy")
			require.NoError(t, err)
		}
		require.NoError(t, j.Close())
	}
	require.Greater(t, changes, 3)
}
