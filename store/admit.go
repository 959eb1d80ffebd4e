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

// admitted is what the store notes of admitted reports until they are settled.
type admitted struct {
	pinned []*session              // known sessions that they are of
	begun  map[SessionKey]struct{} // sessions that they begin
	bytes  int64                   // of statuses, in those
	ids    map[reportKey]struct{}  // of theirs
}

type reportKey struct {
	SessionKey
	reportID string
}

// Admit finds out which reports, which must be valid, are new and have room, and adds that to ad. Each of these gets
// a receipt time, as with [Store.Accept], but none is part of the state: make the records durable, have
// them applied, and then, whether that went well or not, call [Store.Settle]. Until then their sessions are not
// forgotten, and room is kept for those that they begin.
//
// Reports may be admitted in several calls, but only by one caller at a time: duplicates among the reports admitted
// share one fate. A conditional report has a call of its own. ok is false, and it is not admitted, where another one of
// its session is that is not settled.
func (s *Store) Admit(reports []models.StatusReport, now time.Time, ad *Admission) (ok bool) {
	s.Expire(now)
	for chunk := range slices.Chunk(reports, reportsPerLock) {
		if !s.admitChunk(chunk, instant(now), ad) {
			return false
		}
	}
	return true
}

func (s *Store) admitChunk(reports []models.StatusReport, now int64, ad *Admission) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	for i := range reports {
		if reports[i].Conditional() {
			if len(reports) > 1 {
				panic("a conditional report among others")
			}
			return s.admitConditional(reports[i], now, ad)
		}
		outcome, dropped := s.admit(&reports[i])
		s.conclude(outcome, dropped, models.Record{StatusReport: reports[i]}, now, ad)
	}
	return true
}

// conclude adds the outcome of a report, and, where it is to be recorded, its record to ad. The caller holds s.mu.
func (s *Store) conclude(outcome Outcome, dropped uint64, record models.Record, now int64, ad *Admission) {
	ad.Outcomes = append(ad.Outcomes, outcome)
	if outcome != Stored && outcome != Renewed {
		return
	}
	if dropped > 0 {
		ad.Doubts = append(ad.Doubts, Doubt{len(ad.Outcomes) - 1, len(ad.Records), dropped})
	}
	s.received = max(s.received+1, now)
	record.Received = at(s.received)
	ad.Records = append(ad.Records, record)
}

// admitConditional admits a conditional report. It returns false where its session is not settled. The caller holds s.mu.
func (s *Store) admitConditional(r models.StatusReport, now int64, ad *Admission) (ok bool) {
	_, se := s.lookup(r.AgentID, r.SessionTopic)
	if se == nil && s.admitted.hasBegun(&r) || se != nil && se.pinned {
		return false
	}
	outcome, base := settle(&r, se, max(s.received+1, now))
	switch outcome {
	case Renewed:
		s.pin(se)
		s.conclude(outcome, 0, models.Record{StatusReport: r, Base: base}, now, ad)
	case Stored:
		outcome, dropped := s.admit(&r)
		s.conclude(outcome, dropped, models.Record{StatusReport: r}, now, ad)
	default:
		s.conclude(outcome, 0, models.Record{}, now, ad)
	}
	return true
}

// admit returns what is to become of r. dropped is not 0 where the journal may hold its ID. The caller
// holds s.mu.
func (s *Store) admit(r *models.StatusReport) (_ Outcome, dropped uint64) {
	_, se := s.lookup(r.AgentID, r.SessionTopic)
	if r.ReportID != "" && (se != nil && se.holds(r.ReportID) || !s.admitted.addID(r)) {
		return Duplicate, 0
	}
	if se == nil {
		if !s.admitted.hasBegun(r) {
			if !s.makeRoom(r) {
				s.bounds.Refused++
				s.admitted.removeID(r)
				return Refused, 0
			}
			s.admitted.begin(r)
		}
		return Stored, 0
	}
	s.pin(se)
	if r.ReportID != "" {
		dropped = se.dropped
	}
	return Stored, dropped
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, se := range s.admitted.pinned {
		se.pinned = false
		s.enqueue(se)
	}
	clear(s.admitted.pinned)
	s.admitted.pinned = s.admitted.pinned[:0]
	clear(s.admitted.begun)
	clear(s.admitted.ids)
	s.admitted.bytes = 0
}

func keyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentID, r.SessionTopic} }

// addID notes the ID of r. It reports false where it is there already.
func (ad *admitted) addID(r *models.StatusReport) bool {
	key := reportKey{keyOf(r), r.ReportID}
	if _, ok := ad.ids[key]; ok {
		return false
	}
	if ad.ids == nil {
		ad.ids = map[reportKey]struct{}{}
	}
	ad.ids[key] = struct{}{}
	return true
}

func (ad *admitted) removeID(r *models.StatusReport) { delete(ad.ids, reportKey{keyOf(r), r.ReportID}) }

func (ad *admitted) hasBegun(r *models.StatusReport) bool {
	_, ok := ad.begun[keyOf(r)]
	return ok
}

// begin keeps room for the session that r begins.
func (ad *admitted) begin(r *models.StatusReport) {
	if ad.begun == nil {
		ad.begun = map[SessionKey]struct{}{}
	}
	ad.begun[keyOf(r)] = struct{}{}
	ad.bytes += reportSize(r)
}

// begins gives up the room that is kept for the session of r, which is to be made now.
func (ad *admitted) begins(r *models.StatusReport) {
	if ad.hasBegun(r) {
		delete(ad.begun, keyOf(r))
		ad.bytes = max(0, ad.bytes-reportSize(r))
	}
}

// reportSize returns the bytes of memory that the status of r takes.
func reportSize(r *models.StatusReport) int64 {
	return sizeOf(len(r.Message) + len(r.Content) + len(r.ReportID))
}
