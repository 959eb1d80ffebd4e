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
	if record.Event == nil && record.Renew && se.renewedBy(record) {
		*record = se.renewal(record)
		return Renewed
	}
	if se != nil && record.ReportID != "" && s.holdsReport(se, record.ReportID) {
		if !se.revivedBy(record) {
			return Duplicate
		}
		record.ReportID = "" // the entry that has it is an earlier one
	}
	if record.Event == nil {
		s.withdraw(record, se, received)
		return Stored
	}
	if asOf := record.Event.AsOf; !asOf.IsZero() && se != nil && s.newsOf(se).After(asOf) {
		return Ignored
	}
	var outcome Outcome
	*record, outcome = settle(&record.StatusReport, se, received, s.droppedContent(se))
	return outcome
}

// renewedBy reports whether a status report that asks for a renewal gets it: the session has its status and message, or
// would have if no question were open, and no report that is being recorded changes them. se is nil if the session is not
// known.
func (se *session) renewedBy(record *models.Record) bool {
	if se == nil || se.unsettled {
		return false
	}
	if se.turn.hasOpen() {
		return !se.class.expired() && se.askedWhile(record)
	}
	current := se.current()
	return current.kind == record.Status && current.message() == record.Message
}

// revivedBy reports whether a status report that asks for a renewal makes the session again what it was before it asked
// something and was then lost.
func (se *session) revivedBy(record *models.Record) bool {
	return record.Event == nil && record.Renew && !se.unsettled && se.turn.hasOpen() && se.class.expired() && se.askedWhile(record)
}

// askedWhile reports whether the session would have the record's status and message if no question were open.
func (se *session) askedWhile(record *models.Record) bool {
	return se.turn.beneath.Status == record.Status && se.turn.beneath.Message == record.Message
}

// renewal returns the record of a status report that renews the session. It changes no name that is known: other
// reports of the same agent may have set it.
func (se *session) renewal(record *models.Record) models.Record {
	d := decision{se: se, record: *record, before: se.turn, turn: se.turn.copyOf()}
	d.event = &models.Event{FirstTitle: true, FirstName: true}
	d.dropKnownNames()
	if se.agent.host != "" {
		d.record.AgentHost = ""
	}
	if se.source != nil && se.source.name != "" {
		d.record.AgentSource = ""
	}
	if se.class.expired() {
		d.expire()
	}
	d.renew()
	if d.changed {
		d.record.Turn = &d.turn
	}
	return d.record
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
