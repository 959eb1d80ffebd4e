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

// A history is filed in chunks: a key is a prefix and the place of the newest entry in the chunk, a value holds the entries,
// newest first. The chunks of a history never overlap, so that they are read one after another. What is filed together
// and belongs together costs one key that way.
//
// A chunk is a zero byte, how many entries there are, a uvarint, and then each of them. Of a session's history that is what
// differs in a record from the one before it, see [appendDifferences]; of an agent's, what [appendTopics] says. Up to format 2 a
// chunk was the number of entries, and each of them its place and, as a string, its text: a record, see [appendRecord], or a topic.

// How large a chunk becomes at most, unless a single entry is larger.
const (
	chunkEntries = 64
	chunkBytes   = 64 << 10
)

// entry is an entry of a history: a record, as appendRecord encodes it, or the topic of one.
type entry struct {
	at   store.StatusPosition
	text string
}

// comparePositions returns how two positions are ordered in a history, newest first: negative where a comes before b. It is the
// order of their places.
func comparePositions(a, b store.StatusPosition) int {
	return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(b.Nanoseconds, a.Nanoseconds), cmp.Compare(b.Sequence, a.Sequence))
}

// compareEntries orders the entries of a history.
func compareEntries(a, b entry) int { return comparePositions(a.at, b.at) }

// sortEntries puts entries in order. Mostly they come the other way around.
func sortEntries(entries []entry) {
	if !slices.IsSortedFunc(entries, compareEntries) {
		slices.Reverse(entries)
		slices.SortFunc(entries, compareEntries)
	}
}

// inDifferences begins a chunk of format 3: one before that has no entries at all.
const inDifferences = 0

// appendChunk appends a chunk of entries, which are in order, of the history with this prefix. It returns an error where one
// that is to be a record is none.
func appendChunk(b, prefix []byte, entries []entry) ([]byte, error) {
	b = binary.AppendUvarint(append(b, inDifferences), uint64(len(entries)))
	if prefix[0] == kindRecord {
		return appendRecords(b, entries)
	}
	return appendTopics(b, entries), nil
}

// appendTopics appends the topics of an agent's records: as varints by how many seconds the timestamp of each is after that
// before, and by how much its sequence is greater; between these, as a uvarint, the nanoseconds of the timestamp; then as a
// uvarint where its topic is among those of the chunk, from 1 on in the order in which they come, or 0 and the topic as a string
// where it comes for the first time.
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

// eachTopic calls visit with each entry of a chunk of an agent's history: the topic of a record, and where that stands.
func eachTopic(chunk string, visit func(at store.StatusPosition, topic string) error) error {
	if chunk == "" || chunk[0] != inDifferences {
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
		b = appendDifferences(b, &before, &r)
		before = r
	}
	return b, nil
}

// appendDifferences appends what differs in a record from the one before it, which is zero for the first: the record's flags,
// its status, and then, as varints, by how much its sequence and its receipt time (Unix nanoseconds) are greater; with
// flagTimestamp, as a varint, by how many seconds its timestamp is after its receipt, and as a uvarint the nanoseconds of
// that; as a uvarint its TTL; a byte with a bit for each of its strings that is another than that before, the lowest for the
// first; and these strings; with flagHost the host, and with flagQuestions what [appendShown] says. What is under way is not
// in a history: the state of a session holds it.
func appendDifferences(b []byte, before, r *models.Record) []byte {
	flags := flagsOf(r) &^ flagTurn
	if r.AgentHost != before.AgentHost {
		flags |= flagHost
	}
	if r.Shows() != 0 {
		flags |= flagQuestions
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
		b = appendShown(b, r.Shows(), r.Closed)
	}
	return b
}

// applyDifferences makes the record that follows r of r: it is the reverse of appendDifferences.
func (d *decoder) applyDifferences(r *models.Record) {
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
	differ := d.byte()
	for i, text := range textsOf(r) {
		if differ&(1<<i) != 0 {
			*text = d.string()
		}
	}
	if flags&flagHost != 0 {
		r.AgentHost = d.string()
	}
	r.ByEvent, r.Shown, r.Closed = flags&flagEvent != 0, 0, nil
	if flags&flagQuestions != 0 {
		r.Shown, r.Closed = d.uvarint(), d.closed()
	}
}

// nanoseconds returns an instant as Unix nanoseconds, 0 for the zero time.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// eachRecord calls visit with each record of a chunk of a session's history. The record's strings are parts of the chunk; the
// record itself is another one after visit returned.
func eachRecord(chunk string, visit func(r *models.Record) error) error {
	if chunk == "" || chunk[0] != inDifferences {
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
		d.applyDifferences(&r)
		if d.failed || !complete(&r) {
			return errMalformed
		}
		if err := visit(&r); err != nil {
			return err
		}
	}
	return d.err()
}

// eachText calls visit with the place and the text of each entry of a chunk of format 1 or 2.
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

// eachEntry calls visit with each entry of a chunk of the history with this prefix.
func eachEntry(prefix []byte, chunk string, visit func(entry) error) error {
	if prefix[0] == kindRecord {
		return eachRecord(chunk, func(r *models.Record) error {
			return visit(entry{placeOf(r), string(appendRecord(nil, r))})
		})
	}
	return eachTopic(chunk, func(at store.StatusPosition, topic string) error { return visit(entry{at, topic}) })
}

// nextChunk returns how many of the entries, which are in order, belong into one chunk.
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

// putHistory puts entries of the history with this prefix, which are in order, into a batch as chunks. Where merge says so, it
// takes the chunks that are filed already and do not come after all of them out of the history, and puts what they
// hold with the entries.
func (e *engine) putHistory(b *pebble.Batch, prefix []byte, entries []entry, merge bool) error {
	if merge {
		overlapping, err := e.takeOverlapping(b, prefix, entries[len(entries)-1].at)
		if err != nil {
			return err
		}
		if len(overlapping) > 0 {
			entries = append(overlapping, entries...)
			slices.SortStableFunc(entries, compareEntries)
			entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.at == b.at })
		}
	}
	var key, chunk []byte
	for len(entries) > 0 {
		n := nextChunk(entries)
		key = appendPlace(append(key[:0], prefix...), entries[0].at)
		var err error
		if chunk, err = appendChunk(chunk[:0], prefix, entries[:n]); err != nil {
			return err
		}
		b.Set(key, chunk, nil) //nolint:errcheck // a batch in memory takes all
		entries = entries[n:]
	}
	return nil
}

// takeOverlapping deletes the chunks of a history that hold entries newer than the one at oldest, and returns their entries.
func (e *engine) takeOverlapping(b *pebble.Batch, prefix []byte, oldest store.StatusPosition) (entries []entry, err error) {
	last := appendPlace(bytes.Clone(prefix), oldest)
	err = e.eachChunk(prefix, prefix, func(key []byte, chunk string) error {
		if bytes.Compare(key, last) > 0 {
			return errEnough
		}
		b.Delete(key, nil) //nolint:errcheck // a batch in memory takes all
		return eachEntry(prefix, chunk, func(e entry) error {
			entries = append(entries, e)
			return nil
		})
	})
	return entries, err
}

// eachChunk calls visit with each chunk of a history from a key on, newest first, until that returns errEnough.
func (e *engine) eachChunk(prefix, from []byte, visit func(key []byte, chunk string) error) error {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // its error is looked at below
	for more := iter.SeekGE(from); more; more = iter.Next() {
		err := visitChunk(iter, prefix, visit)
		if err == errEnough { //nolint:errorlint // it comes as it is
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

// eachChunkAfter calls visit with each chunk of a history that may hold entries after a position, or with all where that is nil,
// newest first, until visit returns errEnough.
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

// eachRecordAfter calls visit with each record of a session after a position, or from the newest where that is nil, until visit
// returns errEnough.
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

// eachTopicAfter calls visit with the topic of each record of an agent, as eachRecordAfter does with records.
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

// chunkOf returns the last chunk of a history that begins at a position or before, which alone can hold an entry of that
// position, and its key; or the prefix and "", where there is none.
func (e *engine) chunkOf(prefix []byte, at store.StatusPosition) (key []byte, chunk string, err error) {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return nil, "", err
	}
	defer iter.Close() //nolint:errcheck // its error is looked at below
	if !iter.SeekLT(append(appendPlace(prefix[:len(prefix):len(prefix)], at), 0)) {
		return prefix, "", iter.Error()
	}
	err = visitChunk(iter, prefix, func(k []byte, c string) error {
		key, chunk = bytes.Clone(k), c
		return nil
	})
	return key, chunk, err
}
