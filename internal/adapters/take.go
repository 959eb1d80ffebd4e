package adapters

import "github.com/cespare/xxhash/v2"

// take captures a value as compact JSON: the first limit bytes of its text without white space between tokens, and the xxHash64 of
// all of that text. Equal values that are written alike, but for white space, have equal hashes.
type take struct {
	kept
	digest xxhash.Digest
}

// beginTake starts to capture the next value, whose first byte is the next one. Captures may be nested.
func (s *scanner) beginTake(limit int) {
	s.flush()
	if len(s.takes) < cap(s.takes) {
		s.takes = s.takes[:len(s.takes)+1] // reuses the memory of an earlier one
	} else {
		s.takes = append(s.takes, take{})
	}
	t := &s.takes[len(s.takes)-1]
	t.kept = kept{text: t.text[:0], limit: limit}
	t.digest.Reset()
}

// endTake ends the innermost capture and returns it. It is valid until the next beginTake.
func (s *scanner) endTake() *take {
	s.flush()
	last := len(s.takes) - 1
	t := &s.takes[last]
	s.takes = s.takes[:last]
	return t
}

// flush passes on to all takes what was consumed since the last flush.
func (s *scanner) flush() {
	if s.mark == s.at {
		return
	}
	piece := s.window[s.mark:s.at]
	s.mark = s.at
	for i := range s.takes {
		s.takes[i].add(piece)
		s.takes[i].digest.Write(piece) //nolint:errcheck // it never fails
	}
}
