package journal

import (
	"log/slog"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// TestNotes writes and deletes notes, crashes, and reads them. They are no part of what the store loads, and part of a
// backup.
func TestNotes(t *testing.T) {
	fs := vfs.NewCrashableMem()
	j, st, err := openAndReplay(t, fs, "/data")
	require.NoError(t, err)
	record(t, j, st, recordOf("a", "t", 1))
	before := dumpState(t, j, st)
	require.NoError(t, j.WriteNotes([]Note{{"b", []byte("1")}, {"a\x00x", []byte{}}, {"c", []byte("3")}}))
	require.NoError(t, j.WriteNotes([]Note{{"b", []byte("2")}, {Key: "c"}, {Key: "none such"}}))
	want := []Note{{"a\x00x", []byte{}}, {"b", []byte("2")}}
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Equal(t, want, notes)
	require.NoError(t, j.Backup("/backup"))

	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, j.Close())
	require.ErrorIs(t, j.WriteNotes(nil), ErrClosed)
	_, err = j.Notes()
	require.ErrorIs(t, err, ErrClosed)
	for dir, fs := range map[string]vfs.FS{"/data": crashed, "/backup": fs} {
		j, st, err = openAndReplay(t, fs, dir)
		require.NoError(t, err)
		notes, err = j.Notes()
		require.NoError(t, err)
		require.Equal(t, want, notes)
		require.Equal(t, before, dumpState(t, j, st))
		require.NoError(t, j.Close())
	}
}

// TestNotesOnAFailingDisk writes notes while the disk is full. Those that were refused are not there afterwards.
func TestNotesOnAFailingDisk(t *testing.T) {
	disk := &failingDisk{fails: func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}}
	j, err := Open(Options{Dir: "/data", FS: errorfs.Wrap(vfs.NewMem(), disk), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer j.Close() //nolint:errcheck // its disk is full
	require.NoError(t, j.WriteNotes([]Note{{"a", []byte("1")}}))
	disk.on.Store(true)
	var failure *Failure
	require.ErrorAs(t, j.WriteNotes([]Note{{"a", []byte("2")}}), &failure)
	require.Contains(t, failure.Cause, "full")
	_, err = j.Notes()
	require.ErrorAs(t, err, &failure)
}
