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
	return s.makeRoomFor(reportSize(r) + s.admitted.bytes)
}

// makeRoomForQuestion makes room for the question that r opens in se, nil for a session that it begins, as makeRoom does, and for its
// status; the question's content is dropped where there is none for that. It reports whether there is room now. The caller holds s.mu.
func (s *Store) makeRoomForQuestion(r *models.Record, se *session) bool {
	if se != nil && se.queued == inExpired { // it is not to make room for itself
		s.unqueue(se)
		defer s.enqueue(se)
	}
	fits := func() bool {
		size := s.admitted.bytes + questionRoom(r.Turn)
		if !r.Renewal() {
			size += reportSize(&r.StatusReport)
		}
		return s.makeRoomFor(size)
	}
	if fits() {
		return true
	}
	asks := *r.Turn.Asks
	asks.Content, asks.ContentCut = "", asks.ContentCut || asks.Content != ""
	r.Turn.Asks = &asks
	if !r.Renewal() {
		r.Content = ""
	}
	return fits()
}

// makeRoomFor makes room for so many bytes. It reports whether there is room now. The caller holds s.mu.
func (s *Store) makeRoomFor(size int64) bool {
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
