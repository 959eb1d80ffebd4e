package models

import "time"

// Acknowledgement says that a person has seen that a session needs attention. It ends when something new happens to the
// session: it enters a status, asks a question, or is lost. A renewal does not end it.
type Acknowledgement struct {
	At    time.Time `json:"at"`             // UTC
	By    string    `json:"by,omitzero"`    // name of the person's token; "" without tokens
	Until time.Time `json:"until,omitzero"` // end of a snooze, after which the session needs attention again; UTC; zero for none

	// Not on the wire.
	Need     Need   `json:"-"` // the reason that was acknowledged: another one is new
	Sequence uint64 `json:"-"` // of its record; 0 in that record itself
}

// Note returns the acknowledgement in the form in which a history keeps it, among the closed questions.
func (a *Acknowledgement) Note() ClosedQuestion {
	note := ClosedQuestion{Outcome: acknowledged, Text: a.At.Format(time.RFC3339Nano), By: a.By}
	if !a.Until.IsZero() {
		note.Answer = a.Until.Format(time.RFC3339Nano)
	}
	return note
}

// IsNote reports whether c is a note of an acknowledgement, and not a closed question.
func (c ClosedQuestion) IsNote() bool { return c.Outcome == acknowledged }

// SplitNotes splits what an entry of a history mentions into closed questions and an acknowledgement. The latter is the
// last one among the notes, nil if there is none.
func SplitNotes(notes []ClosedQuestion) (closed []ClosedQuestion, ack *Acknowledgement) {
	for i := range notes {
		note := &notes[i]
		if !note.IsNote() {
			closed = append(closed, *note)
			continue
		}
		ack = &Acknowledgement{By: note.By, At: parseTime(note.Text), Until: parseTime(note.Answer)}
	}
	return closed, ack
}

// parseTime returns the time that a note holds, or the zero time if it holds none.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
