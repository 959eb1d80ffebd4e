package store

import (
	"strings"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

// sourceOf returns the source of that name for a, or the one that it has, where name is "" and a has one. The caller holds s.mu,
// and moves a.
func (s *Store) sourceOf(a *agent, name string) *source {
	if a.source != nil && (name == "" || a.source.name == name) {
		return a.source
	}
	return s.sourceNamed(name, a)
}

// sourceOfSession returns the source of se: the one of that name, or where name is "", the one of its own, or else that of its
// agent. The caller holds s.mu, and moves se.
func (s *Store) sourceOfSession(se *session, ofAgent *source, name string) *source {
	switch {
	case name != "":
		return s.sourceNamed(name, se.agent)
	case se.sourceSeq > 0 && se.source != nil:
		return se.source
	}
	return ofAgent
}

// sourceNamed returns the source of that name, for an agent or one of its sessions. The caller holds s.mu, and moves it there.
func (s *Store) sourceNamed(name string, a *agent) *source {
	src := s.sources[name]
	if src == nil {
		src = &source{name: strings.Clone(name), payer: a.teams.of(), roster: newRoster(&agentInSource, &sessionInSource)}
		s.sources[src.name] = src
		s.chargeSource(src, 1)
	}
	return src
}

// leaveSource tells src, nil for none, that it has a member less. The caller holds s.mu.
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

// chargeSource counts what n sources like src take where src is counted. The caller holds s.mu.
func (s *Store) chargeSource(src *source, n int64) {
	for u := range s.usages(src.payer) {
		u.bytes += n * sizeOfSource(src.name)
	}
}

// moveSession moves se to where src, its agent's teams, its state, and its newest report say, in the indexes of lists, and
// keeps the counts. The caller holds s.mu, and moves the agent afterwards.
func (s *Store) moveSession(se *session, src *source, updated int64, updatedSeq uint64) {
	class := classOf(se.current().kind, se.expiry() <= s.now)
	if class == se.class && src == se.source && se.teams.of() == se.agent.teams.of() {
		s.advanceSession(se, updated, updatedSeq)
	} else {
		s.relistSession(se, src, class, updated, updatedSeq)
	}
	s.findable(se)
}

// advanceSession moves se, of which nothing else has changed, to where its newest report says. The caller holds s.mu.
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

// relistSession takes se out of the indexes of lists and puts it where it belongs now. The caller holds s.mu.
func (s *Store) relistSession(se *session, src *source, class class, updated int64, updatedSeq uint64) {
	old := se.source
	if old != nil {
		s.unlistSession(se)
	}
	if src != old {
		s.unfindable(se)
		src.members++
	}
	se.class, se.source, se.updated, se.updatedSeq = class, src, updated, updatedSeq
	s.rejoin(se)
	s.listSession(se)
	if src != old {
		s.leaveSource(old)
	}
}

// rejoin has se be of the teams that its agent is of. The caller holds s.mu, and has taken se out of the indexes of lists.
func (s *Store) rejoin(se *session) {
	set := se.agent.teams.of()
	if set == se.teams.of() {
		return
	}
	s.keepYield(se)
	if se.queued == inExpired {
		s.holdingOf(se.teams.of()).expired.Remove(se)
		s.holdingOf(set).expired.Insert(se)
	}
	se.teams = memberOf[session](set)
	s.setYield(se, true)
}

// listSession puts se into the indexes of lists, and counts it. The caller holds s.mu.
func (s *Store) listSession(se *session) {
	s.fleet.addSession(se)
	se.source.addSession(se)
	for _, t := range se.teams.all() {
		t.addSession(se)
	}
	se.agent.sessions.Insert(&sessionInAgent, se)
	se.agent.countSession(se.class, 1)
}

// unlistSession takes se out of the indexes of lists and out of the counts. The caller holds s.mu.
func (s *Store) unlistSession(se *session) {
	s.fleet.removeSession(se)
	se.source.removeSession(se)
	for _, t := range se.teams.all() {
		t.removeSession(se)
	}
	se.agent.sessions.Remove(&sessionInAgent, se)
	se.agent.countSession(se.class, -1)
}

// findable has events find se, which is listed, if an event of a tool began it. The caller holds s.mu.
func (s *Store) findable(se *session) {
	if is := se.byEvent && se.sourceSeq > 0; is == se.inTools {
		return
	} else if !is {
		s.unfindable(se)
		return
	}
	if s.namesakes(se.source, se.topic)() != nil {
		s.ambiguous++
	}
	s.tools.Insert(se)
	se.inTools = true
}

// unfindable has no event find se. The caller holds s.mu.
func (s *Store) unfindable(se *session) {
	if !se.inTools {
		return
	}
	s.tools.Remove(se)
	se.inTools = false
	if s.namesakes(se.source, se.topic)() != nil {
		s.ambiguous--
	}
}

// moveAgent moves a to where src, its state, and its newest report say, in every index. The caller holds
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

// advanceAgent moves a, of which nothing else has changed, to where its newest report says. The caller holds s.mu.
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

// listAgent puts a into every index. The caller holds s.mu.
func (s *Store) listAgent(a *agent) {
	s.fleet.addAgent(a)
	a.source.addAgent(a)
	for _, t := range a.teams.all() {
		t.addAgent(a)
	}
}

// unlistAgent takes a out of every index. The caller holds s.mu.
func (s *Store) unlistAgent(a *agent) {
	s.fleet.removeAgent(a)
	a.source.removeAgent(a)
	for _, t := range a.teams.all() {
		t.removeAgent(a)
	}
}

// moveSessionsOf moves the sessions of a to the source, if they have none of their own, and the teams that it has now, with the lock
// let go now and then: an agent can have any number of sessions. Until a session is moved, lists by source pass it over.
func (s *Store) moveSessionsOf(a *agent) {
	var after *ordered.Place
	for more := true; more; {
		after, more = s.moveSomeSessionsOf(a, after)
		s.announce()
		giveWay()
	}
}

func (s *Store) moveSomeSessionsOf(a *agent, after *ordered.Place) (_ *ordered.Place, more bool) {
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
		s.moveSession(se, s.sourceOfSession(se, a.source, ""), se.updated, se.updatedSeq)
		if se.source != old {
			s.note(Reported, se, s.wall(s.now)).previous = se.current().kind
		}
	}
	if len(some) < workPerLock {
		return nil, false
	}
	reached := some[len(some)-1].agentPlace()
	return &reached, true
}
