package notify

import (
	"context"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// term is what the notifier knows while it acts. A term begins with what the box and the store hold, and nothing is left
// of it when it ends.
type term struct {
	acting    bool
	box       Box                   // nil to keep nothing
	rules     []*Rule               // in use: those of the file, and those of devices
	byName    map[string]*Rule      // the same
	wants     [changeCount + 1]bool // whether a rule selects a change
	covered   map[string]bool       // whether the agents of a rule include an agent, by its ID
	since     map[string]time.Time  // from when on each rule of the file applies: it is not about what happened earlier
	changes   []store.Change        // buffer for changes that are looked at
	position  uint64                // number of the last change looked at
	rescan    bool                  // look at every session that a rule may select
	bySession map[uint64]*note      // the first note of each session, by its hash; sessions with the same hash share a chain
	schedule  schedule[*note]
	restored  []restored        // from earlier terms, until the destinations are known
	queues    map[string]*queue // by destination
	summaries map[string]*job   // those that are to be sent, by their IDs
	unsaved   []journal.Note    // changes to the box that are to be written
	distinct  int               // number of unsaved when it last had only one entry per key
	numbered  uint64            // number of the last delivery
	waiting   bool              // messages wait until the box can be written again
}

// Act notifies until ctx is done. It may be called again after it has returned, and each time starts from what the store
// and the box hold, as after a restart. Otherwise the notifier stands by: it sends nothing but tests, and writes only the
// mutes that people add or remove.
//
// Of the notifiers of a cluster, one acts at a time, whose server holds the lease. ctx must end before another one may
// begin; no message is sent after that, and attempts are cut off. box is that of the term: what is written to it must be
// rejected once another term has begun, and Act must begin only once this server has applied everything that was written
// in earlier terms. So the box has no note of which the notifier that acts does not know.
func (n *Notifier) Act(ctx context.Context, box Box) {
	entries, ok := n.entriesOf(ctx, box)
	if !ok {
		return
	}
	n.begin(box, entries)
	defer n.standBy()
	var senders sync.WaitGroup
	defer n.flush() //nolint:errcheck // they may be repeated after the next start
	defer senders.Wait()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for ctx.Err() == nil {
		pause, stop := context.WithCancel(ctx)
		position, next := n.step(ctx, n.Now(), &senders, stop)
		n.flush() //nolint:errcheck // the next step tries again
		until, done := context.WithTimeout(pause, next.Sub(n.Now()))
		n.Store.AwaitChange(until, position) //nolint:errcheck // whatever ended it, the next step finds out
		done()
		stop()
		rest.Reset(roundInterval)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}
}

// entriesOf returns what the box holds. If it can't be read, a server alone goes on without it, and one of a cluster tries
// again until ctx is done: it would repeat what others have sent.
func (n *Notifier) entriesOf(ctx context.Context, box Box) (entries []journal.Note, ok bool) {
	if box == nil {
		return nil, true
	}
	for {
		entries, err := box.Notes()
		if err == nil && n.Cluster != nil {
			err = n.loadOnce()
		}
		switch {
		case err == nil:
			return entries, true
		case n.Cluster == nil:
			n.Logger.Error("the notifications of earlier runs can't be read: some may be repeated", "error", err.Error())
			return nil, true
		}
		n.Logger.Error("nothing is sent, because the notifications of earlier runs can't be read", "error", err.Error())
		select {
		case <-time.After(readAgain):
		case <-ctx.Done():
			return nil, false
		}
	}
}

// readAgain is how long to wait until the box is read again.
const readAgain = 5 * time.Second

// begin begins a term. entries are what the box holds.
func (n *Notifier) begin(box Box, entries []journal.Note) {
	n.requests.beginTerm()
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.term = term{
		acting: true, box: box, since: map[string]time.Time{}, bySession: map[uint64]*note{}, queues: map[string]*queue{},
		summaries: map[string]*job{}, changes: make([]store.Change, 0, changesPerRound),
		numbered: n.recent.last,
		rescan:   true, // what the store has from earlier is not among its changes
	}
	if n.Cluster == nil {
		n.learn(entries)
	}
	n.takeOver(entries, now)
}

// standBy ends a term.
func (n *Notifier) standBy() {
	n.requests.endTerm()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.term = term{}
}
