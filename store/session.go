package store

import (
	"iter"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

func (se *session) updatedPlace() ordered.Place {
	return ordered.Place{Time: se.updated, Sequence: se.updatedSeq}
}

func (se *session) agentPlace() ordered.Place {
	return ordered.Place{Group: se.class.group(), Time: se.updated, Sequence: se.updatedSeq}
}

// How sessions are indexed by their newest report: in the fleet, in their source and, class by class, in their agent.
var (
	sessionInFleet = ordered.Member[session]{Place: (*session).updatedPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inFleet, &se.slotInFleet }}
	sessionInSource = ordered.Member[session]{Place: (*session).updatedPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inSource, &se.slotInSource }}
	sessionInAgent = ordered.Member[session]{Place: (*session).agentPlace,
		Slot: func(se *session) (**ordered.Leaf[session], *uint8) { return &se.inAgent, &se.slotInAgent }}
)

func updatedLater(a, b *session) bool { return a.updatedPlace().Compare(b.updatedPlace()) > 0 }

// current returns the status with the greatest (timestamp, sequence).
func (se *session) current() *status { return se.history[len(se.history)-1].status }

// runStart returns the oldest of the consecutive newest statuses that are of the same kind.
func (se *session) runStart() *status { return se.history[len(se.history)-int(se.runLength)].status }

// Timestamp is the timestamp of a status: seconds since the Unix epoch and nanoseconds, because RFC 3339 covers years
// that nanoseconds can't.
type Timestamp struct {
	Seconds     int64
	Nanoseconds int32
}

func (t Timestamp) time() time.Time { return time.Unix(t.Seconds, int64(t.Nanoseconds)).UTC() }

// since returns the timestamp with which the current status of se began. Usually it is that of the oldest of the newest
// statuses that are of the same kind.
//
// That depends on how many statuses memory holds, so a replicated store has another rule: a status that becomes the
// newest one, and is of another kind than the one before, begins a new run; any other status, such as that of a late
// report, leaves the beginning as it is. Records are applied in the same order everywhere. The caller holds s.mu.
func (s *Store) since(se *session) Timestamp {
	if s.opts.Replicated {
		return Timestamp{se.sinceSec, se.sinceNanos}
	}
	first := se.runStart()
	return Timestamp{first.sec, first.nsec}
}

// updateRun updates se.runLength after a status was inserted into the history at index i.
func (se *session) updateRun(i int) {
	newest := len(se.history) - 1
	kind := se.history[newest].kind
	switch {
	case i == newest && newest > 0 && se.history[newest-1].kind == kind:
		se.runLength++
	case i == newest:
		se.runLength = 1
	case i >= newest-int(se.runLength):
		for se.runLength = 1; int(se.runLength) <= newest && se.history[newest-int(se.runLength)].kind == kind; {
			se.runLength++
		}
	}
}

// lifetime returns the TTL in nanoseconds. It is longer while a question is open.
func (se *session) lifetime() int64 {
	ttl := int64(se.ttl) * int64(time.Minute)
	if se.turn.hasOpen() {
		return max(ttl, int64(models.QuestionTTL))
	}
	return ttl
}

// filed returns the position of the newest status filed in the journal; zero for none.
func (se *session) filed() StatusPosition {
	return StatusPosition{Seconds: se.filedSec, Nanoseconds: se.filedNanos, Sequence: se.filedSeq}
}

func (se *session) setFiled(p StatusPosition) {
	se.filedSec, se.filedNanos, se.filedSeq = p.Seconds, p.Nanoseconds, p.Sequence
}

// expiry returns the instant at which the session expires or has expired, on the expiry clock.
func (se *session) expiry() int64 { return se.renewed + se.lifetime() }

// find returns the index of place p in the history, and whether there is a status at p.
func (se *session) find(p ordered.Place) (int, bool) {
	// Most reports are the newest of their session.
	if se.current().place().Compare(p) < 0 {
		return len(se.history), false
	}
	return slices.BinarySearchFunc(se.history, p, func(ref historyRef, p ordered.Place) int { return ref.place().Compare(p) })
}

// holds reports whether the history has a report with this ID.
func (se *session) holds(reportID string) bool {
	hash := hashID(reportID)
	for _, ref := range se.history {
		if ref.idHash == hash && ref.reportID() == reportID {
			return true
		}
	}
	return false
}

// view returns se as the API shows it. The caller holds s.mu.
func (s *Store) view(se *session) models.Session {
	current := se.current()
	v := models.Session{
		AgentID:        se.agent.id,
		Topic:          se.topic,
		Title:          se.title,
		Created:        at(se.created),
		LastUpdated:    at(se.updated),
		ExpiresAt:      s.wallTime(se.expiry()),
		Expired:        se.class.expired(),
		Lost:           se.class.lost(),
		TTLMinutes:     int(se.ttl),
		CurrentStatus:  current.kind,
		CurrentMessage: current.message(),
		Idle:           current.kind == models.Idle,
		StatusSince:    s.since(se).time(),
	}
	if v.Expired {
		v.ExpiredAt = v.ExpiresAt
	} else if se.turn.hasOpen() {
		v.Question, v.OpenQuestions = se.turn.oldest(), len(se.turn.open)
	}
	v.Acknowledged = s.acknowledged(se)
	return v
}

// fleetView returns se as a list over the fleet shows it. The caller holds s.mu.
func (s *Store) fleetView(se *session) models.FleetSession {
	return models.FleetSession{Session: s.view(se), AgentName: se.agent.name, AgentSource: se.source.name, AgentHost: se.agent.host}
}

// Newer reports whether p comes before q in a history, which is ordered newest first. Every position comes before the
// zero value.
func (p StatusPosition) Newer(q StatusPosition) bool {
	if p.Sequence == 0 || q.Sequence == 0 {
		return p.Sequence > 0 && q.Sequence == 0
	}
	return p.place().Compare(*q.place()) > 0
}

// Time returns the timestamp of the status, in UTC.
func (p StatusPosition) Time() time.Time { return time.Unix(p.Seconds, int64(p.Nanoseconds)).UTC() }

// newest returns the newer one of two positions.
func (p StatusPosition) newest(q StatusPosition) StatusPosition {
	if q.Newer(p) {
		return q
	}
	return p
}

func (p *StatusPosition) place() *ordered.Place {
	if p == nil {
		return nil
	}
	return &ordered.Place{Time: p.Seconds, Nanos: p.Nanoseconds, Sequence: p.Sequence}
}

func (p *SessionPosition) place() *ordered.Place {
	if p == nil {
		return nil
	}
	return &ordered.Place{Time: p.Updated, Sequence: p.Sequence}
}

func (se *session) position() SessionPosition {
	return SessionPosition{Updated: se.updated, Sequence: se.updatedSeq}
}

// historyFrom walks the history after a position, newest first. The caller holds the store's lock.
func (se *session) historyFrom(after *StatusPosition) iter.Seq[*status] {
	end := len(se.history)
	if after != nil {
		end, _ = se.find(*after.place())
	}
	return func(yield func(*status) bool) {
		for _, ref := range slices.Backward(se.history[:end]) {
			if !yield(ref.status) {
				return
			}
		}
	}
}
