package report

import (
	"container/list"
	"sync"
	"time"
)

// DefaultCapacity is how many reports a queue holds before it drops reports that newer ones have overtaken. They take
// about 100 MB of memory.
const DefaultCapacity = 100_000

// Queue holds the reports that the server has not taken yet. The reports of a session leave it in the order in which
// they came, and a batch has at most one of each session, so that none overtakes another.
//
// The capacity bounds the reports that a newer one of the same session has overtaken: beyond it, the oldest report of
// such a session is dropped. The newest report of each session always stays, so the queue may hold as many reports as
// there are sessions, whatever the capacity is. Safe for concurrent use.
type Queue struct {
	capacity int
	more     chan struct{} // receives when there may be something to send

	mu       sync.Mutex
	sessions map[string]*waiting
	order    *list.List            // of *waiting, in the order in which they are sent
	deep     map[*waiting]struct{} // the sessions from which a report can be dropped
	length   int
	dropped  int
}

// waiting is the reports of a session that wait. The first one is being sent if sending is set.
type waiting struct {
	reports []Report
	sending bool
	parked  time.Time // not to be sent earlier
	place   *list.Element
}

// NewQueue returns an empty queue.
func NewQueue(capacity int) *Queue {
	return &Queue{capacity: capacity, more: make(chan struct{}, 1), sessions: map[string]*waiting{}, order: list.New(), deep: map[*waiting]struct{}{}}
}

// Put adds a report. An idle one is only added if nothing else of its session waits, and gives way to what comes later:
// each report renews its session.
func (q *Queue) Put(r Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.sessions[r.SessionTopic]
	if w == nil {
		w = &waiting{}
		w.place = q.order.PushBack(w)
		q.sessions[r.SessionTopic] = w
	}
	n := len(w.reports)
	switch {
	case n > 0 && r.Idle:
		return
	case n > 0 && w.reports[n-1].Idle && !(w.sending && n == 1):
		w.reports[n-1] = r
		return
	}
	w.reports = append(w.reports, r)
	q.length++
	q.note(w)
	q.shrink(w)
	q.signal()
}

// note notes whether a report of w can be dropped. The caller holds q.mu.
func (q *Queue) note(w *waiting) {
	if w.droppable() > 0 {
		q.deep[w] = struct{}{}
	} else {
		delete(q.deep, w)
	}
}

// droppable is how many reports a newer one has overtaken and are not being sent.
func (w *waiting) droppable() int {
	n := len(w.reports) - 1
	if w.sending {
		n--
	}
	return n
}

// shrink drops a report if there are too many: one of w, to which one was added, or else of any session. The caller
// holds q.mu.
func (q *Queue) shrink(w *waiting) {
	if q.length <= q.capacity || len(q.deep) == 0 {
		return
	}
	if _, ok := q.deep[w]; !ok {
		for w = range q.deep {
			break
		}
	}
	at := len(w.reports) - 1 - w.droppable()
	if next := &w.reports[at+1]; next.AgentName == "" {
		next.AgentName = w.reports[at].AgentName
	}
	w.reports = append(w.reports[:at], w.reports[at+1:]...)
	q.length--
	q.dropped++
	q.note(w)
}

func (q *Queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// Length returns the number of reports that wait.
func (q *Queue) Length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

// Dropped returns how many reports the capacity has cost.
func (q *Queue) Dropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// take returns the next reports to send, at most limit and about maxBatchBytes. It returns none if none can be sent
// before next, which is zero if the queue is empty. Each one must be settled.
func (q *Queue) take(limit int, now time.Time) (batch []Report, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for e := q.order.Front(); e != nil && len(batch) < limit && size < maxBatchBytes; e = e.Next() {
		w := e.Value.(*waiting)
		if w.parked.After(now) {
			if next.IsZero() || w.parked.Before(next) {
				next = w.parked
			}
			continue
		}
		w.sending = true
		q.note(w)
		batch = append(batch, w.reports[0])
		size += len(w.reports[0].Message) + len(w.reports[0].Content) + 600 // the rest of it is no larger
	}
	return batch, next
}

// done settles a report that is not to be sent again.
func (q *Queue) done(r Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.sessions[r.SessionTopic]
	w.reports, w.sending, w.parked = w.reports[1:], false, time.Time{}
	q.length--
	q.note(w)
	if len(w.reports) == 0 {
		q.order.Remove(w.place)
		delete(q.sessions, r.SessionTopic)
		return
	}
	q.order.MoveToBack(w.place)
	q.signal()
}

// undated settles a report that is to be sent again without its timestamp.
func (q *Queue) undated(r Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.sessions[r.SessionTopic]
	w.reports[0].Timestamp, w.sending = time.Time{}, false
	q.note(w)
	q.signal()
}

// again settles a report that is to be sent again, but not before a time.
func (q *Queue) again(r Report, from time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.sessions[r.SessionTopic]
	w.sending, w.parked = false, from
	q.note(w)
	q.signal()
}
