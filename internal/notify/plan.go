package notify

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// look compares the causes of a session with its notes: it plans notes for new causes, and ends those of causes that
// are over. The caller holds n.mu.
func (n *Notifier) look(key store.SessionKey, now time.Time) {
	session, questions, _, ok := n.Store.SessionInFull(key.AgentID, key.Topic, nil, 1)
	var causes []cause
	var found *models.FleetSession
	if ok {
		found = &session
		causes = causesOf(&session, questions)
		n.recognize(key, causes)
		if n.wants[Answered] {
			causes = append(causes, n.answersOf(key)...)
		}
	}
	for x := n.notesOf(key); x != nil; {
		next := x.next
		holds := slices.ContainsFunc(causes, func(k cause) bool { return k.change == x.change && k.id == x.cause })
		if x.session == key && !holds && !(ok && x.isOwed()) {
			var o Outcome
			var by string
			if x.record != nil {
				o, by = n.outcomeOf(x, found)
			}
			n.end(x, o, by, now)
		}
		x = next
	}
	for _, k := range causes {
		n.plan(key, &session, k)
	}
}

// recognize gives a cause that began with a status the ID that it has in the notes, if the store has dropped that status
// and dates the cause by a later one. The caller holds n.mu.
func (n *Notifier) recognize(key store.SessionKey, causes []cause) {
	if len(causes) != 1 || !beganWithStatus(causes[0].change, causes[0].id) {
		return
	}
	k := &causes[0]
	for x := n.notesOf(key); x != nil; x = x.next {
		if x.session == key && x.change == k.change && x.cause != k.id && beganWithStatus(x.change, x.cause) {
			if !n.Store.KnowsBegin(key.AgentID, key.Topic) {
				k.id = x.cause
			}
			return
		}
	}
}

// plan makes a note of a cause for each destination that a rule names, unless there is one already. The caller holds
// n.mu.
func (n *Notifier) plan(key store.SessionKey, session *models.FleetSession, k cause) {
	for _, rule := range n.rules {
		if k.isBefore(rule.since) || !rule.Selects(k.change, session) {
			continue
		}
		for _, step := range rule.Steps {
			for _, destination := range step.To {
				n.planNote(&note{
					session: key, cause: k.id, queue: n.queues[destination], change: k.change, place: -1, rule: rule,
					since: k.since.UnixNano(), due: k.since.Add(step.AfterChange(k.change)).UnixNano(),
				})
			}
		}
	}
}

// planNote adds a planned note, unless its destination was told of the cause, or the rule has a note already, which it
// then moves to an earlier time if the new one is due earlier. The caller holds n.mu.
func (n *Notifier) planNote(x *note) {
	for y := n.notesOf(x.session); y != nil; y = y.next {
		switch {
		case !y.same(x):
		case y.record != nil:
			return
		case y.rule == x.rule:
			if y.state == planned && y.held == notHeld && x.due < y.due {
				y.due = x.due
				n.schedule.set(y)
			}
			return
		}
	}
	n.add(x)
	n.schedule.set(x)
}

// isTold reports whether the destination of a planned note was told of its cause for another rule, or is about to be.
// The caller holds n.mu.
func (n *Notifier) isTold(x *note) bool {
	for y := n.notesOf(x.session); y != nil; y = y.next {
		if y.same(x) && y != x && (y.record != nil || y.state == collected) {
			return true
		}
	}
	return false
}

// add adds a note to those of its session. The caller holds n.mu.
func (n *Notifier) add(x *note) {
	hash := n.hash(x.session)
	x.next = n.bySession[hash]
	n.bySession[hash] = x
}

// notesOf returns the first note of a session, or of another one with the same hash; nil if there is none. The caller
// holds n.mu.
func (n *Notifier) notesOf(key store.SessionKey) *note { return n.bySession[n.hash(key)] }

func (n *Notifier) hash(key store.SessionKey) uint64 { return maphash.Comparable(n.seed, key) }

func keyOf(session *models.FleetSession) store.SessionKey {
	return store.SessionKey{AgentID: session.AgentID, Topic: session.Topic}
}

// end handles that the cause of a note is over: how, and who ended it. The caller holds n.mu.
func (n *Notifier) end(x *note, o Outcome, by string, now time.Time) {
	first := x.record == nil && x.state == planned && !n.isTold(x)
	n.remove(x)
	if x.record == nil {
		if first {
			n.Metrics.CountSuppressed(metrics.SuppressedOver)
		}
		return
	}
	x.Over, x.Outcome, x.By = true, o, by
	n.leaveSummary(x)
	switch {
	case x.job != nil && !x.job.trying && !x.job.unsure && !x.Delivered: // it never arrived
		n.Metrics.CountSuppressed(metrics.SuppressedOver)
		n.finish(x.queue, x.job)
	case x.job != nil:
		if x.Delivered {
			x.job.over = now
		}
		x.queue.set(x.job, 0) // it finds that the cause is over
	case x.Delivered && n.withdraws(x): // a summary is not withdrawn, but the message before it is
		x.queue.add(&job{note: x, over: now})
		n.unsaved = append(n.unsaved, x.entry()) // with the summary, which does not tell of it any more
	default:
		n.unsave(x)
	}
}

// withdraws reports whether the messages of a note are withdrawn once its cause is over. The caller holds n.mu.
func (n *Notifier) withdraws(x *note) bool {
	if x.change.stays() {
		return false
	}
	f, ok := x.queue.destination.Sender.(followsUp)
	if !ok || !f.FollowsUp() {
		return true
	}
	rule := n.ruleOf(x)
	return rule != nil && rule.FollowUp
}

// forget drops a note, whose message is neither sent nor withdrawn. The caller holds n.mu.
func (n *Notifier) forget(x *note) {
	n.remove(x)
	n.unsave(x)
}

// remove takes a note out of the notes of its session and the schedule. The caller holds n.mu.
func (n *Notifier) remove(x *note) {
	n.schedule.remove(x)
	hash := n.hash(x.session)
	first := n.bySession[hash]
	switch {
	case first == x && x.next == nil:
		delete(n.bySession, hash)
	case first == x:
		n.bySession[hash] = x.next
	}
	for y := first; y != nil; y = y.next {
		if y.next == x {
			y.next = x.next
		}
	}
}
