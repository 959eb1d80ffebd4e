package store

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// settle decides what the report of an event, received at the given time, does to its session, which is nil if not
// known. content is that of the session's current status if memory has dropped it and it was looked up. The record is
// what is to be recorded, and no longer depends on the state. The outcome is Stored, Renewed or Ignored. The caller holds
// the store's lock.
func settle(r *models.StatusReport, se *session, received int64, content string) (models.Record, Outcome) {
	d := decision{event: r.Event, se: se, content: content, record: models.Record{StatusReport: *r, ByEvent: true}}
	d.record.Event = nil
	if se == nil {
		return d.record, d.begin()
	}
	d.before, d.turn = se.turn, se.turn.copyOf()
	if d.event.Acknowledge != nil {
		outcome := d.acknowledge()
		d.record.Turn = &d.turn
		return d.record, outcome
	}
	d.dropKnownNames()
	if se.class.expired() {
		d.expire()
	}
	if !d.repeatsQuestion() {
		d.close()
		d.open()
	}
	d.trackCalls()
	outcome := d.enter(received)
	if d.changed {
		d.record.Turn = &d.turn
	}
	return d.record, outcome
}

// decision is the effect of an event. Its methods are called in the order in which they are defined.
type decision struct {
	event   *models.Event
	se      *session
	content string // of the current status, if memory has dropped it
	record  models.Record
	before  *turn       // what was under way before the event
	turn    models.Turn // what is under way after it
	changed bool        // turn differs from before
}

// begin makes the event begin its session.
func (d *decision) begin() Outcome {
	r := &d.record
	if d.event.AppliesIn&models.Unknown == 0 || r.Status == 0 || d.event.Acknowledge != nil {
		return Ignored
	}
	if d.event.Question != nil {
		d.turn.Underlying = models.UnderlyingStatus{Status: r.Status, Message: r.Message}
		d.ask()
		r.Status = models.Pending
	}
	d.trackCalls()
	if d.changed {
		r.Turn = &d.turn
	}
	return Stored
}

// dropKnownNames drops names in the record that count only if the agent or session has none yet.
func (d *decision) dropKnownNames() {
	if d.event.FirstTitle && d.se.title != "" {
		d.record.SessionTitle = ""
	}
	if d.event.FirstName && d.se.agent.name != "" {
		d.record.AgentName = ""
	}
}

// acknowledge makes the record acknowledge that the session needs attention. A lost session can't be snoozed: it is
// acknowledged for good.
func (d *decision) acknowledge() Outcome {
	ack := *d.event.Acknowledge
	ack.Need, ack.Sequence = d.se.class.need(), 0
	switch ack.Need {
	case 0:
		return Ignored
	case models.NeedLost:
		ack.Until = time.Time{}
	}
	d.endAcknowledgement()
	d.turn.Acknowledged, d.changed = &ack, true
	return d.renew()
}

// endAcknowledgement ends the acknowledgement of the session's state, because something new happened.
func (d *decision) endAcknowledgement() {
	if d.turn.Acknowledged != nil {
		d.turn.Closed = slices.DeleteFunc(d.turn.Closed, models.ClosedQuestion.IsNote) // the last one counts
		d.noteClosed(d.turn.Acknowledged.Note())
		d.turn.Acknowledged = nil
	}
}

// expire closes the questions of a session that has expired.
func (d *decision) expire() {
	d.endAcknowledgement()
	d.closeWhere(models.Expired, "", "", func(*models.OpenQuestion, *models.Question) bool { return true })
	if len(d.turn.Calls) > 0 {
		d.turn.Calls, d.changed = nil, true
	}
}

// repeatsQuestion reports whether the event asks a question that is already open. A question without an ID gets that of
// the event.
func (d *decision) repeatsQuestion() bool {
	switch e := d.event; {
	case e.Question == nil:
		return false
	case e.HintOnly && len(d.turn.Open) > 0:
		return true
	case e.CallIDHash != 0:
		return d.isOpen(e.CallIDHash) || d.setQuestionID()
	case e.InputHash != 0:
		n := d.openAlike()
		return n > 0 && n >= d.inFlight(d.event.InputHash)
	}
	return false
}

// isOpen reports whether a question with this ID is open.
func (d *decision) isOpen(call uint64) bool {
	return slices.ContainsFunc(d.turn.Open, func(q models.OpenQuestion) bool { return q.CallIDHash == call })
}

// setQuestionID gives the event's ID to the first open question without an ID that the event may be about. It reports
// whether there is one.
func (d *decision) setQuestionID() bool {
	e := d.event
	i := slices.IndexFunc(d.turn.Open, func(q models.OpenQuestion) bool {
		return q.CallIDHash == 0 && e.InputHash != 0 && q.InputHash == e.InputHash
	})
	if i < 0 {
		return false
	}
	d.turn.Open[i].CallIDHash, d.changed = e.CallIDHash, true
	return true
}

// openAlike returns the number of open questions about calls with the event's subagent, tool and input.
func (d *decision) openAlike() (n int) {
	for i := range d.turn.Open {
		if d.turn.Open[i].InputHash == d.event.InputHash {
			n++
		}
	}
	return n
}

// inFlight returns the number of calls in flight with this hash of subagent, tool and input; 0 if the hash is 0.
func (d *decision) inFlight(same uint64) (n int) {
	for _, call := range d.turn.Calls {
		if same != 0 && call.InputHash == same {
			n++
		}
	}
	return n
}

// close closes the questions that the event closes.
func (d *decision) close() {
	e := d.event
	var closes func(q *models.OpenQuestion, asked *models.Question) bool
	switch e.Closes {
	case models.ClosesNone:
		return
	case models.ClosesOwn:
		own := d.ownQuestion()
		closes = func(q *models.OpenQuestion, _ *models.Question) bool {
			return own != nil && (q == own || q.CallIDHash != 0 && q.CallIDHash == own.CallIDHash)
		}
	case models.ClosesHinted:
		closes = func(q *models.OpenQuestion, _ *models.Question) bool { return q.FromHint }
	case models.ClosesAsker:
		closes = func(_ *models.OpenQuestion, asked *models.Question) bool { return asked.AskedBy == e.Subagent }
	case models.ClosesAll:
		closes = func(_ *models.OpenQuestion, asked *models.Question) bool {
			return asked.AskedBy == "" || !slices.Contains(e.RunningSubagents, asked.AskedBy)
		}
	}
	d.closeWhere(e.Outcome, e.Name, e.Answer, closes)
}

// ownQuestion returns the open question that the event is a result of, nil if there is none.
func (d *decision) ownQuestion() *models.OpenQuestion {
	call, group := d.event.CallIDHash, d.event.ResultHash
	if q := d.firstOpen(func(q models.OpenQuestion) bool { return call != 0 && q.CallIDHash == call }); q != nil {
		return q
	}
	return d.firstOpen(func(q models.OpenQuestion) bool {
		return group != 0 && q.ResultHash == group && (call == 0 || q.CallIDHash == 0)
	})
}

// firstOpen returns the oldest open question that matches, nil if there is none.
func (d *decision) firstOpen(matches func(models.OpenQuestion) bool) *models.OpenQuestion {
	i := slices.IndexFunc(d.turn.Open, matches)
	if i < 0 {
		return nil
	}
	return &d.turn.Open[i]
}

// closeWhere closes the open questions for which closes returns true.
func (d *decision) closeWhere(outcome models.QuestionOutcome, by, answer string, closes func(q *models.OpenQuestion, asked *models.Question) bool) {
	kept := make([]models.OpenQuestion, 0, len(d.turn.Open))
	for i := range d.turn.Open {
		q := &d.turn.Open[i]
		asked := d.before.find(q.Sequence).view().full
		if !closes(q, asked) {
			kept = append(kept, *q)
			continue
		}
		d.noteClosed(asked.Closed(outcome, by, answer))
	}
	d.turn.Open = kept
}

// noteClosed keeps a closed question for the next entry of the history. It keeps at most [models.MaxOpenQuestions], the
// newest ones.
func (d *decision) noteClosed(closed models.ClosedQuestion) {
	d.turn.Closed = append(d.turn.Closed, closed)
	d.turn.Closed = d.turn.Closed[max(0, len(d.turn.Closed)-models.MaxOpenQuestions):]
	d.changed = true
}

// open opens the question that the event asks, if the session's state allows it and there is room for it.
func (d *decision) open() {
	if d.event.Question == nil || d.event.AppliesIn&models.StateOf(d.beneath().Status) == 0 || len(d.turn.Open) >= models.MaxOpenQuestions {
		return
	}
	if len(d.turn.Open) == 0 {
		d.turn.Underlying = d.beneath()
	}
	if d.event.Subagent == "" && models.StateOf(d.turn.Underlying.Status)&models.Working == 0 { // an agent that asks is at work
		d.turn.Underlying = models.UnderlyingStatus{Status: models.Running, Message: d.record.Message}
	}
	d.ask()
}

// ask makes the record open a question.
func (d *decision) ask() {
	q := models.OpenQuestion{CallIDHash: d.event.CallIDHash, InputHash: d.event.InputHash, ResultHash: d.event.ResultHash, FromHint: d.event.HintOnly}
	if q.CallIDHash == 0 {
		d.bind(&q)
	}
	d.endAcknowledgement()
	d.turn.Question, d.changed = d.event.Question, true
	d.turn.Open = append(d.turn.Open, q)
}

// bind sets the call of a question that has no ID. That is the only call in flight with the question's subagent, tool
// and input; if the event does not carry these, it is the call that started last and has no question yet. If several
// calls have all of this in common, any result closes the first question about them.
func (d *decision) bind(q *models.OpenQuestion) {
	switch alike := d.inFlight(q.InputHash); {
	case alike == 1:
		i := slices.IndexFunc(d.turn.Calls, func(call models.Call) bool { return call.InputHash == q.InputHash })
		q.CallIDHash = d.turn.Calls[i].IDHash
		return
	case alike > 1 || !d.event.AboutLastCall:
		return
	}
	for _, call := range slices.Backward(d.turn.Calls) {
		if !d.hasQuestion(call) {
			q.CallIDHash, q.ResultHash = call.IDHash, call.InputHash
			return
		}
	}
}

// hasQuestion reports whether a question about a call is open; for calls that can't be told apart, whether there are as
// many questions as calls.
func (d *decision) hasQuestion(call models.Call) bool {
	alike := 0
	for _, q := range d.turn.Open {
		if call.IDHash != 0 && q.CallIDHash == call.IDHash {
			return true
		}
		if q.ResultHash == call.InputHash {
			alike++
		}
	}
	return call.InputHash != 0 && alike >= d.inFlight(call.InputHash)
}

// maxCalls is the maximum number of calls in flight that are tracked for a session.
const maxCalls = 64

// trackCalls updates the calls in flight.
func (d *decision) trackCalls() {
	e, call := d.event, models.Call{IDHash: d.event.CallIDHash, InputHash: d.event.InputHash}
	i := -1
	if call != (models.Call{}) {
		i = slices.IndexFunc(d.turn.Calls, func(c models.Call) bool {
			return c.IDHash == call.IDHash && (call.IDHash != 0 || c.InputHash == call.InputHash)
		})
	}
	switch {
	case e.Stage == models.CallStarts && (call.IDHash == 0 && call.InputHash != 0 || call.IDHash != 0 && i < 0):
		d.turn.Calls = append(d.turn.Calls[max(0, len(d.turn.Calls)-maxCalls+1):], call)
	case e.Stage == models.CallEnds && i >= 0:
		d.turn.Calls = slices.Delete(d.turn.Calls, i, i+1)
	case e.Closes == models.ClosesAll && len(d.turn.Calls) > 0:
		d.turn.Calls = nil
	default:
		return
	}
	d.changed = true
}

// beneath returns the status that the session would have had before the event if no question were open.
func (d *decision) beneath() models.UnderlyingStatus {
	if d.before.hasOpen() {
		return d.before.beneath
	}
	current := d.se.current()
	message, content, _ := current.unpack()
	if current.is(contentDropped) {
		content = d.content
	}
	return models.UnderlyingStatus{Status: current.kind, Message: message, Content: content}
}

// next returns the status that the session would have after the event if no question were open, and whether the event
// sets it.
func (d *decision) next() (_ models.UnderlyingStatus, sets bool) {
	before := d.beneath()
	if d.turn.Question != nil {
		return d.turn.Underlying, false
	}
	state := models.StateOf(before.Status)
	switch r := &d.record; {
	case d.event.InterruptMessage != "" && state&models.AtWork != 0:
		return models.UnderlyingStatus{Status: models.Failed, Message: d.event.InterruptMessage}, true
	case r.Status != 0 && d.event.Question == nil && d.event.AppliesIn&state != 0:
		return models.UnderlyingStatus{Status: r.Status, Message: r.Message, Content: r.Content}, true
	}
	return before, false
}

// enter decides what status the record carries: the session's current one, which makes it a renewal, or a new one.
func (d *decision) enter(received int64) Outcome {
	next, sets := d.next()
	shown, asked := d.shown()
	switch {
	case asked && shown == d.shownBefore():
		return d.renewBeneath(next)
	case asked:
		d.turn.Underlying = next
		return d.enterQuestion(shown, received)
	case d.before.hasOpen():
		d.turn.Underlying = models.UnderlyingStatus{}
		return d.enterStatus(next, received)
	case sets && !d.repeatsStatus(next, received):
		return d.enterStatus(next, received)
	case !sets && d.event.IgnoreOtherwise && !d.changed:
		return Ignored
	}
	return d.renew()
}

// shown returns the sequence of the oldest open question, 0 for one that the event opens, and whether there is one.
func (d *decision) shown() (sequence uint64, asked bool) {
	if len(d.turn.Open) == 0 {
		return 0, false
	}
	return d.turn.Open[0].Sequence, true
}

// shownBefore returns the sequence of the question that was the oldest open one before, or the maximum uint64 if there
// was none.
func (d *decision) shownBefore() uint64 {
	if !d.before.hasOpen() {
		return ^uint64(0)
	}
	return d.before.open[0].Sequence
}

// repeatsStatus reports whether the session entered this same status within [models.RepeatWindow].
func (d *decision) repeatsStatus(next models.UnderlyingStatus, received int64) bool {
	current := d.se.current()
	return next.Status == current.kind && next.Message == current.message() && received-current.received < int64(models.RepeatWindow)
}

// renewBeneath renews the session, and sets the status that it has once no question is open.
func (d *decision) renewBeneath(next models.UnderlyingStatus) Outcome {
	if d.turn.Underlying != next {
		d.turn.Underlying, d.changed = next, true
	}
	return d.renew()
}

// renew makes the record a renewal, which repeats the session's status.
func (d *decision) renew() Outcome {
	r, current := &d.record, d.se.current()
	r.Message, r.Content, r.ReportID = current.unpack()
	r.Status, r.Timestamp, r.ByEvent = current.kind, current.timestamp(), current.is(byEvent)
	r.ShownQuestion, r.ShownKind, r.Closed = current.notes()
	r.Renews = models.RenewedRecord{Sequence: current.sequence, Received: at(current.received)}
	return Renewed
}

// enterQuestion makes the record enter the status of an open question.
func (d *decision) enterQuestion(shown uint64, received int64) Outcome {
	q := d.event.Question
	if shown != 0 {
		q = d.before.find(shown).view().full
		d.record.ShownQuestion, d.record.ShownKind = shown, q.Kind
	}
	return d.enterStatus(models.UnderlyingStatus{Status: models.Pending, Message: q.Text, Content: shorten(q.Content)}, received)
}

// enterStatus makes the record enter a status.
func (d *decision) enterStatus(next models.UnderlyingStatus, received int64) Outcome {
	r := &d.record
	r.Status, r.Message, r.Content = next.Status, next.Message, next.Content
	d.endAcknowledgement()
	if len(d.turn.Closed) > 0 {
		r.Closed, d.turn.Closed, d.changed = d.turn.Closed, nil, true
	}
	r.Timestamp = d.se.arrival(r.Timestamp, received)
	return Stored
}

// arrival returns the timestamp for a status that becomes the newest of se. If the reported one is not later than that
// of the session's newest status, or is ahead of the receipt, it is the receipt time.
func (se *session) arrival(reported time.Time, received int64) time.Time {
	newest, receipt := se.current().timestamp(), at(received)
	if !reported.After(newest) || reported.After(receipt) {
		reported = receipt
	}
	if !reported.After(newest) { // recorded when a fast clock was not yet held back
		reported = newest.Add(1)
	}
	return reported
}
