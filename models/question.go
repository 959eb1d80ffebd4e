package models

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a question.
const (
	// MaxQuestionContent is the number of bytes of a question's content that are kept.
	MaxQuestionContent = 64 << 10
	// MaxOpenQuestions is the maximum number of open questions of a session. Further ones are not recorded.
	MaxOpenQuestions = 100
	// MaxChoices is the maximum number of choices of a question, and MaxChoice the maximum length of one in characters.
	MaxChoices = 50
	MaxChoice  = 500
)

// QuestionTTL is the minimum TTL of a session while one of its questions is open: waiting is not silence.
const QuestionTTL = 24 * time.Hour

// Question is something that a session asks a person. It is open until it is answered, denied, withdrawn or expired.
type Question struct {
	ID          string       `json:"id"` // unique among all questions of a server
	Kind        QuestionKind `json:"kind"`
	Text        string       `json:"text"`                       // one line
	Content     string       `json:"content,omitzero"`           // full text; not in lists
	ContentCut  bool         `json:"content_truncated,omitzero"` // the content was longer than [MaxQuestionContent]
	Choices     []string     `json:"choices,omitempty"`          // not in lists
	AskedAt     time.Time    `json:"asked_at"`                   // receipt of the event that asked; UTC
	AskedBy     string       `json:"asked_by,omitzero"`          // subagent that asks; "" for the agent itself
	RequestedAs string       `json:"-"`                          // the tool's name for the event that asked
}

// QuestionKind says what a question asks for. The zero value is no kind.
type QuestionKind uint8

// The kinds of questions.
const (
	Permission QuestionKind = iota + 1 // permission to do something
	Choice                             // one or more of several choices
	Plan                               // approval of a plan
	Text                               // free text
)

var questionKindNames = [...]string{"", "permission", "choice", "plan", "text"}

// String returns the kind as it appears on the wire, or "" for the zero value.
func (k QuestionKind) String() string { return nameOf(questionKindNames[:], uint8(k)) }

// MarshalText implements encoding.TextMarshaler.
func (k QuestionKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *QuestionKind) UnmarshalText(text []byte) error {
	n, err := parseName("kind", questionKindNames[:], text)
	*k = QuestionKind(n)
	return err
}

// QuestionOutcome says how a question closed. The zero value means that it is open.
type QuestionOutcome uint8

// The outcomes of questions.
const (
	Answered  QuestionOutcome = iota + 1
	Denied                    // the answer was no
	Withdrawn                 // no answer is needed any more
	Expired                   // its session expired first

	acknowledged // not a question: see [Acknowledgement.Note]
)

var questionOutcomeNames = [...]string{"", "answered", "denied", "withdrawn", "expired"}

// String returns the outcome as it appears on the wire, or "" for the zero value.
func (o QuestionOutcome) String() string { return nameOf(questionOutcomeNames[:], uint8(o)) }

// MarshalText implements encoding.TextMarshaler.
func (o QuestionOutcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *QuestionOutcome) UnmarshalText(text []byte) error {
	n, err := parseName("outcome", questionOutcomeNames[:], text)
	*o = QuestionOutcome(n)
	return err
}

// nameOf returns the name at index n, or "" if there is none.
func nameOf(names []string, n uint8) string {
	if int(n) >= len(names) {
		return ""
	}
	return names[n]
}

// parseName returns the index of a name, or a bad_request error that names the field. The name at index 0 is not valid.
func parseName(field string, names []string, text []byte) (uint8, error) {
	n := slices.Index(names, string(text))
	if n <= 0 {
		return 0, BadRequest(field, "must be one of "+strings.Join(names[1:], ", "))
	}
	return uint8(n), nil
}

// ClosedQuestion says how a question closed.
type ClosedQuestion struct {
	ID      string          `json:"id"`
	Text    string          `json:"text,omitzero"` // of the question
	Outcome QuestionOutcome `json:"outcome"`
	By      string          `json:"by,omitzero"`     // what closed it, if known: the tool's event, or who answered
	Answer  string          `json:"answer,omitzero"` // the answer, if known
}

// Closed returns how q closed.
func (q *Question) Closed(outcome QuestionOutcome, by, answer string) ClosedQuestion {
	return ClosedQuestion{ID: q.ID, Text: q.Text, Outcome: outcome, By: by, Answer: answer}
}

// QuestionID returns the ID of the question asked by the record with this sequence.
func QuestionID(sequence uint64) string { return "q" + strconv.FormatUint(sequence, 36) }

// QuestionNumber returns the sequence number encoded in id: the inverse of [QuestionID]. ok is false if id is not
// valid.
func QuestionNumber(id string) (sequence uint64, ok bool) {
	digits, ok := strings.CutPrefix(id, "q")
	sequence, err := strconv.ParseUint(digits, 36, 64)
	return sequence, ok && err == nil
}

// Validate returns nil, or a bad_request error that names the field at fault.
func (q *Question) Validate() error {
	if q.Kind == 0 || q.Kind.String() == "" {
		return BadRequest("question.kind", "must be one of "+strings.Join(questionKindNames[1:], ", "))
	}
	if err := validateLength("question.text", q.Text, MaxMessage); err != nil {
		return err
	}
	if len(q.Content) > MaxQuestionContent || !utf8.ValidString(q.Content) {
		return BadRequest("question.content", fmt.Sprintf("must be valid UTF-8 of at most %d bytes", MaxQuestionContent))
	}
	if len(q.Choices) > MaxChoices {
		return BadRequest("question.choices", fmt.Sprintf("must have at most %d choices", MaxChoices))
	}
	for _, choice := range q.Choices {
		if err := validateLength("question.choices", choice, MaxChoice); err != nil {
			return err
		}
	}
	return nil
}
