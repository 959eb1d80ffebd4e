package models

import (
	"strings"
	"time"
)

// Status is what a session is doing. The zero value is no status: absent in a report, any status in a filter.
type Status uint8

// The statuses that an agent can report.
const (
	Running Status = iota + 1
	Pending        // waiting for input or a resource
	Success
	Failed
	// Idle is the status of a session at an empty prompt that has done nothing yet. On the wire it is [Success] with an
	// idle flag. Agents can't report it.
	Idle
)

// Statuses lists every status that an agent can report, in numeric order.
var Statuses = [...]Status{Running, Pending, Success, Failed}

var statusNames = [...]string{"", "running", "pending", "success", "failed", "success"}

// String returns the status as it appears on the wire, or "" for the zero value.
func (s Status) String() string { return nameOf(statusNames[:], uint8(s)) }

// OnWire returns the status that s is shown as on the wire: [Success] for [Idle], otherwise s.
func (s Status) OnWire() Status {
	if s == Idle {
		return Success
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(text []byte) (err error) {
	*s, err = ParseStatus("status", text)
	return err
}

// Unfinished reports whether a session in this status has not ended yet. Such a session is lost when it expires.
func (s Status) Unfinished() bool { return s == Running || s == Pending }

// ParseStatus returns the status called name, or a bad_request error that names the field.
func ParseStatus[Text ~string | ~[]byte](field string, name Text) (Status, error) {
	for _, s := range Statuses {
		if s.String() == string(name) {
			return s, nil
		}
	}
	return 0, BadRequest(field, "must be one of "+statusList())
}

func statusList() string { return strings.Join(statusNames[1:len(Statuses)+1], ", ") }

// AgentStatus is one entry of a status history: what an agent reported, and when.
type AgentStatus struct {
	AgentID      string    `json:"agent_id"`
	SessionTopic string    `json:"session_topic"`
	Status       Status    `json:"status"`
	Timestamp    time.Time `json:"timestamp"`   // when it happened, by the agent's clock; UTC
	ReceivedAt   time.Time `json:"received_at"` // when the server received it; UTC
	Message      string    `json:"message,omitzero"`
	Content      string    `json:"content,omitzero"`

	ContentDropped bool `json:"content_dropped,omitzero"` // to save memory, with no journal to hold the content

	Idle bool `json:"idle,omitzero"` // the session was at an empty prompt and had done nothing yet

	QuestionID      string           `json:"question_id,omitzero"`       // of the question that the status shows
	QuestionKind    QuestionKind     `json:"question_kind,omitzero"`     // of that question, if it is known
	ClosedQuestions []ClosedQuestion `json:"closed_questions,omitempty"` // with this entry, or since the previous one

	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"` // of the session before this entry, which ended it
}
