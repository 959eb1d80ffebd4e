package journal

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// A history is filed in chunks: a key is a prefix and the place of the newest entry in the chunk, a value is how many
// entries there are, a uvarint, and then each of them, newest first: its place, and its text as a string. The chunks
// of a history never overlap, so that they are read one after another. What is filed together and belongs
// together costs one key that way, and compresses well.

// How large a chunk becomes at most, unless a single entry is larger.
const (
	chunkEntries = 64
	chunkBytes   = 64 << 10
)

// entry is an entry of a history.
type entry struct {
	key  []byte // the history's prefix and the place
	text string
}

func (e *entry) prefix() []byte { return e.key[:len(e.key)-placeSize] }
func (e *entry) place() []byte  { return e.key[len(e.key)-placeSize:] }

// compareEntries orders entries by history, newest first in each.
func compareEntries(a, b entry) int { return bytes.Compare(a.key, b.key) }

// appendChunk appends a chunk of entries, which are in order.
func appendChunk(b []byte, entries []entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		b = appendString(append(b, entries[i].place()...), entries[i].text)
	}
	return b
}

// chunkSize returns the length of what appendChunk appends.
func chunkSize(entries []entry) int {
	size := uvarintSize(len(entries)) + len(entries)*placeSize
	for i := range entries {
		size += uvarintSize(len(entries[i].text)) + len(entries[i].text)
	}
	return size
}

func uvarintSize(n int) int { return 1 + (bits.Len64(uint64(n)|1)-1)/7 }

// eachEntry calls visit with the place and the text of each entry of a chunk.
func eachEntry(chunk string, visit func(place, text string) error) error {
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

// putHistory puts entries of one history, which are in order, into a batch as chunks. Where merge says so, it takes
// the chunks that are filed already and do not come after all of them out of the history, and puts what they
// hold with the entries.
func (e *engine) putHistory(b *pebble.Batch, entries []entry, merge bool) error {
	if merge {
		overlapping, err := e.takeOverlapping(b, &entries[len(entries)-1])
		if err != nil {
			return err
		}
		if len(overlapping) > 0 {
			entries = append(overlapping, entries...)
			slices.SortStableFunc(entries, compareEntries)
			entries = slices.CompactFunc(entries, func(a, b entry) bool { return bytes.Equal(a.key, b.key) })
		}
	}
	for len(entries) > 0 {
		n := nextChunk(entries)
		op := b.SetDeferred(len(entries[0].key), chunkSize(entries[:n]))
		copy(op.Key, entries[0].key)
		appendChunk(op.Value[:0], entries[:n])
		if err := op.Finish(); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// takeOverlapping deletes the chunks of a history that hold entries newer than oldest, and returns their entries.
func (e *engine) takeOverlapping(b *pebble.Batch, oldest *entry) (entries []entry, err error) {
	prefix := bytes.Clone(oldest.prefix())
	err = e.eachChunk(prefix, prefix, func(key []byte, chunk string) error {
		if bytes.Compare(key, oldest.key) > 0 {
			return errEnough
		}
		b.Delete(key, nil) //nolint:errcheck // a batch in memory takes all
		return eachEntry(chunk, func(place, text string) error {
			entries = append(entries, entry{append(prefix[:len(prefix):len(prefix)], place...), text})
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

// eachEntryAfter calls visit with each entry of a history after a place, or from the newest where that is nil, until visit
// returns errEnough.
func (e *engine) eachEntryAfter(prefix, after []byte, visit func(place, text string) error) error {
	from := prefix
	if after != nil {
		chunk, err := e.chunkOf(prefix, after)
		if err != nil {
			return err
		}
		from = chunk
	}
	return e.eachChunk(prefix, from, func(_ []byte, chunk string) error {
		return eachEntry(chunk, func(place, text string) error {
			if after != nil && place <= string(after) {
				return nil
			}
			return visit(place, text)
		})
	})
}

// chunkOf returns the key of the last chunk of a history that begins at a place or before, which alone can hold an entry of
// that place; or the prefix, where there is none.
func (e *engine) chunkOf(prefix, place []byte) (_ []byte, err error) {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return nil, err
	}
	defer iter.Close() //nolint:errcheck // its error is looked at below
	if iter.SeekLT(append(append(prefix[:len(prefix):len(prefix)], place...), 0)) {
		return bytes.Clone(iter.Key()), nil
	}
	return prefix, iter.Error()
}
