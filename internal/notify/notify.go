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
// # Invariants
//
//   - A destination gets at most one first message about a cause, whatever number of rules select it, and none if the
//     cause is over before it is due.
//   - A message that is to be sent is in the box before the first attempt, and its outcome afterwards. After a crash, at
//     most the messages that were being sent are repeated, with the same IDs.
//   - Once its cause is over, a message that was sent, or may have been, is withdrawn if its destination can do that.
//     Nothing is sent after it was withdrawn.
//   - Destinations don't wait for one another, and the store waits for none of them.
package notify

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
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
	Box     Box                                   // nil to keep nothing across restarts
	Link    func(session store.SessionKey) string // returns the URL of a session, or of the fleet for the zero key; "" for none
	Metrics *metrics.Metrics
	Logger  *slog.Logger
}

// Notifier notifies destinations of changes of sessions, as its rules say. Its methods are safe for concurrent use.
type Notifier struct {
	Options

	flushing chan struct{} // has room while nobody writes to the box: its entries are written in order

	backlog atomic.Pointer[backlog] // as of the last step

	mu         sync.Mutex
	config     *Config
	configured time.Time            // when config was set
	rules      map[string]*Rule     // of config, by name
	covered    map[string]bool      // whether the agents of a rule include an agent, by its ID
	since      map[string]time.Time // from when on each rule applies: it is not about what happened before it existed
	changes    []store.Change       // buffer for changes that are looked at
	position   uint64               // number of the last change looked at
	rescan     bool                 // look at every session that a rule may select
	seed       maphash.Seed
	bySession  map[uint64]*note // the first note of each session, by its hash; sessions with the same hash share a chain
	schedule   schedule[*note]
	restored   []restored        // from earlier runs, until the destinations are known
	queues     map[string]*queue // by destination
	unsaved    []journal.Note    // changes to the box that are to be written
	distinct   int               // number of unsaved when it last had only one entry per key
	interrupt  func()            // ends the pause of Run
}

// New returns a notifier without rules. It does nothing until [Notifier.Run] is called.
func New(o Options) *Notifier {
	n := &Notifier{
		Options: o, flushing: make(chan struct{}, 1), config: &Config{}, since: map[string]time.Time{},
		seed: maphash.MakeSeed(), bySession: map[uint64]*note{}, changes: make([]store.Change, 0, changesPerRound), queues: map[string]*queue{}, interrupt: func() {},
	}
	n.backlog.Store(&backlog{})
	o.Metrics.AddNotifications(n.pending)
	return n
}

// SetConfig replaces the rules and destinations. What was sent stays known; what is due is planned anew.
func (n *Notifier) SetConfig(config *Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config, n.configured = config, time.Now()
	for name := range config.Destinations {
		n.Metrics.AddDestination(name)
	}
	n.rescan = true
	n.interrupt()
}

// Run notifies until ctx is done. It must be called once, when the store has its state.
func (n *Notifier) Run(ctx context.Context) {
	n.load()
	var senders sync.WaitGroup
	defer n.flush() //nolint:errcheck // they may be repeated after the next start
	defer senders.Wait()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for ctx.Err() == nil {
		pause, stop := context.WithCancel(ctx)
		position, next := n.step(ctx, time.Now(), &senders, stop)
		n.flush() //nolint:errcheck // the next step tries again
		until, done := context.WithDeadline(pause, next)
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

// idlePause is how long Run pauses if nothing is due and nothing changes.
const idlePause = 10 * time.Second

// step looks at what changed and plans or cancels messages, hands over those that are due, and returns the number of
// the last change that it looked at, and when something is due again. Without rules, it looks at no changes.
func (n *Notifier) step(ctx context.Context, now time.Time, senders *sync.WaitGroup, interrupt func()) (position uint64, next time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.interrupt = interrupt
	defer func() { n.backlog.Store(n.backlogOf()) }()
	if n.rescan {
		n.adopt(ctx, now, senders)
		n.lookAtEverything(ctx, now)
	}
	if len(n.config.Rules) == 0 && len(n.bySession) == 0 {
		return ^uint64(0), now.Add(idlePause)
	}
	n.follow(ctx, now)
	n.fire(now)
	next = now.Add(idlePause)
	if first, ok := n.schedule.first(); ok && first.due < next.UnixNano() {
		next = time.Unix(0, first.due)
	}
	return n.position, next
}

// adopt takes over the rules and destinations of the configuration. The caller holds n.mu.
func (n *Notifier) adopt(ctx context.Context, now time.Time, senders *sync.WaitGroup) {
	n.rules, n.covered = map[string]*Rule{}, map[string]bool{}
	for i := range n.config.Rules {
		rule := &n.config.Rules[i]
		n.rules[rule.Name] = rule
		if n.since[rule.Name].IsZero() {
			n.since[rule.Name] = n.configured
			n.unsaved = append(n.unsaved, encoded(rulePrefix+rule.Name, n.configured))
		}
	}
	for name := range n.since {
		if n.rules[name] == nil {
			delete(n.since, name)
			n.unsaved = append(n.unsaved, journal.Note{Key: rulePrefix + name})
		}
	}
	for name, q := range n.queues {
		if n.config.Destinations[name] == nil {
			n.Logger.Warn("notifications are dropped, because their destination is not in the rules any more", "destination", name, "count", len(q.jobs.items))
			n.abandon(q)
		}
	}
	for name, destination := range n.config.Destinations {
		if q := n.queues[name]; q != nil {
			q.use(destination, now)
			continue
		}
		n.queues[name] = n.startQueue(ctx, destination, senders)
	}
	for _, x := range n.allNotes() {
		n.resume(x, now)
	}
	slices.SortFunc(n.restored, func(a, b restored) int { return a.created().Compare(b.created()) })
	for _, r := range n.restored {
		n.restore(r, now)
	}
	n.restored = nil
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

// resume goes on with a note under new rules. The caller holds n.mu.
func (n *Notifier) resume(x *note, now time.Time) {
	switch {
	case n.queues[x.queue.destination.Name] != x.queue, x.record == nil: // the latter is planned anew
		n.forget(x)
	case x.state == told && x.job == nil:
		n.schedule.remove(x) // the rule may have no reminders any more
		n.remind(x)
	}
}

// lookAtEverything looks at each session that needs attention, has finished, or has notes. The caller holds n.mu.
func (n *Notifier) lookAtEverything(ctx context.Context, now time.Time) {
	n.position = n.Store.EventPosition()
	unseen := map[store.SessionKey]struct{}{}
	for _, x := range n.allNotes() {
		unseen[x.session] = struct{}{}
	}
	look := func(key store.SessionKey) {
		delete(unseen, key)
		n.look(key, now)
	}
	no := false
	queries := []store.SessionQuery{{Need: models.NeedWaiting}, {Need: models.NeedLost}, {Need: models.NeedFailed}}
	if slices.ContainsFunc(n.config.Rules, func(r Rule) bool { return slices.Contains(r.Changes, Finished) }) {
		queries = append(queries, store.SessionQuery{Status: models.Success, Idle: &no, Expired: &no})
	}
	for _, q := range queries {
		if n.eachSession(ctx, q, look) != nil {
			return
		}
	}
	for key := range unseen {
		n.look(key, now)
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
	for full := true; full; {
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
	causes := causesOf(&c.Session, nil)
	if len(causes) == 0 || !n.covers(c.Session.AgentID) {
		return false
	}
	return slices.ContainsFunc(n.config.Rules, func(r Rule) bool { return r.Selects(causes[0].change, &c.Session) })
}

// maxCovered is the maximum number of agents whose coverage is kept.
const maxCovered = 100_000

// covers reports whether the agents of any rule include this one. It matches patterns only once per agent. The caller
// holds n.mu.
func (n *Notifier) covers(agentID string) bool {
	covered, known := n.covered[agentID]
	if !known {
		covered = slices.ContainsFunc(n.config.Rules, func(r Rule) bool {
			return len(r.Agents) == 0 || access.Matches(r.Agents, agentID)
		})
		if len(n.covered) >= maxCovered {
			clear(n.covered)
		}
		n.covered[agentID] = covered
	}
	return covered
}
