package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// A history is filed in chunks. The key of a chunk is the prefix of the history and the place of the newest entry; the
// value holds the entries, newest first. The chunks of a history never overlap, so they can be read one after another.
// Entries of a history that are filed together share a key.
//
// A chunk is a zero byte, the number of entries as a uvarint, and the entries. In the history of a session, an entry is
// the delta of a record to the entry before it: see [appendDelta]. In the history of an agent, it is a topic: see
// [appendTopics]. Up to format 2, a chunk was the number of entries followed by the place and the text of each; the
// text was a string that held a record, as [appendRecord] encodes it, or a topic.

// The maximum size of a chunk, unless a single entry is larger.
const (
	chunkEntries = 64
	chunkBytes   = 64 << 10
)

// entry is an entry of a history.
type entry struct {
	at   store.StatusPosition
	text string // a record, as appendRecord encodes it, or the topic of a record
}

// comparePositions compares two positions in the order of a history, newest first. The result is negative if a comes
// before b. The encoded places have the same order.
func comparePositions(a, b store.StatusPosition) int {
	return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(b.Nanoseconds, a.Nanoseconds), cmp.Compare(b.Sequence, a.Sequence))
}

// compareEntries orders the entries of a history.
func compareEntries(a, b entry) int { return comparePositions(a.at, b.at) }

// sortEntries sorts entries newest first. They usually come oldest first.
func sortEntries(entries []entry) {
	if !slices.IsSortedFunc(entries, compareEntries) {
		slices.Reverse(entries)
		slices.SortFunc(entries, compareEntries)
	}
}

// deltaChunk is the first byte of a chunk from format 3 on. Earlier chunks start with the number of entries, which is
// never 0.
const deltaChunk = 0

// appendChunk appends a chunk with entries of the history with this prefix. The entries must be in order. The error
// says that an entry of a session's history is not a valid record.
func appendChunk(b, prefix []byte, entries []entry) ([]byte, error) {
	b = binary.AppendUvarint(append(b, deltaChunk), uint64(len(entries)))
	if prefix[0] == kindRecord {
		return appendRecords(b, entries)
	}
	return appendTopics(b, entries), nil
}

// appendTopics appends the topics of an agent's records. Each is encoded as:
//
//   - the seconds of the timestamp minus those of the previous record, a varint
//   - the nanoseconds of the timestamp, a uvarint
//   - the sequence minus that of the previous record, a varint
//   - the number of the topic, a uvarint: topics are numbered from 1 in the order of their first use in the chunk. At
//     its first use, a topic is 0 followed by the topic as a string.
func appendTopics(b []byte, entries []entry) []byte {
	var before store.StatusPosition
	known := make(map[string]uint64, 16)
	for i := range entries {
		at, topic := entries[i].at, entries[i].text
		b = binary.AppendVarint(b, at.Seconds-before.Seconds)
		b = binary.AppendUvarint(b, uint64(at.Nanoseconds))
		b = binary.AppendVarint(b, int64(at.Sequence-before.Sequence))
		before = at
		number := known[topic]
		if b = binary.AppendUvarint(b, number); number == 0 {
			known[topic] = uint64(len(known)) + 1
			b = appendString(b, topic)
		}
	}
	return b
}

// eachTopic calls visit for each entry of a chunk of an agent's history, with the position and the topic of a record.
func eachTopic(chunk string, visit func(at store.StatusPosition, topic string) error) error {
	if chunk == "" || chunk[0] != deltaChunk {
		return eachText(chunk, func(place, text string) error { return visit(placeAt([]byte(place)), text) })
	}
	d := decoder{rest: chunk[1:]}
	var at store.StatusPosition
	var known []string
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		at.Seconds += d.varint()
		at.Nanoseconds = int32(d.uvarint())
		at.Sequence += uint64(d.varint())
		number := d.uvarint()
		if number == 0 {
			known = append(known, d.string())
			number = uint64(len(known))
		}
		if d.failed || number > uint64(len(known)) {
			return errMalformed
		}
		if err := visit(at, known[number-1]); err != nil {
			return err
		}
	}
	return d.err()
}

func appendRecords(b []byte, entries []entry) ([]byte, error) {
	var before models.Record
	for i := range entries {
		r, err := decodeRecord(entries[i].text)
		if err != nil {
			return nil, err
		}
		b = appendDelta(b, &before, &r)
		before = r
	}
	return b, nil
}

// appendDelta appends the difference of a record to the one before it in the chunk, or to the zero record for the first
// one. The encoding is:
//
//   - the record's flags and its status, a byte each
//   - the sequence minus the previous one, a varint
//   - the receipt time minus the previous one, in nanoseconds, a varint
//   - with flagTimestamp: the seconds of the timestamp minus those of the receipt time, a varint, and its nanoseconds,
//     a uvarint
//   - the TTL, a uvarint
//   - a byte with a bit for each of the record's strings that changed, the lowest bit for the first, and those strings
//   - with flagHost: the host, a string
//   - with flagQuestions: see [appendShown]
//   - with flagKind: the kind of the shown question, a byte
//
// The turn of a record is left out; the state of its session holds it.
func appendDelta(b []byte, before, r *models.Record) []byte {
	flags := flagsOf(r) &^ (flagTurn | flagAcknowledged)
	if r.AgentHost != before.AgentHost {
		flags |= flagHost
	}
	if r.QuestionShown() != 0 {
		flags |= flagQuestions
	}
	if r.KindShown() != 0 {
		flags |= flagKind
	}
	b = append(b, flags, byte(r.Status))
	b = binary.AppendVarint(b, int64(r.Sequence-before.Sequence))
	b = binary.AppendVarint(b, r.Received.UnixNano()-nanoseconds(before.Received))
	if flags&flagTimestamp != 0 {
		b = binary.AppendVarint(b, r.Timestamp.Unix()-r.Received.Unix())
		b = binary.AppendUvarint(b, uint64(r.Timestamp.Nanosecond()))
	}
	b = binary.AppendUvarint(b, uint64(r.TTLMinutes))
	at := len(b)
	b = append(b, 0)
	texts, known := textsOf(r), textsOf(before)
	for i := range texts {
		if *texts[i] != *known[i] {
			b[at] |= 1 << i
			b = appendString(b, *texts[i])
		}
	}
	if flags&flagHost != 0 {
		b = appendString(b, r.AgentHost)
	}
	if flags&flagQuestions != 0 {
		b = appendShown(b, r.QuestionShown(), r.Closed)
	}
	if flags&flagKind != 0 {
		b = append(b, byte(r.KindShown()))
	}
	return b
}

// applyDelta reads the difference to the next record, and changes r to that record. It is the inverse of appendDelta.
func (d *decoder) applyDelta(r *models.Record) {
	flags := d.byte()
	r.Status = models.Status(d.byte())
	r.Sequence += uint64(d.varint())
	r.Received = time.Unix(0, nanoseconds(r.Received)+d.varint()).UTC()
	r.Timestamp = time.Time{}
	if flags&flagTimestamp != 0 {
		seconds := r.Received.Unix() + d.varint()
		r.Timestamp = time.Unix(seconds, int64(d.uvarint())).UTC()
	}
	r.TTLMinutes = int(d.uvarint())
	changed := d.byte()
	for i, text := range textsOf(r) {
		if changed&(1<<i) != 0 {
			*text = d.string()
		}
	}
	if flags&flagHost != 0 {
		r.AgentHost = d.string()
	}
	r.ByEvent, r.ShownQuestion, r.ShownKind, r.Closed = flags&flagEvent != 0, 0, 0, nil
	if flags&flagQuestions != 0 {
		r.ShownQuestion, r.Closed = d.uvarint(), d.closed()
	}
	if flags&flagKind != 0 {
		r.ShownKind = models.QuestionKind(d.byte())
	}
}

// nanoseconds returns a time as Unix nanoseconds, or 0 for the zero time.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// eachRecord calls visit for each record of a chunk of a session's history. The record is reused after visit returns.
// Its strings share the memory of the chunk.
func eachRecord(chunk string, visit func(r *models.Record) error) error {
	if chunk == "" || chunk[0] != deltaChunk {
		return eachText(chunk, func(_, text string) error {
			r, err := decodeRecord(text)
			if err != nil {
				return err
			}
			return visit(&r)
		})
	}
	d := decoder{rest: chunk[1:]}
	var r models.Record
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		d.applyDelta(&r)
		if d.failed || !isComplete(&r) {
			return errMalformed
		}
		if err := visit(&r); err != nil {
			return err
		}
	}
	return d.err()
}

// eachText calls visit for each entry of a chunk of format 1 or 2, with its place and its text.
func eachText(chunk string, visit func(place, text string) error) error {
	d := decoder{rest: chunk}
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		place, text := d.bytes(placeSize), d.string()
		if d.failed {
			break
		}
		if err := visit(place, text); err != nil {
			return err
		}
	}
	return d.err()
}

// eachEntry calls visit for each entry of a chunk of the history with this prefix.
func eachEntry(prefix []byte, chunk string, visit func(entry) error) error {
	if prefix[0] == kindRecord {
		return eachRecord(chunk, func(r *models.Record) error {
			return visit(entry{placeOf(r), string(appendRecord(nil, r))})
		})
	}
	return eachTopic(chunk, func(at store.StatusPosition, topic string) error { return visit(entry{at, topic}) })
}

// nextChunk returns how many of the entries, which must be in order, form the next chunk.
func nextChunk(entries []entry) int {
	size := 0
	for i := range entries {
		size += len(entries[i].text)
		if i == chunkEntries || i > 0 && size > chunkBytes {
			return i
		}
	}
	return len(entries)
}

// putHistory adds entries of the history with this prefix to the round's batch, in chunks. The entries must be in order.
// With merge, filed chunks that overlap with the entries are replaced, and their entries are merged with the new ones.
func (r *round) putHistory(prefix []byte, entries []entry, merge bool) error {
	if merge {
		overlapping, err := r.engine.takeOverlapping(r.batch, prefix, entries[len(entries)-1].at)
		if err != nil {
			return err
		}
		if len(overlapping) > 0 {
			entries = append(overlapping, entries...)
			slices.SortStableFunc(entries, compareEntries)
			entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.at == b.at })
		}
	}
	for len(entries) > 0 {
		n := nextChunk(entries)
		r.key = appendPlace(append(r.key[:0], prefix...), entries[0].at)
		var err error
		if r.value, err = appendChunk(r.value[:0], prefix, entries[:n]); err != nil {
			return err
		}
		r.batch.Set(r.key, r.value, nil) //nolint:errcheck // writing to a batch in memory never fails
		entries = entries[n:]
	}
	return nil
}

// takeOverlapping deletes the chunks of a history that start at oldest or with a newer entry, and returns their
// entries.
func (e *engine) takeOverlapping(b *pebble.Batch, prefix []byte, oldest store.StatusPosition) (entries []entry, err error) {
	last := appendPlace(bytes.Clone(prefix), oldest)
	err = e.eachChunk(prefix, prefix, func(key []byte, chunk string) error {
		if bytes.Compare(key, last) > 0 {
			return errStop
		}
		b.Delete(key, nil) //nolint:errcheck // writing to a batch in memory never fails
		return eachEntry(prefix, chunk, func(e entry) error {
			entries = append(entries, e)
			return nil
		})
	})
	return entries, err
}

// eachChunk calls visit for each chunk of a history from a key on, newest first, until visit returns errStop.
func (e *engine) eachChunk(prefix, from []byte, visit func(key []byte, chunk string) error) error {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	for more := iter.SeekGE(from); more; more = iter.Next() {
		err := visitChunk(iter, prefix, visit)
		if err == errStop { //nolint:errorlint // never wrapped
			return nil
		}
		if err != nil {
			return err
		}
	}
	return iter.Error()
}

func visitChunk(iter *pebble.Iterator, prefix []byte, visit func(key []byte, chunk string) error) error {
	if len(iter.Key()) != len(prefix)+placeSize {
		return errMalformed
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return err
	}
	return visit(iter.Key(), string(value))
}

// eachChunkAfter calls visit for each chunk of a history that may hold entries after a position, newest first, until
// visit returns errStop. If the position is nil, it visits all chunks.
func (e *engine) eachChunkAfter(prefix []byte, after *store.StatusPosition, visit func(key []byte, chunk string) error) error {
	from := prefix
	if after != nil {
		key, _, err := e.chunkOf(prefix, *after)
		if err != nil {
			return err
		}
		from = key
	}
	return e.eachChunk(prefix, from, visit)
}

// eachRecordAfter calls visit for each record of a session after a position, newest first, until visit returns errStop.
// If the position is nil, it starts with the newest record.
func (e *engine) eachRecordAfter(key store.SessionKey, after *store.StatusPosition, visit func(r *models.Record) error) error {
	return e.eachChunkAfter(recordPrefix(key), after, func(_ []byte, chunk string) error {
		return eachRecord(chunk, func(r *models.Record) error {
			if after != nil && comparePositions(placeOf(r), *after) <= 0 {
				return nil
			}
			return visit(r)
		})
	})
}

// eachTopicAfter calls visit for each entry of an agent's history, as eachRecordAfter does for a session.
func (e *engine) eachTopicAfter(agentID string, after *store.StatusPosition, visit func(at store.StatusPosition, topic string) error) error {
	return e.eachChunkAfter(agentPrefix(agentID), after, func(_ []byte, chunk string) error {
		return eachTopic(chunk, func(at store.StatusPosition, topic string) error {
			if after != nil && comparePositions(at, *after) <= 0 {
				return nil
			}
			return visit(at, topic)
		})
	})
}

// chunkOf returns the only chunk of a history that can hold an entry at a position, and its key: the last one that
// starts at that position or before it. If there is none, it returns the prefix and "".
func (e *engine) chunkOf(prefix []byte, at store.StatusPosition) (key []byte, chunk string, err error) {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return nil, "", err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	if !iter.SeekLT(append(appendPlace(prefix[:len(prefix):len(prefix)], at), 0)) {
		return prefix, "", iter.Error()
	}
	err = visitChunk(iter, prefix, func(k []byte, c string) error {
		key, chunk = bytes.Clone(k), c
		return nil
	})
	return key, chunk, err
}
