package live

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// Bounds of the memory that one subscriber can take up. Subscribers share the events in their queues. Events of the
// past, with which a subscriber catches up, are encoded for it alone.
const (
	maxQueuedBytes = 8 << 20  // of events in the queue
	catchUpBytes   = 16 << 10 // of past events written at a time; one event may exceed it
	catchUpChanges = 64       // changes read from the store at a time to catch up
)

const (
	// KeepAlive is the longest time for which a stream is silent.
	KeepAlive = 15 * time.Second
	// Retry is how long clients are told to wait before they reconnect.
	Retry = 2 * time.Second
)

// Subscriber is one open stream. [Subscriber.Next] and [Subscriber.Close] are for one goroutine.
type Subscriber struct {
	Filter Filter

	hub       *Hub
	interrupt func()
	keepAlive *time.Timer

	started bool
	byeSent bool
	reset   string // why the stream starts with a reset; "" if it doesn't

	at    store.Place // while before until: the change up to which past events were returned
	until store.Place // the hub delivers the changes after this one; earlier ones are read from the store
	skip  store.Place // changes up to this one are left out: they precede the subscription, or the client knows them

	ready chan struct{} // has a value when there is something new for Next

	mu     sync.Mutex
	queue  []*Event
	queued int   // bytes of the events in queue
	ended  error // why the stream has ended; nil while it is open
}

// Next waits for events and returns them. If there are none for [KeepAlive], it returns an event that only keeps the
// stream alive. The events that the first call returns say where the stream starts.
//
// The error is ErrClosed after the bye event, ErrSlow if the subscriber fell behind, or the error of ctx.
func (s *Subscriber) Next(ctx context.Context) ([]*Event, error) {
	if !s.started {
		s.started = true
		return s.first(), nil
	}
	if s.at.Number < s.until.Number {
		return s.catchUp()
	}
	for silent := false; ; {
		position := later(*s.hub.position.Load(), s.skip)
		events, ended := s.dequeue()
		switch {
		case errors.Is(ended, ErrSlow) || ended != nil && s.byeSent:
			return nil, ended
		case ended != nil:
			s.byeSent = true
			return append(events, s.hub.byeEvent(position)), nil
		case len(events) > 0:
			s.keepAlive.Reset(KeepAlive)
			return events, nil
		case silent:
			s.keepAlive.Reset(KeepAlive)
			return []*Event{s.hub.positionEvent(s.hub.stillAt(position), "keep-alive", 0)}, nil
		}
		select {
		case <-s.ready:
		case <-s.keepAlive.C:
			silent = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// first returns the events with which a stream starts.
func (s *Subscriber) first() []*Event {
	events := []*Event{s.hub.positionEvent(later(s.at, s.skip), "connected", Retry)}
	if s.reset != "" {
		events = append(events, s.resetEvent(s.reset))
	}
	return events
}

// resetEvent skips to s.until, and returns the event that tells the client that changes up to there are missing.
func (s *Subscriber) resetEvent(why string) *Event {
	s.at = s.until
	s.hub.metrics.CountReset()
	return s.hub.resetEvent(s.until, why)
}

// catchUp returns the next events between s.at and s.until.
func (s *Subscriber) catchUp() ([]*Event, error) {
	changes, kept := s.hub.store.Changes(s.at.Number, make([]store.Change, 0, min(catchUpChanges, s.until.Number-s.at.Number)))
	if !kept {
		return []*Event{s.resetEvent("changes since that event are no longer kept")}, nil
	}
	var events []*Event
	bytes := 0
	for i := range changes {
		if bytes >= catchUpBytes {
			break
		}
		s.at = placeOf(&changes[i])
		if s.Filter.selects(&changes[i]) {
			e := s.hub.eventOf(&changes[i])
			events, bytes = append(events, e), bytes+len(e.Frame)
		}
	}
	return events, nil
}

// dequeue removes and returns the events in the queue, and returns why the stream has ended, if it has.
func (s *Subscriber) dequeue() ([]*Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.queue
	s.queue, s.queued = nil, 0
	return events, s.ended
}

// enqueue queues the events of the changes that the filter selects. event returns the event of a change. If the queue
// is full, the stream ends.
func (s *Subscriber) enqueue(changes []store.Change, event func(i int) *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		switch {
		case s.ended != nil:
			return
		case changes[i].Number <= s.skip.Number || !s.Filter.selects(&changes[i]):
		case len(s.queue) == s.hub.opts.QueueSize, s.queued >= maxQueuedBytes:
			s.end(ErrSlow)
		default:
			e := event(i)
			s.queue, s.queued = append(s.queue, e), s.queued+len(e.Frame)
			s.wake()
		}
	}
}

// stop ends the stream, unless it has ended already.
func (s *Subscriber) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.end(why)
	}
}

// end ends the stream. If the subscriber is too slow, its queue is dropped. The caller holds s.mu.
func (s *Subscriber) end(why error) {
	if errors.Is(why, ErrSlow) {
		s.hub.metrics.CountCutOff(len(s.queue))
		s.queue = nil
	}
	s.ended = why
	s.wake()
	s.interrupt()
}

// wake makes Next check the queue again.
func (s *Subscriber) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close ends the subscription. It may be called more than once.
func (s *Subscriber) Close() {
	s.keepAlive.Stop()
	s.hub.leave(s)
}
