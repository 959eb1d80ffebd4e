package notify

import (
	"context"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Delays between attempts to send a message: they double from the first to the last, and vary by half.
const (
	firstRetry = time.Second
	lastRetry  = time.Hour
)

// A message is given up once it could not be sent for giveUpAfter, and not before leastAttempts since the last start,
// which take some minutes: the machine may have been asleep, or the message held back, for most of that time.
const (
	giveUpAfter   = 24 * time.Hour
	leastAttempts = 8
)

// sendTimeout is how long an attempt may take, whatever the sender.
const sendTimeout = time.Minute

// send works on the jobs of a queue, one at a time, until ctx is done.
func (n *Notifier) send(ctx context.Context, q *queue) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		j, pause := n.nextJob(q)
		if j != nil {
			n.work(ctx, q, j)
			continue
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

// nextJob returns the job that is due first. If none is due, it returns nil and how long the next one takes to be.
func (n *Notifier) nextJob(q *queue) (*job, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first, ok := q.jobs.first()
	if !ok {
		return nil, time.Hour
	}
	if pause := max(time.Until(q.due(first)), time.Until(q.pausedUntil)); pause > 0 {
		return nil, pause
	}
	return first, 0
}

// work makes one attempt at a job, and records the outcome.
func (n *Notifier) work(ctx context.Context, q *queue, j *job) {
	destination, m, withdraw := n.prepare(q, j)
	if m == nil || ctx.Err() != nil {
		return
	}
	m.Ahead = n.ahead()
	sender := destination.Sender
	attempt, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	var remote string
	var err error
	if withdraw {
		err = sender.Withdraw(attempt, m)
	} else {
		remote, err = sender.Send(attempt, m)
	}
	if errors.Is(err, ErrIncomplete) {
		n.Logger.Warn("a notification did not reach everybody", "destination", destination.Name, "id", m.ID, "error", err.Error())
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		return // it is tried again in the next term
	}
	n.settle(q, j, destination, m, remote, withdraw, err)
	if isGone(err) && destination.device != nil && destination.device.Gone != nil {
		destination.device.Gone()
	}
}

// prepare returns the message of a job and where to send it, after recording that it is about to be sent. m is nil if
// there is nothing to send any more.
func (n *Notifier) prepare(q *queue, j *job) (destination *Destination, m *Message, withdraw bool) {
	n.mu.Lock()
	destination = q.destination
	x := j.note
	switch {
	case n.queues[destination.Name] != q: // abandoned meanwhile
		n.mu.Unlock()
		return nil, nil, false
	case x == nil && len(j.summary.Counts) == 0: // all of it is over
		n.Metrics.CountSuppressed(metrics.SuppressedOver)
		n.finish(q, j)
		n.wakeUp()
		n.mu.Unlock()
		return nil, nil, false
	case n.postpone(q, j, n.Now()):
		n.mu.Unlock()
		return nil, nil, false
	case x == nil:
		m = &Message{ID: j.summary.ID, Thread: j.summary.ID, SentAt: j.summary.Created, Rule: j.summary.Rule, Summary: maps.Clone(j.summary.Counts)}
		m.URL = n.Link(store.SessionKey{})
		j.trying = true
		n.mu.Unlock()
		if j.attempts == 0 && !n.save() { // the summary, and the notes that it tells of
			n.putOff(q, j)
			return nil, nil, false
		}
		return destination, m, false
	case !q.covers(x.session.AgentID): // any more
		n.forget(x)
		n.finish(q, j)
		n.mu.Unlock()
		return nil, nil, false
	case x.Over && (!n.withdraws(x) || !x.Delivered && !j.unsure): // nothing to withdraw
		if !x.Delivered {
			n.Metrics.CountSuppressed(metrics.SuppressedOver)
		}
		n.finish(q, j)
		n.wakeUp()
		n.mu.Unlock()
		return nil, nil, false
	}
	m, withdraw = n.messageOf(x), x.Over
	j.trying = true
	record := j.attempts == 0 || withdraw
	if record {
		x.saved = true
		n.unsaved = append(n.unsaved, x.entry())
	}
	n.mu.Unlock()
	if record && !n.save() {
		n.putOff(q, j)
		return nil, nil, false
	}
	return destination, m, withdraw
}

// putOff makes a message wait that can't be recorded now.
func (n *Notifier) putOff(q *queue, j *job) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j.trying = false
	if n.queues[q.destination.Name] == q {
		q.set(j, firstRetry)
	}
}

// postpone makes a message wait that may not be sent now, although it was due: the destination failed until now. It
// reports whether it did. The caller holds n.mu.
func (n *Notifier) postpone(q *queue, j *job, now time.Time) bool {
	x := j.note
	if x == nil {
		x = &note{record: &record{savedRecord: savedRecord{Rule: j.summary.Rule}}, queue: q} // about no agent in particular
	}
	if x.Over {
		return false
	}
	until, why := n.silence(x, n.ruleOf(x), now)
	if j.held = why; why == notHeld {
		return false
	}
	wait := until.Sub(now)
	if n.Cluster != nil { // whose clock may be set forward
		wait = min(wait, time.Minute)
	}
	q.set(j, wait)
	return true
}

// messageOf returns the message of a note. The caller holds n.mu.
func (n *Notifier) messageOf(x *note) *Message {
	key := x.session
	session, questions, _, ok := n.Store.SessionInFull(key.AgentID, key.Topic, nil, 1)
	if !ok {
		session = models.FleetSession{Session: models.Session{AgentID: key.AgentID, Topic: key.Topic}}
	}
	m := &Message{
		ID: x.ID, Thread: x.Thread, Remote: x.Remote, SentAt: x.Created,
		Rule: x.Rule, Change: x.change, Since: x.Since, Session: &session, URL: n.Link(key),
	}
	rule := n.byName[x.Rule]
	if rule != nil {
		m.Rule = rule.inFile()
	}
	if x.Over {
		m.ID, m.Outcome, m.By = x.Thread, x.Outcome, x.By
		if count := len(x.Later); count > 0 {
			m.Remote = x.Later[count-1]
		}
	}
	if i := slices.IndexFunc(questions, func(q models.Question) bool { return q.ID == x.cause }); i >= 0 {
		m.Question = &questions[i]
	}
	text := NoText
	if rule != nil {
		text = rule.Text
	}
	text.apply(m)
	return m
}

// apply removes what may not be sent from a message.
func (t Text) apply(m *Message) {
	m.Text = t
	if t == FullText {
		return
	}
	m.Session.CurrentMessage, m.Session.Question = "", nil
	if m.Question != nil {
		m.Question = &models.Question{ID: m.Question.ID, Kind: m.Question.Kind, AskedAt: m.Question.AskedAt}
	}
	if t == NoText {
		m.Session.Title = ""
	}
}

// settle records the outcome of an attempt.
func (n *Notifier) settle(q *queue, j *job, tried *Destination, m *Message, remote string, withdrawn bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.wakeUp() // so that Act writes the outcome to the box
	name, now := q.destination.Name, n.Now()
	j.trying = false
	switch {
	case n.queues[name] != q: // abandoned meanwhile
		return
	case err != nil && tried != q.destination: // whose address or token may be right now
		j.attempts++
		j.unsure = true
		q.set(j, 0)
		return
	}
	if err == nil {
		q.failing, q.worked = false, now
		n.delivered(q, j, m, remote, withdrawn, now)
		return
	}
	q.failure, q.failed = err.Error(), now
	j.attempts++
	j.unsure = j.unsure || !errors.Is(err, ErrRefused)
	if !q.failing {
		q.failing = true
		n.Logger.Warn("a notification could not be sent", "destination", name, "id", m.ID, "error", err.Error())
	}
	if created := j.created(); errors.Is(err, ErrRefused) || now.Sub(created) >= giveUpAfter && j.attempts >= leastAttempts {
		n.logGivenUp(q, j, m, err, now)
		n.Metrics.CountNotification(q.destination.inMetrics(), metrics.NotificationFailed)
		n.note(q, j, m, ResultFailed, err.Error(), now)
		n.giveUp(q, j)
		return
	}
	n.Metrics.CountNotification(q.destination.inMetrics(), metrics.NotificationRetried)
	var retry *RetryError
	if errors.As(err, &retry) {
		q.pausedUntil = time.Now().Add(min(retry.After, giveUpAfter))
	}
	q.set(j, retryDelay(j.attempts))
}

// logGivenUp logs that a message was given up, at most once a minute for each destination. The caller holds n.mu.
func (n *Notifier) logGivenUp(q *queue, j *job, m *Message, err error, now time.Time) {
	if now.Sub(q.gaveUp) < time.Minute {
		q.unlogged++
		return
	}
	attrs := []any{"destination", q.destination.Name, "id", m.ID, "attempts", j.attempts, "error", err.Error()}
	if q.unlogged > 0 {
		attrs = append(attrs, "others_not_logged", q.unlogged)
	}
	n.Logger.Error("a notification was given up", attrs...)
	q.gaveUp, q.unlogged = now, 0
}

// retryDelay returns how long to wait after a number of failed attempts.
func retryDelay(attempts int) time.Duration {
	delay := min(firstRetry<<min(attempts-1, 20), lastRetry)
	return min(delay/2+mathrand.N(delay), lastRetry)
}

// delivered records that a message was delivered or withdrawn. The caller holds n.mu.
func (n *Notifier) delivered(q *queue, j *job, m *Message, remote string, withdrawn bool, now time.Time) {
	x := j.note
	if withdrawn && len(x.Later) > 0 { // the first message and the other reminders are next
		x.Later = x.Later[:len(x.Later)-1]
		j.attempts = 0
		q.set(j, 0)
		return
	}
	if withdrawn {
		n.Metrics.CountNotification(q.destination.inMetrics(), metrics.NotificationWithdrawn)
		n.note(q, j, m, ResultWithdrawn, "", now)
		n.finish(q, j)
		return
	}
	n.Metrics.CountNotification(q.destination.inMetrics(), metrics.NotificationSent)
	n.note(q, j, m, ResultSent, "", now)
	if x == nil {
		n.finish(q, j)
		return
	}
	x.state, x.Sent, x.Delivered = told, now.UTC(), true
	switch {
	case x.Remote == "":
		x.Remote = remote
	case remote != "" && remote != x.Remote && !slices.Contains(x.Later, remote):
		x.Later = append(x.Later[max(0, len(x.Later)+1-maxLater):], remote)
	}
	n.unsaved = append(n.unsaved, x.entry())
	if x.Over && n.withdraws(x) {
		j.attempts, j.over = 0, now // to be withdrawn
		q.set(j, 0)
		return
	}
	n.drop(q, j)
	if x.Over {
		n.unsave(x)
		return
	}
	n.remind(x)
}

// giveUp records that a message can't be delivered or withdrawn. The caller holds n.mu.
func (n *Notifier) giveUp(q *queue, j *job) {
	if x := j.note; x != nil && !x.Over {
		x.state, x.GivenUp = dropped, true
		x.Delivered = x.Delivered || j.unsure
		n.unsaved = append(n.unsaved, x.entry())
		n.drop(q, j)
		return
	}
	n.finish(q, j)
}

// finish ends a job whose note or summary has nothing left to do. The caller holds n.mu.
func (n *Notifier) finish(q *queue, j *job) {
	n.drop(q, j)
	if j.note != nil {
		n.unsave(j.note)
		return
	}
	delete(n.summaries, j.summary.ID)
	n.unsaved = append(n.unsaved, journal.Note{Key: summaryPrefix + j.summary.ID})
}

// drop takes a job out of its queue. The caller holds n.mu.
func (n *Notifier) drop(q *queue, j *job) {
	q.jobs.remove(j)
	if j.note != nil {
		j.note.job = nil
	}
}

// pending returns how many messages are to be sent or withdrawn, and when the oldest of them became due that is not held
// back, on the clock of the machine. The time is zero if there is none, as while the notifier stands by.
func (n *Notifier) pending() (count int, oldest time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.queues {
		count += len(q.jobs.items)
		for _, j := range q.jobs.items {
			if created := j.created(); j.held == notHeld && (oldest.IsZero() || created.Before(oldest)) {
				oldest = created
			}
		}
	}
	if !oldest.IsZero() {
		oldest = oldest.Add(-n.ahead())
	}
	return count, oldest
}
