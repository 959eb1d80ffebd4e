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

// takeOver takes over what earlier terms left in the box. Messages that were not sent are sent once their destination
// is known. The caller holds n.mu.
func (n *Notifier) takeOver(entries []journal.Note, now time.Time) {
	for _, e := range entries {
		if err := n.read(e, now); err != nil {
			n.Logger.Warn("a notification of an earlier run can't be read", "error", err.Error())
		}
	}
}

// read takes over an entry of the box. The caller holds n.mu.
func (n *Notifier) read(e journal.Note, now time.Time) error {
	switch {
	case strings.HasPrefix(e.Key, mutePrefix):
		var m Mute
		if err := json.Unmarshal(e.Value, &m); err != nil {
			return err
		}
		if m.isOver(now) {
			n.unsaved = append(n.unsaved, journal.Note{Key: e.Key})
		}
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
		n.addSummary(q, r.summary)
		return
	case q == nil:
		x.queue = &queue{destination: &Destination{Name: r.destination}}
		n.unsave(x)
		return
	}
	x.queue = q
	if x.Over {
		q.add(&job{note: x, unsure: true, over: now})
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
		q.add(&job{note: x, unsure: true})
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

// maxWritten is about how many bytes of entries are written at once in a cluster, whose messages have a maximum size.
const maxWritten = 256 << 10

// flush writes the changes to the box, in their order, and returns once they are durable. Those that can't be written
// are written with the next ones.
func (n *Notifier) flush() error {
	n.flushing <- struct{}{}
	defer func() { <-n.flushing }()
	n.mu.Lock()
	unsaved, box := n.unsaved, n.box
	n.unsaved = nil
	n.mu.Unlock()
	if len(unsaved) == 0 || box == nil {
		return nil
	}
	for len(unsaved) > 0 {
		count := len(unsaved)
		if n.Cluster != nil {
			count = fitting(unsaved)
		}
		if err := box.WriteNotes(unsaved[:count]); err != nil {
			n.writeLater(unsaved)
			return err
		}
		unsaved = unsaved[count:]
	}
	return nil
}

// writeLater lets entries that could not be written be written with the next ones.
func (n *Notifier) writeLater(entries []journal.Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unsaved = append(entries, n.unsaved...)
	if len(n.unsaved) > 2*n.distinct+1000 {
		n.unsaved = newest(n.unsaved)
		n.distinct = len(n.unsaved)
	}
}

// fitting returns how many of the entries are written at once: at least one. A summary comes before the notes that it
// tells of. If only a part of them is written before a crash, the others are told of once more, and none is lost.
func fitting(entries []journal.Note) int {
	bytes := 0
	for i, e := range entries {
		if bytes += len(e.Key) + len(e.Value); bytes > maxWritten {
			return max(i, 1)
		}
	}
	return len(entries)
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

// save flushes before a message is sent, and reports whether it may be sent. If the box can't be written, a server alone
// sends all the same: messages may be repeated after a crash, but none is lost. In a cluster, they wait, because the next
// server that acts would not know of them.
func (n *Notifier) save() bool {
	err := n.flush()
	n.mu.Lock()
	logged := n.waiting
	n.waiting = err != nil && n.Cluster != nil
	n.mu.Unlock()
	switch {
	case err == nil:
		return true
	case n.Cluster == nil && !errors.Is(err, journal.ErrClosed):
		n.Logger.Warn("notifications can't be recorded: they may be repeated after a restart", "error", err.Error())
	case n.Cluster != nil && !logged:
		n.Logger.Warn("notifications wait, because they can't be recorded", "error", err.Error())
	}
	return n.Cluster == nil
}
