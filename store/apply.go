package store

import (
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Apply merges records into the state, in any order: see the package comment. Use it for records that were made durable
// first: those admitted by [Store.Admit], and those of an earlier run. It makes room for them and refuses none. Safe
// for concurrent use. In a replicated store, the order counts: see [Store.since].
func (s *Store) Apply(records ...models.Record) {
	for len(records) > 0 {
		n, moved := s.applySome(records)
		records = records[n:]
		s.announce()
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
		if len(records) > 0 {
			yieldToWaiters()
		}
	}
}

// applySome applies as many of the records as fit into one hold of the lock, at least one, and returns how many. It
// also returns the agents whose source changed.
func (s *Store) applySome(records []models.Record) (n int, moved []*agent) {
	s.lock()
	defer s.mu.Unlock()
	for ; n < len(records) && s.workOf(n) < workPerLock; n++ {
		s.work += workPerReport
		r := &records[n]
		s.sequence = max(s.sequence, r.Sequence)
		a, se := s.lookup(r.AgentID, r.SessionTopic)
		if s.opts.Replicated {
			delete(s.admitted.recalled, se)
			delete(s.evicted, keyOf(&r.StatusReport))
		} else {
			s.received = max(s.received, unixNanos(r.Received))
			a = s.makeRoomToApply(r, a, se)
		}
		if _, a := s.apply(r, a, se); a != nil {
			moved = append(moved, a)
		}
	}
	return n, moved
}

// makeRoomToApply makes room for a record that begins a session, unless room is reserved for it. a and se are its agent
// and session, nil if not known. It returns the agent: making room may have evicted its last session. The caller holds
// s.mu.
func (s *Store) makeRoomToApply(r *models.Record, a *agent, se *session) *agent {
	if se != nil || s.takeReservation(&r.StatusReport) || s.loading {
		return a
	}
	s.makeRoomFor(r, s.teamsOf(a, r.AgentID), a, nil)
	return a.live()
}

// workOf returns the work of applying some records under one hold of the lock. Where a hold ends decides the order of
// changes, so in a replicated store it must not depend on what memory drops. The caller holds s.mu.
func (s *Store) workOf(records int) int {
	if s.opts.Replicated {
		return records * workPerReport
	}
	return s.work
}

// apply merges a record into the state of a and se, which are nil if new. It also returns the agent if its source
// changed. The caller holds s.mu.
func (s *Store) apply(r *models.Record, a *agent, se *session) (_ Outcome, moved *agent) {
	e := entryOf(r)
	var before priorState
	var known attributes
	index, held := 0, false // index of the record's status in the history, and whether it is already there
	if se != nil {
		before = priorState{se.current().kind, se.class.expired()}
		if index, held = se.find(placeOf(&r.StatusReport, e)); !held && r.ReportID != "" && s.holdsReport(se, r.ReportID) {
			return Duplicate, nil
		}
	}
	if held {
		known = attributesOf(a, se)
	}
	a, se = s.begin(r, e, a, se)
	texts := a.sizeOfTexts() + se.sizeOfTexts()
	ofAgent, own := updateAttributes(a, se, &r.StatusReport, r.Sequence)
	s.charge(a, a.sizeOfTexts()+se.sizeOfTexts()-texts)
	if !held {
		s.add(newStatus(se, r, e), index, hashID(r.ReportID))
	}
	turn := s.updateTurn(se, r)
	receipt := entry{r.Sequence, unixNanos(r.Received)}
	if r.Acknowledges() {
		receipt = e
	}
	s.renew(se, r, e, receipt)
	moved = s.updateLists(se, s.sourceOf(a, ofAgent), own, receipt)
	if held && attributesOf(a, se) == known {
		return Duplicate, nil
	}
	if r.Acknowledges() {
		if !s.loading {
			s.acknowledgements.count(r.Turn.Acknowledged)
		}
		s.addChange(Acknowledged, se, r.Received)
	} else {
		s.addReportChange(se, r, before, turn)
	}
	s.trimFor(a.teams.of())
	return Stored, moved
}

// begin creates the agent and the session of a record if they are new. The caller holds s.mu.
func (s *Store) begin(r *models.Record, e entry, a *agent, se *session) (*agent, *session) {
	if a == nil {
		a = s.newAgent(r.AgentID, e.received)
	}
	if se == nil {
		se = s.newSession(a, r.SessionTopic, e.received)
	}
	return a, se
}

// addReportChange adds the change that a record made. The caller holds s.mu.
func (s *Store) addReportChange(se *session, r *models.Record, before priorState, turn turnChange) {
	added := s.addChange(Reported, se, r.Received)
	added.previous, added.revived = before.status, before.expired && !se.class.expired()
	added.asked, added.closed = turn.asked, turn.closed
}

// priorState is the part of a session's state before a change that subscribers need.
type priorState struct {
	status  models.Status
	expired bool
}

// attributes identifies what is known of an agent and a session besides statuses, by the sequences and times of the
// records that set it. If a record leaves it unchanged, the record said nothing new.
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

// updateAttributes sets the attributes of the agent and session that r carries, unless a later record has set them. It
// returns the names of the new sources of the agent and of the session itself, "" if unchanged. The caller holds the
// store's lock.
func updateAttributes(a *agent, se *session, r *models.StatusReport, sequence uint64) (ofAgent, own string) {
	if r.SessionTitle != "" && sequence > se.titleSeq {
		se.title, se.titleSeq = reuseOrClone(se.title, r.SessionTitle), sequence
	}
	if r.TTLMinutes > 0 && sequence > se.ttlSeq {
		se.ttl, se.ttlSeq = uint16(r.TTLMinutes), sequence
	}
	if r.AgentName != "" && sequence > a.nameSeq {
		a.name, a.nameSeq = reuseOrClone(a.name, r.AgentName), sequence
	}
	if r.AgentHost != "" && sequence > a.hostSeq {
		a.host, a.hostSeq = reuseOrClone(a.host, r.AgentHost), sequence
	}
	if r.AgentSource != "" && sequence > a.sourceSeq {
		ofAgent, a.sourceSeq = r.AgentSource, sequence
	}
	if r.AgentSource != "" && sequence > se.sourceSeq {
		own, se.sourceSeq = r.AgentSource, sequence
	}
	return ofAgent, own
}

// turnChange is the question that a record opened, nil for none, and the questions that it closed.
type turnChange struct {
	asked  *models.Question
	closed []models.ClosedQuestion
}

// updateTurn sets what is under way in se to what the record says, unless a later record has set it. The caller holds
// s.mu.
func (s *Store) updateTurn(se *session, r *models.Record) (p turnChange) {
	switch setsTurn := r.Turn != nil || !r.ByEvent && !r.Renewal(); {
	case !setsTurn:
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
		s.snooze(se.turn, before)
		p.closed = se.turn.closedSince(before, after.Closed, r.Closed)
	}
	if after.Question != nil {
		se.turn.fill(after.Question, r.Sequence, unixNanos(r.Received))
		if q := se.turn.find(r.Sequence); q != nil {
			p.asked = q.brief
		}
	}
	s.charge(se.agent, se.turn.size()-size)
	return p
}

// renew updates the times of se and its agent from the receipt of a record and that of first, the entry of its status.
// The caller holds s.mu.
func (s *Store) renew(se *session, r *models.Record, first, receipt entry) {
	a := se.agent
	a.registered = min(a.registered, first.received)
	if first.received <= se.created {
		se.created, se.byEvent = first.received, r.ByEvent
	}
	if newer(receipt.received, receipt.sequence, se.updated, se.updatedSeq) {
		se.renewed = s.renewedAt(receipt.received)
	}
}

// updateLists moves se and its agent to their places in the lists after a record. ofAgent is the agent's source; own is
// the name of the session's own source, "" if unchanged. It returns the agent if its source changed. The caller holds
// s.mu.
func (s *Store) updateLists(se *session, ofAgent *source, own string, receipt entry) (moved *agent) {
	a := se.agent
	if a.source != nil && a.source != ofAgent {
		moved = a
	}
	updated, updatedSeq := later(se.updated, se.updatedSeq, receipt.received, receipt.sequence)
	if s.opts.Replicated {
		se.renewed = s.pausedRenewal(se, updated)
	}
	s.moveSession(se, s.sourceOfSession(se, ofAgent, own), updated, updatedSeq)
	s.enqueue(se)
	seen, seenSeq := later(a.lastSeen, a.seenSeq, receipt.received, receipt.sequence)
	s.moveAgent(a, ofAgent, seen, seenSeq)
	return moved
}

// later returns the later of two receipts. A sequence of 0 means that there is no receipt.
func later(received int64, sequence uint64, received2 int64, sequence2 uint64) (int64, uint64) {
	if newer(received2, sequence2, received, sequence) {
		return received2, sequence2
	}
	return received, sequence
}

// newer reports whether the first receipt is later than the second. A thanSequence of 0 means that there is no second
// one.
func newer(received int64, sequence uint64, than int64, thanSequence uint64) bool {
	return thanSequence == 0 || received > than || received == than && sequence > thanSequence
}

// workPerReport is the work for one report: it moves its session and its agent within about four indexes.
const workPerReport = 4

// newAgent creates an agent without sessions. The caller holds s.mu, and adds a session before unlocking.
func (s *Store) newAgent(id string, received int64) *agent {
	a := &agent{id: strings.Clone(id), registered: received}
	a.teams = memberOf[agent](s.teams.of(a.id))
	if earlier, ok := s.earlierAgent(id); ok {
		a.name, a.nameSeq, a.host, a.hostSeq = earlier.Name, earlier.NameSequence, earlier.Host, earlier.HostSequence
		a.registered, a.filed = min(a.registered, earlier.Registered), earlier.Filed
		if s.opts.Replicated { // as if the agent had been in memory all the time; its source: see sourceOf
			a.sourceSeq, a.lastSeen, a.seenSeq = earlier.SourceSequence, earlier.LastSeen, earlier.LastSeenSequence
		}
	}
	s.agents[a.id] = a
	s.charge(a, a.size())
	return a
}

// newSession creates a session of a without statuses. The caller holds s.mu, and adds a status before unlocking.
func (s *Store) newSession(a *agent, topic string, received int64) *session {
	se := &session{
		agent:   a,
		topic:   strings.Clone(topic),
		created: received,
		ttl:     uint16(s.lifetimes.DefaultTTL / time.Minute),
	}
	se.teams = memberOf[session](a.teams.of())
	s.sessions[sessionID{a, se.topic}] = se
	s.countSession(a, 1)
	s.charge(a, se.size())
	return se
}
