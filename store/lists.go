package store

import (
	"strings"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// sourceOf returns the source with this name for a. If the name is "" and a has a source, or had one that counts, it
// returns that. The caller holds s.mu, and moves a.
func (s *Store) sourceOf(a *agent, name string) *source {
	if a.source != nil && (name == "" || a.source.name == name) {
		return a.source
	}
	if name == "" && s.opts.Replicated {
		name = s.cold.recalled[a.id].Source
	}
	return s.sourceNamed(name, a)
}

// sourceOfSession returns the source of se: the one with this name or, if the name is "", its own or else its agent's.
// The caller holds s.mu, and moves se.
func (s *Store) sourceOfSession(se *session, ofAgent *source, name string) *source {
	switch {
	case name != "":
		return s.sourceNamed(name, se.agent)
	case se.sourceSeq > 0 && se.source != nil:
		return se.source
	}
	return ofAgent
}

// sourceNamed returns the source with this name, and creates it for a if needed. The caller holds s.mu, and adds a
// member.
func (s *Store) sourceNamed(name string, a *agent) *source {
	src := s.sources[name]
	if src == nil {
		src = &source{name: strings.Clone(name), chargedTo: a.teams.of(), roster: newRoster(&agentInSource, &sessionInSource)}
		s.sources[src.name] = src
		s.chargeSource(src, 1)
	}
	return src
}

// leaveSource removes a member from src, which may be nil. The caller holds s.mu.
func (s *Store) leaveSource(src *source) {
	if src == nil {
		return
	}
	src.members--
	if src.members == 0 {
		delete(s.sources, src.name)
		s.chargeSource(src, -1)
	}
}

// chargeSource adds the size of n sources like src to the usages that src counts toward. The caller holds s.mu.
func (s *Store) chargeSource(src *source, n int64) {
	for u := range s.usages(src.chargedTo) {
		u.bytes += n * sizeOfSource(src.name)
	}
}

// moveSession moves se to its place in all lists, by its source src, its agent's teams, its state and its newest
// report, and updates the counts. The caller holds s.mu, and moves the agent afterwards.
func (s *Store) moveSession(se *session, src *source, updated int64, updatedSeq uint64) {
	class := classOf(se.current().kind, se.expiry() <= s.now)
	if class == se.class && src == se.source && se.teams.of() == se.agent.teams.of() {
		s.advanceSession(se, updated, updatedSeq)
	} else {
		s.relistSession(se, src, class, updated, updatedSeq)
	}
	s.updateAttention(se)
	s.indexByTool(se)
}

// advanceSession moves se in the lists when only its newest report has changed. The caller holds s.mu.
func (s *Store) advanceSession(se *session, updated int64, updatedSeq uint64) {
	if updated == se.updated && updatedSeq == se.updatedSeq {
		return
	}
	se.updated, se.updatedSeq = updated, updatedSeq
	s.fleet.advanceSession(se)
	se.source.advanceSession(se)
	for _, t := range se.teams.all() {
		t.advanceSession(se)
	}
	se.agent.sessions.Advance(&sessionInAgent, se)
}

// relistSession takes se out of the lists and inserts it at its new places. The caller holds s.mu.
func (s *Store) relistSession(se *session, src *source, class class, updated int64, updatedSeq uint64) {
	old := se.source
	if old != nil {
		s.unlistSession(se)
	}
	if src != old {
		s.unindexByTool(se)
		src.members++
	}
	se.class, se.source, se.updated, se.updatedSeq = class, src, updated, updatedSeq
	s.rejoin(se)
	s.listSession(se)
	if src != old {
		s.leaveSource(old)
	}
}

// rejoin moves se to the teams of its agent. The caller holds s.mu, and has taken se out of the lists.
func (s *Store) rejoin(se *session) {
	set := se.agent.teams.of()
	if set == se.teams.of() {
		return
	}
	s.clearDroppable(se)
	if se.queued == inExpired {
		s.holdingOf(se.teams.of()).expired.Remove(se)
		s.holdingOf(set).expired.Insert(se)
	}
	se.teams = memberOf[session](set)
	s.setDroppable(se, true)
}

// listSession adds se to the lists and the counts. The caller holds s.mu.
func (s *Store) listSession(se *session) {
	s.fleet.addSession(se)
	se.source.addSession(se)
	for _, t := range se.teams.all() {
		t.addSession(se)
	}
	se.agent.sessions.Insert(&sessionInAgent, se)
	se.agent.countSession(se.class, 1)
}

// unlistSession removes se from the lists and the counts. The caller holds s.mu.
func (s *Store) unlistSession(se *session) {
	s.fleet.removeSession(se)
	se.source.removeSession(se)
	for _, t := range se.teams.all() {
		t.removeSession(se)
	}
	se.agent.sessions.Remove(&sessionInAgent, se)
	se.agent.countSession(se.class, -1)
}

// indexByTool makes se, which is listed, findable by its tool's ID if an event of the tool began it. The caller holds
// s.mu.
func (s *Store) indexByTool(se *session) {
	if is := se.byEvent && se.sourceSeq > 0; is == se.inTools {
		return
	} else if !is {
		s.unindexByTool(se)
		return
	}
	if s.sessionsByToolID(se.source, se.topic)() != nil {
		s.ambiguous++
	}
	s.tools.Insert(se)
	se.inTools = true
}

// unindexByTool makes se no longer findable by its tool's ID. The caller holds s.mu.
func (s *Store) unindexByTool(se *session) {
	if !se.inTools {
		return
	}
	s.tools.Remove(se)
	se.inTools = false
	if s.sessionsByToolID(se.source, se.topic)() != nil {
		s.ambiguous--
	}
}

// moveAgent moves a to its place in all lists, by its source src, its state and its newest report. The caller holds
// s.mu.
func (s *Store) moveAgent(a *agent, src *source, lastSeen int64, seenSeq uint64) {
	class := agentClassOf(a.latest().kind, a.active, a.waiting)
	if class == a.class && src == a.source {
		s.advanceAgent(a, lastSeen, seenSeq)
		return
	}
	old := a.source
	if old != nil {
		s.unlistAgent(a)
	}
	if src != old {
		src.members++
	}
	a.class, a.source, a.lastSeen, a.seenSeq = class, src, lastSeen, seenSeq
	s.listAgent(a)
	if src != old {
		s.leaveSource(old)
	}
}

// advanceAgent moves a in the lists when only its newest report has changed. The caller holds s.mu.
func (s *Store) advanceAgent(a *agent, lastSeen int64, seenSeq uint64) {
	if lastSeen == a.lastSeen && seenSeq == a.seenSeq {
		return
	}
	a.lastSeen, a.seenSeq = lastSeen, seenSeq
	s.fleet.advanceAgent(a)
	a.source.advanceAgent(a)
	for _, t := range a.teams.all() {
		t.advanceAgent(a)
	}
}

// listAgent adds a to the lists. The caller holds s.mu.
func (s *Store) listAgent(a *agent) {
	s.fleet.addAgent(a)
	a.source.addAgent(a)
	for _, t := range a.teams.all() {
		t.addAgent(a)
	}
}

// unlistAgent removes a from the lists. The caller holds s.mu.
func (s *Store) unlistAgent(a *agent) {
	s.fleet.removeAgent(a)
	a.source.removeAgent(a)
	for _, t := range a.teams.all() {
		t.removeAgent(a)
	}
}

// moveSessionsOf moves the sessions of a to its current teams and, unless they have their own, to its current source.
// An agent can have any number of sessions, so it releases the lock regularly. Until a session is moved, lists by
// source skip it.
func (s *Store) moveSessionsOf(a *agent) { s.moveSessions(a, s.sourceForSession) }

// sourceForSession returns the source of se: its own, or else its agent's. The caller holds s.mu, and moves se.
func (s *Store) sourceForSession(se *session) *source {
	return s.sourceOfSession(se, se.agent.source, "")
}

// sourceAfterRejoining returns the source that se has once its agent has other teams. In a replicated store it stays the
// same, because only a message may change it. The caller holds s.mu, and moves se.
func (s *Store) sourceAfterRejoining(se *session) *source {
	if s.opts.Replicated {
		return se.source
	}
	return s.sourceForSession(se)
}

// moveSessions moves the sessions of a to its current teams, and each to the source that sourceOf returns for it.
func (s *Store) moveSessions(a *agent, sourceOf func(*session) *source) {
	var after *ordered.Place
	for more := true; more; {
		after, more = s.moveSomeSessions(a, sourceOf, after)
		s.announce()
		yieldToWaiters()
	}
}

func (s *Store) moveSomeSessions(a *agent, sourceOf func(*session) *source, after *ordered.Place) (_ *ordered.Place, more bool) {
	s.lock()
	defer s.mu.Unlock()
	next := a.sessions.Before(&sessionInAgent, after)
	some := make([]*session, 0, workPerLock)
	for len(some) < workPerLock {
		se := next()
		if se == nil {
			break
		}
		some = append(some, se)
	}
	for _, se := range some {
		old := se.source
		s.moveSession(se, sourceOf(se), se.updated, se.updatedSeq)
		if se.source != old {
			s.addChange(Reported, se, s.wallTime(s.now)).previous = se.current().kind
		}
	}
	if len(some) < workPerLock {
		return nil, false
	}
	reached := some[len(some)-1].agentPlace()
	return &reached, true
}
