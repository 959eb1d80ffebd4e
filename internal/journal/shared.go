package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// A journal whose commits come from a stream that servers share differs in three ways. It does not sync each commit,
// since the stream has it; the commits that a failed engine may have lost are kept in memory until they are synced, and
// written to the next engine. It records its position in the stream together with each commit. And it keeps the newest
// commits in the log after they are filed, so that they can be published again if the stream loses them.

const (
	defaultSyncInterval = 100 * time.Millisecond // at which commits from a stream are synced
	maxUnsynced         = 8 << 20                // bytes of such commits from which one is synced at once
	defaultKeptCommits  = 128 << 20              // bytes of filed commits that are kept in the log
)

// sharedVersion is the format version of a journal with a position in a stream. Journals without one keep
// [formatVersion], so that earlier programs can read them.
const sharedVersion = 7

// The keys of the notes about the stream. A journal that something else is appended to no longer has them.
const (
	TermKey     = "term"      // the number of the lease whose holder began last
	LineageKey  = "stream"    // which streams have made the state
	AgainPrefix = "again\x00" // begins the keys that say which messages were published again and applied
	SettingsKey = "settings"  // the settings in effect; see also SettingsKeyOf
)

// SettingsKeyOf returns the key of the note with the settings that a server agreed to last.
func SettingsKeyOf(server string) string { return SettingsKey + " " + server }

// unsynced is what a batch that is not synced yet writes.
type unsynced struct {
	number   uint64 // counts up
	position uint64 // of its commit in the log; that of the commit before it if it has none
	repr     []byte
}

// keptCommit is a filed commit that is still in the log.
type keptCommit struct {
	position uint64
	bytes    int
}

// writeUnsynced writes a batch, with a position in a stream. It is synced later. The caller holds j.appending and j.mu.
func (j *Journal) writeUnsynced(b *pebble.Batch, p Position, pauses []store.Pause) error {
	b.Set(positionKey, appendPositionIn(nil, p), nil) //nolint:errcheck // writing to a batch in memory never fails
	if pauses != nil {
		b.Set(pausesKey, appendPauses(nil, pauses), nil) //nolint:errcheck // see above
	}
	if j.at.Load() == nil {
		b.Set(formatKey, binary.AppendUvarint(nil, sharedVersion), nil) //nolint:errcheck // see above
	}
	j.batches++
	u := unsynced{j.batches, j.position, slices.Clone(b.Repr())}
	sync := pebble.NoSync
	if j.unsyncedBytes+len(u.repr) > maxUnsynced {
		sync = pebble.Sync
	}
	if err := j.engine.commit(b, sync); err != nil {
		return err
	}
	j.at.Store(&p)
	if sync == pebble.Sync {
		j.unsynced, j.unsyncedBytes = nil, 0
		return nil
	}
	j.unsynced = append(j.unsynced, u)
	j.unsyncedBytes += len(u.repr)
	return nil
}

// addLeaving adds to a batch that the journal is part of no stream any more.
func addLeaving(b *pebble.Batch) {
	b.Delete(positionKey, nil)                                          //nolint:errcheck // writing to a batch in memory never fails
	b.Delete(noteKey(TermKey), nil)                                     //nolint:errcheck // see above
	b.Delete(noteKey(LineageKey), nil)                                  //nolint:errcheck // see above
	b.DeleteRange(noteKey(AgainPrefix), end(noteKey(AgainPrefix)), nil) //nolint:errcheck // see above
	b.Delete(noteKey(SettingsKey), nil)                                 //nolint:errcheck // see above
	of := noteKey(SettingsKeyOf(""))
	b.DeleteRange(of, end(of), nil) //nolint:errcheck // see above
}

// Position returns how far the server is in a stream. ok is false if the journal has never been part of one, or if
// something else was appended since.
func (j *Journal) Position() (p Position, ok bool) {
	if at := j.at.Load(); at != nil {
		return *at, true
	}
	return p, false
}

// Advance records a position in a stream, after messages that made no commit. pauses is as in [Commit].
func (j *Journal) Advance(p Position, pauses []store.Pause) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	if err := j.writeUnsynced(j.engine.db.NewBatchWithSize(128), p, pauses); err != nil {
		return failureOf(err)
	}
	return nil
}

// runSyncer syncs commits from a stream at an interval until the journal is closed.
func (j *Journal) runSyncer(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-j.closing:
			return
		case <-tick.C:
			j.Sync() //nolint:errcheck // the engine reports its failure itself
		}
	}
}

// Sync syncs what Append and Advance have written.
func (j *Journal) Sync() error {
	j.appending.Lock()
	last, none := j.batches, len(j.unsynced) == 0
	j.appending.Unlock()
	if none {
		return nil
	}
	e, err := j.syncEngine()
	if err != nil {
		return err
	}
	j.noteSynced(e, last)
	return nil
}

// noteSynced notes that e has synced the batches up to a number.
func (j *Journal) noteSynced(e *engine, last uint64) {
	j.appending.Lock()
	defer j.appending.Unlock()
	if e.hasFailed() {
		return // the next engine takes care of them
	}
	n := 0 // others may have been synced meanwhile, and more were written
	for ; n < len(j.unsynced) && j.unsynced[n].number <= last; n++ {
		j.unsyncedBytes -= len(j.unsynced[n].repr)
	}
	j.unsynced = slices.Delete(j.unsynced, 0, n)
}

// syncEngine syncs the current engine, and returns it.
func (j *Journal) syncEngine() (*engine, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return nil, err
	}
	e := j.engine
	b := e.db.NewBatch()
	b.LogData([]byte("sync"), nil) //nolint:errcheck // writing to a batch in memory never fails
	if err := e.commit(b, pebble.Sync); err != nil {
		return nil, failureOf(err)
	}
	return e, nil
}

// writeAgain writes what an engine before e may not have synced. The caller holds j.appending.
func (j *Journal) writeAgain(e *engine) error {
	if len(j.unsynced) == 0 {
		return nil
	}
	end, err := e.findEnd()
	if err != nil {
		return err
	}
	b := e.db.NewBatch()
	for _, u := range j.unsynced {
		if u.position < end.position {
			continue
		}
		part := e.db.NewBatch()
		err := part.SetRepr(slices.Clone(u.repr))
		if err == nil {
			err = b.Apply(part, nil)
		}
		if err := errors.Join(err, part.Close()); err != nil {
			return err
		}
	}
	if err := e.commit(b, pebble.Sync); err != nil {
		return err
	}
	j.unsynced, j.unsyncedBytes = nil, 0
	return nil
}

// readPosition returns the recorded position in a stream, nil if there is none.
func (e *engine) readPosition() (*Position, error) {
	value, found, err := e.find(positionKey)
	if !found {
		return nil, err
	}
	p, err := decodePositionIn(value)
	if err != nil {
		return nil, fmt.Errorf("read the position in the stream: %w", err)
	}
	return &p, nil
}

// appendPauses appends pauses: their number, a uvarint, and the beginning and the end of each, varints in Unix
// nanoseconds.
func appendPauses(b []byte, pauses []store.Pause) []byte {
	b = binary.AppendUvarint(b, uint64(len(pauses)))
	for _, p := range pauses {
		b = binary.AppendVarint(binary.AppendVarint(b, p.From.UnixNano()), p.To.UnixNano())
	}
	return b
}

// readPauses returns the recorded pauses.
func (e *engine) readPauses() ([]store.Pause, error) {
	value, found, err := e.find(pausesKey)
	if !found {
		return nil, err
	}
	d := decoder{rest: value}
	pauses := decodeList(&d, func(d *decoder) store.Pause {
		return store.Pause{From: time.Unix(0, d.varint()).UTC(), To: time.Unix(0, d.varint()).UTC()}
	})
	return pauses, d.err()
}

// readCutoff returns the recorded cutoff, nil if there is none.
func (e *engine) readCutoff() (*time.Time, error) {
	value, found, err := e.find(cutoffKey)
	if !found {
		return nil, err
	}
	d := decoder{rest: value}
	t := d.time()
	return &t, d.err()
}

// keptUpTo returns the commits in the log of e up to a position.
func (e *engine) keptUpTo(position uint64) (kept []keptCommit, err error) {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: logKey(0), UpperBound: logKey(position + 1)})
	if err != nil {
		return nil, err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	for more := iter.First(); more; more = iter.Next() {
		value := iter.LazyValue()
		kept = append(kept, keptCommit{logPosition(iter.Key()), value.Len()})
	}
	return kept, iter.Error()
}

// dropFiled adds to a round the removal of commits from the log: of those that it files or, if these are kept for a
// while, of the oldest ones that are kept. The caller holds j.filing and j.mu.
func (j *Journal) dropFiled(r *round, filed []keptCommit) error {
	first, last := filed[0].position, filed[len(filed)-1].position
	if err := j.findKept(first - 1); err != nil {
		return err
	}
	if j.at.Load() != nil {
		first, last = j.keep(filed)
	} else if len(j.kept) > 0 { // the server has left its stream
		first = j.kept[0].position
		j.kept, j.keptBytes = nil, 0
	}
	if last > 0 {
		r.batch.DeleteRange(logKey(first), logKey(last+1), nil) //nolint:errcheck // writing to a batch in memory never fails
	}
	return nil
}

// findKept finds the kept commits up to a position, unless they are known. The caller holds j.filing and j.mu.
func (j *Journal) findKept(position uint64) (err error) {
	if j.knowsKept {
		return nil
	}
	if j.kept, err = j.engine.keptUpTo(position); err != nil {
		return err
	}
	j.keptBytes = 0
	for _, k := range j.kept {
		j.keptBytes += k.bytes
	}
	j.knowsKept = true
	return nil
}

// keep adds commits to those that are kept, and takes the oldest ones out that are too many. It returns the positions of
// the first and the last one taken out, 0 if there are none. The caller holds j.filing.
func (j *Journal) keep(filed []keptCommit) (first, last uint64) {
	j.kept = append(j.kept, filed...)
	for _, k := range filed {
		j.keptBytes += k.bytes
	}
	n := 0
	for ; n < len(j.kept) && j.keptBytes > j.maxKept; n++ {
		j.keptBytes -= j.kept[n].bytes
	}
	if n > 0 {
		first, last = j.kept[0].position, j.kept[n-1].position
		j.kept = slices.Delete(j.kept, 0, n)
	}
	return first, last
}

// MaxRecords is the maximum number of records that one message of a stream makes: one for each report.
const MaxRecords = store.MaxReports

// SequenceOf returns the sequence of a record of a message of a stream, by the index of the record in the message. The
// sequences of two messages most likely differ even if a stream, after it lost one, has given both the same sequence:
// ten bits depend on the message's ID.
func SequenceOf(message uint64, id string, index int) uint64 {
	return message<<store.SequenceBits | xxhash.Sum64String(id)>>54*MaxRecords | uint64(index)
}

// FirstMessageAfter returns the sequence of the first message of a stream such that its records have greater sequences
// than this one.
func FirstMessageAfter(record uint64) uint64 { return record>>store.SequenceBits + 2 }

// lastSequenceOf returns a sequence such that no record of the message has a greater one.
func lastSequenceOf(message uint64) uint64 { return (message+1)<<store.SequenceBits - 1 }

// Applied is the effect that a message of a stream, or a part of one, had when the server applied it.
type Applied struct {
	Position Position
	Origin   *Position // see [Commit]
	Commit   []byte    // for [DecodeCommit]
}

// Split returns a in parts with commits of about size bytes at most, unless a single record is larger. Applied in their
// order, they have the same effect. Each has an origin of its own.
func (a Applied) Split(size int) ([]Applied, error) {
	if len(a.Commit) <= size {
		return []Applied{a}, nil
	}
	c, err := DecodeCommit(a.Commit)
	if err != nil {
		return nil, err
	}
	origin := a.Position
	if a.Origin != nil {
		origin = *a.Origin
	}
	var parts []Applied
	add := func(c Commit) {
		own := origin
		own.ID = fmt.Sprint(origin.ID, ".", len(parts))
		c.Position, c.Origin = &a.Position, &own
		parts = append(parts, Applied{a.Position, &own, c.encode(nil)})
	}
	records := c.Records
	c.Records = nil
	add(c)
	for len(records) > 0 {
		n, bytes := 0, 0
		for ; n < len(records); n++ {
			bytes += len((&Commit{Records: records[n : n+1]}).encode(nil))
			if n > 0 && bytes > size {
				break
			}
		}
		add(Commit{Records: records[:n]})
		records = records[n:]
	}
	return parts, nil
}

// EachApplied calls visit for each commit that the log still has of messages with a sequence above after, in their
// order. It stops at the first error of visit, and returns it.
func (j *Journal) EachApplied(after uint64, visit func(Applied) error) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	return j.engine.eachCommit(0, func(_ uint64, commit string) error {
		a, err := appliedOf(commit)
		if err != nil || a.Position.Sequence <= after {
			return err
		}
		return visit(a)
	})
}

// KeepsAfter reports whether the log still has the commits of all messages with a sequence above after. With 0, it must
// have all commits that made the state.
func (j *Journal) KeepsAfter(after uint64) (bool, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return false, err
	}
	at := j.at.Load()
	keeps := at == nil || at.Sequence <= after // if the log is empty
	err := j.engine.eachCommit(0, func(position uint64, commit string) error {
		keeps = after > 0 // a commit that the server made alone can't be published again
		err := visitCommit(commit, visitor{position: func(p Position) error {
			keeps = position == 1 || p.Sequence <= after
			return nil
		}})
		return errors.Join(err, errStop)
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return keeps, err
}

// appliedOf returns what the commit of a message says about itself. Its position is zero if no message made it.
func appliedOf(commit string) (a Applied, err error) {
	err = visitCommit(commit, visitor{position: func(p Position) error {
		a.Position = p
		return nil
	}, origin: func(p Position) error {
		a.Origin = &p
		return nil
	}})
	a.Commit = []byte(commit)
	return a, err
}

// DecodeCommit decodes the commit of a message: see [Journal.EachApplied].
func DecodeCommit(b []byte) (c Commit, err error) {
	err = visitCommit(string(b), visitor{
		record: func(r models.Record, _ string) error {
			c.Records = append(c.Records, r)
			return nil
		},
		forget: func(f store.Forgotten) error {
			c.Forgotten = append(c.Forgotten, f)
			return nil
		},
		evict: func(key store.SessionKey) error {
			c.Evicted = append(c.Evicted, key)
			return nil
		},
		note: func(n Note) error {
			c.Notes = append(c.Notes, n)
			return nil
		},
		position: func(p Position) error {
			c.Position = &p
			return nil
		},
		origin: func(p Position) error {
			c.Origin = &p
			return nil
		},
	})
	return c, err
}
