package notify

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// Box keeps entries across restarts. *[journal.Journal] is one.
type Box interface {
	// WriteNotes stores and deletes entries, all or none of them, and returns once that is durable.
	WriteNotes(notes []journal.Note) error
	// Notes returns all entries.
	Notes() ([]journal.Note, error)
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
	n.dropMutes(time.Now())
}

// read takes over an entry of the box. The caller holds n.mu.
func (n *Notifier) read(e journal.Note) error {
	switch {
	case strings.HasPrefix(e.Key, mutePrefix):
		var m Mute
		if err := json.Unmarshal(e.Value, &m); err != nil {
			return err
		}
		n.muted.byID[m.ID] = m
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

// restore goes on with what an earlier run left, now that the destinations are known. The caller holds n.mu.
func (n *Notifier) restore(r restored, now time.Time) {
	q, x := n.queues[r.destination], r.note
	switch {
	case x == nil && q == nil:
		n.unsaved = append(n.unsaved, journal.Note{Key: summaryPrefix + r.summary.ID})
		return
	case x == nil:
		n.addSummary(q, r.summary, now)
		return
	case q == nil:
		x.queue = &queue{destination: &Destination{Name: r.destination}}
		n.unsave(x)
		return
	}
	x.queue = q
	if x.Over {
		q.add(&job{note: x, unsure: true, over: now}, now)
		return
	}
	for y := n.notesOf(x.session); y != nil; y = y.next {
		if y.same(x) { // the older of the two: its cause was over for a while, and it could not be withdrawn in time
			n.end(y, "", "", now)
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

// unsave deletes the record of a note from the box, if it is there. The caller holds n.mu.
func (n *Notifier) unsave(x *note) {
	if x.record != nil && x.saved {
		x.saved = false
		n.unsaved = append(n.unsaved, journal.Note{Key: x.boxKey()})
	}
}

// flush writes the changes to the box, in their order, and returns once they are durable. Those that can't be written
// are written with the next ones.
func (n *Notifier) flush() error {
	n.flushing <- struct{}{}
	defer func() { <-n.flushing }()
	n.mu.Lock()
	unsaved := n.unsaved
	n.unsaved = nil
	n.mu.Unlock()
	if len(unsaved) == 0 || n.Box == nil {
		return nil
	}
	err := n.Box.WriteNotes(unsaved)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.unsaved = append(unsaved, n.unsaved...)
		if len(n.unsaved) > 2*n.distinct+1000 {
			n.unsaved = newest(n.unsaved)
			n.distinct = len(n.unsaved)
		}
	}
	return err
}

// newest returns the last entry with each key.
func newest(entries []journal.Note) (kept []journal.Note) {
	seen := make(map[string]bool, len(entries))
	for _, e := range slices.Backward(entries) {
		if !seen[e.Key] {
			seen[e.Key] = true
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

// save flushes before a message is sent. If that fails, messages are sent all the same: they may be repeated after a
// crash, but none is lost.
func (n *Notifier) save() {
	if err := n.flush(); err != nil && !errors.Is(err, journal.ErrClosed) {
		n.Logger.Warn("notifications can't be recorded: they may be repeated after a restart", "error", err.Error())
	}
}
