package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Check returns nil if a directory of the operating system's file system contains a journal that [Open] can open, and
// if everything in it can be read. It takes as long as reading all of it does, and changes nothing. No server may have
// the journal open.
func Check(ctx context.Context, dir string) error {
	err := check(ctx, dir)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, pebble.ErrDBDoesNotExist), errors.Is(err, pebble.ErrNotFound):
		return &wrapped{dir + " contains no journal", err}
	case pebble.IsCorruptionError(err), errors.Is(err, errMalformed):
		message, _, _ := strings.Cut(err.Error(), "\n")
		return &wrapped{fmt.Sprintf("the journal in %s is damaged: %s", dir, message), err}
	}
	return fmt.Errorf("read the journal in %s: %w", dir, err)
}

func check(ctx context.Context, dir string) (err error) {
	defer func() { // the engine panics at some damage
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errMalformed, p)
		}
	}()
	db, err := pebble.Open(dir, &pebble.Options{
		FS:            withoutLocks{vfs.Default},
		ReadOnly:      true,
		Logger:        silentLogger{},
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}, // the error is returned
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	e := &engine{db: db}
	if _, err := e.formatVersion(); err != nil {
		return err
	}
	if _, err := e.findEnd(); err != nil {
		return err
	}
	return readEverything(ctx, db)
}

// readEverything reads every key and every value, whose checksums the engine compares.
func readEverything(ctx context.Context, db *pebble.DB) (err error) {
	iter, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for more := iter.First(); more; more = iter.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := iter.ValueAndErr(); err != nil {
			return err
		}
	}
	return iter.Error()
}

// withoutLocks is a file system in which locking changes nothing.
type withoutLocks struct{ vfs.FS }

// Lock implements vfs.FS.
func (withoutLocks) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f withoutLocks) Unwrap() vfs.FS { return f.FS }

// silentLogger discards the log of an engine whose errors are returned.
type silentLogger struct{}

// Infof implements pebble.Logger.
func (silentLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (silentLogger) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger. It must not return.
func (silentLogger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
