package store

import (
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// sessionID finds a session.
type sessionID struct {
	agent *agent
	topic string
}

// session is one task of an agent.
type session struct {
	agent    *agent
	topic    string
	title    string
	titleSeq uint64 // the sequence that title is of
	ttlSeq   uint64 // the sequence that ttl is of
	created  int64
	history  []historyRef   // oldest first, none of the newest missing; never empty once the session is in the store
	filed    StatusPosition // of the newest status that is filed in the journal; zero for none
	dropped  uint64         // the greatest sequence of a status that the history no longer holds; 0 for none
	queuedAt int64          // see enqueue
	ttl      uint16         // minutes
	run      uint16         // so many of the newest statuses in the history are of the same kind
	queued   standing
	pinned   bool // a report of it is admitted, so that it is not forgotten; see Store.Admit

	trimmable ordered.Links[session] // in Store.trimmable

	// What the indexes order by; see moveSession.
	source     *source // the agent's, but for a moment after that has changed
	updated    int64
	updatedSeq uint64               // the sequence of the record that updated is of
	teams      *membership[session] // in the agent's, but for a moment after those have changed
	class      class

	slotInFleet, slotInSource, slotInAgent uint8
	inFleet, inSource, inAgent             *ordered.Leaf[session]
}

// standing says which of the store's queues a session stands in.
type standing uint8

const (
	inNone standing = iota
	inDeadlines
	inExpired
)

// historyRef is one place in a session's history. The report ID's hash spares a look at each status for
// every retry.
type historyRef struct {
	*status
	idHash uint32 // 0 where the report has no ID
}

func (se *session) updatedPlace() ordered.Place {
	return ordered.Place{Time: se.updated, Sequence: se.updatedSeq}
}

func (se *session) agentPlace() ordered.Place {
	return ordered.Place{Group: uint8(se.class), Time: se.updated, Sequence: se.updatedSeq}
}

// How sessions are kept by their newest report, in the fleet, in their agent's source, and, class by class,
// in their agent.
var (
	sessionInFleet = ordered.Member[session]{Place: (*session).updatedPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inFleet, &se.slotInFleet }}
	sessionInSource = ordered.Member[session]{Place: (*session).updatedPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inSource, &se.slotInSource }}
	sessionInAgent = ordered.Member[session]{Place: (*session).agentPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inAgent, &se.slotInAgent }}
)

func updatedLater(a, b *session) bool { return a.updatedPlace().Compare(b.updatedPlace()) > 0 }

// newSession makes a session of a that has no status yet. The caller holds s.mu, and adds a status before
// it lets go.
func (s *Store) newSession(a *agent, topic string, received int64) *session {
	se := &session{
		agent:   a,
		topic:   strings.Clone(topic),
		created: received,
		ttl:     uint16(s.opts.DefaultTTL / time.Minute),
	}
	s.sessions[sessionID{a, se.topic}] = se
	a.count++
	return se
}

// moveSession moves se to where src, its agent's teams, its state, and its newest report say, in the indexes of lists, and
// keeps the counts. The caller holds s.mu, and moves the agent afterwards.
func (s *Store) moveSession(se *session, src *source, updated int64, updatedSeq uint64) {
	expired := updated+se.lifetime() <= s.now
	class := classOf(se.current().kind, expired)
	if class == se.class && src == se.source && se.teams.of() == se.agent.teams.of() {
		if updated != se.updated || updatedSeq != se.updatedSeq {
			se.updated, se.updatedSeq = updated, updatedSeq
			s.fleet.advanceSession(se)
			src.advanceSession(se)
			for _, t := range se.teams.all() {
				t.advanceSession(se)
			}
			se.agent.sessions.Advance(&sessionInAgent, se)
		}
		return
	}
	if se.source != nil {
		s.unlistSession(se)
	}
	se.class, se.source, se.updated, se.updatedSeq = class, src, updated, updatedSeq
	if set := se.agent.teams.of(); set != se.teams.of() {
		se.teams = memberOf[session](set)
	}
	s.fleet.addSession(se)
	src.addSession(se)
	for _, t := range se.teams.all() {
		t.addSession(se)
	}
	se.agent.sessions.Insert(&sessionInAgent, se)
	if !expired {
		se.agent.active++
	}
}

// unlistSession takes se out of the indexes of lists and out of the counts. The caller holds s.mu.
func (s *Store) unlistSession(se *session) {
	s.fleet.removeSession(se)
	se.source.removeSession(se)
	for _, t := range se.teams.all() {
		t.removeSession(se)
	}
	se.agent.sessions.Remove(&sessionInAgent, se)
	if !se.class.flag() {
		se.agent.active--
	}
}

// removeSession forgets se, and its agent with its last session. The caller holds s.mu.
func (s *Store) removeSession(se *session) {
	a := se.agent
	s.note(Removed, se, s.now).lastOfAgent = a.count == 1
	s.unqueue(se)
	s.unlistSession(se)
	s.trimmable.Remove(se)
	for _, ref := range se.history {
		s.forget(ref.status)
	}
	delete(s.sessions, sessionID{a, se.topic})
	a.count--
	if s.opts.Journaled {
		s.forgotten = append(s.forgotten, Forgotten{SessionKey{a.id, se.topic}, a.count == 0})
	}
	if a.count == 0 {
		s.removeAgent(a)
		return
	}
	s.moveAgent(a, a.source, a.lastSeen, a.seenSeq)
}

// current returns the status with the greatest (timestamp, sequence).
func (se *session) current() *status { return se.history[len(se.history)-1].status }

// since returns the oldest of the newest statuses in the history that are of the same kind, one after another.
func (se *session) since() *status { return se.history[len(se.history)-int(se.run)].status }

// countRun brings se.run up to date after a status was put into the history at place i.
func (se *session) countRun(i int) {
	newest := len(se.history) - 1
	kind := se.history[newest].kind
	switch {
	case i == newest && newest > 0 && se.history[newest-1].kind == kind:
		se.run++
	case i == newest:
		se.run = 1
	case i >= newest-int(se.run):
		for se.run = 1; int(se.run) <= newest && se.history[newest-int(se.run)].kind == kind; {
			se.run++
		}
	}
}

// lifetime returns the TTL in nanoseconds.
func (se *session) lifetime() int64 { return int64(se.ttl) * int64(time.Minute) }

// expiry returns the instant at which the session expires, or has.
func (se *session) expiry() int64 { return se.updated + se.lifetime() }

// find returns where p is in the history, and whether it is taken.
func (se *session) find(p ordered.Place) (int, bool) {
	// Most reports are the newest of their session.
	if se.current().place().Compare(p) < 0 {
		return len(se.history), false
	}
	return slices.BinarySearchFunc(se.history, p, func(ref historyRef, p ordered.Place) int { return ref.place().Compare(p) })
}

// holds reports whether the history holds a report with this ID.
func (se *session) holds(reportID string) bool {
	hash := hashID(reportID)
	for _, ref := range se.history {
		if ref.idHash == hash && ref.reportID() == reportID {
			return true
		}
	}
	return false
}

// view returns se as a read shows it. The caller holds the store's lock.
func (se *session) view() models.Session {
	current := se.current()
	v := models.Session{
		AgentID:        se.agent.id,
		Topic:          se.topic,
		Title:          se.title,
		Created:        at(se.created),
		LastUpdated:    at(se.updated),
		ExpiresAt:      at(se.expiry()),
		Expired:        se.class.flag(),
		Lost:           se.class.lost(),
		TTLMinutes:     int(se.ttl),
		CurrentStatus:  current.kind,
		CurrentMessage: current.message(),
		StatusSince:    se.since().timestamp(),
	}
	if v.Expired {
		v.ExpiredAt = v.ExpiresAt
	}
	return v
}

// fleetView returns se as a list over the fleet shows it. The caller holds the store's lock.
func (se *session) fleetView() models.FleetSession {
	return models.FleetSession{Session: se.view(), AgentName: se.agent.name, AgentSource: se.agent.source.name}
}
