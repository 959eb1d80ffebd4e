package adapters

import (
	"errors"
	"io"
)

// scanner reads JSON (RFC 8259) from a stream, token by token, in bounded memory. A caller specifies how many bytes of
// a token to keep, and the rest only passes through a window of fixed size. It exists because jsontext.Decoder buffers
// every token completely, and a tool's event may contain an unwanted string of 60 MiB.
//
// It checks the grammar and limits nesting to maxDepth, and nothing else: invalid UTF-8, lone surrogates and duplicate
// names are accepted.
//
// Errors are errMalformed, errTooDeep, io.EOF if the stream ends too early, and errors of the source. After an error,
// offset returns its position.
type scanner struct {
	source io.Reader
	buffer []byte // buffer for reading source
	window []byte // the bytes of the last read, within buffer
	at     int    // index in window of the next byte
	before int64  // bytes of the stream before window
	ended  error  // why the stream ends after window; nil if it may continue

	depth int    // nesting depth, for list
	open  []byte // brackets that skip has not seen closed yet
	text  []byte // memory for tokens that can't be returned as a part of window

	captures []valueCapture // values being captured, outermost first
	mark     int            // index in window up to which captures are complete
}

const (
	minWindow = 4 << 10 // bytes; the window grows only for larger events
	maxWindow = 64 << 10
	maxDepth  = 10_000
)

var (
	errMalformed = errors.New("malformed JSON")
	errTooDeep   = errors.New("JSON nested too deep")
)

// reset makes s read another stream.
func (s *scanner) reset(source io.Reader) {
	s.source, s.window, s.ended = source, nil, nil
	s.at, s.before, s.depth, s.mark, s.captures = 0, 0, 0, 0, s.captures[:0]
}

// resetBytes makes s read text, which must not be modified meanwhile.
func (s *scanner) resetBytes(text []byte) {
	s.reset(nil)
	s.window, s.ended = text, io.EOF
}

// offset returns the number of bytes consumed.
func (s *scanner) offset() int64 { return s.before + int64(s.at) }

// fill reads the next window. The caller has consumed the current one.
func (s *scanner) fill() error {
	if s.ended != nil {
		return s.ended
	}
	s.flush()
	s.before += int64(len(s.window))
	if len(s.window) == len(s.buffer) && len(s.buffer) < maxWindow {
		s.buffer = make([]byte, max(minWindow, 4*len(s.buffer)))
	}
	s.window, s.at, s.mark = s.buffer[:0], 0, 0
	for range 100 {
		n, err := s.source.Read(s.buffer)
		s.window, s.ended = s.buffer[:n], err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.ended = io.ErrNoProgress
	return s.ended
}

// peek returns the next byte without consuming it.
func (s *scanner) peek() (byte, error) {
	if s.at == len(s.window) {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.window[s.at], nil
}

// token skips white space, and returns the first byte of the next token without consuming it.
func (s *scanner) token() (byte, error) {
	for {
		if s.at < len(s.window) && s.window[s.at] > ' ' {
			return s.window[s.at], nil
		}
		if err := s.space(); err != nil {
			return 0, err
		}
	}
}

// space skips white space up to the end of window, and reads the next window if nothing else is left. Captures do not
// include white space.
func (s *scanner) space() error {
	s.flush()
	for ; s.at < len(s.window) && s.window[s.at] <= ' '; s.at++ {
		switch s.window[s.at] {
		case ' ', '\t', '\r', '\n':
		default:
			return errMalformed
		}
	}
	s.mark = s.at
	if s.at < len(s.window) {
		return nil
	}
	return s.fill()
}

// literal consumes text. If the next bytes differ, the error is errMalformed.
func (s *scanner) literal(text string) error {
	for i := range len(text) {
		switch c, err := s.peek(); {
		case err != nil:
			return err
		case c != text[i]:
			return errMalformed
		}
		s.at++
	}
	return nil
}
