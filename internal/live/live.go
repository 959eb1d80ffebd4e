// Package live sends subscribers the changes of a store as server-sent events (WHATWG HTML, section 9.2).
//
// # Invariants
//
// A subscriber gets each change that its filter selects once, in the order in which the store made them, from the
// position on from which it subscribed; or it gets a reset first, which says that some are missing; or its stream ends, and
// with the last ID that it got it goes on where that one stopped.
//
// Nobody waits for a subscriber: what it has not taken yet is bounded, and where that bound is met its stream ends.
package live

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// pace is the least time between two rounds of the dispatcher, so that many changes share a round and a write, and
// reports are not slowed down by a goroutine that wakes up for each.
const pace = 2 * time.Millisecond

// changesPerRound is how many changes are read from the store at once.
const changesPerRound = 256

var (
	// ErrFull is returned where there are as many subscribers as may be.
	ErrFull = errors.New("there are too many subscribers")
	// ErrShare is returned where a team has as many subscribers as its share of them allows.
	ErrShare = errors.New("the team has too many subscribers")
	// ErrClosed is returned once the hub is closed.
	ErrClosed = errors.New("the hub is closed")
	// ErrSlow ends the stream of a subscriber that did not take its events in time.
	ErrSlow = errors.New("the subscriber is too slow")
)

// Options are the bounds of a hub.
type Options struct {
	MaxSubscribers int
	Buffer         int // events that a subscriber may leave waiting
}

// Hub hands the changes of a store to subscribers. Its methods are safe for concurrent use.
type Hub struct {
	store   *store.Store
	metrics *metrics.Metrics
	opts    Options
	run     string // tells the positions of this run of the program from those of another
	joined  chan struct{}

	position atomic.Uint64 // of the last change that was dispatched; written under mu

	mu       sync.Mutex
	closed   bool
	everyone subscribers                 // those who follow all agents
	byTeam   map[*store.Team]subscribers // those who follow the agents of one team
	byAgent  map[string]subscribers      // those who follow one agent
	all      subscribers                 // all of these
	open     map[*store.Team]int         // how many of these are of each team
}

type subscribers map[*Subscriber]struct{}

// New returns a hub over st. It hands out nothing until [Hub.Run] runs.
func New(st *store.Store, m *metrics.Metrics, opts Options) *Hub {
	return &Hub{
		store: st, metrics: m, opts: opts,
		run:      strings.ToLower(rand.Text()[:12]),
		joined:   make(chan struct{}, 1),
		everyone: subscribers{}, byTeam: map[*store.Team]subscribers{}, byAgent: map[string]subscribers{}, all: subscribers{},
		open: map[*store.Team]int{},
	}
}

// Position returns the ID of the newest event. What is read of the store afterwards shows that event and all before it.
func (h *Hub) Position() string { return h.id(h.store.EventPosition()) }

// id returns the ID of the event of the change with this number.
func (h *Hub) id(number uint64) string { return h.run + "-" + strconv.FormatUint(number, 10) }

// number is the reverse of id. ok is false where the ID is none of this run of the program.
func (h *Hub) number(id string) (number uint64, ok bool) {
	run, rest, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(rest, 10, 64)
	return number, err == nil && run == h.run
}

// Run dispatches changes until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	changes := make([]store.Change, 0, changesPerRound)
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		position := h.position.Load()
		if h.idle() {
			select {
			case <-h.joined:
				continue
			case <-ctx.Done():
				return
			}
		}
		if h.store.AwaitChange(ctx, position) != nil {
			return
		}
		for full := true; full; {
			var kept bool
			changes, kept = h.store.Changes(position, changes[:0])
			full = len(changes) == cap(changes)
			position = h.dispatch(position, changes, kept)
		}
		rest.Reset(pace)
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
	}
}

// idle reports whether there is nobody to dispatch to.
func (h *Hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all) == 0
}

// dispatch hands out changes, which follow the position. Where the store no longer keeps them, every stream ends, to be
// resumed by whoever can. It returns the new position.
func (h *Hub) dispatch(position uint64, changes []store.Change, kept bool) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.position.Load() != position: // the first subscriber came, and needs none of these
	case !kept:
		for s := range h.all {
			s.stop(ErrSlow)
		}
		h.position.Store(h.store.EventPosition())
	case len(changes) > 0:
		h.handOut(changes)
		h.position.Store(changes[len(changes)-1].Number)
	}
	return h.position.Load()
}

// handOut has each subscriber take those of the changes that it wants. The caller holds h.mu.
func (h *Hub) handOut(changes []store.Change) {
	events := make([]*Event, len(changes)) // encoded once, if anybody wants them
	event := func(i int) *Event {
		if events[i] == nil {
			events[i] = h.eventOf(&changes[i])
		}
		return events[i]
	}
	for s := range h.everyone {
		s.take(changes, event)
	}
	for team, group := range h.byTeam {
		if team.Settled() >= changes[0].Number { // these may not tell their teams yet
			for s := range group {
				s.take(changes, event)
			}
		}
	}
	if len(h.byAgent)+len(h.byTeam) == 0 {
		return
	}
	for i := range changes {
		for _, team := range changes[i].Teams {
			if team.Settled() >= changes[0].Number {
				continue
			}
			for s := range h.byTeam[team] {
				s.take(changes[i:i+1], func(int) *Event { return event(i) })
			}
		}
		for s := range h.byAgent[changes[i].Session.AgentID] {
			s.take(changes[i:i+1], func(int) *Event { return event(i) })
		}
	}
}

// Subscribe begins a stream: of what follows the event with the ID since, or of what comes from now on where since is
// "". interrupt is called when the stream ends early, so that a write that waits for the client can be given up; it must
// not block, nor call the hub. The error is ErrFull, ErrShare or ErrClosed.
func (h *Hub) Subscribe(filter Filter, since string, interrupt func()) (*Subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if filter.Share.Caps() && int64(h.open[filter.Team]) >= filter.Share.Of(int64(h.opts.MaxSubscribers)) {
		return nil, ErrShare
	}
	if len(h.all) >= h.opts.MaxSubscribers {
		return nil, ErrFull
	}
	if len(h.all) == 0 { // nobody needed what came meanwhile
		h.position.Store(h.store.EventPosition())
	}
	position := h.position.Load()
	s := &Subscriber{
		Filter: filter, hub: h, interrupt: interrupt,
		at: position, until: position,
		ready: make(chan struct{}, 1), silence: time.NewTimer(KeepAlive),
	}
	if since == "" {
		s.skip = h.store.EventPosition()
	} else {
		h.resume(s, since)
	}
	h.all[s] = struct{}{}
	h.open[filter.Team]++
	h.group(filter)[s] = struct{}{}
	h.metrics.SetSubscribers(len(h.all))
	select {
	case h.joined <- struct{}{}:
	default:
	}
	return s, nil
}

// resume has s begin after the event with the ID since, or with a reset. The caller holds h.mu.
func (h *Hub) resume(s *Subscriber, since string) {
	number, ok := h.number(since)
	switch {
	case !ok:
		s.reset = "the event ID is not of this run of the server"
	case number > h.store.EventPosition():
		s.reset = "there is no such event yet"
	default:
		s.at = min(number, s.until)
		s.skip = number // what the client knows already, but was not dispatched yet
		h.metrics.CountResume()
	}
}

// group returns the subscribers that a filter belongs to. The caller holds h.mu.
func (h *Hub) group(f Filter) subscribers {
	switch {
	case f.AgentID != "":
		return groupOf(h.byAgent, f.AgentID)
	case f.Team != nil:
		return groupOf(h.byTeam, f.Team)
	}
	return h.everyone
}

func groupOf[K comparable](groups map[K]subscribers, key K) subscribers {
	g := groups[key]
	if g == nil {
		g = subscribers{}
		groups[key] = g
	}
	return g
}

// leave ends the subscription of s.
func (h *Hub) leave(s *Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.all[s]; known {
		if h.open[s.Filter.Team]--; h.open[s.Filter.Team] == 0 {
			delete(h.open, s.Filter.Team)
		}
	}
	delete(h.all, s)
	g := h.group(s.Filter)
	delete(g, s)
	switch {
	case len(g) > 0:
	case s.Filter.AgentID != "":
		delete(h.byAgent, s.Filter.AgentID)
	default:
		delete(h.byTeam, s.Filter.Team)
	}
	h.metrics.SetSubscribers(len(h.all))
}

// Close ends every stream with a closing event. Nobody can subscribe any more.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	all := slices.Collect(maps.Keys(h.all))
	h.mu.Unlock()
	for _, s := range all {
		s.stop(ErrClosed)
	}
}
