package store

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// AgentState is what a store keeps of an agent besides its sessions. Instants are in Unix nanoseconds. Each sequence is
// that of the record that set the field before it, 0 if none did.
type AgentState struct {
	Name             string
	NameSequence     uint64
	Source           string
	SourceSequence   uint64
	Host             string
	HostSequence     uint64
	Registered       int64
	LastSeen         int64
	LastSeenSequence uint64
	Filed            StatusPosition // of the newest status filed in its history; zero for none
}

// SessionState is what a store keeps of a session besides its statuses, in the units of [AgentState].
type SessionState struct {
	Title           string
	TitleSequence   uint64
	TTLMinutes      int
	TTLSequence     uint64
	Created         int64
	Updated         int64
	UpdatedSequence uint64
	Filed           StatusPosition // as in AgentState
	Source          string         // the session's own
	SourceSequence  uint64
	ByEvent         bool       // begun by an event of a tool
	Turn            *TurnState // nil if it never had anything under way

	// Only a replicated store sets these.
	Since Timestamp // with which its current status began: see [Store.since]; zero if not known
	Cold  bool      // memory has evicted it
}

// Restored is a session of an earlier run: its newest statuses, newest first, and the state of the session and its
// agent. If a state is zero, only the records count.
type Restored struct {
	SessionKey
	Agent   AgentState
	Session SessionState
	Records []models.Record

	// Next is the position at which the history continues after the records, nil if it does not. No sequence in that
	// part is greater than Dropped.
	Next    *StatusPosition
	Dropped uint64
}

// TakeForgotten returns the sessions that were forgotten since the last call, in order. A record of such a session that
// is admitted or applied later begins a new session.
func (s *Store) TakeForgotten() []Forgotten {
	s.lock()
	defer s.mu.Unlock()
	forgotten := s.forgotten
	s.forgotten = nil
	return forgotten
}

// HasForgotten reports whether [Store.TakeForgotten] would return any.
func (s *Store) HasForgotten() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.forgotten) > 0
}

// Filing is what the journal files of a session in one step, and what the store fills in.
type Filing struct {
	SessionKey
	Newest StatusPosition // of what is filed now

	SessionKnown   bool // the store knows the session; if not, the next two fields are zero
	State          SessionState
	SessionFiledTo StatusPosition // how far its history was filed before

	AgentKnown   bool           // the store knows the agent; if not, AgentFiledTo is zero
	AgentFiledTo StatusPosition // how far its history was filed before, including earlier filings of the same call
}

// File records what is filed of sessions, and fills in what the store knows of each.
func (s *Store) File(filings []Filing) {
	for chunk := range slices.Chunk(filings, workPerLock) {
		s.fileChunk(chunk)
		yieldToWaiters()
	}
}

func (s *Store) fileChunk(filings []Filing) {
	s.lock()
	defer s.mu.Unlock()
	for i := range filings {
		f := &filings[i]
		a, se := s.lookup(f.AgentID, f.Topic)
		if a != nil {
			f.AgentKnown, f.AgentFiledTo = true, a.filed
			a.filed = a.filed.newest(f.Newest)
		} else if state, ok := s.cold.agent(f.AgentID); ok {
			f.AgentKnown, f.AgentFiledTo = true, state.Filed
			s.cold.setAgentFiled(f.AgentID, f.Newest)
		}
		switch state, cooling := s.cold.session(f.SessionKey); {
		case se != nil:
			f.SessionKnown, f.SessionFiledTo = true, se.filed()
			se.setFiled(se.filed().newest(f.Newest))
			f.State = se.state()
		case cooling:
			f.SessionKnown, f.SessionFiledTo, f.State = true, state.Filed, state
			f.State.Filed = state.Filed.newest(f.Newest)
			s.cold.setFiled(f.SessionKey, f.Newest)
		}
	}
}

// AgentState returns what the store knows of an agent. ok is false if it does not know the agent.
func (s *Store) AgentState(id string) (state AgentState, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return s.cold.agent(id)
	}
	return a.state(), true
}

// state returns the state of a besides its sessions. The caller holds the store's lock.
func (a *agent) state() AgentState {
	return AgentState{
		Name: a.name, NameSequence: a.nameSeq,
		Source: a.source.name, SourceSequence: a.sourceSeq,
		Host: a.host, HostSequence: a.hostSeq,
		Registered: a.registered, LastSeen: a.lastSeen, LastSeenSequence: a.seenSeq,
		Filed: a.filed,
	}
}

// state returns the state of se besides its statuses. The caller holds the store's lock.
func (se *session) state() SessionState {
	state := SessionState{
		Title: se.title, TitleSequence: se.titleSeq,
		TTLMinutes: int(se.ttl), TTLSequence: se.ttlSeq,
		Created: se.created, Updated: se.updated, UpdatedSequence: se.updatedSeq,
		Filed: se.filed(), ByEvent: se.byEvent, Turn: se.turnState(),
		Since: Timestamp{se.sinceSec, se.sinceNanos},
	}
	if se.sourceSeq > 0 {
		state.Source, state.SourceSequence = se.source.name, se.sourceSeq
	}
	return state
}

// Restore adds a session of an earlier run, as if its records were applied. The store must not know the session yet.
// now is the current time: what has expired by then expires at once. A session without records is skipped. There must
// be at most HistoryLimit records. If there is no room for the session, only the journal holds it: see [Store.HasCold].
//
// A replicated store ignores now, skips cold sessions, and takes all others.
func (s *Store) Restore(r *Restored, now time.Time) {
	if len(r.Records) == 0 {
		return
	}
	if r.Session.Cold {
		s.cold.evicted.Add(1)
		return
	}
	moved, outcome := s.restore(r, s.expiryTime(now), false)
	if moved != nil {
		s.moveSessionsOf(moved)
	}
	if outcome != 0 {
		s.cold.evicted.Add(1)
	}
}

// Recall is [Store.Restore] for a session whose reports are about to be admitted. The session is not forgotten until
// [Store.Settle]. If there is no room for it, its reports are refused. In a replicated store there is always room; a
// session to which no record is applied by then is cold again.
func (s *Store) Recall(r *Restored, now time.Time) {
	if len(r.Records) == 0 {
		return
	}
	if moved, _ := s.restore(r, s.expiryTime(now), true); moved != nil {
		s.moveSessionsOf(moved)
	}
}

// restore returns the agent of r if its source changed. The outcome is 0 if there was room, otherwise the refusal.
func (s *Store) restore(r *Restored, now int64, recall bool) (moved *agent, _ Outcome) {
	s.lock()
	defer s.mu.Unlock()
	if outcome := s.roomToRestore(r, now); outcome != 0 {
		if recall {
			s.admitted.refuse(r.SessionKey, outcome)
		}
		return nil, outcome
	}
	a := s.agents[r.AgentID]
	known := a != nil && s.opts.Replicated
	if a == nil {
		a = s.newAgent(r.AgentID, math.MaxInt64)
	}
	se := s.newSession(a, r.Topic, math.MaxInt64)
	last := s.restoreHistory(se, r)
	texts := a.sizeOfTexts() + se.sizeOfTexts()
	ofAgent, own := s.restoreAttributes(se, r, known)
	s.snooze(se.turn, nil)
	s.charge(a, a.sizeOfTexts()+se.sizeOfTexts()-texts+se.turn.size())
	if r.Next != nil {
		se.recordDropped(&status{session: se, sec: r.Next.Seconds, nsec: r.Next.Nanoseconds, sequence: r.Next.Sequence})
		se.dropped, a.dropped = max(se.dropped, r.Dropped), max(a.dropped, r.Dropped)
	}
	a.registered = min(a.registered, se.created)
	se.renewed = s.renewedAt(unixNanos(last.Received))
	moved = s.updateLists(se, s.sourceOf(a, ofAgent), own, entry{last.Sequence, unixNanos(last.Received)})
	if !known {
		seen, seenSeq := later(a.lastSeen, a.seenSeq, r.Agent.LastSeen, r.Agent.LastSeenSequence)
		s.moveAgent(a, a.source, seen, seenSeq)
	}
	s.sequence, s.received = max(s.sequence, a.seenSeq), max(s.received, a.lastSeen)
	if recall {
		s.pin(se)
		s.noteRecalled(se)
	}
	s.trimFor(a.teams.of())
	return moved, 0
}

// roomToRestore makes room for an earlier session at the time now. It returns 0 if there is room, otherwise the refusal.
// The caller holds s.mu.
func (s *Store) roomToRestore(r *Restored, now int64) Outcome {
	if s.opts.Replicated {
		return 0
	}
	s.now = max(s.now, now)
	a := s.agents[r.AgentID]
	set := s.teamsOf(a, r.AgentID)
	size := s.sizeOfRestored(r, set, a)
	outcome := s.makeRoom(set, need{1, size})
	if outcome.outOfMemory() && s.fitsAsBefore(r, size, now) {
		return 0
	}
	return outcome
}

// fitsAsBefore reports whether an earlier session of about this size was in memory before: it has not expired, and with
// it memory exceeds the bound by a sixteenth at most. The caller holds s.mu.
func (s *Store) fitsAsBefore(r *Restored, size, now int64) bool {
	return s.expiryOf(&r.Session) > now && s.used.bytes+size <= s.opts.HistoryMaxBytes+s.opts.HistoryMaxBytes/16
}

// sizeOfRestored returns the minimum number of bytes of memory that an earlier session needs. a is its agent, nil if
// that is new. The caller holds s.mu.
func (s *Store) sizeOfRestored(r *Restored, set *teamSet, a *agent) int64 {
	current := r.Records[0]
	current.AgentName, current.AgentHost, current.AgentSource = r.Agent.Name, r.Agent.Host, r.Agent.Source
	current.SessionTitle, current.Turn = r.Session.Title, nil
	turn, _ := r.Session.Turn.restored()
	return s.growth(&current, set, a, nil) + turn.size()
}

// restoreHistory puts the records of r into the history of se, which is empty. It returns a record with nothing but the
// newest receipt known. The caller holds s.mu.
func (s *Store) restoreHistory(se *session, r *Restored) models.Record {
	updated, updatedSeq := r.Session.Updated, r.Session.UpdatedSequence
	se.history = make([]historyRef, 0, len(r.Records))
	for _, record := range slices.Backward(r.Records) {
		e := entryOf(&record)
		if e.received < se.created {
			se.created, se.byEvent = e.received, record.ByEvent
		}
		s.add(newStatus(se, &record, e), len(se.history), hashID(record.ReportID))
		updated, updatedSeq = later(updated, updatedSeq, e.received, record.Sequence)
	}
	return models.Record{Sequence: updatedSeq, Received: at(updated)}
}

// restoreAttributes sets the attributes of se and its agent from the records and the states of r. It returns the names
// of their new sources, "" if unchanged. If the agent is known, its own attributes count, and stay. The caller holds the
// store's lock.
func (s *Store) restoreAttributes(se *session, r *Restored, known bool) (ofAgent, own string) {
	a := se.agent
	if known {
		a = new(agent)
	}
	for _, record := range slices.Backward(r.Records) {
		of, its := updateAttributes(a, se, &record.StatusReport, record.Sequence)
		ofAgent, own = cmp.Or(of, ofAgent), cmp.Or(its, own)
	}
	updateAttributes(a, se, &models.StatusReport{SessionTitle: r.Session.Title}, r.Session.TitleSequence)
	updateAttributes(a, se, &models.StatusReport{TTLMinutes: r.Session.TTLMinutes}, r.Session.TTLSequence)
	updateAttributes(a, se, &models.StatusReport{AgentName: r.Agent.Name}, r.Agent.NameSequence)
	updateAttributes(a, se, &models.StatusReport{AgentHost: r.Agent.Host}, r.Agent.HostSequence)
	if r.Session.SourceSequence > se.sourceSeq {
		own, se.sourceSeq = r.Session.Source, r.Session.SourceSequence
	}
	if r.Agent.SourceSequence > a.sourceSeq {
		ofAgent, a.sourceSeq = r.Agent.Source, r.Agent.SourceSequence
	}
	s.restoreState(se, a, r)
	if known {
		ofAgent = ""
	}
	return ofAgent, own
}

// restoreState sets what is under way in se, how far histories are filed, and when se and its agent a began. The caller
// holds the store's lock.
func (s *Store) restoreState(se *session, a *agent, r *Restored) {
	if s.opts.Replicated {
		s.restoreReplicated(se, &r.Session)
	}
	se.setFiled(r.Session.Filed)
	a.filed = a.filed.newest(r.Agent.Filed)
	se.turn, se.turnSeq = r.Session.Turn.restored()
	if r.Session.UpdatedSequence == 0 {
		return
	}
	if r.Session.Created <= se.created {
		se.created, se.byEvent = r.Session.Created, r.Session.ByEvent
	}
	if r.Agent.LastSeenSequence > 0 {
		a.registered = min(a.registered, r.Agent.Registered)
	}
}

// Has reports whether the store knows a session.
func (s *Store) Has(key SessionKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	return se != nil
}

// Remove forgets a session that the journal has forgotten, and what is kept of it if memory does not hold it. If it was
// the last session of its agent, the agent's other sessions are removed as well.
func (s *Store) Remove(f Forgotten) {
	s.lock()
	defer s.mu.Unlock()
	a, se := s.lookup(f.AgentID, f.Topic)
	if se != nil {
		s.dropSession(se)
		s.coolAgent(a)
	}
	s.cold.drop(f.SessionKey)
	delete(s.evicted, f.SessionKey)
	if f.LastOfAgent {
		s.cold.dropAgent(f.AgentID)
	}
	for f.LastOfAgent && a != nil && a.count > 0 {
		s.dropSession(a.sessions.Before(&sessionInAgent, nil)())
	}
}

// TrimHistory drops the statuses of a session that are older than before, except for its current one.
func (s *Store) TrimHistory(key SessionKey, before time.Time) {
	s.lock()
	defer s.mu.Unlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	if se == nil {
		return
	}
	for len(se.history) > 1 && se.history[0].timestamp().Before(before) {
		s.dropSuperseded(se)
	}
}

// downtimeGrace is the maximum time that a session whose TTL ran out while the server was down gets after the start.
const downtimeGrace = 10 * time.Minute

// BeginLoading tells the store the current time before the records of an earlier run are applied. If the clock was set
// back, some records were received later than now: the TTL of their sessions starts now. For a replicated store, now is
// its time when the last of the records was applied: see [Store.Time].
func (s *Store) BeginLoading(now time.Time) {
	s.lock()
	defer s.mu.Unlock()
	s.now = max(s.now, s.expiryTime(now))
	s.loading = true
}

// EndLoading declares that all records of an earlier run are applied. lastRan is the latest time at which that run is
// known to have been up, besides the receipts of its records. Sessions that were running or pending and expired since
// then get their TTL from now on, at most 10 minutes. EndLoading returns how many sessions these are, and how many
// sessions were updated at a time that is still in the future. A replicated store extends nothing: see [Store.Pause].
func (s *Store) EndLoading(lastRan, now time.Time) (extended, ahead int) {
	if s.opts.Replicated {
		s.Settle() // what was recalled while loading
	}
	extended, ahead = s.grantGrace(lastRan, now)
	s.evictLoaded()
	s.shrink()
	return extended, ahead
}

func (s *Store) grantGrace(lastRan, now time.Time) (extended, ahead int) {
	s.lock()
	defer s.mu.Unlock()
	s.loading = false
	if s.opts.Replicated {
		return 0, 0
	}
	for se := range s.sessionsFrom(SessionQuery{}, nil) {
		if se.updated <= unixNanos(now)+clockTolerance {
			break
		}
		ahead++
	}
	downSince := unixNanos(lastRan)
	if ahead == 0 {
		downSince = max(downSince, s.received)
	}
	for _, se := range s.lostSince(downSince) {
		se.renewed = s.now + min(se.lifetime(), int64(downtimeGrace)) - se.lifetime()
		s.moveSession(se, se.source, se.updated, se.updatedSeq)
		s.enqueue(se)
		s.moveAgent(se.agent, se.agent.source, se.agent.lastSeen, se.agent.seenSeq)
		extended++
	}
	return extended, ahead
}

// lostSince returns the sessions that were lost after an instant. The caller holds s.mu.
func (s *Store) lostSince(since int64) (lost []*session) {
	for _, h := range s.holdings() {
		next := h.expired.From(&session{queuedAt: since + 1, agent: new(agent)})
		for se := next(); se != nil; se = next() {
			if se.class.lost() {
				lost = append(lost, se)
			}
		}
	}
	return lost
}
