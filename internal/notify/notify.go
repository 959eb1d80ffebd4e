// Package notify sends messages to people about changes of sessions. Rules say which changes, and destinations say
// where.
//
// # How it decides
//
// A change (a session waits, is lost, failed, or finished) holds for some time. The notifier looks at a session whenever
// one of its changes may have begun or ended, and compares what holds with its notes: a note is one cause (one question,
// one loss) at one destination. It decides from the state of the store, not from events, so it can fall behind the store,
// miss changes, or restart, and still decides the same.
//
// Destinations are those of the file of rules, and devices that people add. What is due is held back by quiet hours, by a
// mute, by the destination's limit and, for devices, while their owner looks at the dashboard.
//
// # How to read it
//
// rules.go, device.go and message.go have the nouns; parse.go, yaml.go, destinations.go and resolve.go read the file. A
// change goes through notify.go (what to look at), cause.go and plan.go (what holds, and notes of it), fire.go (what is
// due, and what holds it back: quiet.go, mute.go, presence.go), queue.go and deliver.go (attempts), and box.go (what
// survives a restart). Act, in one goroutine, does all of it except for the attempts, for a term (term.go); requests.go has
// what others want of it, view.go what people see of it, and cluster.go what the notifiers of several servers share. The
// other files are the senders, one for each kind of destination, with what they share in text.go, payload.go, http.go and
// smtp.go.
//
// # Invariants
//
//   - A destination gets at most one first message about a cause, whatever number of rules select it, and none if the
//     cause is over before it is due.
//   - A message that is to be sent is in the box before the first attempt, and its outcome afterwards. After a crash, at
//     most the messages that were being sent are repeated, with the same IDs.
//   - Once its cause is over, a message that was sent, or may have been, is withdrawn if its destination can do that.
//     Nothing is sent after it was withdrawn.
//   - What is held back is not lost: it is looked at again when nothing holds it back any more.
//   - A device is told only of what its owner may read at that moment.
//   - Destinations don't wait for one another, and the store waits for none of them.
//   - In a cluster, one notifier acts at a time. It sends nothing that the next one would not know of, and nothing once its
//     term is over. Those that stand by have no notes, and look at no changes.
package notify

import (
	"context"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/textsearch"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// roundInterval is the minimum time between two looks at the changes of the store: many changes share one.
const roundInterval = 5 * time.Millisecond

// changesPerRound is how many changes are read from the store at once.
const changesPerRound = 256

// sessionsPerPage is how many sessions are read from the store at once.
const sessionsPerPage = 1000

// Options are the options of [New].
type Options struct {
	Store   *store.Store
	Box     Box                                   // nil to keep nothing across restarts; in a cluster, see [Notifier.Act]
	Link    func(session store.SessionKey) string // returns the URL of a session, or of the fleet for the zero key; "" for none
	Metrics *metrics.Metrics
	Logger  *slog.Logger
	Now     func() time.Time // the time of sessions, notes and mutes; nil for time.Now
	Cluster *Cluster         // nil for a server alone
}

// Notifier notifies destinations of changes of sessions, as its rules say. Its methods are safe for concurrent use.
type Notifier struct {
	Options

	requests requests
	flushing chan struct{} // has room while nobody writes to the box: its entries are written in order
	reading  sync.Mutex    // held while LoadMutes reads the box

	mu      sync.Mutex // not held for long: see breathe
	term               // while the notifier acts; the zero value while it stands by
	seed    maphash.Seed
	muted   mutes
	present map[string]map[string]presence // pages in use, by owner and ID
	recent  deliveries
	early   []journal.Note // what was applied while LoadMutes reads the box
	loading bool           // LoadMutes reads the box
	loaded  bool           // Load has read the box
}

// New returns a notifier without rules. It stands by until [Notifier.Run] or [Notifier.Act] is called.
func New(o Options) *Notifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Notifier{
		Options: o, flushing: make(chan struct{}, 1), seed: maphash.MakeSeed(),
		muted: mutes{byID: map[string]Mute{}}, present: map[string]map[string]presence{},
	}
	n.requests.wanted = wanted{config: &Config{}, devices: map[string]*Device{}}
	o.Metrics.AddNotifications(n.pending)
	return n
}

// ahead returns by how much the clock of sessions is ahead of that of the machine, on which attempts are made.
func (n *Notifier) ahead() time.Duration { return time.Until(n.Now()).Round(time.Second) }

// Run notifies until ctx is done. It is called when the store has its state.
func (n *Notifier) Run(ctx context.Context) { n.Act(ctx, n.Box) }

// idlePause is how long Act pauses if nothing is due and nothing changes.
const idlePause = 10 * time.Second

// step looks at what changed and plans or cancels messages, hands over those that are due, and returns the number of
// the last change that it looked at, and when something is due again. Without rules, it looks at no changes.
func (n *Notifier) step(ctx context.Context, now time.Time, senders *sync.WaitGroup, interrupt context.CancelFunc) (position uint64, next time.Time) {
	w := n.requests.take(interrupt)
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.newConfig || w.newDevices {
		n.rescan = n.rescan || w.newConfig
		n.adopt(ctx, &w, now, senders)
	}
	for why := range w.released {
		n.lookAgain(why, now)
	}
	if len(n.rules) == 0 && len(n.bySession) == 0 {
		n.position, n.rescan = n.Store.EventPosition(), false // without rules, nothing is of interest
		return ^uint64(0), now.Add(idlePause)
	}
	if n.rescan {
		n.lookAtEverything(ctx, now)
	}
	n.follow(ctx, now)
	n.fire(now)
	next = now.Add(idlePause)
	if first, ok := n.schedule.first(); ok && first.due < next.UnixNano() {
		next = time.Unix(0, first.due)
	}
	return n.position, next
}

// breathe lets those in who wait for n.mu: senders, scrapes and requests, whatever there is to do. The caller holds
// n.mu, and has not left anything half done.
func (n *Notifier) breathe() {
	n.mu.Unlock()
	n.mu.Lock()
}

// perBreath is how much is done under one hold of n.mu: so many sessions or notes are looked at.
const perBreath = 64

// adopt takes over the rules, destinations and devices that are wanted. The caller holds n.mu, which is released in
// between.
func (n *Notifier) adopt(ctx context.Context, w *wanted, now time.Time, senders *sync.WaitGroup) {
	n.setRules(w, now)
	destinations := map[string]*Destination{}
	for name, d := range w.config.Destinations {
		destinations[name] = d
	}
	for _, d := range w.devices {
		destinations[DeviceDestination(d.ID)] = d.destination()
	}
	for name, q := range n.queues {
		if destinations[name] == nil {
			if count := len(q.jobs.items); count > 0 {
				n.Logger.Warn("notifications are dropped, because their destination is gone", "destination", name, "count", count)
			}
			n.abandon(q)
		}
	}
	for name, destination := range destinations {
		n.Metrics.AddDestination(destination.inMetrics())
		if q := n.queues[name]; q != nil {
			if !q.destination.isUnchanged(destination) {
				q.use(destination)
			}
			continue
		}
		n.queues[name] = n.startQueue(ctx, destination, senders)
	}
	for i, x := range n.allNotes() {
		if i%perBreath == 0 {
			n.breathe()
		}
		n.resume(x)
	}
	slices.SortFunc(n.restored, func(a, b restored) int { return a.created().Compare(b.created()) })
	var left []restored
	for i, r := range n.restored {
		if i%perBreath == 0 {
			n.breathe()
		}
		if n.queues[r.destination] == nil && n.isOthers(r.created(), now) {
			left = append(left, r)
			continue
		}
		n.restore(r, now)
		n.rescan = true // its cause may be over
	}
	n.restored = left
}

// setRules makes the rules of the file and those of devices the ones in use. The caller holds n.mu.
func (n *Notifier) setRules(w *wanted, now time.Time) {
	n.rules, n.byName, n.wants, n.covered = nil, map[string]*Rule{}, [changeCount + 1]bool{}, map[string]bool{}
	use := func(r *Rule) {
		n.rules = append(n.rules, r)
		n.byName[r.Name] = r
		for _, change := range r.Changes {
			n.wants[change] = true
		}
	}
	for i := range w.config.Rules {
		r := w.config.Rules[i]
		if since := n.since[r.Name]; since.IsZero() || since.After(now) { // the latter if the clock was ahead
			n.since[r.Name] = w.configured
			n.unsaved = append(n.unsaved, encoded(rulePrefix+r.Name, w.configured))
		}
		title := textsearch.Compile(r.Title)
		r.since, r.title = n.since[r.Name], &title
		use(&r)
	}
	for name, since := range n.since {
		if n.byName[name] == nil && !n.isOthers(since, now) {
			delete(n.since, name)
			n.unsaved = append(n.unsaved, journal.Note{Key: rulePrefix + name})
		}
	}
	file := maps.Clone(n.byName)
	for _, id := range slices.Sorted(maps.Keys(w.devices)) {
		for _, r := range w.devices[id].rules(file) {
			use(r)
		}
	}
}

// allNotes returns the notes of all sessions. The caller holds n.mu.
func (n *Notifier) allNotes() (all []*note) {
	for _, first := range n.bySession {
		for x := first; x != nil; x = x.next {
			all = append(all, x)
		}
	}
	return all
}

// resume goes on with a note under new rules. If n.rescan is set, what is planned is planned anew. The caller holds n.mu.
func (n *Notifier) resume(x *note) {
	switch {
	case n.queues[x.queue.destination.Name] != x.queue, x.record == nil && n.rescan:
		n.forget(x)
	case x.record == nil:
		if x.rule = n.byName[x.rule.Name]; x.rule == nil {
			n.forget(x)
		}
	case x.state == told && x.job == nil:
		n.schedule.remove(x) // the rule may have no reminders any more
		n.remind(x)
	}
}

// lookAtEverything looks at each session that needs attention, has notes, or may have brought about another change that
// a rule selects. The caller holds n.mu, which is released in between.
func (n *Notifier) lookAtEverything(ctx context.Context, now time.Time) {
	n.position = n.Store.EventPosition()
	unseen := map[store.SessionKey]struct{}{}
	for _, x := range n.allNotes() {
		unseen[x.session] = struct{}{}
	}
	looks := 0
	look := func(key store.SessionKey) {
		if looks++; looks%perBreath == 0 {
			n.breathe()
		}
		delete(unseen, key)
		n.look(key, now)
	}
	no := false
	queries := []store.SessionQuery{{Need: models.NeedWaiting}, {Need: models.NeedLost}, {Need: models.NeedFailed}}
	switch {
	case n.wants[Answered]:
		queries = append(queries, store.SessionQuery{Expired: &no})
	case n.wants[Finished]:
		queries = append(queries, store.SessionQuery{Status: models.Success, Idle: &no, Expired: &no})
	}
	for _, q := range queries {
		if n.eachSession(ctx, q, look) != nil {
			return
		}
	}
	for key := range unseen {
		look(key)
	}
	n.rescan = false
}

// eachSession calls visit for each session that a query selects. The error is that of ctx.
func (n *Notifier) eachSession(ctx context.Context, q store.SessionQuery, visit func(store.SessionKey)) error {
	var after *store.SessionPosition
	for {
		page, err := n.Store.Sessions(ctx, q, after, sessionsPerPage)
		if err != nil {
			return err
		}
		for i := range page.Items {
			visit(keyOf(&page.Items[i]))
		}
		if after = page.Next; after == nil {
			return nil
		}
	}
}

// follow looks at the sessions that changed since the last step. The caller holds n.mu.
func (n *Notifier) follow(ctx context.Context, now time.Time) {
	for full := true; full; n.breathe() {
		changes, kept := n.Store.Changes(n.position, n.changes[:0])
		if !kept {
			n.lookAtEverything(ctx, now)
			return
		}
		for i := range changes {
			n.position = changes[i].Number
			if n.concerns(&changes[i]) {
				n.look(keyOf(&changes[i].Session), now)
			}
		}
		full = len(changes) == cap(changes)
		clear(changes) // their texts may be gone from the store
	}
}

// concerns reports whether a change may begin or end a cause that has a note or that a rule selects. The caller holds
// n.mu.
func (n *Notifier) concerns(c *store.Change) bool {
	goesOn := c.Kind == store.Reported && c.Previous == c.Session.CurrentStatus && !c.Revived && c.Asked == nil && len(c.Closed) == 0
	if n.notesOf(keyOf(&c.Session)) != nil {
		return !goesOn
	}
	if n.wants[Answered] && len(c.Closed) > 0 {
		return n.covers(c.Session.AgentID)
	}
	causes := causesOf(&c.Session, nil)
	if len(causes) == 0 || !n.covers(c.Session.AgentID) {
		return false
	}
	return slices.ContainsFunc(n.rules, func(r *Rule) bool { return r.Selects(causes[0].change, &c.Session) })
}

// maxCovered is the maximum number of agents whose coverage is kept.
const maxCovered = 100_000

// covers reports whether the agents of any rule include this one. It matches patterns only once per agent. The caller
// holds n.mu.
func (n *Notifier) covers(agentID string) bool {
	covered, known := n.covered[agentID]
	if !known {
		covered = slices.ContainsFunc(n.rules, func(r *Rule) bool { return r.covers(agentID) })
		if len(n.covered) >= maxCovered {
			clear(n.covered)
		}
		n.covered[agentID] = covered
	}
	return covered
}
