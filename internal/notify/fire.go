package notify

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
)

// reason is why a message waits longer than its rule says.
type reason uint8

const (
	notHeld reason = iota
	heldQuiet
	heldLimit
	heldMuted
	heldPresent
)

// fire handles the notes that are due: it hands them to their destinations, those that were held as one summary for
// each. The caller holds n.mu, which is released in between.
func (n *Notifier) fire(now time.Time) {
	held := map[*queue][]*note{}
	for i := 1; ; i++ {
		x, ok := n.schedule.first()
		if !ok || x.due > now.UnixNano() {
			break
		}
		n.schedule.remove(x)
		if n.fireNote(x, now) {
			held[x.queue] = append(held[x.queue], x)
		}
		if i%perBreath == 0 {
			n.breathe()
		}
	}
	for q, notes := range held {
		if len(notes) == 1 {
			q.admit(now)
			n.enqueue(notes[0], now)
		} else {
			n.summarize(q, notes, now)
		}
	}
}

// fireNote handles a note that is due. It reports whether the note was held, and is to be sent now as part of a summary.
// The caller holds n.mu.
func (n *Notifier) fireNote(x *note, now time.Time) bool {
	if x.record == nil && n.isTold(x) || !x.queue.covers(x.session.AgentID) {
		n.forget(x)
		return false
	}
	rule, due := n.ruleOf(x), time.Unix(0, x.due)
	if rule != nil && rule.Quiet != nil {
		_, quiet := rule.Quiet.EndOf(now)
		_, wasQuiet := rule.Quiet.EndOf(due)
		switch missed := quiet || wasQuiet && x.held != heldQuiet; {
		case missed && rule.Quiet.Drop && x.state == planned: // a reminder is not dropped for good
			x.state = dropped
			n.Metrics.CountSuppressed(metrics.SuppressedQuiet)
			return false
		case missed: // the server was not running when they ended, unless they go on
			x.held = heldQuiet
		}
	}
	if until, why := n.silence(x, rule, now); why != notHeld {
		n.hold(x, why, until)
		return false
	}
	was := x.held
	x.held = notHeld
	if was != notHeld && was != heldPresent {
		if x.state == planned {
			x.state = collected
		}
		return true
	}
	if !x.queue.admit(now) {
		n.hold(x, heldLimit, x.queue.intervalEnd)
		return false
	}
	n.enqueue(x, now)
	return false
}

// silence returns until when a message may not be sent now, and why; notHeld if it may. The caller holds n.mu.
func (n *Notifier) silence(x *note, rule *Rule, now time.Time) (until time.Time, why reason) {
	if rule != nil && rule.Quiet != nil {
		if end, quiet := rule.Quiet.EndOf(now); quiet {
			return end, heldQuiet
		}
	}
	if until := n.muted.until(x.session.AgentID, rule); now.Before(until) {
		return until, heldMuted
	}
	if d := x.queue.destination.device; d != nil && rule != nil && !rule.AtKeyboard {
		if until := n.presentUntil(d.Owner, x.session); now.Before(until) {
			return until, heldPresent
		}
	}
	return time.Time{}, notHeld
}

// hold makes a note wait until a time. It counts the first time. The caller holds n.mu.
func (n *Notifier) hold(x *note, why reason, until time.Time) {
	if x.held != why {
		switch why {
		case heldMuted:
			n.Metrics.CountSuppressed(metrics.SuppressedMuted)
		case heldPresent:
			n.Metrics.CountSuppressed(metrics.SuppressedKeyboard)
		}
	}
	x.held, x.due = why, until.UnixNano()
	n.schedule.set(x)
}

// lookAgain makes what is held back for a reason due, because the reason may be gone. The caller holds n.mu.
func (n *Notifier) lookAgain(why reason, now time.Time) {
	var found []*note
	for _, x := range n.schedule.items {
		if x.held == why && x.due > now.UnixNano() {
			found = append(found, x)
		}
	}
	for _, x := range found {
		x.due = now.UnixNano()
		n.schedule.set(x)
	}
	for _, q := range n.queues {
		for _, j := range slices.Clone(q.jobs.items) {
			if j.held == why {
				q.set(j, 0)
			}
		}
	}
}

// ruleOf returns the rule of a note, nil if it is not in the rules any more. The caller holds n.mu.
func (n *Notifier) ruleOf(x *note) *Rule {
	if x.record != nil {
		return n.byName[x.Rule]
	}
	return x.rule
}

// nameOfRule returns the name of a note's rule. The caller holds the notifier's mutex.
func nameOfRule(x *note) string {
	if x.record != nil {
		return x.Rule
	}
	return x.rule.Name
}

// remind schedules the next reminder of a note whose message was sent, if its rule has one. The caller holds n.mu.
func (n *Notifier) remind(x *note) {
	rule := n.ruleOf(x)
	if rule == nil || rule.Every == 0 {
		return
	}
	due := x.Sent.Add(rule.Every)
	if rule.Until > 0 && due.After(x.Since.Add(rule.Until)) {
		return
	}
	x.due = due.UnixNano()
	n.schedule.set(x)
}

// enqueue hands a note to its destination: its first message, or a reminder. The caller holds n.mu.
func (n *Notifier) enqueue(x *note, now time.Time) {
	x.begin(nameOfRule(x), now)
	x.state = pending
	x.queue.add(&job{note: x})
}

// newID returns an ID.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// summarize replaces the messages of notes by one. The caller holds n.mu, which is released in between.
func (n *Notifier) summarize(q *queue, notes []*note, now time.Time) {
	q.admit(now)
	s := &summary{ID: newID(messagePrefix), Destination: q.destination.Name, Created: now.UTC(), Rule: nameOfRule(notes[0]), Counts: map[Change]int{}}
	entries := []journal.Note{{}}
	for i, x := range notes {
		s.Counts[x.change]++
		x.begin(nameOfRule(x), now)
		x.state, x.Sent, x.Summary, x.saved = told, now.UTC(), s.ID, true
		entries = append(entries, x.entry())
		n.Metrics.CountSuppressed(metrics.SuppressedSummary)
		n.remind(x)
		if i%perBreath == perBreath-1 {
			n.breathe()
		}
	}
	entries[0] = encoded(summaryPrefix+s.ID, s)
	n.unsaved = append(n.unsaved, entries...) // all at once: after a crash, either all of them are part of it or none is
	n.addSummary(q, s)
}

// addSummary hands a summary to its destination. The caller holds n.mu.
func (n *Notifier) addSummary(q *queue, s *summary) {
	j := &job{summary: s}
	n.summaries[s.ID] = j
	q.add(j)
}

// leaveSummary takes a note whose cause is over out of the summary that is to tell of it, if that was not sent yet. The
// caller holds n.mu.
func (n *Notifier) leaveSummary(x *note) {
	j := n.summaries[x.Summary]
	if x.Summary = ""; j == nil || x.change.stays() {
		return
	}
	s := j.summary
	if s.Counts[x.change]--; s.Counts[x.change] == 0 {
		delete(s.Counts, x.change)
	}
	n.unsaved = append(n.unsaved, encoded(summaryPrefix+s.ID, s))
	if len(s.Counts) == 0 {
		x.queue.set(j, 0) // it finds that there is nothing to tell
	}
}
