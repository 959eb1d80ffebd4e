package store

import (
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// Outcome is what became of a report.
type Outcome uint8

const (
	// Stored means that the report is part of the state.
	Stored Outcome = iota + 1
	// Duplicate means that its session holds it already; it changed nothing.
	Duplicate
	// Refused means that it would begin a session for which there is no room; it changed nothing.
	Refused
	// Renewed means that the session was renewed, and its status stays: see [models.Effect].
	Renewed
	// Ignored means that the report had nothing to change.
	Ignored
)

// Acknowledged reports whether nobody needs to send the report again.
func (o Outcome) Acknowledged() bool { return o != Refused }

// Accept makes records of reports, which must be valid, in their order, and applies them. It appends what
// became of each to outcomes, and returns that.
//
// now is the server's time. Each record gets a receipt time of its own, as much as a nanosecond apart per
// report, so that lists by last update are in the order of receipt. Nothing of the reports' memory is
// kept. Safe for concurrent use.
func (s *Store) Accept(reports []models.StatusReport, now time.Time, outcomes []Outcome) []Outcome {
	s.Expire(now)
	for chunk := range slices.Chunk(reports, reportsPerLock) {
		var moved []*agent
		outcomes, moved = s.acceptChunk(chunk, instant(now), outcomes)
		s.announce()
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
	}
	return outcomes
}

// reportsPerLock is how many reports one hold of the lock applies; each moves its session and its agent
// within some four indexes.
const reportsPerLock = workPerLock / 4

// acceptChunk accepts reports under one hold of the lock. It also returns the agents that changed their
// source.
func (s *Store) acceptChunk(reports []models.StatusReport, now int64, outcomes []Outcome) ([]Outcome, []*agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var moved []*agent
	s.now = max(s.now, now)
	for i := range reports {
		s.received = max(s.received+1, now)
		outcome, a := s.accept(&reports[i])
		outcomes = append(outcomes, outcome)
		if a != nil {
			moved = append(moved, a)
		}
	}
	return outcomes, moved
}

// accept makes a record of r, received at s.received, and applies it. It also returns the agent if that changed its
// source. The caller holds s.mu.
func (s *Store) accept(r *models.StatusReport) (Outcome, *agent) {
	a, se := s.lookup(r.AgentID, r.SessionTopic)
	outcome, base := Stored, models.Base{}
	if r.Conditional() {
		settled := *r
		r = &settled
		if outcome, base = settle(r, se, s.received); outcome == Ignored {
			return outcome, nil
		}
	}
	if se == nil {
		if !s.makeRoom(r) {
			s.bounds.Refused++
			return Refused, nil
		}
		a = s.agents[r.AgentID] // making room may have taken its last session
	}
	applied, moved := s.apply(r, base, a, se, s.sequence+1, s.received)
	if applied == Duplicate {
		return Duplicate, nil
	}
	s.sequence++
	return outcome, moved
}

// Apply merges records into the state, whatever came before them: see the package comment. It is how records
// take effect that were made durable first, after [Store.Admit] let them in, or before a restart; room is made
// for them, but none is refused. Safe for concurrent use.
func (s *Store) Apply(records ...models.Record) {
	for chunk := range slices.Chunk(records, reportsPerLock) {
		moved := s.applyChunk(chunk)
		s.announce()
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
	}
}

// applyChunk applies records under one hold of the lock. It returns the agents that changed their source.
func (s *Store) applyChunk(records []models.Record) (moved []*agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range records {
		r := &records[i]
		received := instant(r.Received)
		s.sequence = max(s.sequence, r.Sequence)
		s.received = max(s.received, received)
		a, se := s.lookup(r.AgentID, r.SessionTopic)
		if se == nil {
			s.admitted.begins(&r.StatusReport)
			s.makeRoom(&r.StatusReport)
			a = s.agents[r.AgentID]
		}
		if _, a := s.apply(&r.StatusReport, r.Base, a, se, r.Sequence, received); a != nil {
			moved = append(moved, a)
		}
	}
	return moved
}

// lookup returns the agent and the session, nil where there is none. The caller holds s.mu.
func (s *Store) lookup(agentID, topic string) (*agent, *session) {
	a := s.agents[agentID]
	if a == nil {
		return nil, nil
	}
	return a, s.sessions[sessionID{a, topic}]
}

// apply merges a report into the state of a and se, either of which is nil where it is new. base is that of a renewal. It
// also returns the agent if that changed its source. The caller holds s.mu.
func (s *Store) apply(r *models.StatusReport, base models.Base, a *agent, se *session, sequence uint64, received int64) (_ Outcome, moved *agent) {
	st := entry{sequence, received}
	if base.Sequence != 0 {
		st = entry{base.Sequence, instant(base.Received)}
	}
	index, held := 0, false // where its status belongs in the history, and whether that is there
	var previous models.Status
	var before told
	revived := false
	if se != nil {
		previous, revived = se.current().kind, se.class.flag()
		if index, held = se.find(placeOf(r, st.sequence, st.received)); held {
			before = whatWasTold(a, se)
		} else if r.ReportID != "" && se.holds(r.ReportID) {
			return Duplicate, nil
		}
	}

	if a == nil {
		a = s.newAgent(r.AgentID, st.received)
	}
	if se == nil {
		se = s.newSession(a, r.SessionTopic, st.received)
	}
	src := s.sourceOf(a, describe(a, se, r, sequence, a.sourceName()))
	if a.source != nil && a.source != src {
		moved = a
	}
	if !held {
		s.add(newStatus(se, r, st.sequence, st.received), index, hashID(r.ReportID))
	}
	s.renew(a, se, src, sequence, received, st.received)
	if held && whatWasTold(a, se) == before {
		return Duplicate, nil
	}
	noted := s.note(Reported, se, received)
	noted.previous, noted.revived = previous, revived && !se.class.flag()
	s.trimHistory()
	return Stored, moved
}

// entry is what orders an entry of a history beside its timestamp.
type entry struct {
	sequence uint64
	received int64
}

// told is what records told of an agent and a session beside statuses.
type told struct {
	title, ttl, name, source      uint64
	created, updated              int64
	registered, seen              int64
	updatedSequence, seenSequence uint64
}

// whatWasTold returns that. The caller holds the store's lock.
func whatWasTold(a *agent, se *session) told {
	return told{se.titleSeq, se.ttlSeq, a.nameSeq, a.sourceSeq, se.created, se.updated, a.registered, a.lastSeen, se.updatedSeq, a.seenSeq}
}

// settle finds out what a conditional report, received at that time, does to its session, nil where that is not known, and
// changes it to what is to be recorded. The outcome is Stored, Renewed, in which case base is that of the renewal, or
// Ignored. The caller holds the store's lock.
func settle(r *models.StatusReport, se *session, received int64) (outcome Outcome, base models.Base) {
	if se == nil {
		if r.Status == 0 || r.Effect == models.Ends {
			return Ignored, base
		}
		return Stored, base
	}
	if r.FirstTitle && se.title != "" {
		r.SessionTitle = ""
	}
	current := se.current()
	message, content, reportID := current.unpack()
	sets := true
	switch r.Effect {
	case models.Sets:
	case models.Repeats:
		sets = r.Status != current.kind || r.Message != message || received-current.received >= int64(models.RepeatWindow)
	case models.Alters:
		sets = r.Status != current.kind
	case models.Concludes:
		sets = current.kind.Unfinished()
	case models.Ends:
		if !current.kind.Unfinished() {
			return Ignored, base
		}
	case models.Renews:
		sets = false
	}
	if sets {
		return Stored, base
	}
	r.Status, r.Timestamp, r.Message, r.Content, r.ReportID = current.kind, current.timestamp(), message, content, reportID
	return Renewed, models.Base{Sequence: current.sequence, Received: at(current.received)}
}

// describe takes over what r says of its agent and session themselves, where no later record has. source is the
// name of the agent's source; it returns the one from now on. The caller holds the store's lock.
func describe(a *agent, se *session, r *models.StatusReport, sequence uint64, source string) string {
	if r.SessionTitle != "" && sequence > se.titleSeq {
		se.title, se.titleSeq = keep(se.title, r.SessionTitle), sequence
	}
	if r.TTLMinutes > 0 && sequence > se.ttlSeq {
		se.ttl, se.ttlSeq = uint16(r.TTLMinutes), sequence
	}
	if r.AgentName != "" && sequence > a.nameSeq {
		a.name, a.nameSeq = keep(a.name, r.AgentName), sequence
	}
	if r.AgentSource != "" && sequence > a.sourceSeq {
		a.sourceSeq = sequence
		return r.AgentSource
	}
	return source
}

// keep returns a string equal to value that does not share the memory of a request: old, if it is equal.
func keep(old, value string) string {
	if old == value {
		return old
	}
	return strings.Clone(value)
}

// renew takes a record's receipt into account, and the first one that it tells of, and moves a to src. The caller holds s.mu.
func (s *Store) renew(a *agent, se *session, src *source, sequence uint64, received, first int64) {
	a.registered = min(a.registered, first)
	se.created = min(se.created, first)
	updated, updatedSeq := later(se.updated, se.updatedSeq, received, sequence)
	s.moveSession(se, src, updated, updatedSeq)
	s.enqueue(se)
	seen, seenSeq := later(a.lastSeen, a.seenSeq, received, sequence)
	old := a.source
	s.moveAgent(a, src, seen, seenSeq)
	if old != nil && old != src {
		s.leaveSource(old)
	}
}

// later returns the receipt, of two, that is later. One without a sequence is none.
func later(received int64, sequence uint64, received2 int64, sequence2 uint64) (int64, uint64) {
	if sequence == 0 || received2 > received || received2 == received && sequence2 > sequence {
		return received2, sequence2
	}
	return received, sequence
}

// moveSessionsOf moves the sessions of a to the source that it has now, with the lock let go now and then:
// an agent can have any number of sessions. Until a session is moved, lists by source pass it over.
func (s *Store) moveSessionsOf(a *agent) {
	var after *ordered.Place
	for more := true; more; {
		after, more = s.moveSomeSessionsOf(a, after)
	}
}

func (s *Store) moveSomeSessionsOf(a *agent, after *ordered.Place) (_ *ordered.Place, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := a.sessions.Before(&sessionInAgent, after)
	stale := make([]*session, 0, workPerLock)
	for len(stale) < workPerLock {
		se := next()
		if se == nil {
			break
		}
		stale = append(stale, se)
	}
	for _, se := range stale {
		s.moveSession(se, a.source, se.updated, se.updatedSeq)
	}
	if len(stale) < workPerLock {
		return nil, false
	}
	reached := stale[len(stale)-1].agentPlace()
	return &reached, true
}
