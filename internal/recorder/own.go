package recorder

import (
	"context"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// ownLog is the log of a server that shares it with no other: its journal.
//
// It records by group commit: while one group is written to disk, the reports that arrive form the next, so that many
// reports share one sync. One group is recorded at a time, and either all or none of its reports are recorded. What they
// change is settled before they are durable.
type ownLog struct{ *Settler }

// Parallel implements [Log].
func (ownLog) Parallel() int { return 1 }

// Leads implements [Log].
func (ownLog) Leads() bool { return true }

// Now implements [Log].
func (ownLog) Now() time.Time { return time.Now() }

// Failure implements [Log].
func (l ownLog) Failure() error {
	if f := l.journal.Failure(); f != nil {
		return f
	}
	return nil
}

// Record implements [Log]. It leaves the calls that can't be admitted together with those before them.
func (l ownLog) Record(group []*Call) []*Call {
	ad := l.reset()
	defer l.settled()
	if first := group[0]; first.isAlone() {
		first.Err = l.remove(first)
		return group
	}
	for _, c := range group {
		if err := l.recall(c.Reports, c.Now); err != nil {
			return fail(group, err)
		}
	}
	for i, c := range group {
		if !l.store.Admit(c.Team, c.Reports, c.Now, ad) { // its outcome depends on calls before it
			group = group[:i]
			break
		}
	}
	err := l.removeDuplicates(ad)
	note(group, admitted)
	if err == nil {
		err = l.append(journal.Commit{Records: ad.Records}, func() {
			note(group, durable)
			l.store.Apply(ad.Records...)
			note(group, applied)
		})
	}
	if err != nil {
		return fail(group, err)
	}
	shareOut(ad.Outcomes, group)
	return group
}

// fail gives the calls of a group an error, and returns them.
func fail(group []*Call, err error) []*Call {
	for _, c := range group {
		c.Err = err
	}
	return group
}

// shareOut gives each call of a group its outcomes.
func shareOut(outcomes []store.Outcome, group []*Call) {
	for _, c := range group {
		c.Err, c.Outcomes = nil, append(c.Outcomes, outcomes[:len(c.Reports)]...)
		outcomes = outcomes[len(c.Reports):]
	}
}

// Do implements [Log].
func (l ownLog) Do(ctx context.Context, m *journal.Message) (deleted int, err error) {
	if m.Trim == nil {
		return 0, nil
	}
	return l.trim(ctx, m.Trim)
}
