package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Alive notes that the server runs at the time now, so that the next run knows since when it was down. Where the journal can't be
// written, it does nothing.
func (j *Journal) Alive(now time.Time) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.usable() != nil {
		return
	}
	b := j.engine.db.NewBatch()
	b.Set(aliveKey, binary.AppendVarint(nil, now.UnixNano()), nil) //nolint:errcheck // a batch in memory takes all
	j.engine.commit(b, pebble.Sync)                                //nolint:errcheck // an engine that fails says so itself
}

// lastAlive returns when the server last ran, as far as that is known; the zero time where it is not.
func (e *engine) lastAlive() (time.Time, error) {
	value, err := e.get(aliveKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	d := decoder{rest: value}
	last := time.Unix(0, d.varint()).UTC()
	return last, d.err()
}
