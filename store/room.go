package store

import (
	"slices"

	"github.com/kubeagents/kubeagents/models"
)

// Reservation is the room that [Store.Room] keeps for reports until they are applied, or have failed.
type Reservation struct {
	store  *Store
	parts  []reservedPart
	begins []SessionKey // sessions that the reports begin
}

// reservedPart is what is reserved in one usage.
type reservedPart struct {
	of *usage
	need
	disk int64
}

// Room finds out whether the reports of a team fit, and reserves the room for those that do. A nil team is the whole
// fleet. The reports must be valid. It appends an outcome for each report to outcomes: 0 if the report fits, otherwise
// the refusal. It is meant for the server that takes the reports, before it publishes them: neither [Store.Admit] nor
// [Store.Apply] of a replicated store refuses anything.
//
// Room drops statuses and contents to make room, but no sessions. If a bound is reached and an expired session could be
// evicted to get back within it, a report fits as long as the bound is exceeded by at most a sixteenth: see
// [Store.Overflow]. If only the content of a question is too large, Room drops the content, in the report.
//
// Call [Reservation.Release] once the reports are applied, or have failed. Safe for concurrent use.
func (s *Store) Room(team *Team, reports []models.StatusReport, outcomes []Outcome) ([]Outcome, *Reservation) {
	r := &Reservation{store: s}
	for len(reports) > 0 {
		done := len(outcomes)
		outcomes = s.roomForSome(team, reports, outcomes, r)
		if reports = reports[len(outcomes)-done:]; len(reports) > 0 {
			yieldToWaiters()
		}
	}
	return outcomes, r
}

// Release gives back the room. Further calls have no effect.
func (r *Reservation) Release() {
	if len(r.parts) == 0 {
		return
	}
	s := r.store
	s.lock()
	defer s.mu.Unlock()
	for _, p := range r.parts {
		p.of.reservedSessions -= p.sessions
		p.of.reserved -= p.bytes
		p.of.reservedDisk -= p.disk
	}
	for _, key := range r.begins {
		if s.beginning[key]--; s.beginning[key] == 0 {
			delete(s.beginning, key)
		}
	}
	r.parts, r.begins = nil, nil
}

// add reserves room in a usage.
func (r *Reservation) add(u *usage, n need, disk int64) {
	u.reservedSessions += n.sessions
	u.reserved += n.bytes
	u.reservedDisk += disk
	i := slices.IndexFunc(r.parts, func(p reservedPart) bool { return p.of == u })
	if i < 0 {
		r.parts = append(r.parts, reservedPart{u, n, disk})
		return
	}
	p := &r.parts[i]
	p.sessions, p.bytes, p.disk = p.sessions+n.sessions, p.bytes+n.bytes, p.disk+disk
}

// roomForSome is Room for as many of the reports as fit into one hold of the lock, at least one.
func (s *Store) roomForSome(team *Team, reports []models.StatusReport, outcomes []Outcome, r *Reservation) []Outcome {
	s.lock()
	defer s.mu.Unlock()
	for i := 0; i < len(reports) && s.work < workPerLock; i++ {
		s.work += workPerReport
		outcome := s.roomForReport(team, &reports[i], r)
		if outcome != 0 {
			s.countRefusal(outcome)
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// roomForReport reserves room for a report in r. It returns 0 if it fits or needs none, otherwise the refusal. The
// caller holds s.mu.
func (s *Store) roomForReport(team *Team, report *models.StatusReport, r *Reservation) Outcome {
	record := models.Record{StatusReport: *report}
	a, se, ok := s.locate(team, &record.StatusReport)
	if !ok {
		return 0
	}
	key := keyOf(&record.StatusReport)
	if outcome := s.decide(&record, se, s.now); outcome != Stored && outcome != Renewed {
		return 0
	}
	set, disk := s.teamsOf(a, record.AgentID), int64(0)
	if s.opts.DataMaxBytes > 0 {
		disk = sizeOnDisk(&record)
		if outcome := s.fitsDisk(disk, set); outcome != 0 {
			return outcome
		}
	}
	var n need
	if se != nil || s.beginning[key] == 0 { // otherwise it shares the room of the report that begins the session
		var outcome Outcome
		if n, outcome = s.roomFor(&record, a, se); outcome != 0 {
			return outcome
		}
		n.bytes = max(0, n.bytes)
	}
	if se == nil {
		s.beginIn(r, key)
	}
	dropContentAsIn(report, &record)
	for u := range s.usages(set) {
		r.add(u, n, disk)
	}
	return 0
}

// beginIn notes that a report with a reservation begins a session. The caller holds s.mu.
func (s *Store) beginIn(r *Reservation, key SessionKey) {
	if s.beginning == nil {
		s.beginning = map[SessionKey]int{}
	}
	s.beginning[key]++
	r.begins = append(r.begins, key)
}

// dropContentAsIn drops the content of the question that a report asks, if the record of the report has none for lack of
// room.
func dropContentAsIn(report *models.StatusReport, record *models.Record) {
	if record.Turn == nil || record.Turn.Question == nil || report.Event == nil || report.Event.Question == nil {
		return
	}
	if record.Turn.Question.Content == report.Event.Question.Content {
		return
	}
	event := *report.Event
	event.Question = record.Turn.Question
	report.Event = &event
}

// mayExceedSessions reports whether a quota may be exceeded by n sessions more, because the session to be evicted for
// them is known. A quota of a few sessions may be exceeded by one. The caller holds s.mu.
func (s *Store) mayExceedSessions(q quota, n int) bool {
	bound := q.share.Of(int64(s.opts.MaxSessions))
	return int64(q.used.sessions+q.used.reservedSessions+n) <= bound+max(1, bound/16) && s.evictable(q, true)
}

// mayExceedBytes is mayExceedSessions for bytes of memory.
func (s *Store) mayExceedBytes(q quota, n int64) bool {
	bound := q.share.Of(s.opts.HistoryMaxBytes)
	return q.used.bytes+q.used.reserved+n <= bound+bound/16 && s.evictable(q, false)
}

// evictable reports whether a session could be evicted to make room in a quota. The caller holds s.mu.
func (s *Store) evictable(q quota, sessions bool) bool {
	return s.toEvictFrom(q, sessions) != nil
}
