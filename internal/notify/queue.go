package notify

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

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

// giveUpAfter is how long a message is tried to be sent.
const giveUpAfter = 24 * time.Hour

// sendTimeout is how long an attempt may take, whatever the sender.
const sendTimeout = time.Minute

// job is a message that a destination has to send, or to withdraw.
type job struct {
	note     *note    // nil for a summary
	summary  *summary // nil for a note
	next     int64    // when it is due, in Unix nanoseconds
	place    int32    // in the schedule of its queue
	attempts int
	unsure   bool // an attempt failed in a way that doesn't tell whether the message arrived
}

func (j *job) dueAt() int64            { return j.next }
func (j *job) placeInSchedule() *int32 { return &j.place }

// queue is what a destination has to do. Its fields are protected by the notifier's mutex.
type queue struct {
	destination *Destination
	jobs        schedule[*job]
	wake        chan struct{}
	stop        context.CancelFunc
	failing     bool      // the last attempt failed
	pausedUntil time.Time // the destination asked for a pause

	intervalEnd time.Time // of the interval that the limit counts in
	sent        int       // messages in that interval
}

// startQueue starts sending to a destination, until ctx is done or the queue is stopped. The caller holds n.mu.
func (n *Notifier) startQueue(ctx context.Context, destination *Destination, senders *sync.WaitGroup) *queue {
	ctx, stop := context.WithCancel(ctx)
	q := &queue{destination: destination, wake: make(chan struct{}, 1), stop: stop}
	senders.Go(func() { n.send(ctx, q) })
	return q
}

// use makes the queue send to another destination of the same name. What it could not send is tried again at once.
func (q *queue) use(destination *Destination, now time.Time) {
	q.destination, q.pausedUntil = destination, time.Time{}
	for _, j := range slices.Clone(q.jobs.items) {
		q.set(j, now)
	}
}

// add adds a job that is due at a time.
func (q *queue) add(j *job, at time.Time) {
	j.place = -1
	if j.note != nil {
		j.note.job = j
	}
	q.set(j, at)
}

// set makes a job due at a time, and wakes the sender.
func (q *queue) set(j *job, at time.Time) {
	j.next = at.UnixNano()
	q.jobs.set(j)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// admit counts a message toward the destination's limit. It returns false if there have been too many.
func (q *queue) admit(now time.Time) bool {
	limit := q.destination.Limit
	if limit.Messages == 0 {
		return true
	}
	if !now.Before(q.intervalEnd) {
		q.intervalEnd, q.sent = now.Add(limit.Per), 0
	}
	if q.sent >= limit.Messages {
		return false
	}
	q.sent++
	return true
}

func (q *queue) fullUntil() time.Time { return q.intervalEnd }

// enqueue hands a note to its destination: its first message, or a reminder. The caller holds n.mu.
func (n *Notifier) enqueue(x *note, now time.Time) {
	x.begin(n.nameOfRule(x), now)
	x.state = pending
	x.queue.add(&job{note: x}, now)
}

// nameOfRule returns the name of a note's rule. The caller holds n.mu.
func (n *Notifier) nameOfRule(x *note) string {
	if x.record != nil {
		return x.Rule
	}
	return n.config.Rules[x.rule].Name
}

// newID returns an ID for a message.
func newID() string { return "ntf_" + strings.ToLower(rand.Text()) }

// summarize replaces the messages of notes by one. The caller holds n.mu.
func (n *Notifier) summarize(q *queue, notes []*note, now time.Time) {
	q.admit(now)
	s := &summary{ID: newID(), Destination: q.destination.Name, Created: now.UTC(), Rule: n.nameOfRule(notes[0]), Counts: map[Change]int{}}
	first := len(n.unsaved)
	n.unsaved = append(n.unsaved, journal.Note{})
	for _, x := range notes {
		s.Counts[x.change]++
		x.begin(n.nameOfRule(x), now)
		x.state, x.Sent, x.Summary, x.saved = told, now.UTC(), s.ID, true
		n.unsaved = append(n.unsaved, x.entry())
		n.Metrics.CountSuppressed(metrics.SuppressedSummary)
		n.remind(x)
	}
	n.unsaved[first] = encoded(summaryPrefix+s.ID, s)
	q.add(&job{summary: s}, now)
}

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
	if pause := max(time.Until(time.Unix(0, first.next)), time.Until(q.pausedUntil)); pause > 0 {
		return nil, pause
	}
	return first, 0
}

// work makes one attempt at a job, and records the outcome.
func (n *Notifier) work(ctx context.Context, q *queue, j *job) {
	sender, m, withdraw := n.prepare(q, j)
	if m == nil {
		return
	}
	attempt, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	var remote string
	var err error
	if withdraw {
		err = sender.Withdraw(attempt, m)
	} else {
		remote, err = sender.Send(attempt, m)
	}
	if err != nil && ctx.Err() != nil {
		return // it is tried again after the next start
	}
	n.settle(q, j, m, remote, withdraw, err)
}

// prepare returns the message of a job, after recording that it is about to be sent. m is nil if there is nothing to
// send any more.
func (n *Notifier) prepare(q *queue, j *job) (sender Sender, m *Message, withdraw bool) {
	n.mu.Lock()
	sender = q.destination.Sender
	x := j.note
	switch {
	case x == nil:
		m = &Message{ID: j.summary.ID, Thread: j.summary.ID, SentAt: j.summary.Created, Rule: j.summary.Rule, Summary: j.summary.Counts}
		m.URL = n.Link(store.SessionKey{})
		n.mu.Unlock()
		if j.attempts == 0 {
			n.flush() // the summary, and the notes that it tells of
		}
		return sender, m, false
	case x.Over && !x.Delivered && !j.unsure: // nobody was told
		n.Metrics.CountSuppressed(metrics.SuppressedOver)
		n.finish(q, j)
		n.interrupt()
		n.mu.Unlock()
		return nil, nil, false
	case x.Over && x.change == Finished:
		n.finish(q, j)
		n.interrupt()
		n.mu.Unlock()
		return nil, nil, false
	}
	m, withdraw = n.messageOf(x), x.Over
	x.saved = true
	entry := x.entry()
	n.mu.Unlock()
	if j.attempts == 0 || withdraw {
		n.save(entry)
	}
	return sender, m, withdraw
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
	if x.Over {
		m.ID = x.Thread
	}
	if i := slices.IndexFunc(questions, func(q models.Question) bool { return q.ID == x.cause }); i >= 0 {
		m.Question = &questions[i]
	}
	text := NoText
	if rule := n.rules[x.Rule]; rule != nil {
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
func (n *Notifier) settle(q *queue, j *job, m *Message, remote string, withdrawn bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.interrupt() // so that Run writes the outcome to the box
	name, now := q.destination.Name, time.Now()
	if err == nil {
		q.failing = false
		n.delivered(q, j, m, remote, withdrawn, now)
		return
	}
	j.attempts++
	j.unsure = j.unsure || !errors.Is(err, ErrRefused)
	if !q.failing {
		q.failing = true
		n.Logger.Warn("a notification could not be sent", "destination", name, "id", m.ID, "error", err.Error())
	}
	if created := j.created(); errors.Is(err, ErrRefused) || now.Sub(created) >= giveUpAfter {
		n.Logger.Error("a notification was given up", "destination", name, "id", m.ID, "attempts", j.attempts, "error", err.Error())
		n.Metrics.CountNotification(name, metrics.NotificationFailed)
		n.giveUp(q, j)
		return
	}
	n.Metrics.CountNotification(name, metrics.NotificationRetried)
	var retry *RetryError
	if errors.As(err, &retry) {
		q.pausedUntil = now.Add(min(retry.After, lastRetry))
	}
	q.set(j, now.Add(retryDelay(j.attempts)))
}

// retryDelay returns how long to wait after a number of failed attempts.
func retryDelay(attempts int) time.Duration {
	delay := min(firstRetry<<min(attempts-1, 20), lastRetry)
	return delay/2 + mathrand.N(delay)
}

func (j *job) created() time.Time {
	if j.note != nil {
		return j.note.Created
	}
	return j.summary.Created
}

// delivered records that a message was delivered or withdrawn. The caller holds n.mu.
func (n *Notifier) delivered(q *queue, j *job, m *Message, remote string, withdrawn bool, now time.Time) {
	name, x := q.destination.Name, j.note
	if withdrawn {
		n.Metrics.CountNotification(name, metrics.NotificationWithdrawn)
		n.finish(q, j)
		return
	}
	n.Metrics.CountNotification(name, metrics.NotificationSent)
	if x == nil {
		n.finish(q, j)
		return
	}
	x.state, x.Sent, x.Delivered = told, now.UTC(), true
	if x.Remote == "" {
		x.Remote = remote
	}
	n.unsaved = append(n.unsaved, x.entry())
	if x.Over && x.change != Finished {
		j.attempts, x.Created = 0, now.UTC() // to be withdrawn
		q.set(j, now)
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
	n.unsaved = append(n.unsaved, journal.Note{Key: summaryPrefix + j.summary.ID})
}

// drop takes a job out of its queue. The caller holds n.mu.
func (n *Notifier) drop(q *queue, j *job) {
	q.jobs.remove(j)
	if j.note != nil {
		j.note.job = nil
	}
}

// pending returns how many messages are to be sent or withdrawn, and when the oldest of them became due.
func (n *Notifier) pending() (count int, oldest time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range n.queues {
		count += len(q.jobs.items)
		for _, j := range q.jobs.items {
			if created := j.created(); oldest.IsZero() || created.Before(oldest) {
				oldest = created
			}
		}
	}
	return count, oldest
}

// load reads what earlier runs left in the box. Messages that were not sent are sent once their destination is known.
func (n *Notifier) load() {
	if n.Box == nil {
		return
	}
	entries, err := n.Box.Notes()
	if err != nil {
		n.Logger.Error("the notifications of earlier runs can't be read: some may be repeated", "error", err.Error())
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range entries {
		if err := n.read(e); err != nil {
			n.Logger.Warn("a notification of an earlier run can't be read", "error", err.Error())
		}
	}
}

// restored is what an earlier run left in the box, for a destination.
type restored struct {
	destination string
	note        *note    // nil for a summary
	summary     *summary // nil for a note
}

func (r restored) created() time.Time {
	if r.note != nil {
		return r.note.Created
	}
	return r.summary.Created
}

// read takes over an entry of the box. The caller holds n.mu.
func (n *Notifier) read(e journal.Note) error {
	switch {
	case strings.HasPrefix(e.Key, rulePrefix):
		var since time.Time
		if err := json.Unmarshal(e.Value, &since); err != nil {
			return err
		}
		n.since[strings.TrimPrefix(e.Key, rulePrefix)] = since
	case strings.HasPrefix(e.Key, summaryPrefix):
		s := &summary{}
		if err := json.Unmarshal(e.Value, s); err != nil {
			return err
		}
		n.restored = append(n.restored, restored{destination: s.Destination, summary: s})
	case strings.HasPrefix(e.Key, notePrefix):
		x, destination, ok := noteOf(e.Key)
		if !ok {
			return errors.New("its key is malformed")
		}
		x.record = &record{saved: true}
		if err := json.Unmarshal(e.Value, &x.savedRecord); err != nil {
			return err
		}
		x.since = x.Since.UnixNano()
		n.restored = append(n.restored, restored{destination: destination, note: x})
	}
	return nil
}

// restore goes on with what an earlier run left, now that the destinations are known. The caller holds n.mu.
func (n *Notifier) restore(r restored, now time.Time) {
	q, x := n.queues[r.destination], r.note
	switch {
	case x == nil && q == nil:
		n.unsaved = append(n.unsaved, journal.Note{Key: summaryPrefix + r.summary.ID})
		return
	case x == nil:
		q.add(&job{summary: r.summary}, now)
		return
	case q == nil:
		x.queue = &queue{destination: &Destination{Name: r.destination}}
		n.unsave(x)
		return
	}
	x.queue = q
	if x.Over {
		q.add(&job{note: x, unsure: true}, now)
		return
	}
	for y := n.notesOf(x.session); y != nil; y = y.next {
		if y.same(x) { // the older of the two: its cause was over for a while, and it could not be withdrawn in time
			n.end(y, now)
			break
		}
	}
	n.add(x)
	switch {
	case x.GivenUp:
		x.state = dropped
	case x.Sent.IsZero():
		x.state = pending
		q.add(&job{note: x, unsure: true}, now)
	default:
		x.state = told
		n.remind(x)
	}
}
