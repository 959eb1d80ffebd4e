package models

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a status report. Lengths are in characters (Unicode code points).
const (
	MaxAgentID      = 100
	MaxAgentName    = 200
	MaxAgentSource  = 200
	MaxAgentHost    = 200
	MaxSessionTopic = 500
	MaxSessionTitle = 200
	MaxMessage      = 1_000
	MaxContent      = 10_000
	MaxReportID     = 100
	MinTTLMinutes   = 1
	MaxTTLMinutes   = 1440

	// MaxClockSkew is how far a report's timestamp may be ahead of the server's clock.
	MaxClockSkew = 5 * time.Minute
)

// StatusReport is what an agent POSTs: what one of its sessions is doing. An empty string, a zero time and a zero TTL
// stand for an absent field.
type StatusReport struct {
	AgentID      string
	AgentName    string
	AgentSource  string
	AgentHost    string // machine that the agent runs on
	SessionTopic string
	SessionTitle string
	Status       Status
	Timestamp    time.Time // when it happened, by the agent's clock
	Message      string
	Content      string
	TTLMinutes   int    // the session's TTL from now on
	ReportID     string // the same for every retry of a report
	Renew        bool   // the report only renews its session, if the session has its status and message

	// Not on the wire.
	Event *Event // the tool's event that the report was made from; nil for a plain status report
}

// RepeatWindow is the time within which an event with the session's current status and message counts as a repeat, and
// only renews the session.
const RepeatWindow = time.Second

// Record is a status report that the server has accepted: Sequence orders it among all records, and Received is its
// receipt time.
//
// A renewal is a record that only renews its session. It has Renews set: the record that set the session's status. A
// renewal repeats that record's status, timestamp, message, content and report ID, so that it is complete on its own.
type Record struct {
	StatusReport
	Sequence uint64
	Received time.Time
	Renews   RenewedRecord
	ByEvent  bool  // the record was made from a tool's event; in a renewal, its base was
	Turn     *Turn // what is under way after the record; nil if the record does not change that

	ShownQuestion uint64           // sequence of the question that the status shows; 0 for none or for that of this record
	ShownKind     QuestionKind     // of that question; 0 for none, for that of this record, or if it is not known
	Closed        []ClosedQuestion // closed questions that the status's entry in the history mentions
}

// RenewedRecord is the record whose status a renewal keeps. The zero value is none.
type RenewedRecord struct {
	Sequence uint64
	Received time.Time
}

// Renewal reports whether the record only renewed its session.
func (r *Record) Renewal() bool { return r.Renews.Sequence != 0 }

// Acknowledges reports whether the record acknowledges that its session needs attention. Such a record is a renewal
// that renews nothing else: its receipt counts neither for the TTL nor as an update of the session.
func (r *Record) Acknowledges() bool {
	return r.Turn != nil && r.Turn.Acknowledged != nil && r.Turn.Acknowledged.Sequence == 0
}

// QuestionShown returns the sequence of the question that the record's status shows, or 0 for none.
func (r *Record) QuestionShown() uint64 {
	if r.ShownQuestion == 0 && r.Turn != nil && r.Turn.Question != nil && !r.Renewal() {
		return r.Sequence
	}
	return r.ShownQuestion
}

// KindShown returns the kind of the question that the record's status shows, or 0 if there is none or it is not known.
func (r *Record) KindShown() QuestionKind {
	if r.ShownKind == 0 && r.QuestionShown() == r.Sequence && r.Turn != nil && r.Turn.Question != nil {
		return r.Turn.Question.Kind
	}
	return r.ShownKind
}

// Validate returns nil, or a bad_request error that names the first field at fault and what is allowed. now is the
// server's time.
func (r *StatusReport) Validate(now time.Time) error {
	if err := ValidateName("agent_id", r.AgentID, true, MaxAgentID); err != nil {
		return err
	}
	if err := ValidateName("session_topic", r.SessionTopic, true, MaxSessionTopic); err != nil {
		return err
	}
	if r.Status == 0 && r.Event == nil {
		return BadRequest("status", "is required: one of "+statusList())
	}
	if err := r.validateTimestamp(now); err != nil {
		return err
	}
	if err := ValidateName("agent_name", r.AgentName, false, MaxAgentName); err != nil {
		return err
	}
	if err := ValidateName("agent_source", r.AgentSource, false, MaxAgentSource); err != nil {
		return err
	}
	if err := ValidateName("agent_host", r.AgentHost, false, MaxAgentHost); err != nil {
		return err
	}
	if err := validateLine("session_title", r.SessionTitle, MaxSessionTitle); err != nil {
		return err
	}
	if err := validateLength("message", r.Message, MaxMessage); err != nil {
		return err
	}
	if err := validateLength("content", r.Content, MaxContent); err != nil {
		return err
	}
	if r.TTLMinutes < 0 || r.TTLMinutes > MaxTTLMinutes {
		return BadRequest("ttl_minutes", fmt.Sprintf(
			"must be a whole number from %d to %d, or 0 to keep the session's", MinTTLMinutes, MaxTTLMinutes))
	}
	if r.Event != nil && r.Event.Question != nil {
		if err := r.Event.Question.Validate(); err != nil {
			return err
		}
	}
	return validateLine("report_id", r.ReportID, MaxReportID)
}

// firstTimestamp is the earliest time that RFC 3339 can express in UTC.
var firstTimestamp = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *StatusReport) validateTimestamp(now time.Time) error {
	if r.Timestamp.IsZero() {
		return nil
	}
	if r.Timestamp.Sub(now) > MaxClockSkew {
		return BadRequest("timestamp", fmt.Sprintf("must not be more than %d minutes ahead of the server",
			int(MaxClockSkew.Minutes())))
	}
	if r.Timestamp.Before(firstTimestamp) {
		return BadRequest("timestamp", "must be in the year 0000 or later, in UTC")
	}
	return nil
}

// ValidateName returns a bad_request error that names the field unless value is a valid ID, name, source or topic: at
// most limit characters, all of them visible. An empty value stands for an absent one.
func ValidateName(field, value string, required bool, limit int) error {
	if value == "" && required {
		return BadRequest(field, fmt.Sprintf("is required: 1 to %d characters", limit))
	}
	if err := validateLine(field, value, limit); err != nil {
		return err
	}
	return validateVisible(field, value)
}

// validateLine returns an error that names the field unless value is a line of text of at most limit characters, or "".
func validateLine(field, value string, limit int) error {
	if value == "" {
		return nil
	}
	if err := validateLength(field, value, limit); err != nil {
		return err
	}
	if strings.TrimSpace(value) == "" {
		return BadRequest(field, "must not be blank")
	}
	if value == "." || value == ".." {
		return BadRequest(field, `must not be "." or ".."`)
	}
	if hasControl(value) {
		return BadRequest(field, "must not contain control characters")
	}
	return nil
}

// hasControl reports whether s contains a character of Unicode's category Cc: C0, DEL or C1, which in UTF-8 is the
// bytes C2 80 to C2 9F. It scans bytes because it runs for every name of every report.
func hasControl(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20, c == 0x7F:
			return true
		case c == 0xC2 && i+1 < len(s) && s[i+1] < 0xA0:
			return true
		}
	}
	return false
}

func validateLength(field, value string, limit int) error {
	if len(value) <= limit {
		return nil
	}
	if n := utf8.RuneCountInString(value); n > limit {
		return BadRequest(field, fmt.Sprintf("must be at most %d characters, not %d", limit, n))
	}
	return nil
}
