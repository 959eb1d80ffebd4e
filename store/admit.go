package store

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Admission is what [Store.Admit] found out about reports.
type Admission struct {
	Outcomes []Outcome       // of each report; Stored or Renewed for those that are among the records
	Records  []models.Record // to be made durable and to be applied; they have no sequence yet
	Doubts   []Doubt         // about the IDs of some records
}

// Doubt names a record whose report ID memory does not hold, but the journal may.
type Doubt struct {
	Outcome, Record int    // their indexes in the Admission
	Dropped         uint64 // no status of the session that memory has dropped has a greater sequence
}

// Admit finds out which reports of a team, nil for the whole fleet, which must be valid, are new and have room, and adds that to
// ad. Each of these gets a receipt time, as with [Store.Accept], but none is part of the state: make the records durable, have
// them applied, and then, whether that went well or not, call [Store.Settle]. Until then their sessions are not
// forgotten, and room is kept for those that they begin.
//
// Reports may be admitted in several calls, but only by one caller at a time: duplicates among the reports admitted
// share one fate. A report of an event has a call of its own. ok is false, and none is admitted, where what they do depends on one
// of their session that is not settled: that holds for an event after any report, and for any report after an event.
func (s *Store) Admit(team *Team, reports []models.StatusReport, now time.Time, ad *Admission) (ok bool) {
	s.Expire(now)
	if len(reports) > 1 && slices.ContainsFunc(reports, func(r models.StatusReport) bool { return r.Event != nil }) {
		panic("a report of an event among others")
	}
	if s.dependOnUnsettled(team, reports) {
		return false
	}
	for {
		reports = reports[s.admitSome(team, reports, now, ad):]
		if len(reports) == 0 {
			return true
		}
		giveWay()
	}
}

// dependOnUnsettled reports whether what reports do depends on reports of their sessions that are not settled.
func (s *Store) dependOnUnsettled(team *Team, reports []models.StatusReport) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(reports) == 0 || reports[0].Event == nil && !s.admitted.events {
		return false
	}
	for i := range reports {
		r := reports[i] // which may get another agent
		_, se, ok := s.locate(team, &r)
		if ok && (se != nil && se.waits || se == nil && s.admitted.hasBegun(&r)) {
			return true
		}
	}
	return false
}

// admitSome admits as many of the reports as one hold of the lock has time for, at least one, and returns how many.
func (s *Store) admitSome(team *Team, reports []models.StatusReport, now time.Time, ad *Admission) (n int) {
	s.lock()
	defer s.mu.Unlock()
	s.now = max(s.now, s.time(now))
	for ; n < len(reports) && s.work < workPerLock; n++ {
		s.work += workPerReport
		s.received = max(s.received+1, instant(now))
		record := models.Record{StatusReport: reports[n], Received: at(s.received)}
		outcome, dropped := s.admit(team, &record)
		ad.add(outcome, dropped, &record)
	}
	return n
}

// add adds the outcome of a report, and, where it is to be recorded, its record.
func (ad *Admission) add(outcome Outcome, dropped uint64, record *models.Record) {
	ad.Outcomes = append(ad.Outcomes, outcome)
	if outcome != Stored && outcome != Renewed {
		return
	}
	if dropped > 0 {
		ad.Doubts = append(ad.Doubts, Doubt{len(ad.Outcomes) - 1, len(ad.Records), dropped})
	}
	ad.Records = append(ad.Records, *record)
}

// admit makes of a report what is to be recorded of it, and returns what is to become of it. dropped is not 0 where the journal may
// hold its ID. The caller holds s.mu.
func (s *Store) admit(team *Team, r *models.Record) (_ Outcome, dropped uint64) {
	a, se, ok := s.locate(team, &r.StatusReport)
	if !ok {
		return Foreign, 0
	}
	event, received := r.Event != nil, r.Received
	outcome := s.decide(r, se, s.received)
	if r.Received = received; outcome != Stored && outcome != Renewed {
		return outcome, 0
	}
	if outcome == Stored && r.ReportID != "" && !s.admitted.addID(&r.StatusReport) {
		return Duplicate, 0
	}
	if refusal := s.admitRecord(r, a, se); refusal != 0 {
		s.admitted.removeID(&r.StatusReport)
		return refusal, 0
	}
	s.admitted.events = s.admitted.events || event
	if se == nil {
		return outcome, 0
	}
	s.pin(se)
	se.waits = true
	if !event && r.Turn != nil {
		s.admitted.withdraw(se)
	}
	if outcome == Stored && r.ReportID != "" {
		dropped = se.dropped
	}
	return outcome, dropped
}

// admitRecord keeps room for a record of an agent that is known, nil where it is not, and of a session that is. It returns 0, or what
// is used up. The caller holds s.mu.
func (s *Store) admitRecord(r *models.Record, a *agent, se *session) Outcome {
	if outcome := s.admitDisk(r, s.teamsOf(a, r.AgentID)); outcome != 0 {
		s.countRefusal(outcome)
		return outcome
	}
	if se != nil {
		return s.admitRoom(r, a, se, true)
	}
	if s.admitted.hasBegun(&r.StatusReport) {
		return 0 // its room is that of the first one
	}
	if outcome := s.admitted.refused[keyOf(&r.StatusReport)]; outcome != 0 {
		s.countRefusal(outcome)
		return outcome
	}
	outcome := s.admitRoom(r, a, nil, true)
	if outcome == 0 {
		s.admitted.begin(&r.StatusReport)
	}
	return outcome
}

// pin keeps se from being forgotten until [Store.Settle]. The caller holds s.mu.
func (s *Store) pin(se *session) {
	if se.pinned {
		return
	}
	se.pinned = true
	s.admitted.pinned = append(s.admitted.pinned, se)
	if se.queued == inExpired {
		s.unqueue(se)
	}
}

// Settle says that no admitted report waits to be applied any more.
func (s *Store) Settle() {
	s.lock()
	defer s.mu.Unlock()
	for _, se := range s.admitted.pinned {
		se.pinned, se.waits, se.kept = false, false, 0
		s.enqueue(se)
	}
	clear(s.admitted.pinned)
	s.admitted.pinned = s.admitted.pinned[:0]
	clear(s.admitted.begun)
	clear(s.admitted.found)
	clear(s.admitted.withdrawn)
	clear(s.admitted.refused)
	clear(s.cold.recalled)
	s.admitted.events = false
	clear(s.admitted.ids)
	s.settleUsages()
}

// Accept makes records of the reports of a team, nil for the whole fleet, which must be valid, in their order, and applies them. It
// appends what became of each to outcomes, and returns that.
//
// now is the server's time. Each record gets a receipt time of its own, as much as a nanosecond apart per
// report, so that lists by last update are in the order of receipt. Nothing of the reports' memory is
// kept. Safe for concurrent use.
func (s *Store) Accept(team *Team, reports []models.StatusReport, now time.Time, outcomes []Outcome) []Outcome {
	s.Expire(now)
	several := len(reports) > 1
	for done := len(outcomes); len(reports) > 0; done = len(outcomes) {
		var moved []*agent
		outcomes, moved = s.acceptSome(team, reports, now, outcomes)
		reports = reports[len(outcomes)-done:]
		s.announce()
		for _, a := range moved {
			s.moveSessionsOf(a)
		}
		if several {
			giveWay()
		}
	}
	return outcomes
}

// acceptSome accepts as many of the reports as one hold of the lock has time for, at least one. It also returns the agents that changed
// their source.
func (s *Store) acceptSome(team *Team, reports []models.StatusReport, now time.Time, outcomes []Outcome) ([]Outcome, []*agent) {
	s.lock()
	defer s.mu.Unlock()
	var moved []*agent
	s.now = max(s.now, s.time(now))
	for i := 0; i < len(reports) && s.work < workPerLock; i++ {
		if len(reports) > 1 && i%prefetchSize == 0 {
			s.prefetch(reports[i:min(i+prefetchSize, len(reports))])
		}
		s.work += workPerReport
		s.received = max(s.received+1, instant(now))
		outcome, a := s.accept(team, &reports[i])
		outcomes = append(outcomes, outcome)
		if a != nil {
			moved = append(moved, a)
		}
	}
	return outcomes, moved
}

// accept makes a record of r, received at s.received, and applies it. It also returns the agent if that changed its
// source. The caller holds s.mu.
func (s *Store) accept(team *Team, r *models.StatusReport) (Outcome, *agent) {
	record := models.Record{StatusReport: *r}
	a, se, ok := s.locate(team, &record.StatusReport)
	if !ok {
		return Foreign, nil
	}
	outcome := s.decide(&record, se, s.received)
	if outcome != Stored && outcome != Renewed {
		return outcome, nil
	}
	if refusal := s.admitRoom(&record, a, se, false); refusal != 0 {
		return refusal, nil
	}
	record.Sequence, record.Received = s.sequence+1, at(s.received)
	applied, moved := s.apply(&record, a.known(), se) // making room may have taken its last session
	if applied == Duplicate {
		return Duplicate, nil
	}
	s.sequence++
	return outcome, moved
}
