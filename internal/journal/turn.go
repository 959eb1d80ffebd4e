package journal

import (
	"encoding/binary"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// appendTurn appends the turn of a record: the question that the record opens, if any; the open questions, the closed
// questions, and the calls in flight, each list preceded by its length; and the status beneath. Hashes are eight bytes.
func appendTurn(b []byte, t *models.Turn) []byte {
	b = appendBool(b, t.Question != nil)
	if t.Question != nil {
		b = appendQuestion(b, t.Question)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Open)))
	for i := range t.Open {
		b = appendOpen(b, &t.Open[i])
	}
	b = appendClosed(b, t.Closed)
	return appendBeneath(appendCalls(b, t.Calls), &t.Underlying)
}

// turn is the inverse of appendTurn.
func (d *decoder) turn() *models.Turn {
	t := new(models.Turn)
	if d.bool() {
		t.Question = d.question()
	}
	t.Open, t.Closed = decodeList(d, (*decoder).open), d.closed()
	t.Calls, t.Underlying = d.calls(), d.beneath()
	return t
}

// appendShown appends the questions that a status shows: the sequence of the record that opened the shown question, a
// uvarint, and the closed questions.
func appendShown(b []byte, shown uint64, closed []models.ClosedQuestion) []byte {
	return appendClosed(binary.AppendUvarint(b, shown), closed)
}

// appendClosed appends the number of closed questions, and for each its outcome, ID, text, what closed it, and the
// answer.
func appendClosed(b []byte, all []models.ClosedQuestion) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = appendString(append(b, byte(all[i].Outcome)), all[i].ID)
		b = appendString(appendString(appendString(b, all[i].Text), all[i].By), all[i].Answer)
	}
	return b
}

func (d *decoder) closed() []models.ClosedQuestion {
	return decodeList(d, func(d *decoder) models.ClosedQuestion {
		return models.ClosedQuestion{Outcome: models.QuestionOutcome(d.byte()), ID: d.string(), Text: d.string(), By: d.string(), Answer: d.string()}
	})
}

// appendTurnState appends the turn of a session: whether it has one; the sequence of the record that set it, a uvarint;
// and the rest as appendTurn does, with each open question in full. From format 5 on, an acknowledgement may follow. It
// is the last part of a session's state.
func appendTurnState(b []byte, t *store.TurnState) []byte {
	if b = appendBool(b, t != nil); t == nil {
		return b
	}
	b = binary.AppendUvarint(b, t.Sequence)
	b = binary.AppendUvarint(b, uint64(len(t.Open)))
	for i := range t.Open {
		b = appendQuestion(appendOpen(b, &t.Open[i].OpenQuestion), &t.Open[i].Question)
	}
	b = appendBeneath(appendCalls(appendClosed(b, t.Closed), t.Calls), &t.Beneath)
	if t.Acknowledged != nil {
		b = appendAcknowledgement(b, t.Acknowledged)
	}
	return b
}

// turnState is the inverse of appendTurnState.
func (d *decoder) turnState() *store.TurnState {
	if !d.bool() {
		return nil
	}
	t := &store.TurnState{Sequence: d.uvarint()}
	t.Open = decodeList(d, func(d *decoder) store.OpenState {
		return store.OpenState{OpenQuestion: d.open(), Question: *d.question()}
	})
	t.Closed, t.Calls, t.Beneath = d.closed(), d.calls(), d.beneath()
	if d.rest != "" {
		t.Acknowledged = d.acknowledgement()
	}
	return t
}

// appendAcknowledgement appends an acknowledgement: its sequence, a uvarint; the reason, a byte; the times at which it
// was made and until which it lasts, as varints in Unix nanoseconds, the latter 0 for no end; and by whom.
func appendAcknowledgement(b []byte, a *models.Acknowledgement) []byte {
	b = append(binary.AppendUvarint(b, a.Sequence), byte(a.Need))
	b = binary.AppendVarint(b, a.At.UnixNano())
	until := int64(0)
	if !a.Until.IsZero() {
		until = a.Until.UnixNano()
	}
	return appendString(binary.AppendVarint(b, until), a.By)
}

// acknowledgement is the inverse of appendAcknowledgement.
func (d *decoder) acknowledgement() *models.Acknowledgement {
	a := &models.Acknowledgement{Sequence: d.uvarint(), Need: models.Need(d.byte()), At: time.Unix(0, d.varint()).UTC()}
	if until := d.varint(); until != 0 {
		a.Until = time.Unix(0, until).UTC()
	}
	a.By = d.string()
	return a
}

func appendOpen(b []byte, q *models.OpenQuestion) []byte {
	b = appendBool(binary.AppendUvarint(b, q.Sequence), q.FromHint)
	for _, hash := range [...]uint64{q.CallIDHash, q.InputHash, q.ResultHash} {
		b = binary.BigEndian.AppendUint64(b, hash)
	}
	return b
}

func (d *decoder) open() models.OpenQuestion {
	return models.OpenQuestion{Sequence: d.uvarint(), FromHint: d.bool(), CallIDHash: d.hash(), InputHash: d.hash(), ResultHash: d.hash()}
}

func appendCalls(b []byte, calls []models.Call) []byte {
	b = binary.AppendUvarint(b, uint64(len(calls)))
	for _, call := range calls {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, call.IDHash), call.InputHash)
	}
	return b
}

func (d *decoder) calls() []models.Call {
	return decodeList(d, func(d *decoder) models.Call { return models.Call{IDHash: d.hash(), InputHash: d.hash()} })
}

func appendBeneath(b []byte, beneath *models.UnderlyingStatus) []byte {
	return appendString(appendString(append(b, byte(beneath.Status)), beneath.Message), beneath.Content)
}

func (d *decoder) beneath() models.UnderlyingStatus {
	return models.UnderlyingStatus{Status: models.Status(d.byte()), Message: d.string(), Content: d.string()}
}

// appendQuestion appends a question without its ID, which is derived from its record: its kind; whether its content was
// cut; when it was asked (Unix nanoseconds, 0 for the zero time, a varint); its texts; and the choices, preceded by
// their number.
func appendQuestion(b []byte, q *models.Question) []byte {
	b = appendBool(append(b, byte(q.Kind)), q.ContentCut)
	b = binary.AppendVarint(b, nanoseconds(q.AskedAt))
	for _, text := range [...]string{q.Text, q.Content, q.AskedBy, q.RequestedAs} {
		b = appendString(b, text)
	}
	return appendStrings(b, q.Choices)
}

func (d *decoder) question() *models.Question {
	q := &models.Question{Kind: models.QuestionKind(d.byte()), ContentCut: d.bool()}
	if asked := d.varint(); asked != 0 {
		q.AskedAt = time.Unix(0, asked).UTC()
	}
	for _, text := range [...]*string{&q.Text, &q.Content, &q.AskedBy, &q.RequestedAs} {
		*text = d.string()
	}
	q.Choices = d.strings()
	return q
}

// appendStrings appends the number of strings, a uvarint, and the strings.
func appendStrings(b []byte, texts []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, text := range texts {
		b = appendString(b, text)
	}
	return b
}

func (d *decoder) strings() []string { return decodeList(d, (*decoder).string) }

// decodeList decodes the length of a list and its items.
func decodeList[T any](d *decoder, one func(*decoder) T) []T {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	return decodeItems(d, n, one)
}

// decodeItems decodes a number of items. The result is not nil.
func decodeItems[T any](d *decoder, n uint64, one func(*decoder) T) []T {
	all := make([]T, 0, min(n, uint64(len(d.rest))))
	for ; n > 0 && !d.failed; n-- {
		all = append(all, one(d))
	}
	return all
}

func appendBool(b []byte, is bool) []byte {
	if is {
		return append(b, 1)
	}
	return append(b, 0)
}

func (d *decoder) bool() bool { return d.byte() != 0 }

// hash reads eight bytes.
func (d *decoder) hash() uint64 {
	b := d.bytes(8)
	if d.failed {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(b))
}
