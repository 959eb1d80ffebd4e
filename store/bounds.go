package store

import "github.com/kubeagents/kubeagents/models"

// makeRoom makes room for a session that begins with r: statuses that are not current go first, then the
// sessions expired longest ago. It reports whether there is room now. The caller holds s.mu.
func (s *Store) makeRoom(r *models.StatusReport) bool {
	for len(s.sessions)+len(s.admitted.begun) >= s.opts.MaxSessions {
		if !s.evict(&s.bounds.MaxSessions) {
			return false
		}
	}
	size := sizeOf(len(r.Message)+len(r.Content)+len(r.ReportID)) + s.admitted.bytes
	for s.historyBytes+size > s.opts.HistoryMaxBytes {
		if !s.dropSuperseded() && !s.evict(&s.bounds.HistoryMaxBytes) {
			return false
		}
	}
	return true
}

// makeRoomForQuestion makes room for the question that t opens; its content is dropped where there is none for that. It reports
// whether there is room now. The caller holds s.mu.
func (s *Store) makeRoomForQuestion(t *models.Turn) bool {
	room := s.makeRoomFor(openOverhead + questionSize(t.Asks))
	if room || t.Asks.Content == "" {
		return room
	}
	asks := *t.Asks
	asks.Content, asks.ContentCut = "", true
	t.Asks = &asks
	return s.makeRoomFor(openOverhead + questionSize(t.Asks))
}

// makeRoomFor makes room for so many bytes of a session that is known. It reports whether there is room now. The caller holds s.mu.
func (s *Store) makeRoomFor(size int64) bool {
	for s.historyBytes+size > s.opts.HistoryMaxBytes {
		if !s.dropSuperseded() {
			return false
		}
	}
	return true
}

// trimHistory holds the history within its bytes, as far as statuses that are not current allow. The
// caller holds s.mu.
func (s *Store) trimHistory() {
	s.makeRoomFor(0)
}

// dropSuperseded drops the oldest status of the session that has been silent for longest, among those that hold more
// than their current one. It reports whether there is one. The caller holds s.mu.
func (s *Store) dropSuperseded() bool {
	se := s.trimmable.Front()
	if se == nil {
		return false
	}
	s.dropSupersededOf(se)
	s.bounds.HistoryMaxBytes++
	return true
}

// dropSupersededOf drops the oldest status of se, which holds more than its current one. The caller holds s.mu.
func (s *Store) dropSupersededOf(se *session) {
	s.dropOldest(se)
	if len(se.history) == 1 {
		s.trimmable.Remove(se)
	}
}

// evict forgets the session that expired longest ago, if there is one, and counts that in bound. The
// caller holds s.mu.
func (s *Store) evict(bound *uint64) bool {
	se := s.expired.First()
	if se == nil {
		return false
	}
	s.removeSession(se)
	*bound++
	return true
}
