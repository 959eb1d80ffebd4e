package store

// removeSession forgets se, and its agent if it was the last session, in memory and in the journal. The caller holds
// s.mu.
func (s *Store) removeSession(se *session) {
	s.dropSession(se)
	s.coolAgent(se.agent)
	if s.opts.Journaled {
		s.cold.drop(SessionKey{se.agent.id, se.topic})
		s.forgotten = append(s.forgotten, Forgotten{SessionKey{se.agent.id, se.topic}, se.agent.count == 0 && !s.HasCold()})
	}
}

// evict forgets se, and its agent if it was the last session, in memory only. The caller holds s.mu.
func (s *Store) evict(se *session) {
	if s.opts.Journaled {
		s.cool(se)
	}
	s.dropSession(se)
}

// dropSession takes se out of all of the store, and its agent if it was the last session, and adds the change. The
// caller holds s.mu.
func (s *Store) dropSession(se *session) {
	s.addChange(Removed, se, s.wallTime(s.now)).lastOfAgent = se.agent.count == 1
	s.takeOut(se)
}

// takeOut is dropSession without a change. The caller holds s.mu.
func (s *Store) takeOut(se *session) {
	a := se.agent
	s.work += 5 + len(se.history)
	s.unqueue(se)
	s.unlistSession(se)
	s.unindexByTool(se)
	s.leaveSource(se.source)
	s.clearDroppable(se)
	s.charge(a, -se.turn.size()-se.size())
	for _, ref := range se.history {
		s.forget(ref.status)
	}
	delete(s.sessions, sessionID{a, se.topic})
	s.countSession(a, -1)
	if a.count == 0 {
		s.removeAgent(a)
		return
	}
	s.moveAgent(a, a.source, a.lastSeen, a.seenSeq)
}

// removeAgent forgets a, which has no sessions left. The caller holds s.mu.
func (s *Store) removeAgent(a *agent) {
	s.unlistAgent(a)
	s.leaveSource(a.source)
	s.charge(a, -a.size())
	delete(s.agents, a.id)
}
