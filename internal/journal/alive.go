package journal

import (
	"encoding/binary"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// MarkAlive records that the server is running at the time now, so that the next run knows since when it was down. It
// does nothing while the journal can't be written.
func (j *Journal) MarkAlive(now time.Time) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.usable() != nil {
		return
	}
	b := j.engine.db.NewBatch()
	b.Set(aliveKey, binary.AppendVarint(nil, now.UnixNano()), nil) //nolint:errcheck // writing to a batch in memory never fails
	j.engine.commit(b, pebble.Sync)                                //nolint:errcheck // the engine reports its failure itself
}

// lastAlive returns the time that was last passed to [Journal.MarkAlive], or the zero time if there is none.
func (e *engine) lastAlive() (time.Time, error) {
	value, found, err := e.find(aliveKey)
	if !found {
		return time.Time{}, err
	}
	d := decoder{rest: value}
	last := time.Unix(0, d.varint()).UTC()
	return last, d.err()
}
