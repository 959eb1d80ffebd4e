package notify

import (
	"container/heap"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// View is what the notifier does, for people.
type View struct {
	Rules        []RuleView        // those of the file, in its order
	Destinations []DestinationView // those of the file and devices, by name
	Pending      []PendingView     // what is to be sent, withdrawn, or is planned: what is next, at most so many as were wanted
	Planned      int               // notifications that are not due yet
	ToSend       int               // messages that are to be sent or withdrawn now
	Oldest       time.Time         // when the oldest of those became due; zero if there is none
	Recent       []Delivery        // what was sent, withdrawn or given up since the start, newest first; in a cluster, by all servers

	// In a cluster, only the server that sends knows what is pending, and how its attempts went.
	Standby bool   // this server does not send
	Sender  string // the name of the server that sends; "" if it is not known, and on a server alone
}

// RuleView is a rule of the file.
type RuleView struct {
	*Rule
	MutedUntil time.Time // zero if it is not muted; by a mute for the rule or for everything
}

// DestinationView is the state of a destination.
type DestinationView struct {
	Name        string
	Kind        string // the key in the file, such as "ntfy"; "device"
	DeviceID    string // "" unless it is a device
	Limit       Limit
	ToSend      int       // messages that are to be sent or withdrawn
	Worked      time.Time // when a message was last delivered; zero if none was since the start
	Failure     string    // what the last attempt that failed said, without secrets; "" if none did since the start
	Failed      time.Time // when that was
	Failing     bool      // the last attempt failed
	PausedUntil time.Time // it asked for a pause until then; zero, or in the past, if there is none
}

// PendingView is a notification that is to be sent.
type PendingView struct {
	Session     store.SessionKey // zero for a summary
	Change      Change           // zero for a summary
	Destination string
	Rule        string // in the file; "" for what a device is notified of by itself
	Due         time.Time
	Attempts    int    // so far
	Withdrawal  bool   // it is to be withdrawn
	Owner       string // of the device; "" for a destination of the file
	Held        string // why it waits longer than its rule says: "quiet", "limit", "muted" or "keyboard"; "" if it doesn't
}

// Result is what became of a message.
type Result string

// The values of Result.
const (
	ResultSent      Result = "sent"
	ResultWithdrawn Result = "withdrawn"
	ResultFailed    Result = "failed" // it was given up
)

// Delivery is a message that was sent, withdrawn or given up.
type Delivery struct {
	At          time.Time        `json:"at"`
	ID          string           `json:"id"`
	Destination string           `json:"destination"`
	Rule        string           `json:"rule,omitzero"`    // as in a PendingView
	Session     store.SessionKey `json:"session,omitzero"` // zero for a summary
	Change      Change           `json:"change,omitzero"`  // zero for a summary
	Summary     map[Change]int   `json:"summary,omitzero"` // nil unless it is a summary
	Result      Result           `json:"result"`
	Failure     string           `json:"failure,omitzero"` // why it was given up, without secrets
}

// maxRecent is how many deliveries people see.
const maxRecent = 200

// deliveries are the newest deliveries. There are more than people see, since some people see only a part of them.
type deliveries struct {
	last uint64 // number of the newest one; they begin with 1
	kept [2 * maxRecent]keptDelivery
}

// keptDelivery is a delivery as the box of a cluster has it.
type keptDelivery struct {
	Number   uint64   `json:"number"`
	Delivery Delivery `json:"delivery"`
}

// add adds a delivery, unless a newer one has its place.
func (ds *deliveries) add(d keptDelivery) {
	ds.last = max(ds.last, d.Number)
	if place := &ds.kept[ds.place(d.Number)]; place.Number < d.Number {
		*place = d
	}
}

// place returns the index of the delivery with a number, which it shares with some older ones.
func (ds *deliveries) place(number uint64) uint64 { return number % uint64(len(ds.kept)) }

// newestFirst returns the deliveries, newest first.
func (ds *deliveries) newestFirst() iter.Seq[*Delivery] {
	return func(yield func(*Delivery) bool) {
		for number := ds.last; number > 0 && ds.last-number < uint64(len(ds.kept)); number-- {
			if d := &ds.kept[ds.place(number)]; d.Number == number && !yield(&d.Delivery) {
				return
			}
		}
	}
}

// note remembers what became of a message. The caller holds n.mu.
func (n *Notifier) note(q *queue, j *job, m *Message, result Result, failure string, now time.Time) {
	d := Delivery{At: now.UTC(), Destination: q.destination.Name, Result: result, Failure: failure}
	if x := j.note; x != nil {
		d.ID, d.Rule, d.Session, d.Change = x.ID, n.ruleInFile(x), x.session, x.change
	} else {
		d.ID, d.Rule, d.Summary = j.summary.ID, j.summary.Rule, m.Summary
	}
	n.numbered++
	kept := keptDelivery{n.numbered, d}
	if n.Cluster == nil {
		n.recent.add(kept)
		return
	}
	key := deliveryPrefix + strconv.FormatUint(n.recent.place(kept.Number), 10)
	n.unsaved = append(n.unsaved, encoded(key, kept)) // all servers learn of it
}

// ruleInFile returns the name that the rule of a note has in the file, "" if it is not there. The caller holds n.mu.
func (n *Notifier) ruleInFile(x *note) string {
	rule := n.ruleOf(x)
	switch {
	case rule == nil:
		return ""
	case x.queue.destination.device != nil:
		return rule.followed
	}
	return rule.Name
}

// AtKeyboard is the value of Held for what is held back because its device's owner uses the dashboard.
const AtKeyboard = "keyboard"

var heldNames = [...]string{notHeld: "", heldQuiet: "quiet", heldLimit: "limit", heldMuted: "muted", heldPresent: AtKeyboard}

// maxExamined is how many planned notifications are examined for a view.
const maxExamined = 10_000

// View returns what the notifier does: at most limit notifications that are to be sent, and those alone whose agents
// covers includes, nil for all.
func (n *Notifier) View(limit int, covers func(agentID string) bool) View {
	var sender string
	if n.Cluster != nil {
		sender = n.Cluster.Sender()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v := View{Rules: n.viewRules(), Destinations: n.viewDestinations(), Standby: n.Cluster != nil && !n.acting, Sender: sender}
	first := earliest{limit: limit}
	covered := map[string]bool{"": false} // by agent, since it takes time to find out
	includes := func(key store.SessionKey) bool {
		if covers == nil {
			return true
		}
		c, known := covered[key.AgentID]
		if !known {
			c = covers(key.AgentID)
			covered[key.AgentID] = c
		}
		return c
	}
	for _, d := range v.Destinations {
		q := n.queues[d.Name]
		if q == nil { // standing by
			break
		}
		for _, j := range q.jobs.items {
			if !includes(j.session()) {
				continue
			}
			v.ToSend++
			if created := j.created(); v.Oldest.IsZero() || created.Before(v.Oldest) {
				v.Oldest = created
			}
			first.add(q, j)
		}
	}
	for _, e := range first.kept() {
		v.Pending = append(v.Pending, n.pendingJob(e.queue, e.job))
	}
	if covers == nil {
		v.Planned = len(n.schedule.items)
	}
	n.schedule.inOrder(maxExamined, func(x *note) bool {
		if includes(x.session) {
			if covers != nil {
				v.Planned++
			}
			if len(v.Pending) < limit {
				v.Pending = append(v.Pending, PendingView{
					Session: x.session, Change: x.change, Destination: x.queue.destination.Name, Rule: n.ruleInFile(x),
					Due: time.Unix(0, x.due).UTC(), Owner: x.queue.owner(), Held: heldNames[x.held],
				})
			}
		}
		return covers != nil || len(v.Pending) < limit
	})
	for d := range n.recent.newestFirst() {
		if len(v.Recent) < maxRecent && includes(d.Session) {
			v.Recent = append(v.Recent, *d)
		}
	}
	return v
}

// Rules returns the rules of the file.
func (n *Notifier) Rules() []RuleView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.viewRules()
}

// viewRules returns the rules of the file. The caller holds n.mu.
func (n *Notifier) viewRules() (rules []RuleView) {
	now, inUse := n.Now(), n.rules
	if !n.acting {
		config, _ := n.requests.current()
		for i := range config.Rules {
			inUse = append(inUse, &config.Rules[i])
		}
	}
	for _, r := range inUse {
		if IsDevice(r.Name) {
			continue
		}
		muted := latest(n.muted.everything, n.muted.rules[r.Name])
		if !now.Before(muted) {
			muted = time.Time{}
		}
		rules = append(rules, RuleView{r, muted})
	}
	return rules
}

// Destinations returns the destinations of the file and devices, by name.
func (n *Notifier) Destinations() []DestinationView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.viewDestinations()
}

// viewDestinations returns the destinations of the file and devices, by name. The caller holds n.mu.
func (n *Notifier) viewDestinations() (destinations []DestinationView) {
	queues := n.queues
	if !n.acting {
		queues = map[string]*queue{} // as they would be
		config, devices := n.requests.current()
		for name, d := range config.Destinations {
			queues[name] = &queue{destination: d}
		}
		for _, d := range devices {
			queues[DeviceDestination(d.ID)] = &queue{destination: d.destination()}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		v := queues[name].view()
		if !v.PausedUntil.IsZero() {
			v.PausedUntil = v.PausedUntil.Add(n.ahead())
		}
		destinations = append(destinations, v)
	}
	return destinations
}

// earliest keeps those of many jobs that are due first.
type earliest struct {
	limit int // how many
	jobs  []queuedJob
}

type queuedJob struct {
	queue *queue
	job   *job
}

func (e *earliest) add(q *queue, j *job) {
	if e.jobs = append(e.jobs, queuedJob{q, j}); len(e.jobs) >= 2*e.limit {
		e.jobs = e.kept()
	}
}

// kept returns them in the order in which they are due.
func (e *earliest) kept() []queuedJob {
	slices.SortStableFunc(e.jobs, func(a, b queuedJob) int { return a.queue.due(a.job).Compare(b.queue.due(b.job)) })
	return e.jobs[:min(len(e.jobs), e.limit)]
}

func (n *Notifier) pendingJob(q *queue, j *job) PendingView {
	p := PendingView{Destination: q.destination.Name, Due: q.due(j).Add(n.ahead()).UTC(), Attempts: j.attempts, Owner: q.owner(), Held: heldNames[j.held]}
	if x := j.note; x != nil {
		p.Session, p.Change, p.Rule, p.Withdrawal = x.session, x.change, n.ruleInFile(x), x.Over
	} else {
		p.Rule = j.summary.Rule
	}
	return p
}

// IsDevice reports whether the name of a destination, or of a rule, is that of a device.
func IsDevice(destination string) bool { return strings.HasPrefix(destination, devicePrefix) }

func (q *queue) view() DestinationView {
	d := q.destination
	v := DestinationView{
		Name: d.Name, Kind: d.Kind, Limit: d.Limit, ToSend: len(q.jobs.items),
		Worked: q.worked, Failure: q.failure, Failed: q.failed, Failing: q.failing, PausedUntil: q.pausedUntil,
	}
	if d.device != nil {
		v.Kind, v.DeviceID = "device", d.device.ID
	}
	return v
}

// inOrder calls visit for at most limit items, in the order in which they are due, until it returns false.
func (s *schedule[T]) inOrder(limit int, visit func(T) bool) {
	next := &places[T]{items: s.items}
	if len(s.items) > 0 {
		next.places = append(next.places, 0)
	}
	for ; limit > 0 && len(next.places) > 0; limit-- {
		place := heap.Pop(next).(int)
		if !visit(s.items[place]) {
			return
		}
		for child := 2*place + 1; child <= 2*place+2 && child < len(s.items); child++ {
			heap.Push(next, child)
		}
	}
}

// places is a heap of places in a schedule, by the time at which their items are due.
type places[T scheduled] struct {
	items  items[T]
	places []int
}

func (p *places[T]) Len() int           { return len(p.places) }
func (p *places[T]) Less(i, j int) bool { return p.items.Less(p.places[i], p.places[j]) }
func (p *places[T]) Swap(i, j int)      { p.places[i], p.places[j] = p.places[j], p.places[i] }

// Push implements heap.Interface.
func (p *places[T]) Push(x any) { p.places = append(p.places, x.(int)) }

// Pop implements heap.Interface.
func (p *places[T]) Pop() any {
	last := p.places[len(p.places)-1]
	p.places = p.places[:len(p.places)-1]
	return last
}

// ErrUnknownDestination is the error of [Notifier.Test] for a destination that doesn't exist.
var ErrUnknownDestination = errors.New("unknown destination")

// Test sends a message to a destination, which says that it is a test, and returns what became of it. name is that of a
// destination in the file, or "device:" and the ID of a device.
func (n *Notifier) Test(ctx context.Context, name string) error {
	sender := n.requests.sender(name)
	if sender == nil {
		return ErrUnknownDestination
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	m := TestMessage(n.Now())
	m.Ahead = n.ahead()
	m.URL = n.Link(store.SessionKey{})
	_, err := sender.Send(ctx, m)
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if q := n.queues[name]; q != nil && q.destination.Sender == sender {
		if err == nil {
			q.worked = now
		} else {
			q.failure, q.failed = err.Error(), now
		}
		q.failing = err != nil
	}
	return err
}
