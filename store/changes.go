package store

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// ChangeKind says what a [Change] did.
type ChangeKind uint8

const (
	// Reported means that a record changed or renewed a session, or began it.
	Reported ChangeKind = iota + 1
	// Expired means that a session was not renewed within its TTL.
	Expired
	// Removed means that a session was forgotten: an expired one, or one that somebody had removed.
	Removed
)

// Change is what one record, one expiry or one removal did to the state.
type Change struct {
	Number    uint64 // its place among all changes, from 1 on
	Kind      ChangeKind
	At        time.Time           // the server's time then: of a record its receipt; UTC
	Session   models.FleetSession // as it is since; as it was, where it is removed
	Timestamp time.Time           // of its current status; UTC

	Previous    models.Status // its status before, where it is Reported; 0 for a session that this began
	Revived     bool          // it was expired before
	LastOfAgent bool          // its agent is removed with it

	Teams []*Team // of which its agent was; never changed. One that was set later may be missing: see [Team.Settled]
}

// change is a Change as the store keeps it.
type change struct {
	agentID, agentName, source, topic, title, message string

	at, created, updated, expiry int64 // Unix nanoseconds
	sec, sinceSec                int64 // of the timestamp, and of the first of the same status
	nsec, sinceNsec              int32
	ttl                          uint16
	kind                         ChangeKind
	previous                     models.Status
	class                        class
	teams                        *teamSet
	revived, lastOfAgent         bool
}

// changes is the newest changes, and who waits for the next one.
type changes struct {
	ring  []change // number n is at (n-1) % cap, once it is full
	count atomic.Uint64
	idle  atomic.Bool // somebody waits at wake
	wake  chan struct{}
}

// EventPosition returns the number of the newest change, 0 where there is none yet. What is read of the store
// afterwards shows that change and all before it.
func (s *Store) EventPosition() uint64 { return s.changes.count.Load() }

// Changes appends to buf changes that came after the one with this number, in their order: as many as buf has room for,
// at least one if there is any. ok is false where some of them are no longer kept.
func (s *Store) Changes(after uint64, buf []Change) (_ []Change, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	count, kept := s.changes.count.Load(), uint64(len(s.changes.ring))
	if after > count || after < count-kept {
		return buf, false
	}
	for n := after + 1; n <= count; n++ {
		buf = append(buf, s.changes.ring[(n-1)%uint64(cap(s.changes.ring))].view(n))
		if len(buf) == cap(buf) {
			break
		}
	}
	return buf, true
}

// AwaitChange returns once there is a change after the one with this number, or with the error of ctx. One caller at a
// time may wait.
func (s *Store) AwaitChange(ctx context.Context, after uint64) error {
	for {
		s.changes.idle.Store(true)
		if s.changes.count.Load() > after {
			s.changes.idle.Store(false)
			return nil
		}
		select {
		case <-s.changes.wake:
		case <-ctx.Done():
			s.changes.idle.Store(false)
			return ctx.Err()
		}
	}
}

// announce wakes whoever waits for a change. The caller does not hold s.mu.
func (s *Store) announce() {
	if s.changes.idle.Load() && s.changes.idle.CompareAndSwap(true, false) {
		select {
		case s.changes.wake <- struct{}{}:
		default:
		}
	}
}

// note keeps a change of se. The caller holds s.mu, fills in what is special of the change, and announces it after it let go.
func (s *Store) note(kind ChangeKind, se *session, at int64) *change {
	c := &s.changes
	n := c.count.Load()
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, change{})
	}
	current, since := se.current(), se.since()
	noted := &c.ring[n%uint64(cap(c.ring))]
	*noted = change{
		agentID: se.agent.id, agentName: se.agent.name, source: se.agent.source.name, topic: se.topic, title: se.title,
		message: current.messageAlone(),
		at:      at, created: se.created, updated: se.updated, expiry: se.expiry(),
		sec: current.sec, nsec: current.nsec, sinceSec: since.sec, sinceNsec: since.nsec, ttl: se.ttl, kind: kind, class: se.class, teams: se.agent.teams.of(),
	}
	c.count.Store(n + 1)
	return noted
}

// messageAlone returns the message without keeping the rest of a text alive that is much longer.
func (st *status) messageAlone() string {
	message := st.message()
	if len(st.text) > 2*len(message)+256 {
		return strings.Clone(message)
	}
	return message
}

// view returns c, whose number is n, as a read shows it. The caller holds the store's lock.
func (c *change) view(n uint64) Change {
	v := Change{
		Number: n,
		Kind:   c.kind,
		At:     at(c.at),
		Session: models.FleetSession{
			Session: models.Session{
				AgentID: c.agentID, Topic: c.topic, Title: c.title,
				Created: at(c.created), LastUpdated: at(c.updated), ExpiresAt: at(c.expiry),
				Expired: c.class.flag(), Lost: c.class.lost(), TTLMinutes: int(c.ttl),
				CurrentStatus: c.class.status(), CurrentMessage: c.message, StatusSince: time.Unix(c.sinceSec, int64(c.sinceNsec)).UTC(),
			},
			AgentName: c.agentName, AgentSource: c.source,
		},
		Timestamp:   time.Unix(c.sec, int64(c.nsec)).UTC(),
		Previous:    c.previous,
		Revived:     c.revived,
		LastOfAgent: c.lastOfAgent,
		Teams:       c.teams.list(),
	}
	if v.Session.Expired {
		v.Session.ExpiredAt = v.Session.ExpiresAt
	}
	return v
}
