package store

import (
	"math"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// SessionKey names a session.
type SessionKey struct{ AgentID, Topic string }

// Forgotten is a session that the store forgot.
type Forgotten struct {
	SessionKey
	LastOfAgent bool // its agent was forgotten with it
}

// AgentState is what a store knows of an agent beside its sessions. Instants are Unix nanoseconds; each sequence is that of the
// record that told what stands before it, 0 for none.
type AgentState struct {
	Name             string
	NameSequence     uint64
	Source           string
	SourceSequence   uint64
	Registered       int64
	LastSeen         int64
	LastSeenSequence uint64
	Filed            StatusPosition // where the newest status stands that is filed in its history; zero for none
}

// SessionState is what a store knows of a session beside its statuses, in the units of [AgentState].
type SessionState struct {
	Title           string
	TitleSequence   uint64
	TTLMinutes      int
	TTLSequence     uint64
	Created         int64
	Updated         int64
	UpdatedSequence uint64
	Filed           StatusPosition // as for an agent
}

// Restored is a session of an earlier run: its newest statuses, newest first, and what was known of it and
// its agent; a zero state stands for what the records say.
type Restored struct {
	SessionKey
	Agent   AgentState
	Session SessionState
	Records []models.Record

	// Next is where the history goes on that is not among the records, nil where it does not; Dropped is not less than
	// any sequence in it.
	Next    *StatusPosition
	Dropped uint64
}

// TakeForgotten returns the sessions that were forgotten since the last call, in that order. A record of such a session that
// is admitted or applied after that begins the session anew.
func (s *Store) TakeForgotten() []Forgotten {
	s.mu.Lock()
	defer s.mu.Unlock()
	forgotten := s.forgotten
	s.forgotten = nil
	return forgotten
}

// HasForgotten reports whether [Store.TakeForgotten] has any to return.
func (s *Store) HasForgotten() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.forgotten) > 0
}

// Filing is what a journal files of a session at once, and what the store says to it.
type Filing struct {
	SessionKey
	Newest StatusPosition // of what is filed now

	Known         bool // the store knows the session; what follows is zero where it does not
	State         SessionState
	SessionBefore StatusPosition // how far its history was filed before

	AgentKnown  bool           // the store knows the agent; what follows is zero where it does not
	AgentBefore StatusPosition // how far its history was filed before the sessions filed at once that came earlier
}

// File notes what is filed of sessions, and fills in what the store knows of each.
func (s *Store) File(filings []Filing) {
	for chunk := range slices.Chunk(filings, workPerLock) {
		s.fileChunk(chunk)
	}
}

func (s *Store) fileChunk(filings []Filing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range filings {
		f := &filings[i]
		a, se := s.lookup(f.AgentID, f.Topic)
		if a == nil {
			continue
		}
		f.AgentKnown, f.AgentBefore = true, a.filed
		a.filed = a.filed.newest(f.Newest)
		if se == nil {
			continue
		}
		f.Known, f.SessionBefore = true, se.filed
		se.filed = se.filed.newest(f.Newest)
		f.State = SessionState{se.title, se.titleSeq, int(se.ttl), se.ttlSeq, se.created, se.updated, se.updatedSeq, se.filed}
	}
}

// AgentState returns what the store knows of an agent. ok is false where it knows none.
func (s *Store) AgentState(id string) (state AgentState, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return state, false
	}
	return AgentState{a.name, a.nameSeq, a.source.name, a.sourceSeq, a.registered, a.lastSeen, a.seenSeq, a.filed}, true
}

// Restore puts a session of an earlier run into the store, which must not know it yet, as applying its records
// would. now is the time; what has expired by then is expired at once. A session without records is passed over. The
// records must be no more than HistoryLimit.
func (s *Store) Restore(r *Restored, now time.Time) {
	if len(r.Records) == 0 {
		return
	}
	if moved := s.restore(r, instant(now)); moved != nil {
		s.moveSessionsOf(moved)
	}
}

// restore returns the agent of r if that changed its source.
func (s *Store) restore(r *Restored, now int64) (moved *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	s.makeRoom(&r.Records[0].StatusReport)
	a := s.agents[r.AgentID]
	if a == nil {
		a = s.newAgent(r.AgentID, math.MaxInt64)
	}
	se := s.newSession(a, r.Topic, math.MaxInt64)
	se.history = make([]historyRef, 0, len(r.Records))
	source := a.sourceName()
	updated, updatedSeq := r.Session.Updated, r.Session.UpdatedSequence
	for _, record := range slices.Backward(r.Records) {
		received := instant(record.Received)
		source = describe(a, se, &record.StatusReport, record.Sequence, source)
		s.add(newStatus(se, &record.StatusReport, record.Sequence, received), len(se.history), hashID(record.ReportID))
		updated, updatedSeq = later(updated, updatedSeq, received, record.Sequence)
		se.created = min(se.created, received)
	}
	source = describeState(a, se, r, source)
	if r.Next != nil {
		se.missing(&status{session: se, sec: r.Next.Seconds, nsec: r.Next.Nanoseconds, sequence: r.Next.Sequence})
		se.dropped, a.dropped = max(se.dropped, r.Dropped), max(a.dropped, r.Dropped)
	}

	src := s.sourceOf(a, source)
	if a.source != nil && a.source != src {
		moved = a
	}
	a.registered = min(a.registered, se.created)
	s.renew(a, se, src, updatedSeq, updated, updated)
	seen, seenSeq := later(a.lastSeen, a.seenSeq, r.Agent.LastSeen, r.Agent.LastSeenSequence)
	s.moveAgent(a, a.source, seen, seenSeq)
	s.sequence, s.received = max(s.sequence, a.seenSeq), max(s.received, a.lastSeen)
	s.trimHistory()
	return moved
}

// describeState is describe for what an earlier run knew.
func describeState(a *agent, se *session, r *Restored, source string) string {
	describe(a, se, &models.StatusReport{SessionTitle: r.Session.Title}, r.Session.TitleSequence, source)
	describe(a, se, &models.StatusReport{TTLMinutes: r.Session.TTLMinutes}, r.Session.TTLSequence, source)
	describe(a, se, &models.StatusReport{AgentName: r.Agent.Name}, r.Agent.NameSequence, source)
	se.filed, a.filed = r.Session.Filed, a.filed.newest(r.Agent.Filed)
	if r.Session.UpdatedSequence > 0 {
		se.created = min(se.created, r.Session.Created)
		a.registered = min(a.registered, r.Agent.Registered)
	}
	return describe(a, se, &models.StatusReport{AgentSource: r.Agent.Source}, r.Agent.SourceSequence, source)
}

// Knows reports whether the store knows a session.
func (s *Store) Knows(key SessionKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	return se != nil
}

// Remove forgets a session that the journal says was forgotten, if the store knows it.
func (s *Store) Remove(key SessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, se := s.lookup(key.AgentID, key.Topic); se != nil {
		s.removeSession(se)
		s.forgotten = s.forgotten[:len(s.forgotten)-1]
	}
}

// TrimHistory drops the statuses of a session that are older than before, but for its current one.
func (s *Store) TrimHistory(key SessionKey, before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, se := s.lookup(key.AgentID, key.Topic)
	if se == nil {
		return
	}
	for len(se.history) > 1 && se.history[0].timestamp().Before(before) {
		s.dropSupersededOf(se)
	}
}
