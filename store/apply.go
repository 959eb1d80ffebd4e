package store

import (
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Apply merges records into the state, whatever came before them: see the package comment. It is how records
// take effect that were made durable first, after [Store.Admit] let them in, or before a restart; room is made
// for them, but none is refused. Safe for concurrent use.
func (s *Store) Apply(records ...models.Record) {
	for len(records) > 0 {
		n, moved := s.applySome(records)
		records = records[n:]
		s.announce()
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
		if len(records) > 0 {
			giveWay()
		}
	}
}

// applySome applies as many of the records as one hold of the lock has time for, at least one, and returns how many. It also returns
// the agents that changed their source.
func (s *Store) applySome(records []models.Record) (n int, moved []*agent) {
	s.lock()
	defer s.mu.Unlock()
	for ; n < len(records) && s.work < workPerLock; n++ {
		s.work += workPerReport
		r := &records[n]
		s.sequence = max(s.sequence, r.Sequence)
		s.received = max(s.received, instant(r.Received))
		a, se := s.lookup(r.AgentID, r.SessionTopic)
		if se == nil && !s.begins(&r.StatusReport) && !s.loading {
			s.makeRoomFor(r, s.teamsOf(a, r.AgentID), a, nil)
			a = a.known() // making room may have taken its last session
		}
		if _, a := s.apply(r, a, se); a != nil {
			moved = append(moved, a)
		}
	}
	return n, moved
}

// apply merges a record into the state of a and se, either of which is nil where it is new. It also returns the agent if that
// changed its source. The caller holds s.mu.
func (s *Store) apply(r *models.Record, a *agent, se *session) (_ Outcome, moved *agent) {
	e := entryOf(r)
	var before view
	var known attributes
	index, held := 0, false // where its status belongs in the history, and whether that is there
	if se != nil {
		before = view{se.current().kind, se.class.expired()}
		if index, held = se.find(placeOf(&r.StatusReport, e)); !held && r.ReportID != "" && se.holds(r.ReportID) {
			return Duplicate, nil
		}
	}
	if held {
		known = attributesOf(a, se)
	}
	a, se = s.begin(r, e, a, se)
	texts := a.sizeOfTexts() + se.sizeOfTexts()
	ofAgent, own := describe(a, se, &r.StatusReport, r.Sequence)
	s.charge(a, a.sizeOfTexts()+se.sizeOfTexts()-texts)
	if !held {
		s.add(newStatus(se, r, e), index, hashID(r.ReportID))
	}
	progress := s.proceed(se, r)
	s.renew(se, r, e)
	moved = s.list(se, s.sourceOf(a, ofAgent), own, r)
	if held && attributesOf(a, se) == known {
		return Duplicate, nil
	}
	s.noteReport(se, r, before, progress)
	s.trimFor(a.teams.of())
	return Stored, moved
}

// begin makes the agent and the session of a record where these are new. The caller holds s.mu.
func (s *Store) begin(r *models.Record, e entry, a *agent, se *session) (*agent, *session) {
	if a == nil {
		a = s.newAgent(r.AgentID, e.received)
	}
	if se == nil {
		se = s.newSession(a, r.SessionTopic, e.received)
	}
	return a, se
}

// noteReport keeps the change that a record made. The caller holds s.mu.
func (s *Store) noteReport(se *session, r *models.Record, before view, p progress) {
	noted := s.note(Reported, se, r.Received)
	noted.previous, noted.revived = before.status, before.expired && !se.class.expired()
	noted.asked, noted.closed = p.asked, p.closed
}

// view is what of the state of a session matters to those who follow changes, as it was before one.
type view struct {
	status  models.Status
	expired bool
}

// attributes identifies what is known of an agent and a session beside statuses: by the sequences and the times of the records that
// said so. Where they are equal before and after a record, it said nothing new.
type attributes struct {
	title, ttl, own, turn, name, source, host uint64
	created, updated                          int64
	registered, seen                          int64
	updatedSequence, seenSequence             uint64
}

// attributesOf returns the attributes of se and its agent a. The caller holds the store's lock.
func attributesOf(a *agent, se *session) attributes {
	return attributes{
		se.titleSeq, se.ttlSeq, se.sourceSeq, se.turnSeq, a.nameSeq, a.sourceSeq, a.hostSeq,
		se.created, se.updated, a.registered, a.lastSeen, se.updatedSeq, a.seenSeq,
	}
}

// describe takes over what r says of its agent and session themselves, where no later record has. It returns the names of the
// source that the agent has, and of the one that is the session's own, "" for what does not change. The caller holds the store's
// lock.
func describe(a *agent, se *session, r *models.StatusReport, sequence uint64) (ofAgent, own string) {
	if r.SessionTitle != "" && sequence > se.titleSeq {
		se.title, se.titleSeq = keep(se.title, r.SessionTitle), sequence
	}
	if r.TTLMinutes > 0 && sequence > se.ttlSeq {
		se.ttl, se.ttlSeq = uint16(r.TTLMinutes), sequence
	}
	if r.AgentName != "" && sequence > a.nameSeq {
		a.name, a.nameSeq = keep(a.name, r.AgentName), sequence
	}
	if r.AgentHost != "" && sequence > a.hostSeq {
		a.host, a.hostSeq = keep(a.host, r.AgentHost), sequence
	}
	if r.AgentSource != "" && sequence > a.sourceSeq {
		ofAgent, a.sourceSeq = r.AgentSource, sequence
	}
	if r.AgentSource != "" && sequence > se.sourceSeq {
		own, se.sourceSeq = r.AgentSource, sequence
	}
	return ofAgent, own
}

// progress is the question that a record opened, nil for none, and those that it closed.
type progress struct {
	asked  *models.Question
	closed []models.ClosedQuestion
}

// proceed takes over what is under way in se after a record, where no later record says. The caller holds s.mu.
func (s *Store) proceed(se *session, r *models.Record) (p progress) {
	switch tells := r.Turn != nil || !r.ByEvent && !r.Renewal(); {
	case !tells:
		return p
	case r.Turn == nil && se.turn == nil:
		se.turnSeq = max(se.turnSeq, r.Sequence)
		return p
	}
	size, before := se.turn.size(), se.turn
	var after models.Turn
	if r.Turn != nil {
		after = *r.Turn
	}
	if r.Sequence > se.turnSeq {
		se.turn, se.turnSeq = turnOf(&after, r.Sequence, before), r.Sequence
		p.closed = se.turn.closedSince(before, after.Closed, r.Closed)
	}
	if after.Asks != nil {
		se.turn.fill(after.Asks, r.Sequence, instant(r.Received))
		if q := se.turn.find(r.Sequence); q != nil {
			p.asked = q.brief
		}
	}
	s.charge(se.agent, se.turn.size()-size)
	return p
}

// renew takes a record's receipt into account, and the first one that it tells of, which is that of its status. The caller holds s.mu.
func (s *Store) renew(se *session, r *models.Record, first entry) {
	a := se.agent
	a.registered = min(a.registered, first.received)
	if first.received <= se.created {
		se.created, se.byEvent = first.received, r.ByEvent
	}
	if received := instant(r.Received); newer(received, r.Sequence, se.updated, se.updatedSeq) {
		se.renewed = s.renewedAt(received)
	}
}

// list has the lists follow a record that se and its agent took over, which have these sources now; own is the name of the session's
// own, "" for what it had. It returns the agent if that changed its source. The caller holds s.mu.
func (s *Store) list(se *session, ofAgent *source, own string, r *models.Record) (moved *agent) {
	a := se.agent
	if a.source != nil && a.source != ofAgent {
		moved = a
	}
	received := instant(r.Received)
	updated, updatedSeq := later(se.updated, se.updatedSeq, received, r.Sequence)
	s.moveSession(se, s.sourceOfSession(se, ofAgent, own), updated, updatedSeq)
	s.enqueue(se)
	seen, seenSeq := later(a.lastSeen, a.seenSeq, received, r.Sequence)
	s.moveAgent(a, ofAgent, seen, seenSeq)
	return moved
}

// later returns the receipt, of two, that is later. One without a sequence is none.
func later(received int64, sequence uint64, received2 int64, sequence2 uint64) (int64, uint64) {
	if newer(received2, sequence2, received, sequence) {
		return received2, sequence2
	}
	return received, sequence
}

// newer reports whether a receipt is later than another one. One without a sequence is none.
func newer(received int64, sequence uint64, than int64, thanSequence uint64) bool {
	return thanSequence == 0 || received > than || received == than && sequence > thanSequence
}

// workPerReport is the work for a report: it moves its session and its agent within some four indexes.
const workPerReport = 4

// newAgent makes an agent that has no session yet. The caller holds s.mu, and adds a session before it
// lets go.
func (s *Store) newAgent(id string, received int64) *agent {
	a := &agent{id: strings.Clone(id), registered: received}
	a.teams = memberOf[agent](s.teams.of(a.id))
	if earlier, ok := s.cold.earlier(id); ok {
		a.name, a.nameSeq, a.host, a.hostSeq = earlier.Name, earlier.NameSequence, earlier.Host, earlier.HostSequence
		a.registered, a.filed = min(a.registered, earlier.Registered), earlier.Filed
	}
	s.agents[a.id] = a
	s.charge(a, a.size())
	return a
}

// newSession makes a session of a that has no status yet. The caller holds s.mu, and adds a status before
// it lets go.
func (s *Store) newSession(a *agent, topic string, received int64) *session {
	se := &session{
		agent:   a,
		topic:   strings.Clone(topic),
		created: received,
		ttl:     uint16(s.opts.DefaultTTL / time.Minute),
	}
	se.teams = memberOf[session](a.teams.of())
	s.sessions[sessionID{a, se.topic}] = se
	s.countSession(a, 1)
	s.charge(a, se.size())
	return se
}
