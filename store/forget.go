package store

// removeSession forgets se, and its agent with its last session. The caller holds s.mu.
func (s *Store) removeSession(se *session) {
	a := se.agent
	s.note(Removed, se, s.wall(s.now)).lastOfAgent = a.count == 1
	s.unqueue(se)
	s.unlistSession(se)
	s.unfindable(se)
	s.leaveSource(se.source)
	s.historyBytes -= se.turn.size()
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

// removeAgent forgets a, which has no session left. The caller holds s.mu.
func (s *Store) removeAgent(a *agent) {
	s.unlistAgent(a)
	s.leaveSource(a.source)
	delete(s.agents, a.id)
}
