package adapters

import "github.com/cespare/xxhash/v2"

// valueCapture captures a value as compact JSON: the first limit bytes of its text without white space between tokens,
// and the xxHash64 of the whole text. Values whose text differs only in white space have equal hashes.
type valueCapture struct {
	prefixBuffer
	digest xxhash.Digest
}

// beginCapture starts to capture the next value, whose first byte is the next one. Captures may be nested.
func (s *scanner) beginCapture(limit int) {
	s.flush()
	if len(s.captures) < cap(s.captures) {
		s.captures = s.captures[:len(s.captures)+1] // reuses the memory of an earlier one
	} else {
		s.captures = append(s.captures, valueCapture{})
	}
	c := &s.captures[len(s.captures)-1]
	c.prefixBuffer = prefixBuffer{text: c.text[:0], limit: limit}
	c.digest.Reset()
}

// endCapture ends the innermost capture and returns it. It is valid until the next beginCapture.
func (s *scanner) endCapture() *valueCapture {
	s.flush()
	last := len(s.captures) - 1
	c := &s.captures[last]
	s.captures = s.captures[:last]
	return c
}

// flush adds the bytes consumed since the last flush to all captures.
func (s *scanner) flush() {
	if s.mark == s.at {
		return
	}
	piece := s.window[s.mark:s.at]
	s.mark = s.at
	for i := range s.captures {
		s.captures[i].add(piece)
		s.captures[i].digest.Write(piece) //nolint:errcheck // it never fails
	}
}
