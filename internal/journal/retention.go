package journal

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/store"
)

// TrimSession deletes the filed records of a session that are older than before, except its newest record. It returns
// the number of deleted records.
func (j *Journal) TrimSession(key store.SessionKey, before time.Time) (deleted int, err error) {
	err = j.trim(recordPrefix(key), before, true, func(b *pebble.Batch, text string) error {
		deleted++
		r, err := decodeRecord(text)
		if err == nil && r.ReportID != "" {
			b.Delete(idKey(key, r.ReportID), nil) //nolint:errcheck // writing to a batch in memory never fails
		}
		return err
	})
	return deleted, err
}

// TrimAgent deletes the entries older than before from the history of an agent.
func (j *Journal) TrimAgent(agentID string, before time.Time) error {
	return j.trim(agentPrefix(agentID), before, false, func(*pebble.Batch, string) error { return nil })
}

// HasOlder reports whether TrimSession would delete something from a session, as far as it is filed.
func (j *Journal) HasOlder(key store.SessionKey, before time.Time) (bool, error) {
	return j.hasOlder(recordPrefix(key), before, true)
}

// AgentHasOlder reports whether TrimAgent would delete something from the history of an agent, as far as it is filed.
func (j *Journal) AgentHasOlder(agentID string, before time.Time) (bool, error) {
	return j.hasOlder(agentPrefix(agentID), before, false)
}

// hasOlder reports whether the oldest entry of a history is older than before. With keepNewest, the only entry of a
// history does not count.
func (j *Journal) hasOlder(prefix []byte, before time.Time, keepNewest bool) (older bool, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return false, err
	}
	iter, err := j.engine.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	if !iter.Last() {
		return false, nil
	}
	chunk, err := iter.ValueAndErr()
	if err != nil {
		return false, err
	}
	entries := 0
	err = eachEntry(prefix, string(chunk), func(e entry) error {
		entries++
		older = e.at.Time().Before(before)
		return nil
	})
	if keepNewest && entries == 1 && !iter.Prev() {
		older = false
	}
	return older, err
}

// trim deletes the entries of a history that are older than before, and calls onDelete for each. With keepNewest, it
// keeps the newest entry of the history.
func (j *Journal) trim(prefix []byte, before time.Time, keepNewest bool, onDelete func(b *pebble.Batch, text string) error) error {
	j.filing.Lock()
	defer j.filing.Unlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	b := j.engine.db.NewBatch()
	// Among entries with the same timestamp, the greatest sequence comes first.
	from, _, err := j.engine.chunkOf(prefix, store.StatusPosition{Seconds: before.Unix(), Nanoseconds: int32(before.Nanosecond())})
	if err != nil {
		return err
	}
	keepNewest = keepNewest && string(from) == string(prefix)
	deleting := false
	err = j.engine.eachChunk(prefix, from, func(key []byte, chunk string) error {
		var kept []entry
		all := 0
		err := eachEntry(prefix, chunk, func(e entry) error {
			all++
			if keepNewest || !e.at.Time().Before(before) {
				keepNewest = false
				kept = append(kept, e)
				return nil
			}
			return onDelete(b, e.text)
		})
		switch {
		case err != nil || len(kept) == all:
			return err
		case len(kept) == 0 && deleting:
			return nil
		case len(kept) == 0: // the chunks that follow are older, so none of their entries are kept either
			deleting = true
			return b.DeleteRange(key, end(prefix), nil)
		}
		rest, err := appendChunk(nil, prefix, kept)
		if err != nil {
			return err
		}
		return b.Set(key, rest, nil)
	})
	if err != nil || b.Empty() {
		return err
	}
	if err := j.engine.commit(b, pebble.NoSync); err != nil {
		return failureOf(err)
	}
	j.deleted.Store(true)
	return nil
}

// maxFullCompaction is the total size of tables, in bytes, up to which Reclaim compacts all of them.
const maxFullCompaction = 256 << 20

// Reclaim frees the disk space of records deleted since the last call, if there are any. The engine frees it as it
// compacts tables, but with few tables that may take long. If the tables are larger than [maxFullCompaction], Reclaim
// leaves it to the engine.
func (j *Journal) Reclaim() error {
	if err := j.File(); err != nil {
		return err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	if !j.deleted.Swap(false) {
		return nil
	}
	e := j.engine
	return e.isolate(func() error {
		if err := e.db.Flush(); err != nil {
			return err
		}
		if total := e.db.Metrics().Total(); total.TablesSize > maxFullCompaction {
			return nil
		}
		return e.db.Compact(context.Background(), []byte{kindAgent}, []byte{kindRecord + 1}, false)
	})
}
