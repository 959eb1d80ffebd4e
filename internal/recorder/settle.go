package recorder

import (
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// maxCooling is the number of forgotten sessions that may wait to be filed before filing is started. Until a forgotten
// session is filed, its state still takes memory.
const maxCooling = 1000

// Settler settles what reports and removals change, and applies it to a journal and its store. It is not safe for
// concurrent use.
type Settler struct {
	store   *store.Store
	journal *journal.Journal
	metrics *metrics.Metrics

	admission store.Admission
	forgotten []store.Forgotten // not recorded in the journal yet
}

// NewSettler returns a settler for a store and its journal.
func NewSettler(st *store.Store, j *journal.Journal, m *metrics.Metrics) *Settler {
	return &Settler{store: st, journal: j, metrics: m}
}

// reset empties the admission, and returns it.
func (s *Settler) reset() *store.Admission {
	ad := &s.admission
	ad.Outcomes, ad.Records, ad.PossibleDuplicates = ad.Outcomes[:0], ad.Records[:0], ad.PossibleDuplicates[:0]
	ad.Lookups = ad.Lookups[:0]
	return ad
}

// settled ends what reset began.
func (s *Settler) settled() {
	clear(s.admission.Records) // they reference the memory of requests
	s.store.Settle()
}

// cold reports whether the journal holds a session that memory forgot, and whether its retention is over at the time
// now.
func (s *Settler) cold(key store.SessionKey, now time.Time) (held, over bool, err error) {
	session, err := s.journal.Cold(key, 1)
	if session == nil || err != nil {
		return false, false, err
	}
	return true, !now.Before(s.store.RetainedUntil(session.Session)), nil
}

// recall loads the sessions and agents of reports from the journal, if memory forgot them.
func (s *Settler) recall(reports []models.StatusReport, now time.Time) error {
	if !s.store.HasCold() {
		return nil
	}
	if err := s.recallSessions(reports, now); err != nil {
		return err
	}
	return s.recallAgents(reports)
}

// recallSessions loads the sessions of reports from the journal, if memory forgot them. Those whose retention is over
// are noted as forgotten instead.
func (s *Settler) recallSessions(reports []models.StatusReport, now time.Time) error {
	for i := range reports {
		key := store.SessionKey{AgentID: reports[i].AgentID, Topic: reports[i].SessionTopic}
		over, err := s.journal.Recall(key, now)
		if err != nil {
			return err
		}
		if over {
			s.forgotten = append(s.forgotten, store.Forgotten{SessionKey: key})
		}
	}
	return nil
}

// recallAgents loads the agents of reports from the journal, if memory forgot them.
func (s *Settler) recallAgents(reports []models.StatusReport) error {
	for i := range reports {
		if err := s.journal.RecallAgent(reports[i].AgentID); err != nil {
			return err
		}
	}
	return nil
}

// removeDuplicates looks up in the journal the report IDs that memory may have dropped, and removes duplicates from the
// records.
func (s *Settler) removeDuplicates(ad *store.Admission) error {
	duplicates := 0
	for _, d := range ad.PossibleDuplicates {
		record := &ad.Records[d.Record]
		key := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
		held, err := s.journal.HasReport(key, record.ReportID, d.Dropped)
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
	ad.PossibleDuplicates = ad.PossibleDuplicates[:0]
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

// append appends a commit to the journal, along with the sessions that the store forgot, before those that the commit
// forgets itself. Once it is durable, it calls apply, which must apply the commit to the store. If there is nothing to
// append, it does nothing.
func (s *Settler) append(c journal.Commit, apply func()) error {
	if s.store.CoolingCount() > maxCooling {
		s.journal.FileSoon()
	}
	s.forgotten = append(s.forgotten, s.store.TakeForgotten()...)
	if len(s.forgotten) > 0 {
		c.Forgotten = slices.Concat(s.forgotten, c.Forgotten)
	}
	if len(c.Records) == 0 && len(c.Forgotten) == 0 && len(c.Evicted) == 0 && len(c.Notes) == 0 && c.Cutoff.IsZero() {
		return nil
	}
	started := time.Now()
	return s.journal.Append(c, func() {
		s.metrics.ObserveCommit(len(c.Records), time.Since(started))
		s.forgotten = nil
		apply()
	})
}
