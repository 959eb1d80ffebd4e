package handlers

import (
	"io"
	"math/bits"
	"sync"
)

// firstRead is the maximum initial size of a body's buffer, in bytes.
const firstRead = 64 << 10

// bodies pools the buffers of large bodies by size class: firstRead bytes, twice as much, and so on. A body moves to
// the next class when it fills its buffer, so a client ties up at most about twice the memory of what it sent.
var bodies [8]sync.Pool // the last one is for maxBodyBytes

// sizeOfBody returns the size of the buffers of a class. It is a little more than a power of two, so that a body of
// exactly that length and the EOF after it are read without growing the buffer.
func sizeOfBody(class int) int { return firstRead<<class + 512 }

// takeBody returns an empty buffer of a size class.
func takeBody(class int) []byte {
	if kept, ok := bodies[class].Get().(*[]byte); ok {
		return (*kept)[:0]
	}
	return make([]byte, 0, sizeOfBody(class))
}

// releaseBody returns a buffer to its pool. ok is false if the buffer is not from one of the pools.
func releaseBody(body []byte) (ok bool) {
	class := bits.Len(uint(cap(body)/firstRead)) - 1
	if class < 0 || class >= len(bodies) || cap(body) != sizeOfBody(class) {
		return false
	}
	bodies[class].Put(&body)
	return true
}

// classAfter returns the smallest size class that holds more than n bytes.
func classAfter(n int) (class int) {
	for sizeOfBody(class) <= n {
		class++
	}
	return class
}

// enlarge moves a body that fills its buffer to a larger one.
func enlarge(body []byte) []byte {
	larger := append(takeBody(classAfter(len(body))), body...)
	releaseBody(body)
	return larger
}

// readSigned reads a body of at most maxBodyBytes. The caller passes the result to releaseBody, even if there is an
// error.
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
