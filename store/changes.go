package store

import (
	"context"
	"math"
	"sort"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// EventPosition returns the number of the newest change, 0 if there is none. Later reads of the store show that change
// and all before it.
func (s *Store) EventPosition() uint64 { return s.changes.count.Load() }

// Changes appends to buf the changes after the one with this number, in order: as many as fit into buf's capacity, but
// at least one if there is any. ok is false if some of them are no longer kept.
func (s *Store) Changes(after uint64, buf []Change) (_ []Change, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	count := s.changes.count.Load()
	if after > count || after < s.changes.first {
		return buf, false
	}
	for n := after + 1; n <= count; n++ {
		buf = append(buf, s.changes.at(n).view(n))
		if len(buf) == cap(buf) {
			break
		}
	}
	return buf, true
}

// changeAt is a point among the changes: after the change with this index of a message.
type changeAt struct {
	message uint64
	index   uint32
}

func (c *change) place() changeAt { return changeAt{c.messageSeq, c.index} }

func (p changeAt) before(q changeAt) bool {
	return p.message < q.message || p.message == q.message && p.index < q.index
}

func (p changeAt) later(q changeAt) changeAt {
	if p.before(q) {
		return q
	}
	return p
}

// ChangeAfter returns the number of the last change at or before a point of a replicated store: the change with this
// index of a message, or the end of the message if the index is [AllMade]. So a subscriber can continue here where
// another store left off. The point need not be that of a change.
//
// ok is false if changes after the point are no longer kept, or were made before the store was loaded. It is also false
// if the point is not reached yet: the message was not begun, or has not made the change. For the end of the message
// begun last, the caller must know that the message has been applied.
func (s *Store) ChangeAfter(message uint64, index uint32) (number uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, point := &s.changes, changeAt{message, index}
	ahead := message > s.message || message == s.message && index >= c.next && index < AllMade
	if s.message == 0 {
		return 0, message == 0 // nothing has been made yet
	}
	if ahead || point.before(c.whole) {
		return 0, false
	}
	kept := int(c.count.Load() - c.first)
	return c.first + uint64(sort.Search(kept, func(i int) bool {
		return point.before(c.at(c.first + 1 + uint64(i)).place())
	})), true
}

// AllMade stands for the end of a message, after all its changes, in [Place] and for [Store.ChangeAfter].
const AllMade = math.MaxUint32

// Place is a place in the order of the changes. In every store that applies the same messages, the changes before the
// same message and count are the same, whatever their numbers are.
type Place struct {
	Number  uint64 // of the newest change; 0 for none
	Message uint64 // the message begun last; 0 in a store that is not replicated
	Made    uint32 // changes of that message so far
}

// EventPlace is [Store.EventPosition] as a place that other stores with the same messages know as well.
func (s *Store) EventPlace() Place {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Place{s.changes.count.Load(), s.message, s.changes.next}
}

// AwaitChange returns nil once there is a change after the one with this number, or the error of ctx.
func (s *Store) AwaitChange(ctx context.Context, after uint64) error {
	for {
		wake := s.changes.wake.Load()
		s.changes.awaited.Store(true)
		if s.changes.count.Load() > after {
			return nil
		}
		select {
		case <-*wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes the callers that wait for a change. Its caller does not hold s.mu.
func (s *Store) announce() {
	if s.changes.awaited.Load() && s.changes.awaited.CompareAndSwap(true, false) {
		next := make(chan struct{})
		close(*s.changes.wake.Swap(&next))
	}
}

// addChange adds a change of se. The caller holds s.mu, fills in what is specific to the change, and calls announce
// after unlocking.
func (s *Store) addChange(kind ChangeKind, se *session, at time.Time) *change {
	c := &s.changes
	n := c.count.Load()
	c.makeRoom()
	current, since := se.current(), s.since(se)
	added := c.at(n + 1)
	*added = change{
		agentID: se.agent.id, agentName: se.agent.name, agentHost: se.agent.host, source: se.source.name, topic: se.topic, title: se.title,
		message: current.messageAlone(),
		at:      unixNanos(at), created: se.created, updated: se.updated, expiry: unixNanos(s.wallTime(se.expiry())),
		sec: current.sec, nsec: current.nsec, sinceSec: since.Seconds, sinceNsec: since.Nanoseconds, ttl: se.ttl, kind: kind, class: se.class, teams: se.agent.teams.of(),
		messageSeq: s.message, index: c.next,
	}
	c.next++
	if se.turn.hasOpen() && !se.class.expired() {
		added.question, added.open = se.turn.oldest(), int32(len(se.turn.open))
	}
	added.acknowledged = s.acknowledged(se)
	c.count.Store(n + 1)
	return added
}

// at returns the slot of the change with number n.
func (c *changes) at(n uint64) *change { return &c.ring[(n-1)%uint64(cap(c.ring))] }

// makeRoom removes the oldest changes, so that there is room for one more, and so that the earlier ones, apart from the
// newest, take at most maxBytes.
func (c *changes) makeRoom() {
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, change{})
	}
	count := c.count.Load()
	for ; c.sized < count; c.sized++ {
		c.bytes += c.at(c.sized + 1).size()
	}
	for count-c.first == uint64(cap(c.ring)) || c.bytes > c.maxBytes && count-c.first > 1 {
		c.first++
		c.whole = c.whole.later(c.at(c.first).place())
		c.bytes -= c.at(c.first).size()
		*c.at(c.first) = change{}
	}
}

// size returns the bytes of memory that the texts of c take, as if nothing else referred to them.
func (c *change) size() (n int64) {
	for _, text := range []string{c.agentID, c.agentName, c.agentHost, c.source, c.topic, c.title, c.message} {
		n += sizeOfText(len(text))
	}
	return n + questionSize(c.question) + questionSize(c.asked) + sizeOfClosed(c.closed)
}

// messageAlone returns the message. It copies it if the message would keep a much longer text in memory.
func (st *status) messageAlone() string {
	message := st.message()
	if len(st.text) > 2*len(message)+256 {
		return strings.Clone(message)
	}
	return message
}

// view returns c, which has number n, as the API shows it. The caller holds the store's lock.
func (c *change) view(n uint64) Change {
	v := Change{
		Number:  n,
		Message: c.messageSeq,
		Index:   c.index,
		Kind:    c.kind,
		At:      at(c.at),
		Session: models.FleetSession{
			Session: models.Session{
				AgentID: c.agentID, Topic: c.topic, Title: c.title,
				Created: at(c.created), LastUpdated: at(c.updated), ExpiresAt: at(c.expiry),
				Expired: c.class.expired(), Lost: c.class.lost(), TTLMinutes: int(c.ttl),
				CurrentStatus: c.class.status(), CurrentMessage: c.message, StatusSince: time.Unix(c.sinceSec, int64(c.sinceNsec)).UTC(),
				Idle: c.class.idle(), Question: c.question, OpenQuestions: int(c.open), Acknowledged: c.acknowledged,
			},
			AgentName: c.agentName, AgentSource: c.source, AgentHost: c.agentHost,
		},
		Timestamp:   time.Unix(c.sec, int64(c.nsec)).UTC(),
		Previous:    c.previous,
		Revived:     c.revived,
		LastOfAgent: c.lastOfAgent,
		Teams:       c.teams.list(),
		Asked:       c.asked,
		Closed:      c.closed,
	}
	if v.Session.Expired {
		v.Session.ExpiredAt = v.Session.ExpiresAt
	}
	return v
}
