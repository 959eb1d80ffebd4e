package live

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// An event ID names a place in the order of the changes. Without a stream of messages, it consists of the run of the
// program and the number of a change. With one, it consists of the stream, a message, and how many changes of that
// message come before the place. Such an ID means the same at every server with the stream.

// id returns the event ID of a place.
func (h *Hub) id(p store.Place) string {
	if h.opts.Stream == "" {
		return h.run + "-" + strconv.FormatUint(p.Number, 10)
	}
	p = normal(p)
	return h.opts.Stream + "-" + strconv.FormatUint(p.Message, 10) + "-" + strconv.FormatUint(uint64(p.Made), 10)
}

// normal returns the usual form of a place: the place after all changes of a message is also the one before those of the
// next message.
func normal(p store.Place) store.Place {
	if p.Made == store.AllMade {
		p.Message, p.Made = p.Message+1, 0
	}
	return p
}

// parseID is the inverse of id, except for the number of a place in the stream. ok is false if the ID is not of this run
// or of this stream.
func (h *Hub) parseID(id string) (p store.Place, ok bool) {
	if h.opts.Stream == "" {
		run, digits, _ := strings.Cut(id, "-")
		number, err := strconv.ParseUint(digits, 10, 64)
		return store.Place{Number: number}, err == nil && run == h.run
	}
	digits, found := strings.CutPrefix(id, h.opts.Stream+"-")
	message, made, _ := strings.Cut(digits, "-")
	m, err1 := strconv.ParseUint(message, 10, 64)
	n, err2 := strconv.ParseUint(made, 10, 32)
	return store.Place{Message: m, Made: uint32(n)}, found && err1 == nil && err2 == nil
}

// placeAfter returns the place after the event with this ID, or why a stream can't begin there.
func (h *Hub) placeAfter(id string) (p store.Place, fault string) {
	p, ok := h.parseID(id)
	switch {
	case !ok && h.opts.Stream == "":
		return p, "the event ID is not from this run of the server"
	case !ok:
		return p, "the event ID is not from this stream"
	case !h.reached(p):
		return p, "there is no such event yet"
	case h.opts.Stream == "":
		return p, ""
	}
	if p.Number, ok = h.store.ChangeAfter(lastBefore(p)); !ok {
		return p, "changes since that event are no longer kept"
	}
	return p, ""
}

// lastBefore returns the last change that a message could make before a place.
func lastBefore(p store.Place) (message uint64, index uint32) {
	switch {
	case p.Made > 0:
		return p.Message, p.Made - 1
	case p.Message > 0:
		return p.Message - 1, store.AllMade
	}
	return 0, store.AllMade
}

// reached reports whether the store has made every change before a place of an event ID.
func (h *Hub) reached(p store.Place) bool {
	newest := normal(h.newest())
	if h.opts.Stream == "" {
		return p.Number <= newest.Number
	}
	return cmp.Or(cmp.Compare(p.Message, newest.Message), cmp.Compare(p.Made, newest.Made)) <= 0
}

// awaitInterval is how often [Hub.Await] looks.
const awaitInterval = 10 * time.Millisecond

// Await waits until the store has made every change up to the event with this ID, if another server that applies the same
// stream of messages sent it. Otherwise, and if ctx is done or the hub is closed, it returns at once.
func (h *Hub) Await(ctx context.Context, id string) {
	place, ok := h.parseID(id)
	if h.opts.Stream == "" || !ok || h.reached(place) {
		return
	}
	look := time.NewTicker(awaitInterval)
	defer look.Stop()
	for !h.reached(place) {
		select {
		case <-look.C:
		case <-h.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// newest returns the place after the newest change.
func (h *Hub) newest() store.Place {
	if h.opts.Stream == "" {
		return store.Place{Number: h.store.EventPosition()}
	}
	return h.store.EventPlace()
}

// stillAt returns the newest place if no change was made after p, and p otherwise. The newest place is of a later message,
// so clients can resume from its ID for longer.
func (h *Hub) stillAt(p store.Place) store.Place {
	if newest := h.newest(); newest.Number == p.Number {
		return newest
	}
	return p
}

// placeOf returns the place after a change.
func placeOf(c *store.Change) store.Place {
	return store.Place{Number: c.Number, Message: c.Message, Made: c.Index + 1}
}

// later returns the later one of two places of the same store.
func later(a, b store.Place) store.Place {
	if cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Made, b.Made)) < 0 {
		return b
	}
	return a
}
