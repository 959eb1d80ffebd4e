// Package recorder turns status reports into records.
//
// A [Recorder] collects the reports that arrive at the same time in groups, and hands each group to a [Log], which makes
// it durable and decides in which order groups take effect. With a log of the server's own, that is the journal. With a
// log that several servers share, it is a stream: see package cluster. Either way, a [Settler] settles what each report
// changes, and applies it to the journal and the store.
//
// # How to read it
//
// recorder.go and acknowledge.go have what callers use, group.go the groups. settle.go settles, own.go is the log of a
// server that shares it with no other, and apply.go applies the messages of a shared one. remove.go, retention.go and
// space.go delete.
package recorder

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Log is where groups of calls are recorded. It makes them durable and puts them in an order, in which they are settled
// and applied. Its methods are safe for concurrent use.
type Log interface {
	// Record returns when the calls of a group have their outcomes and errors, and what they changed is durable and
	// applied. It may leave calls at the end of the group for a later one, and returns the others.
	Record(group []*Call) (recorded []*Call)

	// Parallel is how many groups may be recorded at the same time.
	Parallel() int

	// Do records a message about what is to be deleted, and returns the number of records that it deleted.
	Do(ctx context.Context, m *journal.Message) (deleted int, err error)

	// Leads reports whether this server is the one that deletes history for all servers with the log.
	Leads() bool

	// Failure returns why nothing can be recorded, or nil if something can.
	Failure() error

	// Now returns the time by which the log decides what has expired.
	Now() time.Time
}

// Recorder records status reports. Its methods are safe for concurrent use.
type Recorder struct {
	store   *store.Store
	journal *journal.Journal // nil if there is none
	log     Log              // nil if state is kept in memory only
	shared  bool             // the log is one that servers share

	lost atomic.Int64 // lost sessions at the last call of noteLost; negative before the first call

	mu      sync.Mutex
	waiting []*Call // in the order of arrival
	leaders int     // calls that record their groups
}

// New returns a recorder for st. j is the journal of st, or nil if it has none.
func New(st *store.Store, j *journal.Journal, m *metrics.Metrics) *Recorder {
	r := &Recorder{store: st, journal: j}
	r.lost.Store(-1)
	if j != nil {
		r.log = ownLog{NewSettler(st, j, m)}
	}
	return r
}

// NewShared returns a recorder for a log that servers share. st and j are what the log's messages are applied to.
func NewShared(st *store.Store, j *journal.Journal, log Log) *Recorder {
	return &Recorder{store: st, journal: j, log: log, shared: true}
}

// Now returns the server's time: that by which sessions expire.
func (r *Recorder) Now() time.Time {
	if r.log == nil {
		return time.Now()
	}
	return r.log.Now()
}

// Accept records the reports of a team, in their order. A nil team is the whole fleet. The reports must be valid; a
// report of an event must be passed alone. now is the current time.
//
// Accept appends the outcome of each report to outcomes and returns the result. If it returns an error, the reports
// could not be made durable, and none of them was recorded; an [Unavailable] error may say that this is not certain.
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
	if r.log == nil {
		outcomes = r.store.Accept(team, reports, now, outcomes)
		if steps != nil {
			steps.Applied = time.Now()
		}
		return outcomes, nil
	}
	if err := r.log.Failure(); err != nil {
		return outcomes, err
	}
	if len(reports) == 0 {
		return outcomes, nil
	}
	c := &Call{Team: team, Reports: reports, Now: now, Outcomes: outcomes, steps: steps, lead: make(chan bool, 1)}
	r.submit(c)
	return c.Outcomes, c.Err
}

// Expire brings the store to the time now, and records in the journal which sessions the store forgot. With a log that
// servers share, it does nothing: sessions expire as messages are applied.
func (r *Recorder) Expire(now time.Time) store.Expiry {
	if r.shared {
		return store.Expiry{}
	}
	e := r.store.Expire(now)
	if r.log == nil {
		return e
	}
	r.noteLost(now)
	if r.store.HasForgotten() && r.log.Failure() == nil {
		r.submit(&Call{Now: now, lead: make(chan bool, 1)})
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
