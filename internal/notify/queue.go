package notify

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// job is a message that a destination has to send, or to withdraw.
type job struct {
	note     *note    // nil for a summary
	summary  *summary // nil for a note
	next     int64    // when it is due, in nanoseconds since its queue began: whoever sets the clock does not move it
	place    int32    // in the schedule of its queue
	attempts int
	over     time.Time // from when on a message that was delivered is to be withdrawn; zero if it isn't
	held     reason    // why it is not tried now; zero if it is
	trying   bool      // an attempt is being made
	unsure   bool      // an attempt failed in a way that doesn't tell whether the message arrived
}

func (j *job) dueAt() int64            { return j.next }
func (j *job) placeInSchedule() *int32 { return &j.place }

// session returns the session that the job is about, the zero key for a summary.
func (j *job) session() (key store.SessionKey) {
	if j.note != nil {
		key = j.note.session
	}
	return key
}

// created returns when there was something to do: a message became due, or was to be withdrawn.
func (j *job) created() time.Time {
	switch {
	case !j.over.IsZero():
		return j.over
	case j.note != nil:
		return j.note.Created
	}
	return j.summary.Created
}

// queue is what a destination has to do. Its fields are protected by the notifier's mutex.
type queue struct {
	destination *Destination
	jobs        schedule[*job]
	wake        chan struct{}
	stop        context.CancelFunc
	began       time.Time
	failing     bool      // the last attempt failed
	failure     string    // what the last attempt that failed said; "" if none did since the start
	failed      time.Time // when that was
	gaveUp      time.Time // when the log last said that a message was given up
	unlogged    int       // messages that were given up since then
	worked      time.Time // when the last attempt that succeeded ended; zero if none did since the start
	pausedUntil time.Time // the destination asked for a pause, which ends then on the clock of the machine

	intervalEnd time.Time // of the interval that the limit counts in
	sent        int       // messages in that interval
}

// startQueue starts sending to a destination, until ctx is done or the queue is stopped. The caller holds n.mu.
func (n *Notifier) startQueue(ctx context.Context, destination *Destination, senders *sync.WaitGroup) *queue {
	ctx, stop := context.WithCancel(ctx)
	q := &queue{destination: destination, wake: make(chan struct{}, 1), stop: stop, began: time.Now()}
	senders.Go(func() { n.send(ctx, q) })
	return q
}

// abandon stops a queue whose destination is not in the rules any more, and drops what it has to do. The caller holds
// n.mu.
func (n *Notifier) abandon(q *queue) {
	q.stop()
	delete(n.queues, q.destination.Name)
	for _, j := range slices.Clone(q.jobs.items) {
		n.finish(q, j)
	}
}

// covers reports whether the destination may be told of an agent.
func (q *queue) covers(agentID string) bool {
	d := q.destination.device
	return d == nil || d.Covers == nil || d.Covers(agentID)
}

// owner returns the owner of the device that the destination is, "" for one of the file.
func (q *queue) owner() string {
	if d := q.destination.device; d != nil {
		return d.Owner
	}
	return ""
}

// use makes the queue send to another destination of the same name. What it could not send is tried again at once.
func (q *queue) use(destination *Destination) {
	q.destination, q.pausedUntil = destination, time.Time{}
	for _, j := range slices.Clone(q.jobs.items) {
		q.set(j, 0)
	}
}

// add adds a job that is due now.
func (q *queue) add(j *job) {
	j.place = -1
	if j.note != nil {
		j.note.job = j
	}
	q.set(j, 0)
}

// set makes a job due after a time, and wakes the sender.
func (q *queue) set(j *job, after time.Duration) {
	j.next = int64(time.Since(q.began) + after)
	q.jobs.set(j)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// due returns when a job is due, on the clock of the machine.
func (q *queue) due(j *job) time.Time { return q.began.Add(time.Duration(j.next)) }

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
