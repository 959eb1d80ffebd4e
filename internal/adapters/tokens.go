package adapters

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// list reads an object or an array, whose opening bracket is the next byte. It calls read for each member or element.
func (s *scanner) list(end byte, read func() error) error {
	if s.depth == maxDepth {
		return errTooDeep
	}
	s.depth++
	s.at++
	c, err := s.token()
	if err == nil && c != end {
		err = s.elements(end, read)
	}
	if err != nil {
		return err
	}
	s.at++
	s.depth--
	return nil
}

func (s *scanner) elements(end byte, read func() error) error {
	for {
		if err := read(); err != nil {
			return err
		}
		c, err := s.token()
		if err != nil || c == end {
			return err
		}
		if c != ',' {
			return errMalformed
		}
		s.at++
	}
}

// name reads the name of a member; see string.
func (s *scanner) name(limit int) (name []byte, whole bool, err error) {
	c, err := s.token()
	if err != nil {
		return nil, false, err
	}
	if c != '"' {
		return nil, false, errMalformed
	}
	return s.string(limit)
}

// colon reads the colon after a name.
func (s *scanner) colon() error {
	c, err := s.token()
	if err != nil {
		return err
	}
	if c != ':' {
		return errMalformed
	}
	s.at++
	return nil
}

// string reads a string, whose opening quote is the next byte, and returns its value, cut to at most limit bytes at a
// character boundary. whole reports whether it was not cut. The value is valid until the next read. Lone surrogates
// become U+FFFD. Invalid UTF-8 is unchanged.
func (s *scanner) string(limit int) (value []byte, whole bool, err error) {
	s.at++
	end := s.at + unescaped(s.window[s.at:])
	if end == len(s.window) || s.window[end] != '"' {
		return s.pieces(limit)
	}
	value = s.window[s.at:end]
	s.at = end + 1
	if len(value) > limit {
		return wholeRunes(value[:limit]), false, nil
	}
	return value, true, nil
}

// pieces reads the rest of a string that contains escapes or extends beyond window.
func (s *scanner) pieces(limit int) (value []byte, whole bool, err error) {
	k := prefixBuffer{text: s.text[:0], limit: limit}
	for {
		n := unescaped(s.window[s.at:])
		k.add(s.window[s.at:][:n])
		s.at += n
		switch c, err := s.peek(); {
		case err != nil:
			return nil, false, err
		case c == '"':
			s.at++
			value, whole = k.end()
			s.text = k.text
			return value, whole, nil
		case c == '\\':
			if err := s.escape(&k); err != nil {
				return nil, false, err
			}
		case c < ' ':
			return nil, false, errMalformed
		}
	}
}

// The letters that may follow a backslash, and the meaning of each.
const (
	escapeLetters = `"\/bfnrt`
	escapeMeaning = "\"\\/\b\f\n\r\t"
)

// escape reads an escape sequence, whose backslash is the next byte.
func (s *scanner) escape(k *prefixBuffer) error {
	s.at++
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c == 'u' {
		s.at++
		return s.unit(k)
	}
	i := strings.IndexByte(escapeLetters, c)
	if i < 0 {
		return errMalformed
	}
	s.at++
	k.addUnit(rune(escapeMeaning[i]))
	return nil
}

// unit reads the four hexadecimal digits of a \u escape, which are a UTF-16 code unit.
func (s *scanner) unit(k *prefixBuffer) error {
	var unit rune
	for range 4 {
		c, err := s.peek()
		if err != nil {
			return err
		}
		digit := strings.IndexByte("0123456789abcdef", lower(c))
		if digit < 0 {
			return errMalformed
		}
		unit = unit<<4 | rune(digit)
		s.at++
	}
	k.addUnit(unit)
	return nil
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// number reads a number and returns its text, cut to at most limit bytes.
func (s *scanner) number(limit int) ([]byte, error) {
	k := prefixBuffer{text: s.text[:0], limit: limit}
	s.accept(&k, "-")
	if !s.accept(&k, "0") {
		if err := s.digits(&k); err != nil {
			return nil, err
		}
	}
	if s.accept(&k, ".") {
		if err := s.digits(&k); err != nil {
			return nil, err
		}
	}
	if s.accept(&k, "eE") {
		s.accept(&k, "+-")
		if err := s.digits(&k); err != nil {
			return nil, err
		}
	}
	s.text = k.text
	return k.text, nil
}

// accept consumes the next byte if it is in set. An error of the source is left for the next read to return.
func (s *scanner) accept(k *prefixBuffer, set string) bool {
	c, err := s.peek()
	if err != nil || strings.IndexByte(set, c) < 0 {
		return false
	}
	k.add(s.window[s.at:][:1])
	s.at++
	return true
}

// digits reads one or more digits. An error of the source after them is left for the next read to return.
func (s *scanner) digits(k *prefixBuffer) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if !isDigit(c) {
		return errMalformed
	}
	for err == nil && isDigit(c) {
		rest := s.window[s.at:]
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		k.add(rest[:n])
		s.at += n
		c, err = s.peek()
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// scalar reads a number, a boolean or null, and returns its text. The text of a number is cut to at most limit bytes.
func (s *scanner) scalar(first byte, limit int) ([]byte, error) {
	switch first {
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number(limit)
}

func (s *scanner) word(word string) ([]byte, error) {
	s.text = append(s.text[:0], word...)
	return s.text, s.literal(word)
}

// unescaped returns the length of the longest prefix of b without quotes, backslashes and control characters, which
// stands for itself in a string.
func unescaped(b []byte) (n int) {
	for ; n+8 <= len(b); n += 8 {
		if special := specialBytes(binary.LittleEndian.Uint64(b[n:])); special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for n < len(b) && b[n] >= ' ' && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// specialBytes finds a quote, a backslash or a control character among eight bytes. The lowest set bit of the result is
// the highest bit of the first such byte. Higher bits may be wrong, because subtractions borrow.
func specialBytes(eight uint64) uint64 {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	quotes, backslashes := eight^ones*'"', eight^ones*'\\'
	return ((eight-ones*' ')&^eight | (quotes-ones)&^quotes | (backslashes-ones)&^backslashes) & highest
}
