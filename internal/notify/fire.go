package notify

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
)

// fire handles the notes that are due. The caller holds n.mu.
func (n *Notifier) fire(now time.Time) {
	due := map[*queue][]*note{}
	for {
		x, ok := n.schedule.first()
		if !ok || x.due > now.UnixNano() {
			break
		}
		n.schedule.remove(x)
		due[x.queue] = append(due[x.queue], x)
	}
	for q, notes := range due {
		n.fireAt(q, notes, now)
	}
}

// fireAt hands the notes that are due to their destination: alone or, if they were held, as one summary. The caller
// holds n.mu.
func (n *Notifier) fireAt(q *queue, notes []*note, now time.Time) {
	var held []*note
	for _, x := range notes {
		switch {
		case x.record == nil && (n.isTold(x) || slices.ContainsFunc(held, x.same)):
			n.remove(x)
		case n.isQuiet(x, now):
		case x.held:
			x.held = false
			held = append(held, x)
		case !q.admit(now):
			n.hold(x, q.intervalEnd)
		default:
			n.enqueue(x, now)
		}
	}
	switch len(held) {
	case 0:
	case 1:
		n.enqueue(held[0], now)
	default:
		n.summarize(q, held, now)
	}
}

// isQuiet reports whether quiet hours keep a note from being sent now. It then holds or drops it. Reminders are never
// dropped for good. The caller holds n.mu.
func (n *Notifier) isQuiet(x *note, now time.Time) bool {
	rule := n.ruleOf(x)
	if rule == nil || rule.Quiet == nil {
		return false
	}
	end, quiet := rule.Quiet.EndOf(now)
	if rule.Quiet.Drop && x.state == planned {
		if _, wasQuiet := rule.Quiet.EndOf(time.Unix(0, x.due)); quiet || wasQuiet && !x.held {
			x.state = dropped
			n.Metrics.CountSuppressed(metrics.SuppressedQuiet)
			return true
		}
	}
	if quiet {
		n.hold(x, end)
	}
	return quiet
}

// ruleOf returns the rule of a note, nil if it is not in the rules any more. The caller holds n.mu.
func (n *Notifier) ruleOf(x *note) *Rule {
	if x.record != nil {
		return n.rules[x.Rule]
	}
	return &n.config.Rules[x.rule]
}

// nameOfRule returns the name of a note's rule. The caller holds n.mu.
func (n *Notifier) nameOfRule(x *note) string {
	if x.record != nil {
		return x.Rule
	}
	return n.config.Rules[x.rule].Name
}

func (n *Notifier) hold(x *note, until time.Time) {
	x.held, x.due = true, until.UnixNano()
	n.schedule.set(x)
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
	x.begin(n.nameOfRule(x), now)
	x.state = pending
	x.queue.add(&job{note: x}, now)
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
