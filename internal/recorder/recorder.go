// Package recorder makes records of status reports: it has the store let them in, the journal make them durable, where there
// is one, and the store apply them.
package recorder

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// mostCooling is how many sessions that memory forgot may wait to be filed: what they need goes on taking memory until they are.
const mostCooling = 1000

// groupSize is how many reports one group commit takes about; what comes more waits for the next one.
const groupSize = 4096

// Recorder takes status reports. Its methods are safe for concurrent use.
//
// With a journal, reports are recorded in groups: while one group is written to disk, what comes forms the next,
// so that many reports share one sync. One group is recorded at a time, and its reports share one fate.
type Recorder struct {
	store   *store.Store
	journal *journal.Journal // nil where there is none
	metrics *metrics.Metrics

	lost atomic.Int64 // sessions lost since the start, as far as the journal knows that the server ran then; negative before the first look

	mu      sync.Mutex
	waiting []*call // in the order in which they came
	leading bool    // a call records the group that it is in

	// What the leading call alone uses.
	admission store.Admission
	forgotten []store.Forgotten // those that the journal was not told of
}

// call is a call of Accept that waits for its group.
type call struct {
	team     *store.Team // whose reports these are; nil for the whole fleet
	reports  []models.StatusReport
	now      time.Time
	outcomes []store.Outcome
	removal  *removal // nil where it reports
	err      error
	turn     chan bool // true has it record its group, false says that it is done
}

// errUnrecorded is what calls get whose group was given up because something panicked.
var errUnrecorded = errors.New("the group was not recorded")

// New returns a recorder for st, whose journal is j; nil where it has none.
func New(st *store.Store, j *journal.Journal, m *metrics.Metrics) *Recorder {
	r := &Recorder{store: st, journal: j, metrics: m}
	r.lost.Store(-1)
	return r
}

// Accept makes records of the reports of a team, nil for the whole fleet, which must be valid, in their order; one of an event must
// come alone. It appends what became of each to outcomes, and returns that. Where it returns an error, none of them could be made
// durable, and none left a trace.
//
// now is the server's time. Nothing of the reports' memory is kept.
func (r *Recorder) Accept(team *store.Team, reports []models.StatusReport, now time.Time, outcomes []store.Outcome) ([]store.Outcome, error) {
	if r.journal == nil {
		return r.store.Accept(team, reports, now, outcomes), nil
	}
	if f := r.journal.Failure(); f != nil {
		return outcomes, f
	}
	if len(reports) == 0 {
		return outcomes, nil
	}
	c := &call{team: team, reports: reports, now: now, outcomes: outcomes, turn: make(chan bool, 1)}
	r.do(c)
	return c.outcomes, c.err
}

// Expire brings the store to the time now, and tells the journal what it forgot.
func (r *Recorder) Expire(now time.Time) store.Expiry {
	e := r.store.Expire(now)
	if r.journal == nil {
		return e
	}
	r.noteLost(now)
	if r.store.HasForgotten() && r.journal.Failure() == nil {
		r.do(&call{now: now, turn: make(chan bool, 1)})
	}
	return e
}

// noteLost has the journal know that the server ran when sessions were lost, so that the next run does not give them more time, as it
// does where the TTL ran out while the server was down.
func (r *Recorder) noteLost(now time.Time) {
	lost := int64(r.store.Stats().LostTotal)
	if known := r.lost.Swap(lost); known >= 0 && known != lost {
		r.journal.Alive(now)
	}
}

// RemoveSession has the journal and the store forget a session, and returns 0 where there is none, else 1. Where it returns an
// error, the journal could not be told, and nothing was removed.
func (r *Recorder) RemoveSession(key store.SessionKey, now time.Time) (int, error) {
	return r.remove(&removal{
		find: func() ([]store.Forgotten, error) { return r.sessionToForget(key, now) },
		apply: func() int {
			if r.store.RemoveSession(key, now) {
				return 1
			}
			return 0
		},
	})
}

// RemoveAgent is [Recorder.RemoveSession] for all the sessions of an agent. It returns how many it had.
func (r *Recorder) RemoveAgent(ctx context.Context, id string, now time.Time) (int, error) {
	found := 0
	return r.remove(&removal{
		find: func() (forgotten []store.Forgotten, err error) {
			forgotten, err = r.sessionsToForget(ctx, id)
			found = min(1, len(forgotten))
			return forgotten, err
		},
		apply: func() int { return max(found, r.store.RemoveAgent(id, now)) }, // of an agent that memory forgot, nobody counts how many
	})
}

// removal is what a call is for that has sessions forgotten: it is a group of its own, so that no report begins any of them anew
// meanwhile.
type removal struct {
	find  func() ([]store.Forgotten, error) // the sessions
	apply func() (sessions int)             // has the store forget them
	count int
}

// remove has sessions forgotten.
func (r *Recorder) remove(m *removal) (int, error) {
	if r.journal == nil {
		return m.apply(), nil
	}
	if f := r.journal.Failure(); f != nil {
		return 0, f
	}
	c := &call{removal: m, turn: make(chan bool, 1)}
	r.do(c)
	return m.count, c.err
}

// removeFor has the journal told what is to be forgotten, and then the store forget it: a removal that could not be made durable
// did not take place. What the store forgets it tells the journal again, with the next group, which does no harm. The caller
// leads.
func (r *Recorder) removeFor(m *removal) error {
	forgotten, err := m.find()
	if err != nil || len(forgotten) == 0 {
		return err
	}
	return r.append(forgotten, nil, func() { m.count = m.apply() })
}

// sessionToForget returns a session as it is to be told to the journal, or nothing where there is none.
func (r *Recorder) sessionToForget(key store.SessionKey, now time.Time) ([]store.Forgotten, error) {
	if _, err := r.journal.Recall(key, now); err != nil || !r.store.Knows(key) {
		return nil, err
	}
	agent, _ := r.store.Agent(key.AgentID)
	return []store.Forgotten{{SessionKey: key, LastOfAgent: agent.SessionCount <= 1 && !r.store.HasCold()}}, nil
}

// sessionsToForget returns those of an agent.
func (r *Recorder) sessionsToForget(ctx context.Context, id string) (forgotten []store.Forgotten, err error) {
	var after *store.SessionPosition
	for {
		page, _, err := r.store.AgentSessions(ctx, store.SessionQuery{AgentID: id}, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, se := range page.Items {
			forgotten = append(forgotten, store.Forgotten{SessionKey: store.SessionKey{AgentID: id, Topic: se.Topic}})
		}
		if after = page.Next; after == nil {
			break
		}
	}
	if cold, err := r.journal.HoldsAgent(id); err != nil || len(forgotten) == 0 && !cold {
		return nil, err
	} else if len(forgotten) == 0 {
		forgotten = append(forgotten, store.Forgotten{SessionKey: store.SessionKey{AgentID: id, Topic: "-"}})
	}
	forgotten[len(forgotten)-1].LastOfAgent = true
	return forgotten, nil
}

// do returns once c is done.
func (r *Recorder) do(c *call) {
	if !r.join(c) && !<-c.turn {
		return
	}
	runtime.Gosched() // whoever is about to report joins the group
	group := r.nextGroup()
	defer func() {
		r.next()
		for _, other := range group {
			if other != c {
				other.turn <- false
			}
		}
	}()
	group = r.record(group)
}

// join has c wait, and reports whether it leads.
func (r *Recorder) join(c *call) (leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, c)
	leads = !r.leading
	r.leading = true
	return leads
}

// nextGroup takes the calls that have waited for longest.
func (r *Recorder) nextGroup() []*call {
	r.mu.Lock()
	defer r.mu.Unlock()
	reports, n := 0, 0
	for n < len(r.waiting) && (n == 0 || r.waiting[0].removal == nil && r.waiting[n].removal == nil && reports+len(r.waiting[n].reports) <= groupSize) {
		reports += len(r.waiting[n].reports)
		n++
	}
	group := slices.Clone(r.waiting[:n])
	rest := copy(r.waiting, r.waiting[n:])
	clear(r.waiting[rest:])
	r.waiting = r.waiting[:rest]
	return group
}

// next lets another call lead, if one waits.
func (r *Recorder) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.leading = false
		return
	}
	r.waiting[0].turn <- true
}

// record records a group, or its first calls, and returns these; the others go first in the next one. The caller leads.
func (r *Recorder) record(group []*call) []*call {
	ad := &r.admission
	ad.Outcomes, ad.Records, ad.Doubts = ad.Outcomes[:0], ad.Records[:0], ad.Doubts[:0]
	defer r.store.Settle()
	for _, c := range group {
		c.err = errUnrecorded
	}
	if first := group[0]; first.removal != nil {
		first.err = r.removeFor(first.removal)
		return group
	}
	if err := r.recall(group); err != nil {
		for _, c := range group {
			c.err = err
		}
		return group
	}
	for i, c := range group {
		if !r.store.Admit(c.team, c.reports, c.now, ad) { // what it does depends on what comes before it
			r.putBack(group[i:])
			group = group[:i]
			break
		}
	}
	if r.store.Cooling() > mostCooling {
		r.journal.FileSoon()
	}
	err := r.resolve(ad)
	if err == nil {
		err = r.append(nil, ad.Records, func() { r.store.Apply(ad.Records...) })
	}
	clear(ad.Records) // which hold memory of requests

	outcomes := ad.Outcomes
	for _, c := range group {
		if c.err = err; err == nil {
			c.outcomes = append(c.outcomes, outcomes[:len(c.reports)]...)
		}
		outcomes = outcomes[len(c.reports):]
	}
	return group
}

// recall has the store know again what the journal holds of the sessions that a group is of, where memory forgot it. The caller leads.
func (r *Recorder) recall(group []*call) error {
	if !r.store.HasCold() {
		return nil
	}
	for _, c := range group {
		for i := range c.reports {
			key := store.SessionKey{AgentID: c.reports[i].AgentID, Topic: c.reports[i].SessionTopic}
			over, err := r.journal.Recall(key, c.now)
			if err != nil {
				return err
			}
			if over {
				r.forgotten = append(r.forgotten, store.Forgotten{SessionKey: key})
			}
			if err := r.journal.RecallAgent(key.AgentID); err != nil {
				return err
			}
		}
	}
	return nil
}

// putBack has calls that were taken into a group wait for the next one.
func (r *Recorder) putBack(calls []*call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(slices.Clone(calls), r.waiting...)
}

// resolve asks the journal for the report IDs that memory does not hold, and takes duplicates out of the records.
func (r *Recorder) resolve(ad *store.Admission) error {
	duplicates := 0
	for _, d := range ad.Doubts {
		record := &ad.Records[d.Record]
		key := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
		held, err := r.journal.Holds(key, record.ReportID, d.Dropped)
		if err != nil {
			return err
		}
		if held {
			ad.Outcomes[d.Outcome] = store.Duplicate
			handOn(record, ad.Records[d.Record+1:])
			*record = models.Record{}
			duplicates++
		}
	}
	if duplicates > 0 {
		ad.Records = slices.DeleteFunc(ad.Records, func(r models.Record) bool { return r.AgentID == "" })
	}
	return nil
}

// handOn has the next report of the same session withdraw the open questions, if the duplicate, which is not recorded, was to do so.
func handOn(duplicate *models.Record, later []models.Record) {
	if duplicate.Turn == nil {
		return
	}
	i := slices.IndexFunc(later, func(r models.Record) bool {
		return !r.ByEvent && r.Turn == nil && r.AgentID == duplicate.AgentID && r.SessionTopic == duplicate.SessionTopic
	})
	if i < 0 {
		return
	}
	r := &later[i]
	r.Turn, r.Closed = duplicate.Turn, duplicate.Closed
	timestamp := r.Timestamp
	if timestamp.IsZero() {
		timestamp = r.Received
	}
	if timestamp.Before(duplicate.Timestamp) {
		r.Timestamp = duplicate.Timestamp
	}
}

// append makes records durable, and tells the journal what the store forgot and what it is about to forget. Then it has apply do
// that, and take over the records, if there is anything.
func (r *Recorder) append(removed []store.Forgotten, records []models.Record, apply func()) error {
	r.forgotten = append(r.forgotten, r.store.TakeForgotten()...)
	forgotten := r.forgotten
	if len(removed) > 0 {
		forgotten = slices.Concat(forgotten, removed)
	}
	if len(records) == 0 && len(forgotten) == 0 {
		return nil
	}
	started := time.Now()
	return r.journal.Append(forgotten, records, func() {
		r.metrics.ObserveCommit(len(records), time.Since(started))
		r.forgotten = nil
		apply()
	})
}

// TrimCold has the journal forget the sessions that it alone holds and whose retention is over at the time now. It returns how many these were.
func (r *Recorder) TrimCold(ctx context.Context, now time.Time) (removed int, err error) {
	if !r.store.HasCold() {
		return 0, nil
	}
	mark, left := r.store.ColdMark(), false
	if err := r.journal.File(); err != nil {
		return 0, err
	}
	var over []store.Forgotten
	err = r.journal.EachFiled(ctx, func(f journal.Filed) error {
		gone, kept := r.over(f, now)
		left = left || kept
		over = append(over, gone...)
		return nil
	})
	for chunk := range slices.Chunk(over, 1000) {
		if err == nil {
			err = r.forgetCold(chunk)
		}
	}
	if err == nil && !left {
		r.store.NoneCold(mark)
	}
	return len(over), err
}

// over returns the sessions of an agent that the journal alone holds and whose retention is over, and whether it alone holds others.
func (r *Recorder) over(f journal.Filed, now time.Time) (over []store.Forgotten, left bool) {
	_, known := r.store.Agent(f.AgentID)
	for topic, state := range f.Sessions {
		key := store.SessionKey{AgentID: f.AgentID, Topic: topic}
		switch {
		case r.store.Knows(key):
		case now.Before(r.store.RetainedUntil(state)):
			left = true
		default:
			over = append(over, store.Forgotten{SessionKey: key})
		}
	}
	if !known && len(over) == len(f.Sessions) { // nothing is left of the agent either
		key := store.SessionKey{AgentID: f.AgentID, Topic: "-"}
		over = append(over, store.Forgotten{SessionKey: key, LastOfAgent: true})
	}
	return over, left
}

// forgetCold has the journal forget sessions that memory does not hold; those that came back meanwhile stay.
func (r *Recorder) forgetCold(over []store.Forgotten) error {
	_, err := r.remove(&removal{
		find: func() ([]store.Forgotten, error) {
			return slices.DeleteFunc(over, func(f store.Forgotten) bool {
				_, known := r.store.Agent(f.AgentID)
				return r.store.Knows(f.SessionKey) || f.LastOfAgent && known
			}), nil
		},
		apply: func() int { return 0 },
	})
	return err
}

// TrimHistory drops the statuses that are older than before, but for the current one of each session, from memory and from the
// journal. It returns how many it deleted from the journal.
func (r *Recorder) TrimHistory(ctx context.Context, before time.Time) (deleted int, err error) {
	if err := r.journal.File(); err != nil {
		return 0, err
	}
	if err := r.trimAgents(ctx, before); err != nil {
		return 0, err
	}
	var after *store.SessionPosition
	for {
		page, err := r.store.Sessions(ctx, store.SessionQuery{}, after, 1000)
		if err != nil {
			return deleted, err
		}
		for _, se := range page.Items {
			if !se.Created.Before(before) {
				continue // what it reported is younger, but for late reports
			}
			key := store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}
			r.store.TrimHistory(key, before)
			n, err := r.journal.TrimSession(key, before)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
		if after = page.Next; after == nil {
			return deleted, r.journal.Reclaim()
		}
	}
}

func (r *Recorder) trimAgents(ctx context.Context, before time.Time) error {
	var after *store.AgentPosition
	for {
		page, err := r.store.Agents(ctx, store.AgentQuery{}, after, 1000)
		if err != nil {
			return err
		}
		for _, a := range page.Items {
			if !a.Registered.Before(before) {
				continue
			}
			if err := r.journal.TrimAgent(a.ID, before); err != nil {
				return err
			}
		}
		if after = page.Next; after == nil {
			return nil
		}
	}
}
