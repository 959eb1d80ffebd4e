package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Commit is what one call of [Journal.Append] makes durable, or nothing of it.
type Commit struct {
	Forgotten []store.Forgotten  // sessions that were forgotten before the records were admitted
	Evicted   []store.SessionKey // sessions that memory evicted before the records were admitted; only with a Position
	Records   []models.Record
	Notes     []Note

	// Position is how far the server is in a stream of messages that it shares with others, once the commit is applied.
	// It is nil if the journal's log is the only one. With a position, records come with their sequences, and Append does
	// not sync: what a crash loses is still in the stream.
	Position *Position

	// Pauses are all pauses that the store keeps, if one was added; else nil. They are only in commits with a position.
	Pauses []store.Pause

	// Cutoff is set if histories of agents were trimmed: see [Trim]. Like Pauses, it is only in commits with a position.
	Cutoff time.Time

	// Origin is set if the commit was made by another message, which the stream has lost, or by a log of a server's own.
	Origin *Position
}

// Position is how far a server is in a stream of messages.
type Position struct {
	Sequence uint64    // of the last message that was applied, wholly or in part
	ID       string    // of the same message
	Time     time.Time // of the same message
	Parts    int       // number of its parts that were applied, if it was applied in part; 0 if wholly
	Records  int       // number of records that these made
}

// Partial reports whether the message was applied in part only.
func (p Position) Partial() bool { return p.Parts > 0 }

// The kinds of operations in a commit.
const (
	opRecord   = 1
	opForget   = 2
	opRenewal  = 3 // from format 2 on
	opPosition = 4 // from format 7 on, as the following ones; it is the first of its commit
	opEvict    = 5
	opNote     = 6
	opOrigin   = 7
)

// encode appends the operations of a commit.
func (c *Commit) encode(b []byte) []byte {
	if c.Position != nil {
		b = appendOp(b, opPosition, func(b []byte) []byte { return appendPositionIn(b, *c.Position) })
	}
	if c.Origin != nil {
		b = appendOp(b, opOrigin, func(b []byte) []byte { return appendPositionIn(b, *c.Origin) })
	}
	for _, f := range c.Forgotten {
		b = appendOp(b, opForget, func(b []byte) []byte { return appendForgotten(b, f) })
	}
	for _, key := range c.Evicted {
		b = appendOp(b, opEvict, func(b []byte) []byte { return appendKey(b, key) })
	}
	for i := range c.Records {
		kind, encode := byte(opRecord), appendRecord
		if c.Records[i].Renewal() {
			kind, encode = opRenewal, appendRenewal
		}
		b = appendOp(b, kind, func(b []byte) []byte { return encode(b, &c.Records[i]) })
	}
	if c.Position == nil {
		return b // nobody reads the notes of such a commit again
	}
	for _, n := range c.Notes {
		b = appendOp(b, opNote, func(b []byte) []byte { return appendNote(b, n) })
	}
	return b
}

// visitor is what is done with each operation of a commit. A nil function skips its operations.
type visitor struct {
	record   func(r models.Record, value string) error // value is the encoded record, or "" for a renewal
	forget   func(store.Forgotten) error
	evict    func(store.SessionKey) error
	note     func(Note) error
	position func(Position) error
	origin   func(Position) error
}

// visitCommit decodes the operations of a commit, and calls the functions of v in their order.
func visitCommit(commit string, v visitor) error {
	return eachOp(commit, func(kind byte, value string) error {
		switch kind {
		case opRecord, opRenewal:
			return v.visitRecord(kind, value)
		case opForget:
			return visitOp(value, decodeForgotten, v.forget)
		case opEvict:
			return visitOp(value, decodeKey, v.evict)
		case opNote:
			return visitOp(value, decodeNote, v.note)
		case opPosition:
			return visitOp(value, decodePositionIn, v.position)
		case opOrigin:
			return visitOp(value, decodePositionIn, v.origin)
		}
		return fmt.Errorf("%w: operation %d", errMalformed, kind)
	})
}

func (v *visitor) visitRecord(kind byte, value string) error {
	switch {
	case v.record == nil:
		return nil
	case kind == opRenewal:
		r, err := decodeRenewal(value)
		if err != nil {
			return err
		}
		return v.record(r, "")
	}
	r, err := decodeRecord(value)
	if err != nil {
		return err
	}
	return v.record(r, value)
}

// visitOp decodes the value of an operation and visits it, unless visit is nil.
func visitOp[T any](value string, decode func(string) (T, error), visit func(T) error) error {
	if visit == nil {
		return nil
	}
	decoded, err := decode(value)
	if err != nil {
		return err
	}
	return visit(decoded)
}

// eachOp calls visit for each operation of a commit.
func eachOp(commit string, visit func(kind byte, value string) error) error {
	for len(commit) > 0 {
		d := decoder{rest: commit}
		kind := d.byte()
		value := d.bytes(d.length())
		if d.failed {
			return errMalformed
		}
		if err := visit(kind, value); err != nil {
			return err
		}
		commit = d.rest
	}
	return nil
}

// appendOp appends an operation to a commit: its kind, a byte, the length of its value as four bytes, and the value,
// which encode appends.
func appendOp(b []byte, kind byte, encode func([]byte) []byte) []byte {
	b = append(b, kind, 0, 0, 0, 0)
	start := len(b)
	b = encode(b)
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

// appendForgotten appends a forgotten session: its flags, a byte, then agent ID and topic as strings.
func appendForgotten(b []byte, f store.Forgotten) []byte {
	flags := byte(0)
	if f.LastOfAgent {
		flags = flagLastOfAgent
	}
	return appendKey(append(b, flags), f.SessionKey)
}

// decodeForgotten is the inverse of appendForgotten.
func decodeForgotten(value string) (f store.Forgotten, err error) {
	if len(value) == 0 {
		return f, errMalformed
	}
	f.LastOfAgent = value[0]&flagLastOfAgent != 0
	f.SessionKey, err = decodeKey(value[1:])
	return f, err
}

// appendKey appends a session's agent ID and topic, as strings.
func appendKey(b []byte, key store.SessionKey) []byte {
	return appendString(appendString(b, key.AgentID), key.Topic)
}

func (d *decoder) key() store.SessionKey {
	return store.SessionKey{AgentID: d.string(), Topic: d.string()}
}

// decodeKey is the inverse of appendKey. It refuses a key without an agent or a topic.
func decodeKey(value string) (store.SessionKey, error) {
	d := decoder{rest: value}
	key := d.key()
	if d.failed || key.AgentID == "" || key.Topic == "" {
		return key, errMalformed
	}
	return key, nil
}

// appendNote appends a note: whether it is stored or deleted, its key, and its value, a string each.
func appendNote(b []byte, n Note) []byte {
	return appendString(appendString(appendBool(b, n.Value != nil), n.Key), string(n.Value))
}

// decodeNote is the inverse of appendNote.
func decodeNote(value string) (Note, error) {
	d := decoder{rest: value}
	n := d.note()
	return n, d.err()
}

func (d *decoder) note() (n Note) {
	stored := d.bool()
	n.Key = d.string()
	if text := d.string(); stored {
		n.Value = []byte(text)
	}
	return n
}

// appendPositionIn appends a position in a stream: its sequence, a uvarint; its ID, a string; its time in Unix
// nanoseconds, a varint; and the numbers of parts and records, uvarints.
func appendPositionIn(b []byte, p Position) []byte {
	b = appendString(binary.AppendUvarint(b, p.Sequence), p.ID)
	b = binary.AppendVarint(b, p.Time.UnixNano())
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.Parts)), uint64(p.Records))
}

// decodePositionIn is the inverse of appendPositionIn.
func decodePositionIn(value string) (Position, error) {
	d := decoder{rest: value}
	p := Position{Sequence: d.uvarint(), ID: d.string(), Time: time.Unix(0, d.varint()).UTC(), Parts: int(d.uvarint()), Records: int(d.uvarint())}
	return p, d.err()
}

// maxKeptCommit is the size in bytes up to which the buffer of a commit is kept for the next one.
const maxKeptCommit = 4 << 20

// Append makes a commit durable. Without a position, it first assigns sequence numbers to the records, in their order.
//
// Once the commit is durable, Append calls apply, which must apply the commit to the store. The commit is not filed
// before apply returns, because the journal files the state that the store has of a session along with its records.
//
// If Append returns an error, which is a *Failure or ErrClosed, nothing of the commit was stored, none of it will show
// after a restart, and apply was not called.
func (j *Journal) Append(c Commit, apply func()) error {
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
	for i := range c.Records {
		if c.Position == nil {
			c.Records[i].Sequence = j.sequence + 1
		}
		j.sequence = max(j.sequence, c.Records[i].Sequence)
	}
	commit := c.encode(j.commit[:0])
	if cap(commit) <= maxKeptCommit {
		j.commit = commit
	}
	j.position++
	if err := j.write(&c, commit); err != nil {
		return failureOf(err)
	}
	j.applying.Lock()
	defer j.applying.Unlock()
	if len(c.Forgotten) > 0 || c.Origin != nil {
		j.lastForget.Store(j.position)
	}
	j.durable.Store(j.position)
	j.written.Add(uint64(len(commit)))
	if j.unfiled.Add(int64(len(commit))) >= fileThreshold {
		notify(j.fileSoon)
	}
	apply()
	return nil
}

// LastSequence returns the greatest sequence of a record that the journal has assigned or was given, 0 for none.
func (j *Journal) LastSequence() uint64 {
	j.appending.Lock()
	defer j.appending.Unlock()
	return j.sequence
}

// write writes a commit, encoded, to the log. The caller holds j.appending and j.mu.
func (j *Journal) write(c *Commit, encoded []byte) error {
	b := j.engine.db.NewBatchWithSize(len(encoded) + 128)
	b.Set(logKey(j.position), encoded, nil) //nolint:errcheck // writing to a batch in memory never fails
	addNotes(b, c.Notes)
	if c.Position == nil {
		if j.at.Load() != nil {
			addLeaving(b)
		}
		err := j.engine.commit(b, pebble.Sync)
		if err == nil {
			j.at.Store(nil)
			j.unsynced, j.unsyncedBytes = nil, 0
		}
		return err
	}
	if !c.Cutoff.IsZero() {
		b.Set(cutoffKey, appendTime(nil, c.Cutoff), nil) //nolint:errcheck // see above
	}
	err := j.writeUnsynced(b, *c.Position, c.Pauses)
	if err == nil && !c.Cutoff.IsZero() {
		j.cutoff.Store(&c.Cutoff)
	}
	return err
}

// addNotes adds notes to a batch.
func addNotes(b *pebble.Batch, notes []Note) {
	for _, n := range notes { // writing to a batch in memory never fails
		if n.Value == nil {
			b.Delete(noteKey(n.Key), nil) //nolint:errcheck
		} else {
			b.Set(noteKey(n.Key), n.Value, nil) //nolint:errcheck
		}
	}
}
