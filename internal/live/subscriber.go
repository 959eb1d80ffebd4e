package live

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// What a subscriber may hold up in memory. Events that wait are shared by all who wait for them; those that it missed are encoded for it
// alone.
const (
	waitingBytes   = 8 << 20  // of events that wait
	missedBytes    = 16 << 10 // of events that it missed and that are written at once, and one more event
	missedPerRound = 64       // changes that are read from the store for that
)

const (
	// KeepAlive is how long a stream is silent at most.
	KeepAlive = 15 * time.Second
	// Retry is how long a client waits before it comes back.
	Retry = 2 * time.Second
)

// Subscriber is one open stream. [Subscriber.Next] and [Subscriber.Close] are for one goroutine.
type Subscriber struct {
	Filter Filter

	hub       *Hub
	interrupt func()
	silence   *time.Timer

	begun bool
	said  bool   // that the stream ends
	reset string // why it begins with a reset, "" where it does not
	at    uint64 // the change up to which events were taken, while less than until
	until uint64 // what comes after this change is handed out by the hub
	skip  uint64 // changes up to this one are not for the client: it came later, or knows them

	ready chan struct{} // has a value when there is something to take

	mu      sync.Mutex
	waiting []*Event
	bytes   int // of those
	ended   error
}

// Next waits for events and returns them; before long, one that only keeps the stream alive. Its first ones say where the
// stream begins. After the closing event, it returns ErrClosed; to a subscriber that fell behind, ErrSlow; otherwise
// the error of ctx.
func (s *Subscriber) Next(ctx context.Context) ([]*Event, error) {
	if !s.begun {
		s.begun = true
		return s.first(), nil
	}
	if s.at < s.until {
		return s.missed()
	}
	for silent := false; ; {
		position := max(s.hub.position.Load(), s.skip)
		events, ended := s.taken()
		switch {
		case errors.Is(ended, ErrSlow) || ended != nil && s.said:
			return nil, ended
		case ended != nil:
			s.said = true
			return append(events, s.hub.byeEvent(position)), nil
		case len(events) > 0:
			s.silence.Reset(KeepAlive)
			return events, nil
		case silent:
			s.silence.Reset(KeepAlive)
			return []*Event{s.hub.positionEvent(position, "keep-alive", 0)}, nil
		}
		select {
		case <-s.ready:
		case <-s.silence.C:
			silent = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// first returns what a stream begins with.
func (s *Subscriber) first() []*Event {
	events := []*Event{s.hub.positionEvent(max(s.at, s.skip), "connected", Retry)}
	if s.reset != "" {
		events = append(events, s.resetting(s.reset))
	}
	return events
}

// resetting returns the event that says that changes up to s.until are missing.
func (s *Subscriber) resetting(why string) *Event {
	s.at = s.until
	s.hub.metrics.CountReset()
	return s.hub.resetEvent(s.until, why)
}

// missed returns some of the events that came before the subscriber did.
func (s *Subscriber) missed() ([]*Event, error) {
	changes, kept := s.hub.store.Changes(s.at, make([]store.Change, 0, min(missedPerRound, s.until-s.at)))
	if !kept {
		return []*Event{s.resetting("changes since that event are no longer kept")}, nil
	}
	var events []*Event
	bytes := 0
	for i := range changes {
		if bytes >= missedBytes {
			break
		}
		s.at = changes[i].Number
		if s.Filter.selects(&changes[i]) {
			e := s.hub.eventOf(&changes[i])
			events, bytes = append(events, e), bytes+len(e.Frame)
		}
	}
	return events, nil
}

// taken takes the events that wait, and how the stream has ended, if it has.
func (s *Subscriber) taken() ([]*Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.waiting
	s.waiting, s.bytes = nil, 0
	return events, s.ended
}

// take has those of changes wait that the subscriber wants; event returns the event of each. Where they are too many, the
// stream ends.
func (s *Subscriber) take(changes []store.Change, event func(i int) *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		switch {
		case s.ended != nil:
			return
		case changes[i].Number <= s.skip || !s.Filter.selects(&changes[i]):
		case len(s.waiting) == s.hub.opts.Buffer, s.bytes >= waitingBytes:
			s.end(ErrSlow)
		default:
			e := event(i)
			s.waiting, s.bytes = append(s.waiting, e), s.bytes+len(e.Frame)
			s.wake()
		}
	}
}

// stop ends the stream, unless it has ended.
func (s *Subscriber) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.end(why)
	}
}

// end ends the stream; a subscriber that is too slow does not get what waits. The caller holds s.mu.
func (s *Subscriber) end(why error) {
	if errors.Is(why, ErrSlow) {
		s.hub.metrics.CountCutOff(len(s.waiting))
		s.waiting = nil
	}
	s.ended = why
	s.wake()
	s.interrupt()
}

// wake has Next look again.
func (s *Subscriber) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close ends the subscription.
func (s *Subscriber) Close() {
	s.silence.Stop()
	s.hub.leave(s)
}
