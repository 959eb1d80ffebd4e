package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Memory of the engine, in bytes. Writes go to a memtable, which is written out as a table when it is full; the next
// one takes writes meanwhile. The block cache holds blocks of tables that were read.
const (
	memTableSize = 32 << 20
	maxMemTables = 4
	blockCache   = 32 << 20

	// mergeThreshold is the number of overlapping tables that are compacted at once. A higher number means that data is
	// rewritten less often, but that reads search more tables: with 16, a start took half as long again as with 8.
	mergeThreshold = 8

	bloomBits = 10 // bits per key of the tables' Bloom filters
)

// engine is Pebble, open in the journal's directory. After a failed write, Pebble makes no promises about its state, so
// the engine counts as failed for good. It is abandoned behind its fence, and a new one is opened, which recovers
// everything that was synced, as after a crash.
type engine struct {
	db       *pebble.DB
	fence    *fence
	isolated sync.WaitGroup // calls of isolate in progress
	logger   *slog.Logger
	home     *home

	once   sync.Once
	failed chan struct{} // closed when the engine has failed
	err    error         // why it failed; valid after failed is closed
	onFail func(*engine)
}

// openEngine opens the engine in the journal's directory. If the directory contains no engine, it creates one; with
// again, which says that there was one before, it returns an error instead.
func (j *Journal) openEngine(again bool) (*engine, error) {
	e := &engine{
		logger: j.logger,
		home:   j.home,
		failed: make(chan struct{}),
		onFail: j.onEngineFailure,
	}
	e.fence = newFence(j.fs, j.dir, e.fail, j.home.checkPresent)
	opts := e.options()
	opts.ErrorIfNotExists = again
	if j.tune != nil {
		j.tune(opts)
	}
	// On unexpected errors, the engine panics, or ends its goroutine through its logger.
	opened := e.isolate(func() (err error) {
		e.db, err = pebble.Open(j.dir, opts)
		return err
	})
	if opened != nil {
		e.fail(opened)
	}
	e.fence.opened.Store(true)
	if e.hasFailed() {
		e.close() //nolint:errcheck // e.err is returned instead
		return nil, e.err
	}
	return e, nil
}

func (e *engine) options() *pebble.Options {
	opts := &pebble.Options{
		FS:                          e.fence,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		CacheSize:                   blockCache,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: maxMemTables,
		L0CompactionThreshold:       mergeThreshold,
		L0StopWritesThreshold:       4 * mergeThreshold,
		Logger:                      engineLogger{e},
		EventListener: &pebble.EventListener{
			BackgroundError: e.onBackgroundError,
			DataCorruption:  e.onCorruption,
			DiskSlow: func(info pebble.DiskSlowInfo) {
				e.logger.Warn("the journal's disk is slow", "operation", info.OpType.String(), "took", info.Duration)
			},
		},
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	return opts
}

// isolate runs f in its own goroutine, so that a failure of the engine can't end another goroutine or the process: when
// it can't write, the engine panics or calls its logger's Fatalf.
func (e *engine) isolate(f func() error) error {
	done := make(chan error, 1)
	e.isolated.Go(func() {
		err := errors.New("the engine stopped")
		defer func() {
			switch p := recover().(type) {
			case nil:
			case error:
				err = p
			default:
				err = fmt.Errorf("%v", p)
			}
			done <- err
		}()
		err = f()
	})
	select {
	case err := <-done:
		if e.hasFailed() {
			return e.err // the cause; even if f succeeded, its writes were discarded
		}
		return err
	case <-e.failed:
		return e.err
	}
}

// commit writes a batch atomically, and checks that it went where the next start will look for it. With pebble.Sync,
// the batch is synced to disk before commit returns.
//
// If commit returns an error, the engine has failed, and the next engine may or may not contain the batch. The caller
// must not use the batch afterwards, because a failed engine may still hold it.
func (e *engine) commit(b *pebble.Batch, sync *pebble.WriteOptions) error {
	err := e.isolate(func() error { return e.db.Apply(b, sync) })
	if err == nil {
		err = e.checkPresent()
	}
	if err != nil {
		e.fail(err)
		return err
	}
	return b.Close()
}

// fail abandons the engine. If it is not open yet, nobody waits for it, and its fence is released at once.
func (e *engine) fail(err error) {
	e.once.Do(func() {
		e.fence.close(fmt.Errorf("the engine has failed: %w", err))
		e.err = err
		close(e.failed)
		if e.fence.opened.Load() {
			e.onFail(e)
		} else {
			e.fence.release()
		}
	})
}

func (e *engine) hasFailed() bool {
	select {
	case <-e.failed:
		return true
	default:
		return false
	}
}

// checkPresent returns an error if the next start will not find what the engine writes, because the directory or the
// log was removed or replaced.
func (e *engine) checkPresent() error {
	if err := e.home.checkPresent(); err != nil {
		return err
	}
	if log := e.fence.log.Load(); log != nil && unlinked(log) {
		return fmt.Errorf("%s: %w", log.name, errRemoved)
	}
	return nil
}

// onCorruption logs that a file that was read is damaged. The reader gets the error.
func (e *engine) onCorruption(info pebble.DataCorruptionInfo) {
	if e.hasFailed() {
		return // files that it wrote behind the closed fence don't exist
	}
	if err := e.checkPresent(); err != nil {
		e.fail(err)
		return
	}
	e.logger.Error("a file of the journal is damaged: restore a backup", "file", info.Path, "error", info.Details.Error())
}

// onBackgroundError handles an error of a flush or a compaction. A table that can't be read is no reason to abandon the
// engine, because a new engine couldn't read it either.
func (e *engine) onBackgroundError(err error) {
	switch {
	case e.hasFailed():
	case pebble.IsCorruptionError(err):
		e.logger.Error("the journal is damaged: restore a backup", "error", err.Error())
	default:
		e.fail(err)
	}
}

// close closes the engine. A failed engine is closed in the background. That may never finish; the engine then keeps
// some memory until the process ends.
func (e *engine) close() error {
	defer e.fence.release()
	if !e.hasFailed() {
		return e.isolate(e.db.Close)
	}
	go func() {
		e.isolated.Wait() // calls that waited at the fence still use memory that Close frees
		if e.db != nil {
			e.isolate(e.db.Close) //nolint:errcheck // it no longer writes anything
		}
	}()
	return nil
}

// engineLogger receives the engine's log.
type engineLogger struct{ *engine }

// Infof implements pebble.Logger.
func (engineLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l engineLogger) Errorf(format string, args ...any) {
	if !l.hasFailed() {
		l.logger.Error("journal engine", "error", fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger. It fails the engine and ends the calling goroutine, running its deferred calls.
func (l engineLogger) Fatalf(format string, args ...any) {
	l.fail(fatalError(args, fmt.Sprintf(format, args...)))
	runtime.Goexit()
}

// fatalError returns an error with a message that wraps the first error among args.
func fatalError(args []any, message string) error {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			return &wrapped{message, err}
		}
	}
	return errors.New(message)
}

// wrapped is an error with its own message, which need not include that of its cause.
type wrapped struct {
	message string
	cause   error
}

func (w *wrapped) Error() string { return w.message }
func (w *wrapped) Unwrap() error { return w.cause }
