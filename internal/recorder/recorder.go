// Package recorder turns status reports into records: the store admits them, the journal, if there is one, makes them
// durable, and the store applies them.
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

// maxCooling is the number of forgotten sessions that may wait to be filed before filing is started. Until a forgotten
// session is filed, its state still takes memory.
const maxCooling = 1000

// groupSize is the maximum number of reports in a group commit, unless a single call has more. Further calls wait for
// the next group.
const groupSize = 4096

// Recorder records status reports. Its methods are safe for concurrent use.
//
// With a journal, reports are recorded by group commit: while one group is written to disk, the reports that arrive
// form the next, so that many reports share one sync. One group is recorded at a time, and either all or none of its
// reports are recorded.
type Recorder struct {
	store   *store.Store
	journal *journal.Journal // nil if there is none
	metrics *metrics.Metrics

	lost atomic.Int64 // lost sessions at the last call of noteLost; negative before the first call

	mu      sync.Mutex
	waiting []*call // in the order of arrival
	leading bool    // a call is recording its group

	// Only the leading call uses these.
	admission store.Admission
	forgotten []store.Forgotten // not recorded in the journal yet
}

// call is a call of Accept, Expire or a removal that waits for its group.
type call struct {
	team     *store.Team // the team that reports; nil for the whole fleet
	reports  []models.StatusReport
	now      time.Time
	outcomes []store.Outcome
	removal  *removal // nil if the call is not a removal
	steps    *Steps   // nil if nobody wants to know
	err      error
	lead     chan bool // receives true if the call must lead its group, false if the group is done
}

// errUnrecorded is the error of the calls in a group that was abandoned because of a panic.
var errUnrecorded = errors.New("the group was not recorded")

// New returns a recorder for st. j is the journal of st, or nil if it has none.
func New(st *store.Store, j *journal.Journal, m *metrics.Metrics) *Recorder {
	r := &Recorder{store: st, journal: j, metrics: m}
	r.lost.Store(-1)
	return r
}

// Accept records the reports of a team, in their order. A nil team is the whole fleet. The reports must be valid; a
// report of an event must be passed alone. now is the current time.
//
// Accept appends the outcome of each report to outcomes and returns the result. If it returns an error, the reports
// could not be made durable, and none of them was recorded.
//
// Accept keeps no reference to the reports or their strings.
func (r *Recorder) Accept(team *store.Team, reports []models.StatusReport, now time.Time, outcomes []store.Outcome) ([]store.Outcome, error) {
	return r.AcceptInSteps(team, reports, now, outcomes, nil)
}

// AcceptInSteps is [Recorder.Accept], and notes in steps, unless that is nil, when the reports reached each step.
func (r *Recorder) AcceptInSteps(team *store.Team, reports []models.StatusReport, now time.Time, outcomes []store.Outcome, steps *Steps) ([]store.Outcome, error) {
	if steps != nil {
		steps.Submitted = time.Now()
	}
	if r.journal == nil {
		outcomes = r.store.Accept(team, reports, now, outcomes)
		if steps != nil {
			steps.Applied = time.Now()
		}
		return outcomes, nil
	}
	if f := r.journal.Failure(); f != nil {
		return outcomes, f
	}
	if len(reports) == 0 {
		return outcomes, nil
	}
	c := &call{team: team, reports: reports, now: now, outcomes: outcomes, steps: steps, lead: make(chan bool, 1)}
	r.submit(c)
	return c.outcomes, c.err
}

// Steps are when the reports of a call reached each step. A step that they did not reach, or that the server skips, as
// it has no journal, is zero.
type Steps struct {
	Submitted time.Time // they wait for their group
	Grouped   time.Time // they are in a group that is being recorded
	Admitted  time.Time // it is settled what they change
	Durable   time.Time // the journal has them
	Applied   time.Time // the store has them
}

// note notes that the calls of a group have reached a step, for those who want to know.
func note(group []*call, step func(*Steps) *time.Time) {
	for _, c := range group {
		if c.steps != nil {
			*step(c.steps) = time.Now()
		}
	}
}

func grouped(s *Steps) *time.Time  { return &s.Grouped }
func admitted(s *Steps) *time.Time { return &s.Admitted }
func durable(s *Steps) *time.Time  { return &s.Durable }
func applied(s *Steps) *time.Time  { return &s.Applied }

// Expire brings the store to the time now, and records in the journal which sessions the store forgot.
func (r *Recorder) Expire(now time.Time) store.Expiry {
	e := r.store.Expire(now)
	if r.journal == nil {
		return e
	}
	r.noteLost(now)
	if r.store.HasForgotten() && r.journal.Failure() == nil {
		r.submit(&call{now: now, lead: make(chan bool, 1)})
	}
	return e
}

// noteLost records in the journal that the server was running when sessions were lost. Otherwise the next run would
// assume that their TTL ran out during a downtime, and give them more time.
func (r *Recorder) noteLost(now time.Time) {
	lost := int64(r.store.Stats().LostTotal)
	if before := r.lost.Swap(lost); before >= 0 && before != lost {
		r.journal.MarkAlive(now)
	}
}

// RemoveSession removes a session from the journal and the store. It returns the number of removed sessions, 0 or 1. If
// it returns an error, the removal could not be made durable, and nothing was removed.
func (r *Recorder) RemoveSession(key store.SessionKey, now time.Time) (int, error) {
	return r.remove(&removal{
		find: func() ([]store.Forgotten, error) { return r.sessionToForget(key, now) },
		apply: func() int {
			if r.store.RemoveSession(key, now) || r.journal != nil { // in the latter case, find has found it
				return 1
			}
			return 0
		},
	})
}

// RemoveAgent is [Recorder.RemoveSession] for all sessions of an agent. It returns how many of them were in memory, or
// 1 if all of them were only in the journal.
func (r *Recorder) RemoveAgent(ctx context.Context, id string, now time.Time) (int, error) {
	found := 0
	return r.remove(&removal{
		find: func() (forgotten []store.Forgotten, err error) {
			forgotten, err = r.sessionsToForget(ctx, id)
			found = min(1, len(forgotten))
			return forgotten, err
		},
		apply: func() int { return max(found, r.store.RemoveAgent(id, now)) }, // the sessions of an agent that memory forgot are not counted
	})
}

// removal is a call that removes sessions. It forms a group by itself, so that no report can restart one of the
// sessions before it is removed.
type removal struct {
	find  func() ([]store.Forgotten, error) // returns the sessions to remove
	apply func() (sessions int)             // removes them from the store, and returns how many they were
	count int                               // what apply returned
}

// remove carries out a removal, and returns the number of removed sessions.
func (r *Recorder) remove(m *removal) (int, error) {
	if r.journal == nil {
		return m.apply(), nil
	}
	if f := r.journal.Failure(); f != nil {
		return 0, f
	}
	c := &call{removal: m, lead: make(chan bool, 1)}
	r.submit(c)
	return m.count, c.err
}

// recordRemoval records a removal in the journal and then applies it to the store, so that nothing is removed if the
// removal can't be made durable. The next group records the same sessions as forgotten once more, which does no harm.
// The caller leads.
func (r *Recorder) recordRemoval(m *removal) error {
	forgotten, err := m.find()
	if err != nil || len(forgotten) == 0 {
		return err
	}
	return r.append(forgotten, nil, func() { m.count = m.apply() })
}

// sessionToForget returns the record of a forgotten session for the journal, or nil if there is no such session.
func (r *Recorder) sessionToForget(key store.SessionKey, now time.Time) ([]store.Forgotten, error) {
	if !r.store.Has(key) {
		cold, err := r.journal.Cold(key, 1)
		if cold == nil || err != nil || !now.Before(r.store.RetainedUntil(cold.Session)) {
			return nil, err
		}
	}
	agent, _ := r.store.Agent(key.AgentID)
	return []store.Forgotten{{SessionKey: key, LastOfAgent: agent.SessionCount <= 1 && !r.store.HasCold()}}, nil
}

// sessionsToForget is sessionToForget for all sessions of an agent.
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

// submit returns when the group of c is recorded. If c becomes the leader of its group, submit records the group.
func (r *Recorder) submit(c *call) {
	if !r.join(c) && !<-c.lead {
		return
	}
	runtime.Gosched() // lets goroutines that are about to report join the group
	group := r.nextGroup()
	defer func() {
		r.next()
		for _, other := range group {
			if other != c {
				other.lead <- false
			}
		}
	}()
	group = r.record(group)
}

// join adds c to the waiting calls, and reports whether it leads the next group.
func (r *Recorder) join(c *call) (leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, c)
	leads = !r.leading
	r.leading = true
	return leads
}

// nextGroup removes the calls of the next group from the waiting calls, oldest first.
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

// next makes the oldest waiting call the leader, if there is one.
func (r *Recorder) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.leading = false
		return
	}
	r.waiting[0].lead <- true
}

// record records the calls of a group and returns them. If a call can't be admitted together with those before it,
// record puts it and the rest back, to be first in the next group. The caller leads.
func (r *Recorder) record(group []*call) []*call {
	ad := &r.admission
	ad.Outcomes, ad.Records, ad.PossibleDuplicates = ad.Outcomes[:0], ad.Records[:0], ad.PossibleDuplicates[:0]
	defer r.store.Settle()
	for _, c := range group {
		c.err = errUnrecorded
	}
	if first := group[0]; first.removal != nil {
		first.err = r.recordRemoval(first.removal)
		return group
	}
	note(group, grouped)
	if err := r.recall(group); err != nil {
		for _, c := range group {
			c.err = err
		}
		return group
	}
	for i, c := range group {
		if !r.store.Admit(c.team, c.reports, c.now, ad) { // its outcome depends on calls before it
			r.putBack(group[i:])
			group = group[:i]
			break
		}
	}
	if r.store.CoolingCount() > maxCooling {
		r.journal.FileSoon()
	}
	err := r.removeDuplicates(ad)
	note(group, admitted)
	if err == nil {
		err = r.append(nil, ad.Records, func() {
			note(group, durable)
			r.store.Apply(ad.Records...)
			note(group, applied)
		})
	}
	clear(ad.Records) // they reference the memory of requests

	outcomes := ad.Outcomes
	for _, c := range group {
		if c.err = err; err == nil {
			c.outcomes = append(c.outcomes, outcomes[:len(c.reports)]...)
		}
		outcomes = outcomes[len(c.reports):]
	}
	return group
}

// recall loads the sessions and agents of a group's reports from the journal, if memory forgot them. The caller leads.
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

// putBack returns calls of a group to the head of the waiting calls.
func (r *Recorder) putBack(calls []*call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(slices.Clone(calls), r.waiting...)
}

// removeDuplicates looks up in the journal the report IDs that memory may have dropped, and removes duplicates from the
// records.
func (r *Recorder) removeDuplicates(ad *store.Admission) error {
	duplicates := 0
	for _, d := range ad.PossibleDuplicates {
		record := &ad.Records[d.Record]
		key := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
		held, err := r.journal.HasReport(key, record.ReportID, d.Dropped)
		if err != nil {
			return err
		}
		if held {
			ad.Outcomes[d.Outcome] = store.Duplicate
			passOnTurn(record, ad.Records[d.Record+1:])
			*record = models.Record{}
			duplicates++
		}
	}
	if duplicates > 0 {
		ad.Records = slices.DeleteFunc(ad.Records, func(r models.Record) bool { return r.AgentID == "" })
	}
	return nil
}

// passOnTurn passes the turn of a duplicate to the next report of the same session. The duplicate is not recorded, but
// the open questions that it would have withdrawn must still be withdrawn.
func passOnTurn(duplicate *models.Record, later []models.Record) {
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

// append appends records to the journal, along with the sessions that the store forgot and those that are about to be
// removed. Once they are durable, it calls apply, which must apply the records and the removal to the store. If there
// is nothing to append, it does nothing.
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

// TrimCold deletes from the journal the sessions that memory forgot and whose retention is over at the time now. It
// returns their number.
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
		expired, kept := r.expiredCold(f, now)
		left = left || kept
		over = append(over, expired...)
		return nil
	})
	for chunk := range slices.Chunk(over, 1000) {
		if err == nil {
			err = r.forgetCold(chunk)
		}
	}
	if err == nil && !left {
		r.store.ClearCold(mark)
	}
	return len(over), err
}

// expiredCold returns an agent's sessions that exist only in the journal and whose retention is over. left reports
// whether others exist only in the journal.
func (r *Recorder) expiredCold(f journal.Filed, now time.Time) (over []store.Forgotten, left bool) {
	_, known := r.store.Agent(f.AgentID)
	for topic, state := range f.Sessions {
		key := store.SessionKey{AgentID: f.AgentID, Topic: topic}
		switch {
		case r.store.Has(key):
		case now.Before(r.store.RetainedUntil(state)):
			left = true
		default:
			over = append(over, store.Forgotten{SessionKey: key})
		}
	}
	if !known && len(over) == len(f.Sessions) { // nothing of the agent remains
		key := store.SessionKey{AgentID: f.AgentID, Topic: "-"}
		over = append(over, store.Forgotten{SessionKey: key, LastOfAgent: true})
	}
	return over, left
}

// forgetCold deletes sessions from the journal, except those that have come back to memory since.
func (r *Recorder) forgetCold(over []store.Forgotten) error {
	_, err := r.remove(&removal{
		find: func() ([]store.Forgotten, error) {
			return slices.DeleteFunc(over, func(f store.Forgotten) bool {
				_, known := r.store.Agent(f.AgentID)
				return r.store.Has(f.SessionKey) || f.LastOfAgent && known
			}), nil
		},
		apply: func() int { return 0 },
	})
	return err
}

// TrimHistory drops the statuses older than before from memory and from the journal, except the current one of each
// session. It returns the number of statuses deleted from the journal.
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
				continue // except for late reports, all of its statuses are newer
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
