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

// How the engine uses memory: a memtable takes writes until it is written out as a table, another one the writes
// meanwhile; blocks of tables that were read are cached.
const (
	memTableSize = 32 << 20
	maxMemTables = 4
	blockCache   = 32 << 20

	// mergeFrom is how many tables that overlap are merged at once. The more there are, the less often everything is written again, and
	// the more a read has to look at: with 16, a start took half as long again as with 8.
	mergeFrom = 8

	bloomBits = 10
)

// engine is Pebble, open on the journal's directory. Once something that it tried to write could not be written, it
// has failed for good: it does not promise what its state is then. It is given up behind its fence, and another
// one is opened, which recovers what was synced, as after a crash.
type engine struct {
	db     *pebble.DB
	fence  *fence
	using  sync.WaitGroup // whoever uses db apart
	logger *slog.Logger
	home   *home

	once   sync.Once
	failed chan struct{} // closed once it has failed
	err    error         // why; not before failed is closed
	onFail func(*engine)
}

// openEngine opens the engine in the journal's directory. Where it has no files there, it creates them, or, if it was open there
// before, refuses to.
func (j *Journal) openEngine(again bool) (*engine, error) {
	e := &engine{
		logger: j.logger,
		home:   j.home,
		failed: make(chan struct{}),
		onFail: j.failed,
	}
	e.fence = newFence(j.fs, j.dir, e.fail, j.home.present)
	opts := e.options()
	opts.ErrorIfNotExists = again
	if j.tune != nil {
		j.tune(opts)
	}
	// What the engine does not expect it reports with a panic, or ends its goroutine by way of its logger.
	opened := e.apart(func() (err error) {
		e.db, err = pebble.Open(j.dir, opts)
		return err
	})
	if opened != nil {
		e.fail(opened)
	}
	e.fence.opened.Store(true)
	if e.hasFailed() {
		e.close() //nolint:errcheck // why it failed is known
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
		L0CompactionThreshold:       mergeFrom,
		L0StopWritesThreshold:       4 * mergeFrom,
		Logger:                      engineLogger{e},
		EventListener: &pebble.EventListener{
			BackgroundError: e.backgroundError,
			DataCorruption:  e.damaged,
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

// apart runs f in a goroutine of its own, so that whatever the engine does in there ends no other one: it panics
// where it can't write, and has its logger end the process.
func (e *engine) apart(f func() error) error {
	done := make(chan error, 1)
	e.using.Go(func() {
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
			return e.err // why the engine stopped, and not just that it did; or that what went well went nowhere
		}
		return err
	case <-e.failed:
		return e.err
	}
}

// commit writes a batch as one: synced to disk before it returns, if sync says so, and where the next start looks for it. Where that
// returns an error, the engine has failed, and the batch may be there when the next one opens, or not. The batch is the engine's from
// then on: one that has failed may use it for a long time.
func (e *engine) commit(b *pebble.Batch, sync *pebble.WriteOptions) error {
	err := e.apart(func() error { return e.db.Apply(b, sync) })
	if err == nil {
		err = e.present()
	}
	if err != nil {
		e.fail(err)
		return err
	}
	return b.Close()
}

// fail gives the engine up. One that is not open yet has nobody to answer to.
func (e *engine) fail(err error) {
	e.once.Do(func() {
		e.fence.close(fmt.Errorf("the engine was given up: %w", err))
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

// present returns why what the engine writes is not where the next start looks for it, or nil.
func (e *engine) present() error {
	if err := e.home.present(); err != nil {
		return err
	}
	if log := e.fence.log.Load(); log != nil && unlinked(log) {
		return fmt.Errorf("%s: %w", log.name, errRemoved)
	}
	return nil
}

// damaged takes what is wrong with a file that was read; whoever reads gets the error.
func (e *engine) damaged(info pebble.DataCorruptionInfo) {
	if e.hasFailed() {
		return // it may miss what it wrote
	}
	if err := e.present(); err != nil {
		e.fail(err)
		return
	}
	e.logger.Error("a file of the journal is damaged: restore a backup", "file", info.Path, "error", info.Details.Error())
}

// backgroundError takes what went wrong while the engine wrote tables. A table that can't be read is no reason to give
// the engine up: another one could not read it either.
func (e *engine) backgroundError(err error) {
	switch {
	case e.hasFailed():
	case pebble.IsCorruptionError(err):
		e.logger.Error("the journal is damaged: restore a backup", "error", err.Error())
	default:
		e.fail(err)
	}
}

// close closes an engine, or lets go of one that has failed: that may be beyond being closed, and what it then
// keeps is some memory, until the process ends.
func (e *engine) close() error {
	defer e.fence.release()
	if !e.hasFailed() {
		return e.apart(e.db.Close)
	}
	go func() {
		e.using.Wait() // whoever waited at the fence goes on with memory that is let go of now
		if e.db != nil {
			e.apart(e.db.Close) //nolint:errcheck // it writes nothing any more
		}
	}()
	return nil
}

// engineLogger is what the engine logs to.
type engineLogger struct{ *engine }

// Infof implements pebble.Logger.
func (engineLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l engineLogger) Errorf(format string, args ...any) {
	if !l.hasFailed() {
		l.logger.Error("journal engine", "error", fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger: it ends the goroutine, with all that it has put off, and the engine.
func (l engineLogger) Fatalf(format string, args ...any) {
	l.fail(fatalError(args, fmt.Sprintf(format, args...)))
	runtime.Goexit()
}

// fatalError returns an error with that message that wraps the first error of args.
func fatalError(args []any, message string) error {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			return &wrapped{message, err}
		}
	}
	return errors.New(message)
}

type wrapped struct {
	message string
	cause   error
}

func (w *wrapped) Error() string { return w.message }
func (w *wrapped) Unwrap() error { return w.cause }
