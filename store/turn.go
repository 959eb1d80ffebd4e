package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// hasOpen reports whether a question is open. A nil turn has none.
func (t *turn) hasOpen() bool { return t != nil && len(t.open) > 0 }

// size returns the bytes of memory that t takes.
func (t *turn) size() (n int64) {
	if t == nil {
		return 0
	}
	n = sizeOfTurn(len(t.open), len(t.calls), t.beneath, t.closed) + sizeOfAcknowledgement(t.acknowledged)
	for i := range t.open {
		n += questionSize(t.open[i].full)
	}
	return n
}

// sizeAfter returns the bytes of memory that the turn takes after a record with turn r, if it was t before.
func (t *turn) sizeAfter(r *models.Turn) (n int64) {
	n = sizeOfTurn(len(r.Open), len(r.Calls), r.Underlying, r.Closed) + questionSize(r.Question) + sizeOfAcknowledgement(r.Acknowledged)
	for i := range r.Open {
		if q := t.find(r.Open[i].Sequence); q != nil {
			n += questionSize(q.full)
		}
	}
	return n
}

// sizeOfTurn returns the bytes of memory that a turn takes, without its open questions' texts.
func sizeOfTurn(open, calls int, beneath models.UnderlyingStatus, closed []models.ClosedQuestion) (n int64) {
	n = turnOverhead + int64(open)*openOverhead + int64(calls)*callSize
	n += sizeOfText(len(beneath.Message)) + sizeOfText(len(beneath.Content))
	return n + sizeOfClosed(closed)
}

func sizeOfClosed(closed []models.ClosedQuestion) (n int64) {
	for i := range closed {
		n += closedOverhead + sizeOfText(len(closed[i].Text)) + sizeOfText(len(closed[i].By)) + sizeOfText(len(closed[i].Answer))
	}
	return n
}

func sizeOfAcknowledgement(a *models.Acknowledgement) int64 {
	if a == nil {
		return 0
	}
	return acknowledgementOverhead + sizeOfText(len(a.By))
}

// Approximate sizes of the parts of a turn, without texts.
const (
	turnOverhead   = 128
	openOverhead   = 448
	callSize       = 16
	closedOverhead = 80

	acknowledgementOverhead = 96
)

func questionSize(q *models.Question) int64 {
	if q == nil {
		return 0
	}
	n := sizeOfText(len(q.Text)) + sizeOfText(len(q.Content)) + sizeOfText(len(q.AskedBy)) + sizeOfText(len(q.RequestedAs))
	for _, choice := range q.Choices {
		n += sizeOfText(len(choice)) + 16
	}
	return n
}

// copyOf returns a copy of t in the form used by records.
func (t *turn) copyOf() (c models.Turn) {
	if t == nil {
		return c
	}
	for i := range t.open {
		c.Open = append(c.Open, t.open[i].OpenQuestion)
	}
	c.Closed, c.Calls, c.Underlying, c.Acknowledged = slices.Clone(t.closed), slices.Clone(t.calls), t.beneath, t.acknowledged
	return c
}

// turnOf returns the turn after the record with this sequence and turn r, nil if nothing is under way. It takes over
// what is known of the questions that were open before.
func turnOf(r *models.Turn, sequence uint64, before *turn) *turn {
	if len(r.Open) == 0 && len(r.Calls) == 0 && len(r.Closed) == 0 && r.Acknowledged == nil {
		return nil
	}
	t := &turn{closed: slices.Clone(r.Closed), calls: slices.Clone(r.Calls), beneath: r.Underlying}
	t.beneath.Message, t.beneath.Content = strings.Clone(r.Underlying.Message), strings.Clone(r.Underlying.Content)
	if r.Acknowledged != nil {
		ack := *r.Acknowledged
		ack.By, ack.Sequence = strings.Clone(ack.By), cmp.Or(ack.Sequence, sequence)
		t.acknowledged = &ack
	}
	for i := range t.closed {
		closed := &t.closed[i]
		closed.Text, closed.By, closed.Answer = strings.Clone(closed.Text), strings.Clone(closed.By), strings.Clone(closed.Answer)
	}
	for _, q := range r.Open {
		if q.Sequence == 0 {
			q.Sequence = sequence
		}
		t.open = append(t.open, openQuestion{OpenQuestion: q})
		if known := before.find(q.Sequence); known != nil {
			last := &t.open[len(t.open)-1]
			last.full, last.brief = known.full, known.brief
		}
	}
	return t
}

// snooze sets when the snooze of t ends, unless that is known from before. On the expiry clock, a snooze is as long as
// it was meant to be, even if the clock is set back. The caller holds s.mu.
func (s *Store) snooze(t, before *turn) {
	if t == nil || t.acknowledged == nil || t.acknowledged.Until.IsZero() {
		return
	}
	ack := t.acknowledged
	if before != nil && before.acknowledged != nil && before.acknowledged.Sequence == ack.Sequence {
		t.snoozedUntil, t.snoozeOver = before.snoozedUntil, before.snoozeOver
		return
	}
	t.snoozedUntil = s.renewedAt(unixNanos(ack.At)) + int64(ack.Until.Sub(ack.At))
	t.snoozeOver = t.snoozedUntil <= s.now
}

// find returns the open question asked by the record with this sequence, nil if there is none.
func (t *turn) find(sequence uint64) *openQuestion {
	if t == nil {
		return nil
	}
	i := slices.IndexFunc(t.open, func(q openQuestion) bool { return q.Sequence == sequence })
	if i < 0 {
		return nil
	}
	return &t.open[i]
}

// fill sets what an open question asks, from the record with this sequence, received at the given time. It has no
// effect if the question is not open, or is filled already.
func (t *turn) fill(asked *models.Question, sequence uint64, received int64) {
	q := t.find(sequence)
	if q == nil || q.full != nil {
		return
	}
	full := *asked
	full.ID = models.QuestionID(sequence)
	if full.AskedAt.IsZero() {
		full.AskedAt = at(received)
	}
	full.Text, full.Content = strings.Clone(asked.Text), strings.Clone(asked.Content)
	full.AskedBy, full.RequestedAs = strings.Clone(asked.AskedBy), strings.Clone(asked.RequestedAs)
	full.Choices = slices.Clone(asked.Choices)
	for i := range full.Choices {
		full.Choices[i] = strings.Clone(full.Choices[i])
	}
	brief := full
	brief.Content, brief.Choices = "", nil
	q.full, q.brief = &full, &brief
}

// oldest returns the oldest open question as lists show it, nil if there is none.
func (t *turn) oldest() *models.Question {
	if !t.hasOpen() {
		return nil
	}
	return t.open[0].view().brief
}

// view returns q; if it is not filled yet, with an ID and no text.
func (q openQuestion) view() openQuestion {
	if q.full == nil {
		q.full = &models.Question{ID: models.QuestionID(q.Sequence), Kind: models.Permission}
		q.brief = q.full
	}
	return q
}

// questions returns the open questions in full, oldest first.
func (t *turn) questions() []models.Question {
	all := []models.Question{}
	if t == nil {
		return all
	}
	for i := range t.open {
		all = append(all, *t.open[i].view().full)
	}
	return all
}

// closedSince returns how the questions closed that are open in before but not in t. recorded is what the record of t
// says about closed questions.
func (t *turn) closedSince(before *turn, recorded ...[]models.ClosedQuestion) (closed []models.ClosedQuestion) {
	if !before.hasOpen() {
		return nil
	}
	for i := range before.open {
		if t.find(before.open[i].Sequence) != nil {
			continue
		}
		how := before.open[i].view().full.Closed(models.Withdrawn, "", "")
		for _, list := range recorded {
			if j := slices.IndexFunc(list, func(c models.ClosedQuestion) bool { return c.ID == how.ID }); j >= 0 {
				how.Outcome, how.By, how.Answer = list[j].Outcome, strings.Clone(list[j].By), strings.Clone(list[j].Answer)
			}
		}
		closed = append(closed, how)
	}
	return closed
}

// TurnState is what a session has under way, as the journal stores it.
type TurnState struct {
	Sequence uint64 // of the record that set it
	Open     []OpenState
	Closed   []models.ClosedQuestion
	Calls    []models.Call
	Beneath  models.UnderlyingStatus

	Acknowledged *models.Acknowledgement
}

// OpenState is an open question as the journal stores it.
type OpenState struct {
	models.OpenQuestion
	Question models.Question
}

// turnState returns what se has under way, nil if it never had anything under way. The caller holds the store's lock.
func (se *session) turnState() *TurnState {
	if se.turnSeq == 0 {
		return nil
	}
	state := &TurnState{Sequence: se.turnSeq}
	if t := se.turn; t != nil {
		state.Closed, state.Calls, state.Beneath, state.Acknowledged = slices.Clone(t.closed), slices.Clone(t.calls), t.beneath, t.acknowledged
		for i := range t.open {
			state.Open = append(state.Open, OpenState{t.open[i].OpenQuestion, *t.open[i].view().full})
		}
	}
	return state
}

// restored returns the turn of a state. It returns nil for a nil state.
func (state *TurnState) restored() (t *turn, sequence uint64) {
	if state == nil {
		return nil, 0
	}
	recorded := models.Turn{Closed: state.Closed, Calls: state.Calls, Underlying: state.Beneath, Acknowledged: state.Acknowledged}
	for i := range state.Open {
		recorded.Open = append(recorded.Open, state.Open[i].OpenQuestion)
	}
	t = turnOf(&recorded, state.Sequence, nil)
	for i := range state.Open {
		t.fill(&state.Open[i].Question, state.Open[i].Sequence, 0)
	}
	return t, state.Sequence
}
