package handlers

import (
	"io"
	"math/bits"
	"sync"
)

// firstRead is how many bytes of a body there is room for at first, at most.
const firstRead = 64 << 10

// bodies pools the memory of large bodies by size: firstRead bytes, twice as much, and so on. A body moves to the next size
// once it fills the one before, so no client holds more than about twice what it sent.
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

// releaseBody returns memory to its pool. ok is false if it is not of this pool.
func releaseBody(body []byte) (ok bool) {
	class := bits.Len(uint(cap(body)/firstRead)) - 1
	if class < 0 || class >= len(bodies) || cap(body) != sizeOfBody(class) {
		return false
	}
	bodies[class].Put(&body)
	return true
}

// classAfter returns the smallest size that has room for more than n bytes.
func classAfter(n int) (class int) {
	for sizeOfBody(class) <= n {
		class++
	}
	return class
}

// enlarge moves a body that fills its memory to memory of a larger size.
func enlarge(body []byte) []byte {
	larger := append(takeBody(classAfter(len(body))), body...)
	releaseBody(body)
	return larger
}

// readSigned reads a body of at most maxBodyBytes. The caller passes the result to releaseBody, even if there is an error.
func readSigned(from io.Reader) ([]byte, error) {
	body := takeBody(0)
	for {
		if len(body) == cap(body) {
			body = enlarge(body)
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
