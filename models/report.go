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

	// MaxClockSkew is how far ahead of the server a report's timestamp may be.
	MaxClockSkew = 5 * time.Minute
)

// StatusReport is what an agent POSTs: what one of its sessions is doing. An empty string, a zero time
// and a zero TTL stand for an absent field.
type StatusReport struct {
	AgentID      string
	AgentName    string
	AgentSource  string
	AgentHost    string // the machine that the agent runs on
	SessionTopic string
	SessionTitle string
	Status       Status
	Timestamp    time.Time // when it happened, by the agent's clock
	Message      string
	Content      string
	TTLMinutes   int    // the session's TTL from now on
	ReportID     string // the same for every retry of one report

	// What follows is not on the wire.
	Event *Event // how an event of an agent's tool, which knows nothing of sessions here, became this report; nil for one of another
}

// RepeatWindow is how long an event does not repeat the status and the message that its session has.
const RepeatWindow = time.Second

// Record is a status report that the server has accepted: Sequence orders it among all records, and
// Received is its receipt time.
//
// One that only renewed its session says so by its Base: its status, timestamp, message, content and ID are those of the
// record that told the session's status, so that it says all that there is to know wherever it comes alone.
type Record struct {
	StatusReport
	Sequence uint64
	Received time.Time
	Base     Base
	ByEvent  bool  // it was made of an event; of a renewal: its base was
	Turn     *Turn // what is under way since; nil where the record leaves that as it was

	Shown  uint64           // the sequence of the question that the status tells of; 0 for none, or for the one that the record opens
	Closed []ClosedQuestion // what the status's entry in the history tells of
}

// Base is the record whose status a renewal left as it was. The zero value is none.
type Base struct {
	Sequence uint64
	Received time.Time
}

// Renewal reports whether the record only renewed its session.
func (r *Record) Renewal() bool { return r.Base.Sequence != 0 }

// Shows returns the sequence of the question that the record's status tells of, 0 for none.
func (r *Record) Shows() uint64 {
	if r.Shown == 0 && r.Turn != nil && r.Turn.Asks != nil && !r.Renewal() {
		return r.Sequence
	}
	return r.Shown
}

// Validate returns a bad_request error that names the first field at fault and what is allowed, or nil.
// now is the server's time.
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
	if r.Event != nil && r.Event.Asks != nil {
		if err := r.Event.Asks.Validate(); err != nil {
			return err
		}
	}
	return validateLine("report_id", r.ReportID, MaxReportID)
}

// firstTimestamp is the first instant that RFC 3339 can write in UTC.
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

// ValidateName returns an error that names field unless value may serve as an ID, a name, a source or a
// topic of at most limit characters, whose every character is seen. An empty value stands for an absent one.
func ValidateName(field, value string, required bool, limit int) error {
	if value == "" && required {
		return BadRequest(field, fmt.Sprintf("is required: 1 to %d characters", limit))
	}
	if err := validateLine(field, value, limit); err != nil {
		return err
	}
	return validateVisible(field, value)
}

// validateLine returns an error that names field unless value is a line of text of at most limit characters, or "".
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
		return BadRequest(field, "must not hold control characters")
	}
	return nil
}

// hasControl reports whether s holds a character of Unicode's category Cc: C0, DEL or C1, the last of
// which are the bytes C2 80 to C2 9F in UTF-8. It looks at bytes because it runs for every name of every
// report.
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
