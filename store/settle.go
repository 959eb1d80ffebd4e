package store

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// settle finds out what the report of an event, received at that time, does to its session, nil where that is not known. The
// record is what is to be recorded of it, which depends on nothing any more; the outcome is Stored, Renewed or Ignored. The caller
// holds the store's lock.
func settle(r *models.StatusReport, se *session, received int64) (models.Record, Outcome) {
	d := decision{event: r.Event, se: se, record: models.Record{StatusReport: *r, ByEvent: true}}
	d.record.Event = nil
	if se == nil {
		return d.record, d.begin()
	}
	d.before, d.turn = se.turn, se.turn.copyOf()
	d.name()
	if se.class.expired() {
		d.expire()
	}
	if !d.repeatsQuestion() {
		d.close()
		d.open()
	}
	d.follow()
	outcome := d.enter(received)
	if d.changed {
		d.record.Turn = &d.turn
	}
	return d.record, outcome
}

// decision is what an event comes to. Its functions are called in the order in which they are below.
type decision struct {
	event   *models.Event
	se      *session
	record  models.Record
	before  *turn       // what was under way
	turn    models.Turn // what is from now on
	changed bool        // the two differ
}

// begin has the event begin its session.
func (d *decision) begin() Outcome {
	r := &d.record
	if d.event.Counts&models.Unknown == 0 || r.Status == 0 {
		return Ignored
	}
	if d.event.Asks != nil {
		d.turn.Beneath = models.Beneath{Status: r.Status, Message: r.Message}
		d.ask()
		r.Status = models.Pending
	}
	d.follow()
	if d.changed {
		r.Turn = &d.turn
	}
	return Stored
}

// name drops what the event says of the names of its agent and session where these count only for want of others.
func (d *decision) name() {
	if d.event.FirstTitle && d.se.title != "" {
		d.record.SessionTitle = ""
	}
	if d.event.FirstName && d.se.agent.name != "" {
		d.record.AgentName = ""
	}
}

// expire closes the questions of a session that has expired.
func (d *decision) expire() {
	d.closeWhere(models.Expired, "", "", func(*models.OpenQuestion, *models.Question) bool { return true })
	if len(d.turn.Calls) > 0 {
		d.turn.Calls, d.changed = nil, true
	}
}

// repeatsQuestion reports whether the event asks what is open already. Where that had no ID yet, it has that of the event.
func (d *decision) repeatsQuestion() bool {
	switch e := d.event; {
	case e.Asks == nil:
		return false
	case e.Hints && len(d.turn.Open) > 0:
		return true
	case e.Call != 0:
		return d.isOpen(e.Call) || d.identify()
	case e.Same != 0:
		n := d.alike()
		return n > 0 && n >= d.inFlight(d.event.Same)
	}
	return false
}

// isOpen reports whether a question with this ID is open.
func (d *decision) isOpen(call uint64) bool {
	return slices.ContainsFunc(d.turn.Open, func(q models.OpenQuestion) bool { return q.Call == call })
}

// identify gives the first open question without an ID that the event may be about the ID of the event. It reports whether there is
// one.
func (d *decision) identify() bool {
	e := d.event
	i := slices.IndexFunc(d.turn.Open, func(q models.OpenQuestion) bool { return q.Call == 0 && e.Same != 0 && q.Same == e.Same })
	if i < 0 {
		return false
	}
	d.turn.Open[i].Call, d.changed = e.Call, true
	return true
}

// alike returns how many questions are open about calls with the same subagent, tool and input as that of the event.
func (d *decision) alike() (n int) {
	for i := range d.turn.Open {
		if d.turn.Open[i].Same == d.event.Same {
			n++
		}
	}
	return n
}

// inFlight returns how many calls are in flight with this subagent, tool and input; 0 where these are not known.
func (d *decision) inFlight(same uint64) (n int) {
	for _, call := range d.turn.Calls {
		if same != 0 && call.Same == same {
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
		own := d.own()
		closes = func(q *models.OpenQuestion, _ *models.Question) bool {
			return own != nil && (q == own || q.Call != 0 && q.Call == own.Call)
		}
	case models.ClosesHinted:
		closes = func(q *models.OpenQuestion, _ *models.Question) bool { return q.Hinted }
	case models.ClosesAsker:
		closes = func(_ *models.OpenQuestion, asked *models.Question) bool { return asked.AskedBy == e.Subagent }
	case models.ClosesAll:
		closes = func(_ *models.OpenQuestion, asked *models.Question) bool {
			return asked.AskedBy == "" || !slices.Contains(e.Going, asked.AskedBy)
		}
	}
	d.closeWhere(e.Outcome, e.Name, e.Answer, closes)
}

// own returns the open question that the event is the result of, nil where there is none.
func (d *decision) own() *models.OpenQuestion {
	call, group := d.event.Call, d.event.Group
	if q := d.first(func(q models.OpenQuestion) bool { return call != 0 && q.Call == call }); q != nil {
		return q
	}
	return d.first(func(q models.OpenQuestion) bool { return group != 0 && q.Group == group && (call == 0 || q.Call == 0) })
}

// first returns the oldest open question for which is holds, nil where there is none.
func (d *decision) first(is func(models.OpenQuestion) bool) *models.OpenQuestion {
	i := slices.IndexFunc(d.turn.Open, is)
	if i < 0 {
		return nil
	}
	return &d.turn.Open[i]
}

// closeWhere closes the questions for which closes holds.
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

// noteClosed notes that a question closed, for the next entry of the history. The newest of as many as can be open are kept.
func (d *decision) noteClosed(closed models.ClosedQuestion) {
	d.turn.Closed = append(d.turn.Closed, closed)
	d.turn.Closed = d.turn.Closed[max(0, len(d.turn.Closed)-models.MaxOpenQuestions):]
	d.changed = true
}

// open opens the question that the event asks, if the session is in a state for it and there is room for one.
func (d *decision) open() {
	if d.event.Asks == nil || d.event.Counts&models.StateOf(d.beneath().Status) == 0 || len(d.turn.Open) >= models.MaxOpenQuestions {
		return
	}
	if len(d.turn.Open) == 0 {
		d.turn.Beneath = d.beneath()
	}
	if d.event.Subagent == "" && models.StateOf(d.turn.Beneath.Status)&models.Working == 0 { // whoever asks is at work
		d.turn.Beneath = models.Beneath{Status: models.Running, Message: d.record.Message}
	}
	d.ask()
}

// ask has the record open a question.
func (d *decision) ask() {
	q := models.OpenQuestion{Call: d.event.Call, Same: d.event.Same, Group: d.event.Group, Hinted: d.event.Hints}
	if q.Call == 0 {
		d.bind(&q)
	}
	d.turn.Asks, d.changed = d.event.Asks, true
	d.turn.Open = append(d.turn.Open, q)
}

// bind has a question without an ID be about a call in flight: the only one with its subagent, tool and input, or, where the event
// does not say these, the one that started last of those of which nothing is asked yet. Of several with all that in common, any
// result closes the first question about them.
func (d *decision) bind(q *models.OpenQuestion) {
	switch alike := d.inFlight(q.Same); {
	case alike == 1:
		i := slices.IndexFunc(d.turn.Calls, func(call models.Call) bool { return call.Same == q.Same })
		q.Call = d.turn.Calls[i].Call
		return
	case alike > 1 || !d.event.Binds:
		return
	}
	for _, call := range slices.Backward(d.turn.Calls) {
		if !d.asked(call) {
			q.Call, q.Group = call.Call, call.Same
			return
		}
	}
}

// asked reports whether a question about a call is open; of calls that nothing tells apart, about as many as there are.
func (d *decision) asked(call models.Call) bool {
	alike := 0
	for _, q := range d.turn.Open {
		if call.Call != 0 && q.Call == call.Call {
			return true
		}
		if q.Group == call.Same {
			alike++
		}
	}
	return call.Same != 0 && alike >= d.inFlight(call.Same)
}

// maxCalls is how many calls of a session are known to be in flight.
const maxCalls = 64

// follow takes note of calls that start and end.
func (d *decision) follow() {
	e, call := d.event, models.Call{Call: d.event.Call, Same: d.event.Same}
	i := -1
	if call != (models.Call{}) {
		i = slices.IndexFunc(d.turn.Calls, func(c models.Call) bool { return c.Call == call.Call && (call.Call != 0 || c.Same == call.Same) })
	}
	switch {
	case e.Stage == models.CallStarts && (call.Call == 0 && call.Same != 0 || call.Call != 0 && i < 0):
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

// beneath returns the status that the session had before the event, were no question open.
func (d *decision) beneath() models.Beneath {
	if d.before.asks() {
		return d.before.beneath
	}
	current := d.se.current()
	message, content, _ := current.unpack()
	return models.Beneath{Status: current.kind, Message: message, Content: content}
}

// next returns the status that the session has after the event, were no question open, and whether the event tells it.
func (d *decision) next() (_ models.Beneath, told bool) {
	before := d.beneath()
	if d.turn.Asks != nil {
		return d.turn.Beneath, false
	}
	state := models.StateOf(before.Status)
	switch r := &d.record; {
	case d.event.Interrupts != "" && state&models.AtWork != 0:
		return models.Beneath{Status: models.Failed, Message: d.event.Interrupts}, true
	case r.Status != 0 && d.event.Asks == nil && d.event.Counts&state != 0:
		return models.Beneath{Status: r.Status, Message: r.Message, Content: r.Content}, true
	}
	return before, false
}

// enter decides which status the record tells: the session's own again, in which case it renews, or another one.
func (d *decision) enter(received int64) Outcome {
	next, told := d.next()
	shown, asked := d.shown()
	switch {
	case asked && shown == d.shownBefore():
		return d.renewBeneath(next)
	case asked:
		d.turn.Beneath = next
		return d.enterQuestion(shown, received)
	case d.before.asks():
		d.turn.Beneath = models.Beneath{}
		return d.enterStatus(next, received)
	case told && !d.repeats(next, received):
		return d.enterStatus(next, received)
	case !told && d.event.Silent && !d.changed:
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

// shownBefore returns the sequence of the oldest question that was open; one that no record has for none.
func (d *decision) shownBefore() uint64 {
	if !d.before.asks() {
		return ^uint64(0)
	}
	return d.before.open[0].Sequence
}

// repeats reports whether the session has had this status for a moment only.
func (d *decision) repeats(next models.Beneath, received int64) bool {
	current := d.se.current()
	return next.Status == current.kind && next.Message == current.message() && received-current.received < int64(models.RepeatWindow)
}

// renewBeneath renews the session, and has it go on with another status once no question is open.
func (d *decision) renewBeneath(next models.Beneath) Outcome {
	if d.turn.Beneath != next {
		d.turn.Beneath, d.changed = next, true
	}
	return d.renew()
}

// renew has the record tell the session's status again.
func (d *decision) renew() Outcome {
	r, current := &d.record, d.se.current()
	r.Message, r.Content, r.ReportID = current.unpack()
	r.Status, r.Timestamp, r.ByEvent = current.kind, current.timestamp(), current.is(byEvent)
	r.Shown, r.Closed = current.notes()
	r.Base = models.Base{Sequence: current.sequence, Received: at(current.received)}
	return Renewed
}

// enterQuestion has the record tell that a question is open.
func (d *decision) enterQuestion(shown uint64, received int64) Outcome {
	q := d.event.Asks
	if shown != 0 {
		q = d.before.find(shown).view().full
	}
	d.record.Shown = shown
	return d.enterStatus(models.Beneath{Status: models.Pending, Message: q.Text, Content: shorten(q.Content)}, received)
}

// enterStatus has the record tell a status.
func (d *decision) enterStatus(next models.Beneath, received int64) Outcome {
	r := &d.record
	r.Status, r.Message, r.Content = next.Status, next.Message, next.Content
	if len(d.turn.Closed) > 0 {
		r.Closed, d.turn.Closed, d.changed = d.turn.Closed, nil, true
	}
	r.Timestamp = d.se.arrival(r.Timestamp, received)
	return Stored
}

// arrival returns the time of a status that becomes the newest of se, whatever time it says: one that is not later than the newest
// status of the session, or ahead of the receipt, is that of the receipt.
func (se *session) arrival(said time.Time, received int64) time.Time {
	newest, receipt := se.current().timestamp(), at(received)
	if !said.After(newest) || said.After(receipt) {
		said = receipt
	}
	if !said.After(newest) { // which was told by a clock that was ahead, before the server held that back
		said = newest.Add(1)
	}
	return said
}
