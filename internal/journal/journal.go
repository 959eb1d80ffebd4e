// Package journal keeps records on disk: what it has acknowledged survives a crash of the process and of the
// machine.
//
// # The way of a record
//
// [Journal.Append] writes the records of one commit as one entry of the log, and returns once that is synced. So a commit
// costs one key, however many records it holds, and is there as a whole or not at all. In the background, commits
// are filed: each record moves from the log to its place in the histories of its session and its agent, in the
// order in which reads want it, in one go with its removal from the log. A record is always in one of the two
// at least, and filing again what was filed changes nothing.
//
// # Format
//
// The engine is Pebble, in the directory itself. Keys begin with a byte for their kind. IDs and topics end with
// a zero byte, which none of them holds; a place is the timestamp (seconds, nanoseconds) and the sequence, each
// inverted, so that later ones come first.
//
//	0x00 "format"                       the version of all that follows, a uvarint
//	0x00 "filed"                        how far the log is filed: position and sequence
//	0x00 "alive"                        when the server last ran, in Unix nanoseconds, a varint
//	'l' position                        a commit that is not filed: records, and sessions that were forgotten
//	's' agent 0x00                      what is known of an agent beside its sessions
//	's' agent topic 0x00                what is known of a session beside its records
//	's' agent topic 0x01 place          a chunk of a session's records
//	'a' agent place                     a chunk of the topics of an agent's records
//	'i' agent topic ID                  nothing: the report IDs that a session holds
//
// How values are encoded is said at the functions that do it; a version that this program does not know is
// refused.
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

// ErrClosed is what a closed journal answers.
var ErrClosed = errors.New("the journal is closed")

// Options are how a journal is opened.
type Options struct {
	Dir    string       // where it is kept; made if it is not there
	FS     vfs.FS       // where that is; nil for the machine's own file system
	Logger *slog.Logger // what went wrong goes there

	mostToFile int64                 // see Journal; 0 for unfiledMost
	tune       func(*pebble.Options) // nil for what an engine has
}

// Journal is the durable log of records and the history that is filed from it. Its methods are safe for concurrent use,
// but for [Journal.Replay], which comes first.
type Journal struct {
	dir    string
	fs     vfs.FS
	logger *slog.Logger
	tune   func(*pebble.Options)
	store  *store.Store // whose records these are; nil until it is replayed into
	limit  int          // of the records of one session that the store takes
	home   *home
	lock   io.Closer // nil while the directory can't be locked

	mu     sync.RWMutex // held for reading by whoever uses the engine
	engine *engine

	appending sync.Mutex // one commit at a time
	position  uint64     // of the last commit tried
	commit    []byte     // memory for the next one
	sequence  uint64     // the last one given

	applying sync.Mutex    // held from when a commit is durable until its records are applied; nothing is filed meanwhile
	durable  atomic.Uint64 // the position of the last commit that is durable
	forgetAt atomic.Uint64 // the position of the last durable commit that says that a session was forgotten
	unfiled  atomic.Int64  // bytes of commits that are durable and not filed
	written  atomic.Uint64 // bytes of commits that were made durable
	failures atomic.Uint64 // of engines
	fileAll  atomic.Bool   // everything is to be filed soon
	deleted  atomic.Bool   // something filed was deleted since the last Reclaim

	failure atomic.Pointer[Failure] // why the engine can't be used; nil where it can
	stuck   atomic.Pointer[Failure] // why the last round of filing ended early; nil where it did not

	filing     sync.Mutex // one round of filing, or of deleting what is filed, at a time
	filedTo    atomic.Pointer[filed]
	mostToFile int64         // bytes of commits at which new ones wait for the filer
	fileSoon   chan struct{} // has the filer look whether there is work
	filedSome  chan struct{} // tells whoever waits for the filer that some is done

	background sync.WaitGroup
	closing    chan struct{}
	closeOnce  sync.Once
}

// Failure is why a journal takes no records.
type Failure struct {
	Cause string // for whoever asks the server; it tells nothing of its inside
	Err   error  // for the log
}

// Error implements error.
func (f *Failure) Error() string { return f.Cause + ": " + f.Err.Error() }

// Unwrap returns what went wrong.
func (f *Failure) Unwrap() error { return f.Err }

// Open opens the journal in a directory, or begins one there. It refuses a directory that another process uses, one whose
// journal has a format that it does not know, and one that is damaged but for the end of its log, where a crash
// may have left something unfinished.
func Open(o Options) (*Journal, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	j := &Journal{
		dir: o.Dir, fs: o.FS, logger: o.Logger, tune: o.tune, mostToFile: cmp.Or(o.mostToFile, unfiledMost),
		fileSoon:  make(chan struct{}, 1),
		filedSome: make(chan struct{}, 1),
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
		err = errors.Join(j.removeSent(), j.open())
	}
	if err != nil {
		close(j.closing) // an engine that failed as it opened is not opened again
		j.background.Wait()
		j.lock.Close() //nolint:errcheck // nothing was written under it
		return nil, j.unreadable(err)
	}
	j.background.Go(j.file)
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
		return nil, fmt.Errorf("DATA_DIR %s is in use by another process: %w", dir, err)
	case err != nil:
		return nil, fmt.Errorf("lock DATA_DIR %s: %w", dir, err)
	}
	return lock, nil
}

// Lock locks a directory of the machine that a journal may be in, so that no other process opens that. The error says whether one does.
func Lock(dir string) (unlock func() error, err error) {
	lock, err := lockIn(vfs.Default, dir)
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}

// unreadable says what to do where the journal can't be read.
func (j *Journal) unreadable(err error) error {
	said, _, _ := strings.Cut(err.Error(), "\n")
	if !pebble.IsCorruptionError(err) && !errors.Is(err, errMalformed) {
		return &wrapped{fmt.Sprintf("read the journal in DATA_DIR %s: %s", j.dir, said), err}
	}
	if strings.Contains(said, "WAL") { // the engine does not say which
		said += " (" + strings.Join(j.logs(), ", ") + ")"
	}
	return &wrapped{fmt.Sprintf("the journal in DATA_DIR %s is damaged: %s; point DATA_DIR at a backup, or move the directory away to begin anew", j.dir, said), err}
}

// logs returns the names of the engine's logs.
func (j *Journal) logs() []string {
	names, _ := j.fs.List(j.dir) // without, there are none to name
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
}

// open opens the engine, checks the format, and finds out where the log ends.
func (j *Journal) open() (err error) {
	if j.engine, err = j.openEngine(false); err != nil {
		return err
	}
	var end logEnd
	if err = j.engine.checkFormat(); err == nil {
		end, err = j.engine.findEnd()
	}
	if err != nil {
		return errors.Join(err, j.engine.close())
	}
	j.position, j.sequence = end.position, end.sequence
	j.durable.Store(end.position)
	j.continueFrom(end)
	return nil
}

// continueFrom has what is filed next begin where the log of an engine says.
func (j *Journal) continueFrom(end logEnd) {
	j.filedTo.Store(&end.filed)
	j.forgetAt.Store(end.forgetAt)
	j.unfiled.Store(end.unfiled)
}

// checkFormat refuses a format that is not known, and writes the format where nothing is, or an earlier one.
func (e *engine) checkFormat() error {
	value, err := e.get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return e.begin()
	}
	if err != nil {
		return err
	}
	version, n := binary.Uvarint([]byte(value))
	switch {
	case n != len(value) || version == 0 || version > formatVersion:
		return fmt.Errorf("its format is version %d, and this program knows versions 1 to %d: run the program that wrote it, or a later one", version, formatVersion)
	case version < formatVersion:
		return e.writeFormat()
	}
	return nil
}

// writeFormat says that what is written from now on has this format: what is there has it, too.
func (e *engine) writeFormat() error {
	b := e.db.NewBatch()
	b.Set(formatKey, binary.AppendUvarint(nil, formatVersion), nil) //nolint:errcheck // a batch in memory takes all
	return e.commit(b, pebble.Sync)
}

// begin begins a journal, unless there is something that is none.
func (e *engine) begin() error {
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
	defer closer.Close() //nolint:errcheck // it only lets go of value
	return string(value), nil
}

// logEnd is where the log of an engine ends.
type logEnd struct {
	filed    filed
	position uint64 // of its last commit
	sequence uint64 // the last one given
	forgetAt uint64 // the position of the last commit that says that a session was forgotten
	unfiled  int64  // bytes of commits not filed
}

// findEnd finds out how far the log is filed, and where it ends.
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
		return eachDecoded(commit, func(r models.Record, _ string) error {
			end.sequence = max(end.sequence, r.Sequence)
			return nil
		}, func(store.Forgotten) error {
			end.forgetAt = position
			return nil
		})
	})
	return end, err
}

// eachCommit calls visit with each commit of the log after a position.
func (e *engine) eachCommit(after uint64, visit func(position uint64, commit string) error) error {
	_, upper := kindRange(kindLog)
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: logKey(after + 1), UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // its error is looked at below
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

// keptCommit is how much memory at most is kept for the next commit.
const keptCommit = 4 << 20

// Append numbers records in their order and makes them durable, as one, with the sessions that the store forgot before
// they came. Once they are durable it calls apply, which has the store of the journal take over all that: nothing of it is filed
// before, since with records the journal files what the store knows of their sessions. Where it returns an error, which is a *Failure
// or ErrClosed, none of it took place, and none of it will show after a restart of the journal; apply was not called.
func (j *Journal) Append(forgotten []store.Forgotten, records []models.Record, apply func()) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if err := j.waitForFiler(); err != nil {
		return err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	commit := j.commit[:0]
	for _, f := range forgotten {
		commit = appendOp(commit, opForget, func(b []byte) []byte { return appendForgotten(b, f) })
	}
	for i := range records {
		j.sequence++
		records[i].Sequence = j.sequence
		kind, encode := byte(opRecord), appendRecord
		if records[i].Renewal() {
			kind, encode = opRenewal, appendRenewal
		}
		commit = appendOp(commit, kind, func(b []byte) []byte { return encode(b, &records[i]) })
	}
	if cap(commit) <= keptCommit {
		j.commit = commit
	}
	j.position++
	b := j.engine.db.NewBatchWithSize(len(commit) + 64)
	b.Set(logKey(j.position), commit, nil) //nolint:errcheck // a batch in memory takes all
	if err := j.engine.commit(b, pebble.Sync); err != nil {
		return failureOf(err)
	}
	j.applying.Lock()
	defer j.applying.Unlock()
	if len(forgotten) > 0 {
		j.forgetAt.Store(j.position)
	}
	j.durable.Store(j.position)
	j.written.Add(uint64(len(commit)))
	if j.unfiled.Add(int64(len(commit))) >= fileFrom {
		notify(j.fileSoon)
	}
	apply()
	return nil
}

// usable returns why the journal can't be written, or nil. The caller holds j.mu.
func (j *Journal) usable() error {
	if j.engine == nil {
		return ErrClosed
	}
	return j.whyUnusable()
}

// failed takes note of an engine that failed, and begins to open another.
func (j *Journal) failed(e *engine) {
	f := failureOf(e.err)
	j.failures.Add(1)
	j.logger.Error("the journal can't be written: reports are refused until it can", "cause", f.Cause, "error", f.Err.Error())
	if j.failure.Swap(f) == nil {
		j.background.Go(j.reopen)
	}
}

// How long to wait between attempts to open the engine again.
const (
	reopenFirst = 10 * time.Millisecond
	reopenMost  = 2 * time.Second
)

// reopen replaces an engine that failed by another, as soon as one can be opened and written to.
func (j *Journal) reopen() {
	said := ""
	for wait := reopenFirst; ; wait = min(2*wait, reopenMost) {
		select {
		case <-j.closing:
			return
		case <-time.After(wait):
		}
		err := j.comeHome()
		if err == nil {
			err = j.probe()
		}
		if err == nil {
			err = j.openAnother()
		}
		if err == nil {
			return
		}
		j.failure.Store(failureOf(err))
		if err.Error() != said {
			said = err.Error()
			j.logger.Warn("the journal still can't be written", "error", said)
		}
	}
}

func (j *Journal) openAnother() error {
	e, err := j.openEngine(true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return fmt.Errorf("%s: %w", j.dir, errForeign)
	}
	if err != nil {
		return err
	}
	return j.replace(e)
}

// probeBytes is how much is written to find out whether the disk can be written.
const probeBytes = 1 << 20

// probe returns why it is of no use to open an engine: there is less room than it may need to write what is in its logs as
// tables, or the disk can't be written.
func (j *Journal) probe() error {
	need := uint64(probeBytes)
	for _, name := range j.logs() {
		if info, err := j.fs.Stat(j.fs.PathJoin(j.dir, name)); err == nil {
			need += uint64(info.Size())
		}
	}
	usage, err := j.fs.GetDiskUsage(j.dir)
	if err == nil && usage.AvailBytes < need {
		return fmt.Errorf("%d bytes are left, and %d needed: %w", usage.AvailBytes, need, syscall.ENOSPC)
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

// replace has e serve from now on, without the commits that were refused: they may have reached the disk. What was filed may
// not have.
func (j *Journal) replace(e *engine) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := e.holds(j.durable.Load())
	if err == nil {
		err = e.dropAfter(j.durable.Load())
	}
	var end logEnd
	if err == nil {
		end, err = e.findEnd()
	}
	if err != nil {
		e.close() //nolint:errcheck // it has failed, or writes nothing
		return err
	}
	j.engine.close() //nolint:errcheck // it is given up
	j.engine = e
	j.continueFrom(end)
	j.failure.Store(nil)
	if e.hasFailed() && j.failure.CompareAndSwap(nil, failureOf(e.err)) {
		return e.err // by then already, so that nobody else reopens it
	}
	j.logger.Info("the journal can be written again: reports are accepted")
	notify(j.fileSoon)
	return nil
}

// holds returns an error unless the commit at a position, the last one that is durable, is there or is filed.
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

// dropAfter takes out the commits after a position. They were refused, but may have reached the disk.
func (e *engine) dropAfter(position uint64) error {
	_, upper := kindRange(kindLog)
	b := e.db.NewBatch()
	b.DeleteRange(logKey(position+1), upper, nil) //nolint:errcheck // a batch in memory takes all
	return e.commit(b, pebble.Sync)
}

// Failure returns why reports can't be made durable, or nil where they can.
func (j *Journal) Failure() *Failure {
	if f := j.failure.Load(); f != nil {
		return f
	}
	if j.unfiled.Load() >= j.mostToFile {
		return j.stuck.Load()
	}
	return nil
}

// failureOf says what err means to whoever asks the server.
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
		{os.ErrPermission, "DATA_DIR may not be written"},
		{os.ErrNotExist, "DATA_DIR, or a file in it, is gone"},
		{errRemoved, "DATA_DIR, or a file in it, is gone"},
		{errReplaced, "DATA_DIR is another directory than it was"},
		{errForeign, "DATA_DIR does not hold what this server wrote: bring that back, or restart the server to go on with what is there"},
	} {
		if errors.Is(err, known.err) {
			cause = known.cause
		}
	}
	return &Failure{cause, err}
}

// Stats is what a journal holds and did since it was opened.
type Stats struct {
	DiskBytes      int64  // on disk, the engine's own files included
	UnfiledBytes   int64  // of commits not filed
	CommittedBytes uint64 // of commits made durable
	WrittenBytes   uint64 // to disk, for these and all that follows from them
	Failures       uint64 // how often the journal could not be written
}

// Stats returns what the journal holds.
func (j *Journal) Stats() Stats {
	stats := Stats{
		UnfiledBytes:   j.unfiled.Load(),
		CommittedBytes: j.written.Load(),
		Failures:       j.failures.Load(),
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.engine == nil || j.failure.Load() != nil {
		return stats // a failed engine may never answer
	}
	m := j.engine.db.Metrics()
	total := m.Total()
	stats.DiskBytes = int64(m.DiskSpaceUsage())
	stats.WrittenBytes = m.WAL.BytesWritten + total.TableBytesFlushed + total.TableBytesCompacted
	return stats
}

// Close ends the journal, once what is under way is done.
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

// notify wakes whoever waits at ch, or the next who does.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
