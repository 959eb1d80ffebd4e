package store

import "github.com/kubeagents/kubeagents/models"

// makeRoom makes room for a session that begins with r: statuses that are not current go first, then the
// sessions expired longest ago. It reports whether there is room now. The caller holds s.mu.
func (s *Store) makeRoom(r *models.StatusReport) bool {
	for len(s.sessions) >= s.opts.MaxSessions {
		if !s.evict(&s.bounds.MaxSessions) {
			return false
		}
	}
	size := sizeOf(len(r.Message) + len(r.Content) + len(r.ReportID))
	for s.historyBytes+size > s.opts.HistoryMaxBytes {
		if !s.dropSuperseded() && !s.evict(&s.bounds.HistoryMaxBytes) {
			return false
		}
	}
	return true
}

// trimHistory holds the history within its bytes, as far as statuses that are not current allow. The
// caller holds s.mu.
func (s *Store) trimHistory() {
	for s.historyBytes > s.opts.HistoryMaxBytes && s.dropSuperseded() {
	}
}

// dropSuperseded drops the status that was superseded longest ago, if there is one. The caller holds s.mu.
func (s *Store) dropSuperseded() bool {
	st := s.superseded.front()
	if st == nil {
		return false
	}
	s.drop(st)
	s.bounds.HistoryMaxBytes++
	return true
}

// evict forgets the session that expired longest ago, if there is one, and counts that in bound. The
// caller holds s.mu.
func (s *Store) evict(bound *uint64) bool {
	se := s.expired.first()
	if se == nil {
		return false
	}
	s.removeSession(se)
	*bound++
	return true
}
