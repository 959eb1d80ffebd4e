package store

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Admission is the result of [Store.Admit].
type Admission struct {
	Outcomes           []Outcome           // one for each report; Stored or Renewed for those that have a record
	Records            []models.Record     // to be made durable and applied; they have no sequence yet
	PossibleDuplicates []PossibleDuplicate // records whose report ID may be a duplicate; not in a replicated store
	Lookups            []Lookup            // to be answered before the rest can be admitted; only in a replicated store

	left int // reports left when Admit stopped for lookups; none of them depends on reports that are not settled
}

// PossibleDuplicate names a record whose report ID is not in memory but may be in the journal.
type PossibleDuplicate struct {
	Outcome, Record int    // indexes in the Admission
	Dropped         uint64 // no status that memory dropped from the session has a greater sequence
}

// Admit decides which of a team's reports are new and fit, and adds the result to ad. A nil team is the whole fleet.
// The reports must be valid. Each admitted report gets a receipt time, as with [Store.Accept], but is not part of the
// state yet: make the records durable, apply them, and then call [Store.Settle], even if one of these steps failed.
// Until then the sessions of admitted reports are not forgotten, and room is reserved for the sessions that they begin.
//
// Reports may be admitted in several calls, but only by one caller at a time; duplicates among the admitted reports
// share one fate. A report made from an event needs its own call. Admit returns false and admits nothing if the
// result depends on a report of the same session that is not settled: this holds for an event after any report, and for
// any report after an event.
//
// A replicated store has no clock and makes no room: it ignores now, and refuses nothing. If its memory has dropped
// something that a report depends on, Admit stops before that report, returns false, and adds to ad what to look up in
// the journal. [Store.Answer] the lookups, clear them, and admit the reports that have no outcome yet with the same ad.
func (s *Store) Admit(team *Team, reports []models.StatusReport, now time.Time, ad *Admission) (ok bool) {
	s.Expire(now)
	if len(reports) > 1 && slices.ContainsFunc(reports, func(r models.StatusReport) bool { return r.Event != nil }) {
		panic("store: a report made from an event must be admitted alone")
	}
	continues := ad.left > 0 && ad.left == len(reports)
	if ad.left = 0; !continues && s.dependOnUnsettled(team, reports) {
		return false
	}
	for {
		reports = reports[s.admitSome(team, reports, now, ad):]
		if len(reports) == 0 {
			return true
		}
		if len(ad.Lookups) > 0 {
			ad.left = len(reports)
			return false
		}
		yieldToWaiters()
	}
}

// dependOnUnsettled reports whether the effect of the reports depends on reports of their sessions that are not
// settled.
func (s *Store) dependOnUnsettled(team *Team, reports []models.StatusReport) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(reports) == 0 || reports[0].Event == nil && !s.admitted.events {
		return false
	}
	for i := range reports {
		r := reports[i] // a copy: locate may set its agent
		_, se, ok := s.locate(team, &r)
		if ok && (se != nil && se.unsettled || se == nil && s.admitted.hasBegun(&r)) {
			return true
		}
	}
	return false
}

// admitSome admits as many of the reports as fit into one hold of the lock, at least one unless that depends on a lookup,
// and returns how many.
func (s *Store) admitSome(team *Team, reports []models.StatusReport, now time.Time, ad *Admission) (n int) {
	s.lock()
	defer s.mu.Unlock()
	s.advance(now)
	for ; n < len(reports) && s.work < workPerLock; n++ {
		s.work += workPerReport
		if s.opts.Replicated && s.lacksAnswer(team, reports[n]) {
			s.addLookups(team, reports[n:], ad)
			break
		}
		s.nextReceipt(now)
		record := models.Record{StatusReport: reports[n], Received: at(s.received)}
		outcome, dropped := s.admit(team, &record)
		ad.add(outcome, dropped, &record)
	}
	return n
}

// add adds the outcome of a report and, if it is to be recorded, its record.
func (ad *Admission) add(outcome Outcome, dropped uint64, record *models.Record) {
	ad.Outcomes = append(ad.Outcomes, outcome)
	if outcome != Stored && outcome != Renewed {
		return
	}
	if dropped > 0 {
		ad.PossibleDuplicates = append(ad.PossibleDuplicates, PossibleDuplicate{len(ad.Outcomes) - 1, len(ad.Records), dropped})
	}
	ad.Records = append(ad.Records, *record)
}

// admit turns a report into what is to be recorded of it, and returns its outcome. dropped is not 0 if the journal may
// hold its report ID. The caller holds s.mu.
func (s *Store) admit(team *Team, r *models.Record) (_ Outcome, dropped uint64) {
	a, se, ok := s.locate(team, &r.StatusReport)
	if !ok {
		return OutsideTeam, 0
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
	se.unsettled = true
	if !event && r.Turn != nil && r.Turn.Acknowledged == nil {
		s.admitted.withdraw(se)
	}
	if outcome == Stored && r.ReportID != "" && !s.opts.Replicated {
		dropped = se.dropped
	}
	return outcome, dropped
}

// advance moves the store's time to now, unless only [Store.Begin] does that. The caller holds s.mu.
func (s *Store) advance(now time.Time) {
	if !s.opts.Replicated {
		s.now = max(s.now, s.expiryTime(now))
	}
}

// nextReceipt assigns the next receipt time. The caller holds s.mu.
func (s *Store) nextReceipt(now time.Time) {
	if s.opts.Replicated {
		s.received++ // Begin sets where it starts
		return
	}
	s.received = max(s.received+1, unixNanos(now))
}

// admitRecord reserves room for a record. a and se are its agent and session, nil if not known. It returns 0 if there
// is room, otherwise the refusal. The caller holds s.mu.
func (s *Store) admitRecord(r *models.Record, a *agent, se *session) Outcome {
	if outcome := s.admitDisk(r, s.teamsOf(a, r.AgentID)); outcome != 0 {
		s.countRefusal(outcome)
		return outcome
	}
	if se != nil {
		return s.admitRoom(r, a, se, true)
	}
	if s.admitted.hasBegun(&r.StatusReport) {
		return 0 // shares the room of the report that begins the session
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

// Settle declares that no admitted report is waiting to be applied.
func (s *Store) Settle() {
	s.lock()
	defer s.mu.Unlock()
	for _, se := range s.admitted.pinned {
		se.pinned, se.unsettled, se.reserved = false, false, 0
		if s.sessions[sessionID{se.agent, se.topic}] != se { // it was removed
			continue
		}
		if _, unused := s.admitted.recalled[se]; unused {
			s.takeOut(se)
			s.cold.evicted.Add(1) // whoever looked meanwhile for cold sessions has not seen it
			continue
		}
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
	clear(s.admitted.answers.reports)
	clear(s.admitted.answers.contents)
	clear(s.admitted.recalled)
	if !s.opts.Replicated { // what is reserved there is held by a Reservation
		s.settleUsages()
	}
}

// Accept turns the reports of a team into records, in order, and applies them. A nil team is the whole fleet. The
// reports must be valid. It appends the outcome of each report to outcomes, and returns the extended slice.
//
// now is the server's time. Each record gets its own receipt time, one nanosecond apart within a call, so that lists by
// last update are in order of receipt. Accept does not retain memory of the reports. Safe for concurrent use.
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
			yieldToWaiters()
		}
	}
	return outcomes
}

// acceptSome accepts as many of the reports as fit into one hold of the lock, at least one. It also returns the agents
// whose source changed.
func (s *Store) acceptSome(team *Team, reports []models.StatusReport, now time.Time, outcomes []Outcome) ([]Outcome, []*agent) {
	s.lock()
	defer s.mu.Unlock()
	var moved []*agent
	s.advance(now)
	for i := 0; i < len(reports) && s.work < workPerLock; i++ {
		if len(reports) > 1 && i%prefetchSize == 0 {
			s.prefetch(reports[i:min(i+prefetchSize, len(reports))])
		}
		s.work += workPerReport
		s.nextReceipt(now)
		outcome, a := s.accept(team, &reports[i])
		outcomes = append(outcomes, outcome)
		if a != nil {
			moved = append(moved, a)
		}
	}
	return outcomes, moved
}

// accept turns r, received at s.received, into a record and applies it. It also returns the agent if its source
// changed. The caller holds s.mu.
func (s *Store) accept(team *Team, r *models.StatusReport) (Outcome, *agent) {
	record := models.Record{StatusReport: *r}
	a, se, ok := s.locate(team, &record.StatusReport)
	if !ok {
		return OutsideTeam, nil
	}
	outcome := s.decide(&record, se, s.received)
	if outcome != Stored && outcome != Renewed {
		return outcome, nil
	}
	if refusal := s.admitRoom(&record, a, se, false); refusal != 0 {
		return refusal, nil
	}
	record.Sequence, record.Received = s.sequence+1, at(s.received)
	applied, moved := s.apply(&record, a.live(), se) // making room may have evicted its last session
	if applied == Duplicate {
		return Duplicate, nil
	}
	s.sequence++
	return outcome, moved
}
