package handlers

import (
	"io"
	"math/bits"
	"sync"
)

// signedBodies is memory of bodies that are held until their signature is checked, by size: firstRead bytes, twice as much, and so on. A body
// takes the next size once it has filled the one before, so that nobody holds more than about twice what they sent; and what was refused
// is used again, so that whoever sends many costs little.
var signedBodies [8]sync.Pool // the last is for maxBodyBytes

// Sizes are a little larger than their name, so that the end of a body of exactly that length is found in them.
func sizeOfSigned(class int) int { return firstRead<<class + 512 }

// takeSigned returns memory of a size.
func takeSigned(class int) []byte {
	if kept, ok := signedBodies[class].Get().(*[]byte); ok {
		return (*kept)[:0]
	}
	return make([]byte, 0, sizeOfSigned(class))
}

// releaseSigned gives memory back for another body.
func releaseSigned(body []byte) {
	class := bits.Len(uint(cap(body)/firstRead)) - 1
	if class < 0 || class >= len(signedBodies) || cap(body) != sizeOfSigned(class) {
		return // it is of elsewhere
	}
	signedBodies[class].Put(&body)
}

// readSigned reads a body of at most maxBodyBytes. What it returns is to be given to releaseSigned, also along with an error.
func readSigned(from io.Reader) ([]byte, error) {
	class := 0
	body := takeSigned(class)
	for {
		if len(body) == cap(body) {
			class++
			larger := append(takeSigned(class), body...)
			releaseSigned(body)
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
