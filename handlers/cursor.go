package handlers

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/kubeagents/kubeagents/store"
)

// A cursor is a position in a list. It is the base64url encoding of a letter for the kind of list, the position's
// numbers as varints, and the position's ID.
const (
	cursorAgentsByID   = 'a'
	cursorAgentsBySeen = 'l'
	cursorSessions     = 's'
	cursorOldest       = 'o' // sessions, oldest update first
	cursorNeeds        = '0' // sessions that need attention; the reason is added
	cursorHistory      = 'h'
)

func encodeCursor(kind byte, id string, numbers ...int64) string {
	b := []byte{kind}
	for _, n := range numbers {
		b = binary.AppendVarint(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, id...))
}

// decodeCursor is the inverse of encodeCursor, for a cursor of this kind with this many numbers.
func decodeCursor(cursor string, kind byte, numbers ...*int64) (id string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) == 0 || b[0] != kind {
		return "", false
	}
	b = b[1:]
	for _, number := range numbers {
		n, size := binary.Varint(b)
		if size <= 0 {
			return "", false
		}
		*number, b = n, b[size:]
	}
	return string(b), true
}

// cursor parses the cursor parameter. ok is false if it is absent, empty or invalid.
func (p *params) cursor(kind byte, numbers ...*int64) (id string, ok bool) {
	value, _ := p.get("cursor")
	if value == "" {
		return "", false
	}
	id, ok = decodeCursor(value, kind, numbers...)
	if !ok {
		p.fail("cursor", "must be the next_cursor of an earlier page of this list, in this order")
	}
	return id, ok
}

func cursorOfAgents(q store.AgentQuery) byte {
	if q.BySeen {
		return cursorAgentsBySeen
	}
	return cursorAgentsByID
}

func (p *params) afterAgent(q store.AgentQuery) *store.AgentPosition {
	var at store.AgentPosition
	var sequence int64
	id, ok := p.cursor(cursorOfAgents(q), &at.LastSeen, &sequence)
	if !ok {
		return nil
	}
	at.ID, at.Sequence = id, uint64(sequence)
	return &at
}

func agentCursor(q store.AgentQuery, at store.AgentPosition) string {
	return encodeCursor(cursorOfAgents(q), at.ID, at.LastSeen, int64(at.Sequence))
}

func cursorOfSessions(q store.SessionQuery) byte {
	switch {
	case q.Need != 0:
		return cursorNeeds + byte(q.Need)
	case q.Oldest:
		return cursorOldest
	}
	return cursorSessions
}

func (p *params) afterSession(q store.SessionQuery) *store.SessionPosition {
	var at store.SessionPosition
	var sequence int64
	if _, ok := p.cursor(cursorOfSessions(q), &at.Updated, &sequence); !ok {
		return nil
	}
	at.Sequence = uint64(sequence)
	return &at
}

func sessionCursor(q store.SessionQuery, at store.SessionPosition) string {
	return encodeCursor(cursorOfSessions(q), "", at.Updated, int64(at.Sequence))
}

func (p *params) afterStatus() *store.StatusPosition {
	var at store.StatusPosition
	var nanoseconds, sequence int64
	if _, ok := p.cursor(cursorHistory, &at.Seconds, &nanoseconds, &sequence); !ok {
		return nil
	}
	at.Nanoseconds, at.Sequence = int32(nanoseconds), uint64(sequence)
	return &at
}

func statusCursor(at store.StatusPosition) string {
	return encodeCursor(cursorHistory, "", at.Seconds, int64(at.Nanoseconds), int64(at.Sequence))
}

// cursorOf returns the cursor of the next page, "" if there is none.
func cursorOf[P any](next *P, encode func(P) string) string {
	if next == nil {
		return ""
	}
	return encode(*next)
}

// respondPage is like respond, for a page of a list whose items take the given number of bytes. It links to the next
// page in a Link header (RFC 8288).
func (h *Handler) respondPage(w http.ResponseWriter, r *http.Request, v any, next string, bytes int) error {
	if next != "" {
		u := *r.URL
		query := u.Query()
		query.Set("cursor", next)
		u.RawQuery = query.Encode()
		w.Header().Set("Link", "<"+h.prefix(r)+"/"+strings.TrimLeft(u.RequestURI(), "/")+`>; rel="next"`)
	}
	if bytes > smallAnswer {
		return h.respondLarge(w, r, v, bytes)
	}
	return respond(w, r, v)
}
