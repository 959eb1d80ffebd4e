package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// positionOf returns the position of a message.
func positionOf(sequence uint64) *Position {
	return &Position{Sequence: sequence, ID: fmt.Sprint("id", sequence), Time: epoch.Add(time.Duration(sequence) * time.Second)}
}

// apply appends the record of a message, which is the n-th of a session, and applies it.
func apply(j *Journal, st *store.Store, n int) error {
	p, r := positionOf(uint64(n+1)), []models.Record{largeRecord(n)}
	r[0].Sequence = SequenceOf(p.Sequence, p.ID, 0)
	return j.Append(Commit{Position: p, Records: r}, func() { st.Apply(r...) })
}

// TestAPositionIsThatOfTheRecords crashes after commits from a stream at random moments: what is there after the crash
// is what the recorded position says, and nothing is missing that was synced.
func TestAPositionIsThatOfTheRecords(t *testing.T) {
	mem := vfs.NewCrashableMem()
	j, st := openFailing(t, mem)
	_, ok := j.Position()
	require.False(t, ok)
	synced := 0
	for n := range 300 {
		require.NoError(t, apply(j, st, n))
		p, ok := j.Position()
		require.True(t, ok)
		require.Equal(t, *positionOf(uint64(n + 1)), p)
		switch n % 50 {
		case 10:
			require.NoError(t, j.Sync())
			synced = n + 1
		case 20:
			require.NoError(t, j.File())
		case 30, 49:
			copied, _ := openFailing(t, mem.CrashClone(vfs.CrashCloneCfg{}))
			p, ok := copied.Position()
			require.True(t, ok)
			require.GreaterOrEqual(t, p.Sequence, uint64(synced))
			requireRecorded(t, copied, int(p.Sequence))
			require.NoError(t, copied.Close())
		}
	}
	require.NoError(t, j.Close())
}

// TestADiskThatFailsLosesNothingOfAStream is TestADiskThatFailsInEachWay for commits that are not synced at once: those
// that a failed engine lost are written to the next one.
func TestADiskThatFailsLosesNothingOfAStream(t *testing.T) {
	for name, fails := range failures() {
		t.Run(name, func(t *testing.T) {
			disk := &failingDisk{fails: fails}
			mem := vfs.NewCrashableMem()
			j, st := openFailing(t, errorfs.Wrap(mem, disk))
			n := 0
			for round := range 5 {
				for range 1 + round {
					require.NoError(t, apply(j, st, n))
					n++
				}
				disk.on.Store(true)
				for tries := 0; ; tries++ {
					if tries%8 == 7 {
						j.Sync() //nolint:errcheck // it fails sooner or later
					}
					if err := apply(j, st, n); err != nil {
						break
					}
					n++
					require.Less(t, tries, 2000, "the disk never fails")
				}
				disk.on.Store(false)
				for !errors.Is(apply(j, st, n), nil) {
					runtime.Gosched()
				}
				n++
				requireRecorded(t, j, n)
				p, _ := j.Position()
				require.Equal(t, uint64(n), p.Sequence)
			}
			require.NoError(t, j.Sync())
			require.NoError(t, j.Close())
			j, _ = openFailing(t, mem.CrashClone(vfs.CrashCloneCfg{}))
			requireRecorded(t, j, n)
			require.NoError(t, j.Close())
		})
	}
}

// TestFiledCommitsAreKept checks that the newest commits of a stream can be read after they are filed and after a
// restart, and that the log does not grow without bound.
func TestFiledCommitsAreKept(t *testing.T) {
	fs := vfs.NewMem()
	open := func() (*Journal, *store.Store) {
		j, err := Open(Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler), maxKept: 1 << 20})
		require.NoError(t, err)
		st := store.New(opts)
		require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, epoch, func(Progress) {}))
		return j, st
	}
	requireKept := func(j *Journal, last int) {
		next, bytes := uint64(0), 0
		require.NoError(t, j.EachApplied(0, func(a Applied) error {
			require.Equal(t, *positionOf(a.Position.Sequence), a.Position)
			require.True(t, next == 0 || a.Position.Sequence == next, "without a gap")
			next = a.Position.Sequence + 1
			bytes += len(a.Commit)
			c, err := DecodeCommit(a.Commit)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("message ", next-2), c.Records[0].Message)
			return nil
		}))
		require.Equal(t, uint64(last+1), next)
		require.InDelta(t, 1<<20, bytes, 100<<10)
	}
	j, st := open()
	n := 0
	for range 4 {
		for range 40 {
			require.NoError(t, apply(j, st, n))
			n++
		}
		require.NoError(t, j.File())
		requireKept(j, n)
	}
	require.NoError(t, j.EachApplied(uint64(n-2), func(a Applied) error {
		require.Greater(t, a.Position.Sequence, uint64(n-2))
		return nil
	}))
	require.NoError(t, j.Close())
	j, st = open()
	requireKept(j, n)
	for range 40 {
		require.NoError(t, apply(j, st, n))
		n++
	}
	require.NoError(t, j.File())
	requireKept(j, n)
	requireRecorded(t, j, n)
	require.NoError(t, j.Close())
}

// TestWhatALogStillKeeps asks whether the commits after a message are all there, before and after the oldest ones are dropped.
func TestWhatALogStillKeeps(t *testing.T) {
	keeps := func(j *Journal, after uint64) bool {
		all, err := j.KeepsAfter(after)
		require.NoError(t, err)
		return all
	}
	j, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler), maxKept: 100 << 10})
	require.NoError(t, err)
	st := store.New(opts)
	require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, epoch, func(Progress) {}))
	require.True(t, keeps(j, 0), "there is nothing")
	for n := range 40 {
		require.NoError(t, apply(j, st, n))
	}
	require.True(t, keeps(j, 0))
	require.True(t, keeps(j, 100))
	require.NoError(t, j.File())
	var oldest uint64
	require.ErrorIs(t, j.EachApplied(0, func(a Applied) error {
		oldest = a.Position.Sequence
		return errStop
	}), errStop)
	require.Greater(t, oldest, uint64(2))
	require.False(t, keeps(j, 0))
	require.False(t, keeps(j, oldest-1))
	require.True(t, keeps(j, oldest))
	require.NoError(t, j.Close())

	j, st, err = openAndReplay(t, vfs.NewMem(), "alone")
	require.NoError(t, err)
	record(t, j, st, recordOf("a", "t", 1))
	require.NoError(t, apply(j, st, 5))
	require.False(t, keeps(j, 0), "no message has made the first record")
	require.True(t, keeps(j, 5))
	require.NoError(t, j.Close())
}

// TestNotesOfACommit stores and deletes notes together with a position.
func TestNotesOfACommit(t *testing.T) {
	fs := vfs.NewMem()
	j, _, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	write := func(sequence uint64, notes ...Note) {
		require.NoError(t, j.Append(Commit{Position: positionOf(sequence), Notes: notes}, func() {}))
	}
	write(1, Note{"a", []byte("1")}, Note{"b", []byte("2")})
	write(2, Note{"a", nil}, Note{"c", []byte{}})
	require.NoError(t, j.Advance(*positionOf(7), nil))
	require.NoError(t, j.Close())
	j, _, err = openAndReplay(t, fs, "data")
	require.NoError(t, err)
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Equal(t, []Note{{"b", []byte("2")}, {"c", []byte{}}}, notes)
	p, ok := j.Position()
	require.True(t, ok)
	require.Equal(t, *positionOf(7), p)
	require.NoError(t, j.Close())
}

// TestLeavingAStream appends to a journal that was part of a stream without a position: from then on it has none.
func TestLeavingAStream(t *testing.T) {
	fs := vfs.NewMem()
	j, st, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	require.NoError(t, apply(j, st, 5))
	require.NoError(t, j.File())
	require.NoError(t, j.WriteNotes([]Note{{TermKey, []byte("7")}, {LineageKey, []byte("a")}, {AgainPrefix + "x 0", []byte("y")}, {"mute", []byte("z")}}))
	require.NoError(t, j.Close())

	j, st, err = openAndReplay(t, fs, "data")
	require.NoError(t, err)
	last := record(t, j, st, recordOf("a", "t", 9))[0].Sequence
	require.Greater(t, last, SequenceOf(6, "id6", 0))
	_, ok := j.Position()
	require.False(t, ok)
	require.NoError(t, j.File())
	require.NoError(t, j.EachApplied(0, func(Applied) error { return errors.New("kept") }))
	require.NoError(t, j.Close())
	j, _, err = openAndReplay(t, fs, "data")
	require.NoError(t, err)
	_, ok = j.Position()
	require.False(t, ok)
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Equal(t, []Note{{"mute", []byte("z")}}, notes, "nothing about the stream")
	require.NoError(t, j.Close())
}

// TestOnlyASharedJournalHasTheNewFormat checks that earlier programs can read a journal that was never part of a stream.
func TestOnlyASharedJournalHasTheNewFormat(t *testing.T) {
	fs := vfs.NewMem()
	j, st, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	record(t, j, st, recordOf("a", "t", 1))
	version, err := j.engine.formatVersion()
	require.NoError(t, err)
	require.EqualValues(t, 6, version)
	require.NoError(t, apply(j, st, 2))
	version, err = j.engine.formatVersion()
	require.NoError(t, err)
	require.EqualValues(t, 7, version)
	require.NoError(t, j.Close())
}

func TestSequencesOfRecords(t *testing.T) {
	require.Less(t, SequenceOf(1, "a", MaxRecords-1), SequenceOf(2, "a", 0))
	require.Equal(t, SequenceOf(5, "a", 0)+1, SequenceOf(5, "a", 1))
	require.NotEqual(t, SequenceOf(5, "a", 0), SequenceOf(5, "b", 0), "a message that took the place of another")
	for _, id := range strings.Fields("a b c d e f g h") {
		require.LessOrEqual(t, SequenceOf(5, id, MaxRecords-1), lastSequenceOf(5))
		require.Greater(t, SequenceOf(6, id, 0), lastSequenceOf(5))
	}
}

// TestASyncCountsOnlyForWhatWasWrittenBefore lets a commit that is synced at once, and one that is not, come between the
// sync of the engine and the moment at which it is noted.
func TestASyncCountsOnlyForWhatWasWrittenBefore(t *testing.T) {
	j, st := openSyncing(t, vfs.NewMem(), time.Hour)
	require.NoError(t, apply(j, st, 0))
	last := j.batches
	e, err := j.syncEngine()
	require.NoError(t, err)
	notes := []Note{{"large", make([]byte, maxUnsynced)}}
	require.NoError(t, j.Append(Commit{Position: positionOf(2), Notes: notes}, func() {}))
	require.NoError(t, apply(j, st, 2))
	j.noteSynced(e, last)
	j.appending.Lock()
	require.Len(t, j.unsynced, 1, "nobody has synced the last one")
	j.appending.Unlock()
	require.NoError(t, j.Close())
}

// TestARefusedCommitOfAStreamLeavesNoPosition makes a commit fail that reaches the disk all the same, and stops the server
// before it tries again. The commit is still to be made then.
func TestARefusedCommitOfAStreamLeavesNoPosition(t *testing.T) {
	disk := &failingDisk{fails: failures()["every sync is an I/O error"]}
	mem := vfs.NewMem()
	j, st := openFailing(t, errorfs.Wrap(mem, disk))
	require.NoError(t, apply(j, st, 0))
	require.NoError(t, j.Sync())
	disk.on.Store(true)
	notes := []Note{{"large", make([]byte, maxUnsynced)}} // so that it is synced at once
	require.Error(t, j.Append(Commit{Position: positionOf(2), Notes: notes}, func() {}))
	disk.on.Store(false)
	for j.Failure() != nil {
		runtime.Gosched()
	}
	require.NoError(t, j.Close())
	j, _ = openFailing(t, mem)
	p, ok := j.Position()
	require.True(t, ok)
	require.Equal(t, *positionOf(1), p)
	requireRecorded(t, j, 1)
	require.NoError(t, j.Close())
}

// TestWhatWasPublishedAgainCanBeLookedUp looks up records that are not filed yet, after some with the sequences of a stream
// that was lost, which are lower or higher than those around them.
func TestWhatWasPublishedAgainCanBeLookedUp(t *testing.T) {
	fs := vfs.NewMem()
	j, st, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	add := func(message, origin uint64) models.Record {
		p := positionOf(message)
		r := recordOf("a", fmt.Sprint("t", message), int(message))
		r.Content, r.ReportID, r.Sequence = fmt.Sprint("content ", message), fmt.Sprint("id ", message), SequenceOf(message, p.ID, 0)
		c := Commit{Position: p}
		if origin > 0 {
			c.Origin, r.Sequence = positionOf(origin), SequenceOf(origin, "lost", 0)
		}
		c.Records = []models.Record{r}
		require.NoError(t, j.Append(c, func() { st.Apply(r) }))
		return r
	}
	requireFound := func(r models.Record) {
		t.Helper()
		key := store.SessionKey{AgentID: r.AgentID, Topic: r.SessionTopic}
		a, err := j.Lookup(store.Lookup{SessionKey: key, ReportID: r.ReportID, Dropped: r.Sequence})
		require.NoError(t, err)
		require.True(t, a.Held)
		a, err = j.Lookup(store.Lookup{SessionKey: key, Content: placeOf(&r)})
		require.NoError(t, err)
		require.Equal(t, r.Content, a.Content)
	}
	requireFound(add(100, 0))
	requireFound(add(101, 50))
	requireFound(add(102, 900))
	requireFound(add(103, 0))
	last := add(104, 60)
	require.NoError(t, j.Close())
	j, st, err = openAndReplay(t, fs, "data")
	require.NoError(t, err)
	requireFound(last)
	requireFound(add(105, 0))
	require.NoError(t, j.Close())
}

// TestALargeCommitIsSplit splits the effect of a message that is larger than a message may be.
func TestALargeCommitIsSplit(t *testing.T) {
	c := Commit{Position: positionOf(7), Forgotten: []store.Forgotten{{SessionKey: store.SessionKey{AgentID: "a", Topic: "old"}}},
		Notes: []Note{{"k", []byte("v")}}}
	for n := range 100 {
		r := largeRecord(n)
		r.Sequence = SequenceOf(7, "id7", n)
		c.Records = append(c.Records, r)
	}
	whole, err := appliedOf(string(c.encode(nil)))
	require.NoError(t, err)
	parts, err := whole.Split(100 << 10)
	require.NoError(t, err)
	require.Len(t, parts, 51, "two records fit into one")
	var all Commit
	origins := map[string]bool{}
	for _, part := range parts {
		require.LessOrEqual(t, len(part.Commit), 110<<10)
		again, err := appliedOf(string(part.Commit))
		require.NoError(t, err)
		require.Equal(t, part, again)
		require.Equal(t, whole.Position, part.Position)
		origins[part.Origin.ID] = true
		c, err := DecodeCommit(part.Commit)
		require.NoError(t, err)
		all.Forgotten, all.Notes, all.Records = append(all.Forgotten, c.Forgotten...), append(all.Notes, c.Notes...), append(all.Records, c.Records...)
	}
	require.Len(t, origins, len(parts))
	want, err := DecodeCommit(whole.Commit)
	require.NoError(t, err)
	want.Position = nil
	require.Equal(t, want, all)
	parts, err = whole.Split(len(whole.Commit))
	require.NoError(t, err)
	require.Equal(t, []Applied{whole}, parts)
}
