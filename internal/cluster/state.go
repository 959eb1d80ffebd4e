// Package cluster lets several servers share one log, a stream of NATS JetStream: each of them takes reports, applies
// the stream in its order, and answers reads.
package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrOtherMessage means that the stream has another message at a position than the one that the position names: the
// stream was lost and begun again, or the position is of another stream.
var ErrOtherMessage = errors.New("the stream has another message at this position")

// State is how far a server is with the stream, and what its clients should know about that.
type State struct {
	Caught      bool          // it has caught up with the stream since it started, and is not stale
	Cause       string        // why it is not ready, in words for clients; "" if it is
	Refuses     string        // why it can't accept reports though reads go on, in words for clients; "" if it can
	Age         time.Duration // how old the answers to reads may be; 0 if they are current
	Behind      uint64        // messages of the stream that it has not applied yet
	Server      string        // its own name
	Position    Position      // of the last message that it applied
	LeaseHolder string        // the name of the server that holds the lease; "" if none does
	Servers     []string      // the names of all servers that are present, in order
}

// Position is a position in the stream: a message, and everything before it. The zero value is the beginning.
type Position struct {
	Sequence uint64 // of the message in the stream
	ID       string // of the message; it tells it from another one that has this sequence in another stream
}

// maxID is the maximum length of a message's ID. That of a message of this version is 16.
const maxID = 64

// String returns the position as clients see it: "81231-k3xq9wz2abcdefgh".
func (p Position) String() string { return strconv.FormatUint(p.Sequence, 10) + "-" + p.ID }

// ParsePosition is the inverse of [Position.String].
func ParsePosition(text string) (p Position, err error) {
	sequence, id, _ := strings.Cut(text, "-")
	p.ID = id
	if p.Sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil || !validID(p) || p.String() != text {
		return Position{}, fmt.Errorf("%q is not a position", text)
	}
	return p, nil
}

// validID reports whether the ID of a position is one that a message may have. Only the beginning has none.
func validID(p Position) bool {
	if p.Sequence == 0 || p.ID == "" {
		return p == Position{}
	}
	return len(p.ID) <= maxID && strings.IndexFunc(p.ID, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) < 0
}
