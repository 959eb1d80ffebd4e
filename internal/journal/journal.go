// Package journal keeps records on disk. Acknowledged records survive a crash of the process and of the machine.
//
// # The path of a record
//
// [Journal.Append] writes the records of a commit as one entry of the log, and returns once the entry is synced. A
// commit costs one key, however many records it holds, and is stored as a whole or not at all.
//
// Commits are filed in the background: each record moves from the log to its place in the histories of its session and
// its agent, which are in the order in which they are read. A record is removed from the log only after it is filed, so
// it is always in the log, in the histories, or in both. Filing a record twice changes nothing.
//
// # Format
//
// The storage engine is Pebble, in the data directory itself. The first byte of a key is its kind. Agent IDs and topics
// are terminated by a zero byte, which they can't contain. A place is a timestamp (seconds, nanoseconds) and a sequence
// number, all inverted, so that later places sort first.
//
//	0x00 "format"                       the version of the format, a uvarint
//	0x00 "filed"                        how far the log is filed: position and sequence
//	0x00 "alive"                        when the server last ran: Unix nanoseconds, a varint
//	0x00 "position"                     how far the server is in a stream that it shares with others
//	0x00 "cutoff"                       the time before which histories of agents were trimmed; with a position only
//	0x00 "pauses"                       when nobody could publish to that stream
//	'l' position                        a commit that is not filed yet: records, and forgotten sessions; with a position
//	                                    in a stream, also the newest ones that are filed
//	'n' key                             a note; journals of every version may have them
//	's' agent 0x00                      the state of an agent
//	's' agent topic 0x00                the state of a session
//	's' agent topic 0x01 place          a chunk of a session's records
//	'a' agent place                     a chunk of the topics of an agent's records
//	'i' agent topic ID                  a report ID that a session holds; the value is empty
//
// The functions that encode values document the encoding. A journal of an unknown version is refused.
package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// ErrClosed is returned by the methods of a closed journal.
var ErrClosed = errors.New("the journal is closed")

// Options are the options of [Open].
type Options struct {
	Dir    string       // the directory of the journal; it is created if it doesn't exist
	FS     vfs.FS       // the file system of Dir; nil for the operating system's
	Logger *slog.Logger // receives errors and warnings

	maxUnfiled int64                 // see Journal; 0 for defaultMaxUnfiled
	maxKept    int                   // bytes of filed commits of a stream that are kept; 0 for defaultKeptCommits
	syncEvery  time.Duration         // at which commits from a stream are synced; 0 for defaultSyncInterval
	tune       func(*pebble.Options) // changes the engine's options; nil for none
}

// Journal is the durable log of records, and the histories filed from it. Its methods are safe for concurrent use,
// except for [Journal.Replay], which must be called first.
type Journal struct {
	dir    string
	fs     vfs.FS
	logger *slog.Logger
	tune   func(*pebble.Options)
	store  *store.Store // the store whose records these are; nil before Replay
	limit  int          // how many records of a session the store loads
	home   *home
	lock   io.Closer // nil while the directory can't be locked

	mu     sync.RWMutex // protects engine; held for reading while the engine is used
	engine *engine

	appending     sync.Mutex // held for the duration of a commit; protects the fields up to unsyncedBytes
	position      uint64     // position of the last attempted commit
	commit        []byte     // buffer for the next commit
	sequence      uint64     // last sequence number assigned
	unsynced      []unsynced // commits from a stream that may not be synced, oldest first
	batches       uint64     // number of the last batch from a stream
	unsyncedBytes int

	applying   sync.Mutex    // held from the moment a commit is durable until its records are applied, so that none is filed between
	durable    atomic.Uint64 // position of the last durable commit
	lastForget atomic.Uint64 // position of the last durable commit that contains a forgotten session, or has an origin
	unfiled    atomic.Int64  // bytes of durable commits that are not filed
	written    atomic.Uint64 // bytes of commits made durable
	failures   atomic.Uint64 // number of engines that failed
	fileAll    atomic.Bool   // the filer should file everything
	deleted    atomic.Bool   // filed records were deleted since the last Reclaim

	failure       atomic.Pointer[Failure] // why the engine can't be used; nil if it can
	filingFailure atomic.Pointer[Failure] // why the last round of filing failed; nil if it succeeded

	at     atomic.Pointer[Position]  // in a stream; nil for none. With one, filed commits are kept for a while
	cutoff atomic.Pointer[time.Time] // see Commit; nil for none

	filing     sync.Mutex   // held for the duration of a round of filing, or of deleting filed records; protects the next three fields
	knowsKept  bool         // kept is all that the log has of filed commits
	kept       []keptCommit // oldest first
	keptBytes  int
	maxKept    int
	filedTo    atomic.Pointer[filed]
	maxUnfiled int64         // bytes of unfiled commits from which new commits wait for the filer
	fileSoon   chan struct{} // wakes the filer
	roundDone  chan struct{} // wakes a commit that waits for the filer

	background sync.WaitGroup
	closing    chan struct{}
	closeOnce  sync.Once
}

// Failure is the reason why a journal accepts no records.
type Failure struct {
	Cause string // for clients; it contains no internals of the server
	Err   error  // for the log
}

// Error implements error.
func (f *Failure) Error() string { return f.Cause + ": " + f.Err.Error() }

// Unwrap returns the underlying error.
func (f *Failure) Unwrap() error { return f.Err }

// Open opens the journal in a directory, or creates one there. It refuses a directory that another process uses, a
// journal of an unknown format, and a damaged journal. Damage at the end of the log is not refused: a crash may have
// cut off the last write.
func Open(o Options) (*Journal, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	j := &Journal{
		dir: o.Dir, fs: o.FS, logger: o.Logger, tune: o.tune, maxUnfiled: cmp.Or(o.maxUnfiled, defaultMaxUnfiled), maxKept: cmp.Or(o.maxKept, defaultKeptCommits),
		fileSoon:  make(chan struct{}, 1),
		roundDone: make(chan struct{}, 1),
		closing:   make(chan struct{}),
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make DATA_DIR: %w", err)
	}
	if err := j.lockDir(); err != nil {
		return nil, err
	}
	home, err := findHome(o.FS, o.Dir)
	if err == nil {
		j.home = home
		err = errors.Join(j.removeSentBackups(), j.open())
	}
	if err != nil {
		close(j.closing) // so that an engine that failed while opening is not reopened
		j.background.Wait()
		j.lock.Close() //nolint:errcheck // nothing was written while it was held
		return nil, j.unreadable(err)
	}
	j.background.Go(j.runFiler)
	j.background.Go(func() { j.runSyncer(cmp.Or(o.syncEvery, defaultSyncInterval)) })
	return j, nil
}

// lockDir keeps other processes away from the directory.
func (j *Journal) lockDir() (err error) {
	j.lock, err = lockIn(j.fs, j.dir)
	return err
}

func lockIn(fs vfs.FS, dir string) (io.Closer, error) {
	lock, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && !errors.Is(err, os.ErrPermission):
		return nil, &wrapped{fmt.Sprintf("DATA_DIR %s is in use by another process (is a server running already?): stop it, or set DATA_DIR to another directory", dir), err}
	case err != nil:
		return nil, fmt.Errorf("lock DATA_DIR %s: %w", dir, err)
	}
	return lock, nil
}

// Lock locks a directory of the operating system's file system, so that no other process can open a journal in it. The
// error says whether another process has it open.
func Lock(dir string) (unlock func() error, err error) {
	lock, err := lockIn(vfs.Default, dir)
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}

// unreadable wraps an error from reading the journal. If the journal is damaged, the message says what to do about it.
func (j *Journal) unreadable(err error) error {
	message, _, _ := strings.Cut(err.Error(), "\n")
	if !pebble.IsCorruptionError(err) && !errors.Is(err, errMalformed) {
		return &wrapped{fmt.Sprintf("read the journal in DATA_DIR %s: %s", j.dir, message), err}
	}
	if strings.Contains(message, "WAL") { // the engine doesn't name the file
		message += " (" + strings.Join(j.logs(), ", ") + ")"
	}
	return &wrapped{fmt.Sprintf("the journal in DATA_DIR %s is damaged: %s; point DATA_DIR at a backup, or move the directory away to start with an empty journal", j.dir, message), err}
}

// logs returns the names of the engine's log files.
func (j *Journal) logs() []string {
	names, _ := j.fs.List(j.dir) // if this fails, there are no names to return
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
}

// open opens the engine, checks the format, and finds the end of the log.
func (j *Journal) open() (err error) {
	if j.engine, err = j.openEngine(false); err != nil {
		return err
	}
	var end logEnd
	if err = j.engine.checkFormat(); err == nil {
		end, err = j.engine.findEnd()
	}
	if err == nil {
		err = j.findPosition()
	}
	if err != nil {
		return errors.Join(err, j.engine.close())
	}
	j.position, j.sequence = end.position, end.sequence
	j.durable.Store(end.position)
	j.continueFrom(end)
	return nil
}

// findPosition reads the position in a stream, if there is one.
func (j *Journal) findPosition() error {
	at, err := j.engine.readPosition()
	if at != nil {
		j.at.Store(at)
	}
	if err != nil {
		return err
	}
	cutoff, err := j.engine.readCutoff()
	if cutoff != nil {
		j.cutoff.Store(cutoff)
	}
	return err
}

// continueFrom makes filing continue where the log says that it ended.
func (j *Journal) continueFrom(end logEnd) {
	j.filedTo.Store(&end.filed)
	j.lastForget.Store(end.lastForget)
	j.unfiled.Store(end.unfiled)
}

// checkFormat refuses an unknown format. It initializes an empty engine, and upgrades the version of an earlier format.
func (e *engine) checkFormat() error {
	version, err := e.formatVersion()
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return e.initialize()
	case err != nil:
		return err
	case version < formatVersion:
		return e.writeFormat()
	}
	return nil
}

// formatVersion returns the version of the journal's format, or pebble.ErrNotFound. It refuses an unknown one.
func (e *engine) formatVersion() (uint64, error) {
	value, err := e.get(formatKey)
	if err != nil {
		return 0, err
	}
	version, n := binary.Uvarint([]byte(value))
	if n != len(value) || version == 0 || version > sharedVersion {
		return 0, fmt.Errorf("its format is version %d, but this program reads versions 1 to %d: run the version of the program that wrote it, or a later one", version, sharedVersion)
	}
	return version, nil
}

// writeFormat marks the journal as having the current format. Data in earlier formats is valid in the current one, too.
func (e *engine) writeFormat() error {
	b := e.db.NewBatch()
	b.Set(formatKey, binary.AppendUvarint(nil, formatVersion), nil) //nolint:errcheck // writing to a batch in memory never fails
	return e.commit(b, pebble.Sync)
}

// initialize starts an empty journal. It returns an error if the engine contains other data.
func (e *engine) initialize() error {
	iter, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	empty := !iter.First()
	if err := iter.Close(); err != nil {
		return err
	}
	if !empty {
		return errors.New("it contains something other than a journal")
	}
	return e.writeFormat()
}

// get returns a copy of a value, or pebble.ErrNotFound.
func (e *engine) get(key []byte) (string, error) {
	value, closer, err := e.db.Get(key)
	if err != nil {
		return "", err
	}
	defer closer.Close() //nolint:errcheck // only releases value
	return string(value), nil
}

// find is get, but reports whether there is a value instead of returning pebble.ErrNotFound.
func (e *engine) find(key []byte) (value string, found bool, err error) {
	value, err = e.get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return "", false, nil
	}
	return value, err == nil, err
}

// logEnd describes the log of an engine: how far it is filed, and where it ends.
type logEnd struct {
	filed      filed
	position   uint64 // position of the last commit
	sequence   uint64 // last sequence number assigned
	lastForget uint64 // position of the last commit that contains a forgotten session, or has an origin
	unfiled    int64  // bytes of commits that are not filed
}

// findEnd reads how far the log is filed, and finds its end.
func (e *engine) findEnd() (end logEnd, err error) {
	value, err := e.get(filedKey)
	if err == nil {
		end.filed, err = decodeFiled(value)
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return end, fmt.Errorf("read how far the log is filed: %w", err)
	}
	end.position, end.sequence = end.filed.position, end.filed.sequence
	err = e.eachCommit(end.position, func(position uint64, commit string) error {
		end.position = position
		end.unfiled += int64(len(commit))
		return visitCommit(commit, visitor{record: func(r models.Record, _ string) error {
			end.sequence = max(end.sequence, r.Sequence)
			return nil
		}, forget: func(store.Forgotten) error {
			end.lastForget = position
			return nil
		}, origin: func(Position) error {
			end.lastForget = position
			return nil
		}})
	})
	return end, err
}

// eachCommit calls visit for each commit of the log after a position.
func (e *engine) eachCommit(after uint64, visit func(position uint64, commit string) error) error {
	_, upper := kindRange(kindLog)
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: logKey(after + 1), UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	for more := iter.First(); more; more = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if err := visit(logPosition(iter.Key()), string(value)); err != nil {
			return fmt.Errorf("commit %d: %w", logPosition(iter.Key()), err)
		}
	}
	return iter.Error()
}

// usable returns nil if the journal can be written, and the reason if not. The caller holds j.mu.
func (j *Journal) usable() error {
	if j.engine == nil {
		return ErrClosed
	}
	return j.whyUnusable()
}

// onEngineFailure records that an engine failed, and starts to replace it in the background.
func (j *Journal) onEngineFailure(e *engine) {
	f := failureOf(e.err)
	j.failures.Add(1)
	j.logger.Error("the journal can't be written: reports are refused until it can be written again", "cause", f.Cause, "error", f.Err.Error())
	if j.failure.Swap(f) == nil {
		j.background.Go(j.reopen)
	}
}

// The delay between attempts to reopen the engine doubles from the minimum to the maximum.
const (
	minReopenDelay = 10 * time.Millisecond
	maxReopenDelay = 2 * time.Second
)

// reopen replaces a failed engine with a new one, as soon as one can be opened and written to.
func (j *Journal) reopen() {
	logged := ""
	for wait := minReopenDelay; ; wait = min(2*wait, maxReopenDelay) {
		select {
		case <-j.closing:
			return
		case <-time.After(wait):
		}
		err := j.recheckHome()
		if err == nil {
			err = j.probe()
		}
		if err == nil {
			err = j.reopenEngine()
		}
		if err == nil {
			return
		}
		j.failure.Store(failureOf(err))
		if err.Error() != logged {
			logged = err.Error()
			j.logger.Warn("the journal still can't be written", "error", logged)
		}
	}
}

func (j *Journal) reopenEngine() error {
	e, err := j.openEngine(true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return fmt.Errorf("%s: %w", j.dir, errForeign)
	}
	if err != nil {
		return err
	}
	return j.replace(e)
}

// probeBytes is the number of bytes written to find out whether the disk can be written.
const probeBytes = 1 << 20

// probe returns an error if an engine can't be expected to work: if the disk can't be written, or has less room than
// the engine may need to write the contents of its logs as tables.
func (j *Journal) probe() error {
	need := uint64(probeBytes)
	for _, name := range j.logs() {
		if info, err := j.fs.Stat(j.fs.PathJoin(j.dir, name)); err == nil {
			need += uint64(info.Size())
		}
	}
	usage, err := j.fs.GetDiskUsage(j.dir)
	if err == nil && usage.AvailBytes < need {
		return fmt.Errorf("%d bytes are free, but %d are needed: %w", usage.AvailBytes, need, syscall.ENOSPC)
	}
	return j.tryToWrite()
}

func (j *Journal) tryToWrite() error {
	name := j.fs.PathJoin(j.dir, "probe")
	file, err := j.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, probeBytes))
	return errors.Join(err, file.Sync(), file.Close(), j.fs.Remove(name))
}

// replace makes e the engine of the journal. It first deletes refused commits, which may have reached the disk all the
// same. Filing continues where the log of e says, because what was filed last may not have reached the disk.
func (j *Journal) replace(e *engine) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.writeAgain(e)
	if err == nil {
		err = e.holds(j.durable.Load())
	}
	if err == nil {
		err = e.dropAfter(j.durable.Load(), j.at.Load())
	}
	var end logEnd
	if err == nil {
		end, err = e.findEnd()
	}
	if err != nil {
		e.close() //nolint:errcheck // it failed, or has nothing to write
		return err
	}
	j.engine.close() //nolint:errcheck // it failed before
	j.engine = e
	j.continueFrom(end)
	j.failure.Store(nil)
	if e.hasFailed() && j.failure.CompareAndSwap(nil, failureOf(e.err)) {
		return e.err // it failed before j.failure was reset, so nobody else reopens it
	}
	j.logger.Info("the journal can be written again: reports are accepted again")
	notify(j.fileSoon)
	return nil
}

// holds returns an error unless e has the commit at a position, which must be the last durable one, in its log or
// filed.
func (e *engine) holds(position uint64) error {
	end, err := e.findEnd()
	if err != nil || end.filed.position == position {
		return err
	}
	_, err = e.get(logKey(position))
	if errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("commit %d is not in the log: %w", position, errForeign)
	}
	return err
}

// dropAfter deletes the commits after a position. They were refused, but may have reached the disk. at is the position in
// a stream without them, nil for none.
func (e *engine) dropAfter(position uint64, at *Position) error {
	_, upper := kindRange(kindLog)
	b := e.db.NewBatch()
	b.DeleteRange(logKey(position+1), upper, nil) //nolint:errcheck // writing to a batch in memory never fails
	if at != nil {
		b.Set(positionKey, appendPositionIn(nil, *at), nil) //nolint:errcheck // see above
	} else {
		b.Delete(positionKey, nil) //nolint:errcheck // see above
	}
	return e.commit(b, pebble.Sync)
}

// Failure returns why records can't be made durable, or nil if they can.
func (j *Journal) Failure() *Failure {
	if f := j.failure.Load(); f != nil {
		return f
	}
	if j.unfiled.Load() >= j.maxUnfiled {
		return j.filingFailure.Load()
	}
	return nil
}

// failureOf returns err with a cause that clients may see.
func failureOf(err error) *Failure {
	cause := "the disk of DATA_DIR can't be written; the log has the error"
	for _, known := range []struct {
		err   error
		cause string
	}{
		{syscall.ENOSPC, "the disk of DATA_DIR is full: no room or no inodes are left"},
		{syscall.EDQUOT, "the disk quota for DATA_DIR is used up"},
		{syscall.EFBIG, "a file in DATA_DIR has reached the size that the system allows"},
		{syscall.EROFS, "the disk of DATA_DIR is read-only"},
		{syscall.EIO, "the disk of DATA_DIR has I/O errors"},
		{os.ErrPermission, "DATA_DIR is not writable"},
		{os.ErrNotExist, "DATA_DIR, or a file in it, is gone"},
		{errRemoved, "DATA_DIR, or a file in it, is gone"},
		{errReplaced, "another directory has taken the place of DATA_DIR"},
		{errForeign, "DATA_DIR doesn't contain the data that this server wrote: restore that data, or restart the server to continue with what is there"},
	} {
		if errors.Is(err, known.err) {
			cause = known.cause
		}
	}
	return &Failure{cause, err}
}

// Stats are the statistics of a journal. The counters start at 0 when it is opened.
type Stats struct {
	DiskBytes      int64  // size on disk, including the engine's own files; 0 while the journal can't be written
	UnfiledBytes   int64  // bytes of commits that are not filed
	CommittedBytes uint64 // bytes of commits made durable
	WrittenBytes   uint64 // bytes written to disk for commits, filing and compaction; restarts at 0 with a new engine
	Failures       uint64 // how often the journal became unwritable
}

// Stats returns the current statistics.
func (j *Journal) Stats() Stats {
	stats := Stats{
		UnfiledBytes:   j.unfiled.Load(),
		CommittedBytes: j.written.Load(),
		Failures:       j.failures.Load(),
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.engine == nil || j.failure.Load() != nil {
		return stats // a failed engine may block forever
	}
	m := j.engine.db.Metrics()
	total := m.Total()
	stats.DiskBytes = int64(m.DiskSpaceUsage())
	stats.WrittenBytes = m.WAL.BytesWritten + total.TableBytesFlushed + total.TableBytesCompacted
	return stats
}

// Close waits for operations in progress, and closes the journal. Calls after the first one do nothing.
func (j *Journal) Close() (err error) {
	j.closeOnce.Do(func() {
		close(j.closing)
		j.background.Wait()
		j.appending.Lock()
		defer j.appending.Unlock()
		j.mu.Lock()
		defer j.mu.Unlock()
		err = j.engine.close()
		if j.lock != nil {
			err = errors.Join(err, j.lock.Close())
		}
		j.engine = nil
	})
	return err
}

// notify wakes the receiver that waits for ch, or the next one to receive from it.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
