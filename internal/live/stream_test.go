package live_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// message is a message of a stream that several servers apply.
type message struct {
	at      time.Time
	reports []models.StatusReport
}

// stream is what was published so far; the message at index i has the sequence i+1. shadow has applied all of it, and
// keeps every change.
type stream struct {
	messages []message
	shadow   *store.Store
}

func (s *stream) publish(m message) {
	s.messages = append(s.messages, m)
	s.shadow.Begin(uint64(len(s.messages)), m.at)
	for _, report := range m.reports {
		s.shadow.Accept(nil, []models.StatusReport{report}, m.at, nil)
	}
}

func (s *stream) changes(t require.TestingT) []store.Change {
	all, ok := s.shadow.Changes(0, make([]store.Change, 0, max(1, s.shadow.EventPosition())))
	require.True(t, ok)
	return all
}

// number returns the number of the last change before the place that an event ID names.
func (s *stream) number(t require.TestingT, id string) uint64 {
	var sequence, made uint64
	_, err := fmt.Sscanf(id, "stream-%d-%d", &sequence, &made)
	require.NoError(t, err, "%q", id)
	if sequence == 0 {
		return 0
	}
	if made == 0 {
		sequence, made = sequence-1, math.MaxUint32+1
	}
	number, ok := s.shadow.ChangeAfter(min(sequence, uint64(len(s.messages))), uint32(made-1))
	require.True(t, ok, id)
	return number
}

// peer is a server that applies the stream at its own pace.
type peer struct {
	*stream
	st       *store.Store
	hub      *live.Hub
	stop     func()
	begun    int // messages
	reports  int // applied of the last of these
	lacks    bool
	lackable bool // it keeps few changes
}

func (p *peer) start(window int) {
	if p.stop != nil {
		p.hub.Close()
		p.stop()
		p.lacks = true
	}
	p.st = newStore(window)
	p.hub, p.stop = start(p.st, live.Options{MaxSubscribers: 100, QueueSize: max(1, window/2), Stream: "stream"})
	p.lackable = window < 100
	if p.begun > 0 {
		p.st.LoadedUpTo(uint64(p.begun))
	}
}

// between reports whether the peer is between two messages.
func (p *peer) between() bool {
	return p.begun == 0 || p.reports == len(p.messages[p.begun-1].reports)
}

// apply applies the next step of the stream: it begins a message, or applies one of its reports. It returns whether
// there was one.
func (p *peer) apply() bool {
	switch {
	case !p.between():
		m := p.messages[p.begun-1]
		p.st.Accept(nil, m.reports[p.reports:p.reports+1], m.at, nil)
		p.reports++
	case p.begun < len(p.messages):
		p.begun, p.reports = p.begun+1, 0
		p.st.Begin(uint64(p.begun), p.messages[p.begun-1].at)
	default:
		return false
	}
	return true
}

func (p *peer) catchUp() {
	for p.apply() { //nolint:revive // apply does everything
	}
}

// follower is a client that follows the stream, and may reconnect to any peer.
type follower struct {
	client
	at     *peer
	resets bool // it may get a reset, since the peer can't go on from where it was
}

// read checks all events that are available now. If the stream has ended, it disconnects the client.
func (f *follower) read(t require.TestingT, s *stream) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for f.sub != nil {
		events, err := f.sub.Next(now)
		if errors.Is(err, context.Canceled) {
			return
		}
		if err != nil {
			f.leave()
			return
		}
		if n := len(events); n > 0 && fields(events[n-1])["event"] == "reset" {
			require.True(t, f.resets, "no event was missing")
			f.last = s.number(t, fields(events[0])["id"]) // it may be back behind what the client knows
		}
		for _, e := range events {
			f.check(t, e, s)
		}
	}
}

// check is [client.check] for the IDs of a stream.
func (f *follower) check(t require.TestingT, e *live.Event, s *stream) {
	id := fields(e)["id"]
	number := s.number(t, id)
	local := &live.Event{Frame: []byte(strings.Replace(string(e.Frame), "id: "+id, fmt.Sprintf("id: x-%d", number), 1))}
	f.client.check(t, local, s.changes(t))
	f.lastID = id
}

func (f *follower) leave() {
	if f.sub != nil {
		f.sub.Close()
		f.sub = nil
	}
}

// connect subscribes at a peer, after the event with the ID since. The peer applies the rest of the stream meanwhile if
// catchUp is set.
func (f *follower) connect(t require.TestingT, p *peer, since string, catchUp bool) {
	f.at, f.resets = p, p.lacks || p.lackable
	if since == "" {
		since = p.hub.Position()
	}
	bound, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	f.last = f.at.number(t, since)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if catchUp {
			time.Sleep(50 * time.Millisecond)
			p.catchUp()
		}
	}()
	p.hub.Await(bound, since)
	<-done
	place := p.st.EventPlace()
	f.resets = f.resets || !catchUp && p.number(t, fmt.Sprintf("stream-%d-%d", place.Message, place.Made)) <= f.last
	if since == fmt.Sprintf("stream-%d-0", len(f.at.messages)+1) { // from a server that restarted: the next message will show that all was applied
		f.resets = true
	} else if catchUp {
		require.NoError(t, bound.Err(), "it does not wait for longer than necessary")
	}
	var err error
	f.sub, err = p.hub.Subscribe(f.filter, since, func() {})
	require.NoError(t, err)
}

// TestNoGapAndNoRepeatBetweenServers has several servers apply the same messages, each at its own pace, and some of them
// restart. Clients connect, read, disconnect and reconnect to another server at random, even in the middle of a message.
// Each client gets every event that its filter selects exactly once, or a reset that says that some are missing.
func TestNoGapAndNoRepeatBetweenServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			window := rapid.SampledFrom([]int{4, 20, 10_000, 10_000}).Draw(rt, "window")
			restarts := rapid.Bool().Draw(rt, "restarts") // what a restarted peer does not know can't expire
			now := time.Now()
			s := &stream{shadow: newStore(10_000)}
			peers := make([]*peer, 3)
			for i := range peers {
				peers[i] = &peer{stream: s}
				peers[i].start(window)
				defer func() { peers[i].stop() }()
			}
			followers := make([]*follower, 3)
			for i := range followers {
				followers[i] = &follower{client: client{filter: drawFilter(rt, nil)}}
				defer func() { followers[i].leave() }()
			}
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				p := rapid.SampledFrom(peers).Draw(rt, "peer")
				f := rapid.SampledFrom(followers).Draw(rt, "client")
				switch rapid.SampledFrom([]string{"publish", "publish", "apply", "apply", "catch up", "settle", "read", "leave", "connect", "connect", "list", "restart"}).Draw(rt, "act") {
				case "publish":
					m := message{at: now}
					for range rapid.IntRange(0, 4).Draw(rt, "reports") {
						m.reports = append(m.reports, models.StatusReport{AgentID: rapid.SampledFrom(agents).Draw(rt, "of"),
							SessionTopic: rapid.SampledFrom(agents).Draw(rt, "topic"), Status: rapid.SampledFrom(models.Statuses[:]).Draw(rt, "status")})
					}
					s.publish(m)
					if !restarts {
						now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(rt, "seconds")) * time.Second)
					}
				case "apply":
					for range rapid.IntRange(1, 5).Draw(rt, "steps of the stream") {
						p.apply()
					}
				case "catch up":
					p.catchUp()
				case "settle":
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				case "read":
					f.read(rt, s)
				case "leave":
					f.leave()
				case "connect":
					if f.sub == nil {
						f.connect(rt, p, f.lastID, rapid.Bool().Draw(rt, "catches up"))
					}
				case "list": // read a list at one server, and follow the stream at another
					if f.sub == nil {
						f.connect(rt, p, rapid.SampledFrom(peers).Draw(rt, "read at").hub.Position(), rapid.Bool().Draw(rt, "catches up"))
					}
				case "restart":
					if restarts && p.between() {
						p.start(window)
					}
				}
			}
			for _, p := range peers {
				p.catchUp()
			}
			for _, f := range followers {
				if f.sub == nil {
					f.connect(rt, peers[0], f.lastID, true)
				}
				for range 3 { // it may be cut off while it catches up
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					f.read(rt, s)
					if f.sub == nil {
						f.connect(rt, peers[0], f.lastID, true)
					}
				}
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
				f.read(rt, s)
				for _, change := range s.changes(rt) {
					require.False(rt, change.Number > f.last && selects(f.filter, &change), "change %d is missing after %d", change.Number, f.last)
				}
			}
			for _, p := range peers {
				require.Equal(rt, s.number(rt, peers[0].hub.Position()), s.number(rt, p.hub.Position()))
			}
		})
	})
}

// TestASilentStreamFollowsTheMessages reads a stream of which no message changes anything, from two servers.
func TestASilentStreamFollowsTheMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stream{shadow: newStore(100)}
		one, two := &peer{stream: s}, &peer{stream: s}
		for _, p := range []*peer{one, two} {
			p.start(100)
			defer func() { p.stop() }()
		}
		s.publish(message{time.Now(), []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}})
		one.catchUp()
		sub, err := one.hub.Subscribe(live.Filter{AgentID: "b"}, "", func() {})
		require.NoError(t, err)
		defer sub.Close()
		events, err := sub.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, "stream-1-1", fields(events[0])["id"])
		for range 4 {
			s.publish(message{at: time.Now()})
		}
		one.catchUp()
		events, err = sub.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, ": keep-alive\nid: stream-5-0\n\n", string(events[0].Frame))

		two.begun = 4 // it restarts, and has no change that it made before
		two.start(100)
		two.catchUp()
		resumed, err := two.hub.Subscribe(live.Filter{}, "stream-5-0", func() {})
		require.NoError(t, err)
		defer resumed.Close()
		events, err = resumed.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, ": connected\nretry: 2000\nid: stream-5-0\n\n", string(events[0].Frame))
		require.Len(t, events, 1, "without a reset")
	})
}

// TestByeSaysWhereToGoOn closes a hub, has the store make another change before the client reads, and goes on at another
// server.
func TestByeSaysWhereToGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stream{shadow: newStore(100)}
		one, two := &peer{stream: s}, &peer{stream: s}
		for _, p := range []*peer{one, two} {
			p.start(100)
			defer func() { p.stop() }()
		}
		f := &follower{}
		f.connect(t, one, "", false)
		f.read(t, s)
		other, err := one.hub.Subscribe(live.Filter{}, "", func() {})
		require.NoError(t, err)
		defer other.Close()
		one.hub.Close()
		s.publish(message{time.Now(), []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}})
		one.catchUp()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		f.read(t, s)
		require.Nil(t, f.sub)
		f.connect(t, two, f.lastID, true)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		f.read(t, s)
		require.EqualValues(t, 1, f.last)
		f.leave()
	})
}

// TestIDsOfAnotherStreamCauseAReset tries IDs that are not of the stream, and some that are later than anything in it.
func TestIDsOfAnotherStreamCauseAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stream{shadow: newStore(100)}
		p := &peer{stream: s}
		p.start(100)
		defer func() { p.stop() }()
		s.publish(message{time.Now(), []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}})
		p.catchUp()
		for since, wait := range map[string]time.Duration{"stream": 0, "stream-1": 0, "another-1-1": 0, "streams-1-1": 0, "stream-1-x": 0, "stream-1-4294967296": 0, "stream-1--1": 0,
			"stream-1-1-1": 0, "stream-1-2": time.Second, "stream-2-0": time.Second, "stream-18446744073709551615-4294967295": time.Second} {
			started := time.Now()
			bound, cancel := context.WithTimeout(t.Context(), time.Second)
			p.hub.Await(bound, since)
			cancel()
			require.Equal(t, wait, time.Since(started), since)
			sub, err := p.hub.Subscribe(live.Filter{}, since, func() {})
			require.NoError(t, err)
			events, err := sub.Next(t.Context())
			require.NoError(t, err)
			require.Len(t, events, 2, since)
			require.Equal(t, "reset", fields(events[1])["event"])
			require.Equal(t, "stream-1-1", fields(events[1])["id"])
			sub.Close()
		}
		p.hub.Close()
		started := time.Now()
		p.hub.Await(t.Context(), "stream-9-9")
		require.Zero(t, time.Since(started), "a server that stops makes nobody wait")
	})
}
