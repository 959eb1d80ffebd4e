package adapters

import "strings"

// skip reads the next value and discards it. It does not recurse, so nesting costs one byte per level.
func (s *scanner) skip() error {
	s.open = s.open[:0]
	for {
		complete, err := s.skipBeginning()
		if err == nil && complete {
			complete, err = s.skipEnds()
		}
		if err != nil || complete {
			return err
		}
	}
}

// skipBeginning reads a complete value or, if that is an object or an array that is not empty, up to its first inner
// value.
func (s *scanner) skipBeginning() (complete bool, err error) {
	c, err := s.token()
	if err != nil {
		return false, err
	}
	if c != '{' && c != '[' {
		return true, s.skipScalar(c)
	}
	if s.depth+len(s.open) >= maxDepth {
		return false, errTooDeep
	}
	s.open = append(s.open, c)
	s.at++
	switch next, err := s.token(); {
	case err != nil:
		return false, err
	case next == c+2: // the codes of "[" and "]", and of "{" and "}", differ by two
		s.open = s.open[:len(s.open)-1]
		s.at++
		return true, nil
	case c == '{':
		return false, s.skipName()
	}
	return false, nil
}

// skipEnds reads what follows a value: closing brackets until all are closed, or up to the next value.
func (s *scanner) skipEnds() (complete bool, err error) {
	for len(s.open) > 0 {
		c, err := s.token()
		if err != nil {
			return false, err
		}
		opening := s.open[len(s.open)-1]
		switch {
		case c == opening+2:
			s.open = s.open[:len(s.open)-1]
			s.at++
		case c != ',':
			return false, errMalformed
		case opening == '{':
			s.at++
			return false, s.skipName()
		default:
			s.at++
			return false, nil
		}
	}
	return true, nil
}

func (s *scanner) skipName() error {
	switch c, err := s.token(); {
	case err != nil:
		return err
	case c != '"':
		return errMalformed
	}
	if err := s.skipString(); err != nil {
		return err
	}
	return s.colon()
}

// skipString reads a string, whose opening quote is the next byte.
func (s *scanner) skipString() error {
	s.at++
	var dropped prefixBuffer
	for {
		s.at += unescaped(s.window[s.at:])
		switch c, err := s.peek(); {
		case err != nil:
			return err
		case c == '"':
			s.at++
			return nil
		case c == '\\':
			if s.at+1 < len(s.window) && s.window[s.at+1] != 'u' && strings.IndexByte(escapeLetters, s.window[s.at+1]) >= 0 {
				s.at += 2
				continue
			}
			if err := s.escape(&dropped); err != nil {
				return err
			}
		case c < ' ':
			return errMalformed
		}
	}
}

func (s *scanner) skipScalar(first byte) (err error) {
	if first == '"' {
		return s.skipString()
	}
	_, err = s.scalar(first, 0)
	return err
}
