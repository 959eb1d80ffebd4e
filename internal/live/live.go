// Package live sends the changes of a store to subscribers as server-sent events (WHATWG HTML, section 9.2).
//
// # Invariants
//
// From the position at which it subscribed, a subscriber gets each change that its filter selects exactly once, in the
// order in which the store made them. If changes are missing, it first gets a reset event that says so. If its stream
// ends, it can resume with the last ID that it got. Servers that share a stream of messages make the same changes and
// give them the same IDs, so it can resume at any of them.
//
// The publisher never waits for a subscriber. The queue of a subscriber is bounded, and its stream ends when the queue
// is full.
package live

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// minRoundInterval is the minimum time between two rounds of the dispatcher. It lets many changes share one round and
// one write, and keeps the dispatcher from waking up for every report, which would slow reports down.
const minRoundInterval = 2 * time.Millisecond

// changesPerRound is how many changes are read from the store at once.
const changesPerRound = 256

var (
	// ErrFull is returned when MaxSubscribers is reached.
	ErrFull = errors.New("there are too many subscribers")
	// ErrShare is returned when a team has reached its share of MaxSubscribers.
	ErrShare = errors.New("the team has too many subscribers")
	// ErrClosed is returned after the hub is closed.
	ErrClosed = errors.New("the hub is closed")
	// ErrSlow ends the stream of a subscriber that did not read its events in time.
	ErrSlow = errors.New("the subscriber is too slow")
)

// Options configure a hub.
type Options struct {
	MaxSubscribers int
	QueueSize      int // maximum number of events queued for a subscriber

	Stream string // identifies the stream of messages that several servers share; "" without one
}

// Hub delivers the changes of a store to subscribers. Its methods are safe for concurrent use.
type Hub struct {
	store   *store.Store
	metrics *metrics.Metrics
	opts    Options
	run     string        // distinguishes event IDs of this run of the program from those of other runs
	joined  chan struct{} // wakes Run when somebody subscribes
	closing chan struct{} // closed when the hub is, under mu

	position atomic.Pointer[store.Place] // of the last change dispatched; written under mu

	mu       sync.Mutex
	everyone subscribers                 // those that follow all agents
	byTeam   map[*store.Team]subscribers // those that follow the agents of a team
	byAgent  map[string]subscribers      // those that follow one agent
	all      subscribers                 // all of the above
	open     map[*store.Team]int         // number of subscribers per team
}

type subscribers map[*Subscriber]struct{}

// New returns a hub for the changes of st. It delivers nothing until [Hub.Run] is called.
func New(st *store.Store, m *metrics.Metrics, opts Options) *Hub {
	h := &Hub{
		store: st, metrics: m, opts: opts,
		run:      strings.ToLower(rand.Text()[:12]),
		joined:   make(chan struct{}, 1),
		closing:  make(chan struct{}),
		everyone: subscribers{}, byTeam: map[*store.Team]subscribers{}, byAgent: map[string]subscribers{}, all: subscribers{},
		open: map[*store.Team]int{},
	}
	h.position.Store(&store.Place{})
	return h
}

// Position returns the ID of the newest event. A read of the store after this call includes that event and all earlier
// ones.
func (h *Hub) Position() string { return h.id(h.newest()) }

// Run dispatches changes until ctx is done or the hub is closed.
func (h *Hub) Run(ctx context.Context) {
	changes := make([]store.Change, 0, changesPerRound)
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		position := h.position.Load().Number
		if h.idle() {
			select {
			case <-h.joined:
				continue
			case <-h.closing:
				return
			case <-ctx.Done():
				return
			}
		}
		if h.store.AwaitChange(ctx, position) != nil {
			return
		}
		for full := true; full && !h.isClosed(); {
			var kept bool
			changes, kept = h.store.Changes(position, changes[:0])
			full = len(changes) == cap(changes)
			position = h.dispatch(position, changes, kept)
		}
		rest.Reset(minRoundInterval)
		select {
		case <-rest.C:
		case <-h.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// idle reports whether there are no subscribers.
func (h *Hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all) == 0
}

// isClosed reports whether the hub is closed.
func (h *Hub) isClosed() bool {
	select {
	case <-h.closing:
		return true
	default:
		return false
	}
}

// dispatch delivers the changes after a position, and returns the new position. If the store no longer keeps all of
// them (kept is false), it ends every stream; clients that can will resume.
func (h *Hub) dispatch(position uint64, changes []store.Change, kept bool) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.isClosed(): // the bye events say that nothing later was delivered
	case h.position.Load().Number != position: // the first subscriber has just joined, after these changes
	case !kept:
		for s := range h.all {
			s.stop(ErrSlow)
		}
		h.moveTo(h.newest())
	case len(changes) > 0:
		h.deliver(changes)
		h.moveTo(placeOf(&changes[len(changes)-1]))
	}
	return h.position.Load().Number
}

// moveTo notes up to which place changes were dispatched. The caller holds h.mu.
func (h *Hub) moveTo(p store.Place) { h.position.Store(&p) }

// deliver queues for each subscriber the changes that its filter selects. The caller holds h.mu.
func (h *Hub) deliver(changes []store.Change) {
	events := make([]*Event, len(changes)) // each is encoded at most once, when it is first needed
	event := func(i int) *Event {
		if events[i] == nil {
			events[i] = h.eventOf(&changes[i])
		}
		return events[i]
	}
	for s := range h.everyone {
		s.enqueue(changes, event)
	}
	for team, group := range h.byTeam {
		if team.CompleteAfter() >= changes[0].Number { // their field Teams may not include this team yet
			for s := range group {
				s.enqueue(changes, event)
			}
		}
	}
	if len(h.byAgent)+len(h.byTeam) == 0 {
		return
	}
	for i := range changes {
		for _, team := range changes[i].Teams {
			if team.CompleteAfter() >= changes[0].Number {
				continue
			}
			for s := range h.byTeam[team] {
				s.enqueue(changes[i:i+1], func(int) *Event { return event(i) })
			}
		}
		for s := range h.byAgent[changes[i].Session.AgentID] {
			s.enqueue(changes[i:i+1], func(int) *Event { return event(i) })
		}
	}
}

// Subscribe starts a stream of the events that follow the event with the ID since, or of future events if since is "".
//
// interrupt is called when the hub ends the stream, so that the caller can abort a write that waits for the client. It
// must not block or call the hub. The error is ErrFull, ErrShare or ErrClosed.
func (h *Hub) Subscribe(filter Filter, since string, interrupt func()) (*Subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() {
		return nil, ErrClosed
	}
	if filter.Share.IsLimited() && int64(h.open[filter.Team]) >= filter.Share.Of(int64(h.opts.MaxSubscribers)) {
		return nil, ErrShare
	}
	if len(h.all) >= h.opts.MaxSubscribers {
		return nil, ErrFull
	}
	if len(h.all) == 0 { // nothing was dispatched while there were no subscribers
		h.moveTo(h.newest())
	}
	position := *h.position.Load()
	s := &Subscriber{
		Filter: filter, hub: h, interrupt: interrupt,
		at: position, until: position,
		ready: make(chan struct{}, 1), keepAlive: time.NewTimer(KeepAlive),
	}
	if since == "" {
		s.skip = h.newest()
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

// resume makes s start after the event with the ID since, or with a reset if that is not possible. The caller holds
// h.mu.
func (h *Hub) resume(s *Subscriber, since string) {
	place, fault := h.placeAfter(since)
	if fault != "" {
		s.reset = fault
		return
	}
	s.at = s.until
	if place.Number < s.until.Number {
		s.at = place
	}
	s.skip = place // the client already knows these changes, though some may not have been dispatched yet
	h.metrics.CountResume()
}

// group returns the group of subscribers for a filter, and creates it if necessary. The caller holds h.mu.
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

// Close ends every stream with a bye event. Afterwards, Subscribe returns ErrClosed.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isClosed() {
		close(h.closing)
	}
	for s := range h.all {
		s.stop(ErrClosed)
	}
}
