package handlers

import (
	"io"
	"math/bits"
	"sync"
)

// firstRead is how many bytes of a body there is room for at first, at most.
const firstRead = 64 << 10

// bodies is memory of large bodies, by size: firstRead bytes, twice as much, and so on. A body takes the next size once it has filled the
// one before, so that nobody holds more than about twice what they sent; and it is used again, so that whoever sends many costs little.
var bodies [8]sync.Pool // the last is for maxBodyBytes

// Sizes are a little larger than their name, so that the end of a body of exactly that length is found in them.
func sizeOfBody(class int) int { return firstRead<<class + 512 }

// takeBody returns empty memory of a size.
func takeBody(class int) []byte {
	if kept, ok := bodies[class].Get().(*[]byte); ok {
		return (*kept)[:0]
	}
	return make([]byte, 0, sizeOfBody(class))
}

// releaseBody gives memory back for another body. ok is false where it is of elsewhere.
func releaseBody(body []byte) (ok bool) {
	class := bits.Len(uint(cap(body)/firstRead)) - 1
	if class < 0 || class >= len(bodies) || cap(body) != sizeOfBody(class) {
		return false
	}
	bodies[class].Put(&body)
	return true
}

// readSigned reads a body of at most maxBodyBytes. What it returns is to be given to releaseBody, also along with an error.
func readSigned(from io.Reader) ([]byte, error) {
	class := 0
	body := takeBody(class)
	for {
		if len(body) == cap(body) {
			class++
			larger := append(takeBody(class), body...)
			releaseBody(body)
			body = larger
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == io.EOF:
			return body, nil
		case err != nil:
			return body, err
		}
	}
}
