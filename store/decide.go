package store

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// decide turns a report, received at the given time, into what is to be recorded of it. se is its session, nil if not
// known. The outcome is Stored, Renewed, Ignored or Duplicate. The caller holds s.mu, and makes room for the record.
func (s *Store) decide(record *models.Record, se *session, received int64) Outcome {
	if record.Timestamp.After(at(received)) {
		record.Timestamp = time.Time{}
	}
	if se != nil && record.ReportID != "" && se.holds(record.ReportID) {
		return Duplicate
	}
	if record.Event == nil {
		s.withdraw(record, se, received)
		return Stored
	}
	if asOf := record.Event.AsOf; !asOf.IsZero() && se != nil && s.newsOf(se).After(asOf) {
		return Ignored
	}
	var outcome Outcome
	*record, outcome = settle(&record.StatusReport, se, received)
	return outcome
}

// withdraw makes a record that was not made from an event withdraw the open questions of its session, and end its
// acknowledgement, unless another admitted record does. If it withdraws a question, its status becomes the newest one,
// whatever its timestamp. A late report, whose status is not the newest, does not end an acknowledgement. The caller
// holds s.mu.
func (s *Store) withdraw(record *models.Record, se *session, received int64) {
	if se == nil || !se.turn.hasOpen() && (se.turn == nil || se.turn.acknowledged == nil) {
		return
	}
	if _, done := s.admitted.withdrawn[se]; done {
		return
	}
	switch late := !record.Timestamp.IsZero() && record.Timestamp.Before(se.current().timestamp()); {
	case se.turn.hasOpen():
		record.Timestamp = se.arrival(record.Timestamp, received)
	case late && !se.class.expired():
		record.Turn = &models.Turn{Acknowledged: se.turn.acknowledged}
		return
	}
	record.Turn, record.Closed = new(models.Turn), se.turn.closed
	outcome, by := models.Withdrawn, "status report"
	if se.class.expired() {
		outcome, by = models.Expired, ""
	}
	record.Closed = slices.Clone(record.Closed)
	if ack := se.turn.acknowledged; ack != nil {
		record.Closed = append(record.Closed, ack.Note())
	}
	for _, q := range se.turn.open {
		record.Closed = append(record.Closed, q.view().full.Closed(outcome, by, ""))
	}
}
