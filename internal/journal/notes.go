package journal

import (
	"github.com/cockroachdb/pebble/v2"
)

// Note is an entry that the server keeps next to the records, such as a notification that is still to be sent.
type Note struct {
	Key   string
	Value []byte // nil to delete the note
}

// noteKey returns the key of a note.
func noteKey(key string) []byte { return append([]byte{kindNote}, key...) }

// WriteNotes stores and deletes notes, all or none of them, and returns once that is durable. The error is a *Failure or
// ErrClosed.
func (j *Journal) WriteNotes(notes []Note) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	b := j.engine.db.NewBatch()
	addNotes(b, notes)
	if err := j.engine.commit(b, pebble.Sync); err != nil {
		return failureOf(err)
	}
	return nil
}

// Notes returns all notes, ordered by key. The error is a *Failure or ErrClosed.
func (j *Journal) Notes() ([]Note, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return nil, err
	}
	var notes []Note
	from, to := kindRange(kindNote)
	err := j.engine.isolate(func() error {
		iter, err := j.engine.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			return err
		}
		defer iter.Close() //nolint:errcheck // iter.Error is checked below
		for more := iter.First(); more; more = iter.Next() {
			value, err := iter.ValueAndErr()
			if err != nil {
				return err
			}
			notes = append(notes, Note{string(iter.Key()[1:]), append([]byte{}, value...)})
		}
		return iter.Error()
	})
	if err != nil {
		return nil, failureOf(err)
	}
	return notes, nil
}

// Note returns the value of the note with a key, nil if there is none.
func (j *Journal) Note(key string) ([]byte, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return nil, err
	}
	value, found, err := j.engine.find(noteKey(key))
	if !found {
		return nil, err
	}
	return []byte(value), nil
}
