package recorder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// A message of a stream that servers share is applied in parts: each report, each removal, and so on. Each part is
// settled from the state after the parts before it, and committed to the journal together with the number of parts that
// are done, so that a server that is killed goes on in the middle of the message.
//
// Whatever a part changes depends on nothing but that state, the message, and its position: its sequence, ID and time.
// Trouble with this server's journal is waited out, since it must not change what the message does.

// maxGap is the time between two messages from which on nobody could report in between: the holder of the lease
// publishes one each second.
const maxGap = 10 * time.Second

// advanceEvery is how many messages that committed nothing are applied before their position is recorded.
const advanceEvery = 1000

// Applier applies the messages of a stream to a store and its journal, one after another. It is not safe for concurrent
// use.
type Applier struct {
	*Settler
	ApplierOptions

	at      journal.Position // the last message that was applied
	idle    int              // messages since the position was recorded
	message journal.Position // the one that is being applied; its Parts are those applied before a restart
	parts   int              // that the message has
	done    int              // parts that are applied, or are about to be
	records int              // records that these made
	saved   journal.Position // the last position of the message that was committed; zero before the first
	after   func()           // is called after each commit; nil outside of tests
	paused  bool             // a pause was added that is not recorded yet
	term    uint64           // see isFenced; 0 if it is not known
}

// ApplierOptions are the options of [NewApplier].
type ApplierOptions struct {
	Teams    func(patterns []string) *store.Team // returns the team of the agents that match patterns
	Notes    func([]journal.Note)                // is called when notes were applied
	Settings func(value []byte)                  // is called when other settings take effect
	Trouble  func(error)                         // is called when the journal can't be used, again and again, and with nil when it can
}

// NewApplier returns an applier that continues after a position: the one that the journal recorded, or zero.
func NewApplier(s *Settler, at journal.Position, o ApplierOptions) *Applier {
	return &Applier{Settler: s, ApplierOptions: o, at: at}
}

// At returns the position of the last message that was applied.
func (a *Applier) At() journal.Position { return a.at }

// Result is the effect of a message.
type Result struct {
	Outcomes [][]store.Outcome // of the reports of each request; 0 for a report that was applied before a restart
	Removed  []int             // sessions removed by each removal
	Deleted  int               // records deleted from histories
	Repeated int               // messages published again that had no effect, because another server had published them again before
	Fenced   bool              // it changed nothing, because a later holder of the lease has begun
}

// Apply applies the message at a position in the stream. If it returns an error, which is that of ctx or
// [journal.ErrClosed], the message may have been applied in part; the server must be stopped.
func (a *Applier) Apply(ctx context.Context, m *journal.Message, at journal.Position) (r Result, err error) {
	others := a.otherParts(ctx, m, &r)
	a.begin(m, at, len(others))
	if err := a.flushForgotten(ctx); err != nil {
		return r, err
	}
	if r.Fenced, err = a.isFenced(ctx, m.Lease); r.Fenced || err != nil {
		return r, cmp.Or(err, a.finish(ctx))
	}
	if err := a.forgetOver(ctx, m.Requests); err != nil {
		return r, err
	}
	for _, q := range m.Requests {
		r.Outcomes = append(r.Outcomes, make([]store.Outcome, 0, len(q.Reports)))
	}
	for next := (cursor{}); next.request < len(m.Requests); {
		if next, err = a.applyReports(ctx, m.Requests, next, &r); err != nil {
			return r, err
		}
	}
	for _, apply := range others {
		if a.skip(1) > 0 {
			continue
		}
		a.done++
		if err := apply(); err != nil {
			return r, err
		}
	}
	return r, a.finish(ctx)
}

// isFenced reports whether a message that was published under a lease has no effect, because the holder of a later one
// has begun. If this is the latest lease yet, it records that its holder begins. 0 stands for a message without a
// lease.
func (a *Applier) isFenced(ctx context.Context, lease uint64) (bool, error) {
	if lease == 0 {
		return false, nil
	}
	if a.term == 0 {
		err := a.untilDone(ctx, func() error {
			value, err := a.journal.Note(journal.TermKey)
			a.term, _ = strconv.ParseUint(string(value), 10, 64) // 0 if there is no note
			return err
		})
		if err != nil {
			return false, err
		}
	}
	if lease <= a.term {
		return lease < a.term, nil
	}
	a.term = lease
	note := journal.Note{Key: journal.TermKey, Value: strconv.AppendUint(nil, lease, 10)}
	return false, a.commitAt(ctx, a.before(), journal.Commit{Notes: []journal.Note{note}}, func() {})
}

// otherParts returns what applies the parts of a message besides its requests, one after another.
func (a *Applier) otherParts(ctx context.Context, m *journal.Message, r *Result) (parts []func() error) {
	for i := range m.Removed {
		parts = append(parts, func() error { return a.applyRemoval(ctx, &m.Removed[i], r) })
	}
	if len(m.Evicted) > 0 {
		parts = append(parts, func() error { return a.applyEviction(ctx, m.Evicted) })
	}
	if len(m.Over) > 0 {
		parts = append(parts, func() error { return a.applyOver(ctx, m.Over) })
	}
	if m.Trim != nil {
		parts = append(parts, func() error { return a.applyTrim(ctx, m.Trim, r) })
	}
	if len(m.Notes) > 0 {
		parts = append(parts, func() error { return a.applyNotes(ctx, m.Notes) })
	}
	if m.Settings != nil {
		parts = append(parts, func() error { return a.applySettings(ctx, m) })
	}
	for i := range m.Again {
		parts = append(parts, func() error { return a.applyAgain(ctx, &m.Again[i], r) })
	}
	return parts
}

// begin begins a message: it brings the store up to its time. others is the number of its parts besides its reports.
func (a *Applier) begin(m *journal.Message, at journal.Position, others int) {
	a.message, a.done, a.records, a.saved = at, 0, 0, journal.Position{}
	reports := 0
	for i := range m.Requests {
		reports += len(m.Requests[i].Reports)
	}
	a.parts = reports + others
	if before := a.at; before.Sequence == at.Sequence && before.ID == at.ID { // it was applied in part before a restart
		a.message.Time, a.message.Parts, a.records = before.Time, before.Parts, before.Records
		a.store.Resume(at.Sequence, min(before.Parts, reports))
		return
	}
	if before := a.at.Time; a.at.Sequence > 0 && at.Time.Sub(before) > maxGap {
		a.store.Pause(before, at.Time)
		a.paused = true
	}
	started := time.Now()
	a.store.Begin(at.Sequence, at.Time)
	a.metrics.ObserveExpiry(time.Since(started))
	a.message.Time = a.store.Time()
}

// skip returns how many of the next n parts were applied before a restart, and counts these as done.
func (a *Applier) skip(n int) (skipped int) {
	skipped = min(n, max(0, a.message.Parts-a.done))
	a.done += skipped
	return skipped
}

// position returns the position after the parts that are done.
func (a *Applier) position() *journal.Position {
	p := a.message
	p.Parts, p.Records = 0, 0
	if a.done < a.parts {
		p.Parts, p.Records = a.done, a.records
	}
	return &p
}

// cursor is a report of a message.
type cursor struct{ request, report int }

// after returns the cursor n reports later in the same request, or at the next one.
func (c cursor) after(n int, requests []journal.Request) cursor {
	if c.report += n; c.report == len(requests[c.request].Reports) {
		return cursor{c.request + 1, 0}
	}
	return c
}

// before returns the position before the parts that are under way.
func (a *Applier) before() *journal.Position {
	p := a.saved
	if p.Sequence == 0 { // nothing of the message was committed
		p = a.at
	}
	return &p
}

// applyReports applies reports from a cursor on, at least one if there is one: as many as can be admitted together. It
// returns the cursor behind them.
func (a *Applier) applyReports(ctx context.Context, requests []journal.Request, from cursor, r *Result) (next cursor, err error) {
	ad := a.reset()
	defer a.settled()
	for next = from; next.request < len(requests); {
		left := len(requests[next.request].Reports) - next.report
		n := a.skip(left)
		if n == 0 {
			if n, err = a.admit(ctx, &requests[next.request], next.report, ad); err != nil {
				return next, err
			}
			a.done += n
		} else {
			ad.Outcomes = append(ad.Outcomes, make([]store.Outcome, n)...)
		}
		if next = next.after(n, requests); n < left { // the outcome of the next report depends on reports before it
			break
		}
	}
	for i := range ad.Records {
		ad.Records[i].Sequence = journal.SequenceOf(a.message.Sequence, a.message.ID, a.records+i)
	}
	a.records += len(ad.Records)
	err = a.commit(ctx, journal.Commit{Records: ad.Records}, func() { a.store.Apply(ad.Records...) })
	r.add(ad.Outcomes, requests, from)
	return next, err
}

// add adds the outcomes of reports from a cursor on.
func (r *Result) add(outcomes []store.Outcome, requests []journal.Request, from cursor) {
	for len(outcomes) > 0 {
		n := min(len(outcomes), len(requests[from.request].Reports)-from.report)
		r.Outcomes[from.request] = append(r.Outcomes[from.request], outcomes[:n]...)
		outcomes, from = outcomes[n:], from.after(n, requests)
	}
}

// admit admits reports of a request, beginning with the one at index from, and returns their number: all of them, unless
// the outcome of one depends on reports that are not settled.
func (a *Applier) admit(ctx context.Context, q *journal.Request, from int, ad *store.Admission) (n int, err error) {
	reports, now, before := q.Reports[from:], a.message.Time, len(ad.Outcomes)
	if err := a.untilDone(ctx, func() error { return a.recall(reports, now) }); err != nil {
		return 0, err
	}
	timeAcknowledgements(reports, now)
	for {
		all := a.store.Admit(a.Teams(q.Agents), reports[n:], now, ad)
		if n = len(ad.Outcomes) - before; all || len(ad.Lookups) == 0 {
			return n, nil
		}
		if err := a.answer(ctx, ad); err != nil {
			return n, err
		}
	}
}

// forgetOver forgets the sessions of reports that memory evicted and whose retention is over. That comes before all
// reports of the message, so that what it leaves of an agent is the same for each of them, also after a restart in between.
func (a *Applier) forgetOver(ctx context.Context, requests []journal.Request) error {
	if !a.store.HasCold() {
		return nil
	}
	for _, q := range requests {
		for i := range q.Reports {
			key := store.SessionKey{AgentID: q.Reports[i].AgentID, Topic: q.Reports[i].SessionTopic}
			if err := a.untilDone(ctx, func() error { return a.noteOver(key) }); err != nil {
				return err
			}
		}
	}
	return a.flushForgotten(ctx)
}

// noteOver notes that a session is forgotten if memory evicted it and its retention is over.
func (a *Applier) noteOver(key store.SessionKey) error {
	if a.store.Has(key) {
		return nil
	}
	_, over, err := a.cold(key, a.message.Time)
	if over {
		a.forgotten = append(a.forgotten, store.Forgotten{SessionKey: key})
	}
	return err
}

// flushForgotten records in the journal what was forgotten, before anything is looked up there.
func (a *Applier) flushForgotten(ctx context.Context) error {
	if len(a.forgotten) == 0 && !a.store.HasForgotten() {
		return nil
	}
	return a.commitAt(ctx, a.before(), journal.Commit{}, func() {})
}

// answer looks up in the journal what an admission lacks.
func (a *Applier) answer(ctx context.Context, ad *store.Admission) error {
	for _, l := range ad.Lookups {
		err := a.untilDone(ctx, func() error {
			answer, err := a.journal.Lookup(l)
			if err == nil {
				a.store.Answer(l, answer)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	ad.Lookups = ad.Lookups[:0]
	return nil
}

// timeAcknowledgements makes acknowledgements count from now, whatever the clock of the server that took them.
func timeAcknowledgements(reports []models.StatusReport, now time.Time) {
	for i := range reports {
		if e := reports[i].Event; e != nil && e.Acknowledge != nil {
			ack := e.Acknowledge
			if !ack.Until.IsZero() {
				ack.Until = now.Add(ack.Until.Sub(ack.At))
			}
			ack.At = now
		}
	}
}

// applyRemoval removes a session, or those of an agent.
func (a *Applier) applyRemoval(ctx context.Context, removal *journal.Removal, r *Result) error {
	var c journal.Commit
	removed := 0
	err := a.untilDone(ctx, func() (err error) {
		c, err = a.removal(removal, a.message.Time)
		return err
	})
	if err == nil && len(c.Forgotten) > 0 {
		err = a.commit(ctx, c, func() { removed = max(1, removeFrom(a.store, removal, a.message.Time)) })
	}
	r.Removed = append(r.Removed, removed)
	return err
}

// applyEviction evicts those sessions that have expired.
func (a *Applier) applyEviction(ctx context.Context, keys []store.SessionKey) error {
	return a.commit(ctx, journal.Commit{Evicted: a.store.Evict(keys)}, func() {})
}

// applyOver forgets those sessions that are still only in the journal, and whose retention has ended.
func (a *Applier) applyOver(ctx context.Context, over []store.Forgotten) error {
	var c journal.Commit
	for _, f := range a.stillCold(over) {
		err := a.untilDone(ctx, func() error {
			ended, err := a.hasEnded(f)
			if ended {
				c.Forgotten = append(c.Forgotten, f)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return a.commit(ctx, c, func() {})
}

// hasEnded reports whether the retention of a cold session has ended. For the last session of an agent, the caller knows
// that memory has none of the agent.
func (a *Applier) hasEnded(f store.Forgotten) (bool, error) {
	if f.LastOfAgent {
		return true, nil
	}
	_, over, err := a.cold(f.SessionKey, a.message.Time)
	return over, err
}

// applyTrim deletes history.
func (a *Applier) applyTrim(ctx context.Context, t *journal.Trim, r *Result) error {
	err := a.untilDone(ctx, func() error {
		if err := a.journal.File(); err != nil {
			return err
		}
		n, err := a.trim(ctx, t)
		r.Deleted += n
		return err
	})
	if err != nil || len(t.Histories) == 0 {
		return err
	}
	return a.commit(ctx, journal.Commit{Cutoff: a.store.SetCutoff(t.Before)}, func() {})
}

// applyNotes stores and deletes notes.
func (a *Applier) applyNotes(ctx context.Context, notes []journal.Note) error {
	err := a.commit(ctx, journal.Commit{Notes: notes}, func() {})
	if err == nil {
		a.Notes(notes)
	}
	return err
}

// applySettings puts settings into effect, unless other ones took effect since they were published.
func (a *Applier) applySettings(ctx context.Context, m *journal.Message) error {
	var before []byte
	err := a.untilDone(ctx, func() (err error) {
		if before, err = a.journal.Note(journal.SettingsKey); err != nil {
			return err
		}
		return a.journal.File() // what is filed no longer depends on them
	})
	if err != nil || !bytes.Equal(before, m.Settings.From) {
		return err
	}
	to := m.Settings.To
	return a.commit(ctx, journal.Commit{Notes: []journal.Note{{Key: journal.SettingsKey, Value: to}, {Key: journal.SettingsKeyOf(m.Server), Value: to}}}, func() { a.Settings(to) })
}

// applyAgain applies again the effect of a message that the stream has lost, unless another server has published it
// again before.
func (a *Applier) applyAgain(ctx context.Context, lost *journal.Applied, r *Result) error {
	origin := lost.Position
	if lost.Origin != nil {
		origin = *lost.Origin
	}
	// A note of this very part is from a commit that failed, and was taken back without its notes.
	note := journal.Note{Key: fmt.Sprint(journal.AgainPrefix, origin.ID, " ", origin.Parts), Value: fmt.Append(nil, a.message.ID, " ", a.done)}
	known := false
	c, err := journal.DecodeCommit(lost.Commit)
	if err == nil {
		err = a.untilDone(ctx, func() (err error) {
			value, err := a.journal.Note(note.Key)
			known = value != nil && !bytes.Equal(value, note.Value)
			return err
		})
	}
	if err != nil {
		return err
	}
	if known {
		r.Repeated++
		return nil
	}
	if err := a.untilDone(ctx, func() error { return a.dropRepeated(&c) }); err != nil {
		return err
	}
	if c.Forgotten, err = a.stillOutdated(ctx, c.Forgotten, origin.Time); err != nil {
		return err
	}
	notes := slices.DeleteFunc(c.Notes, func(n journal.Note) bool { // those about the stream that has lost the message
		return n.Key == journal.TermKey || n.Key == journal.LineageKey || n.Key == journal.SettingsKey || strings.HasPrefix(n.Key, journal.SettingsKeyOf(""))
	})
	c.Origin, c.Notes = &origin, append(slices.Clip(notes), note)
	err = a.commit(ctx, c, func() {
		for _, f := range c.Forgotten {
			a.store.Remove(f)
		}
		a.store.Evict(c.Evicted)
		a.store.Apply(c.Records...)
	})
	if err == nil && len(notes) > 0 {
		a.Notes(notes)
	}
	return err
}

// dropRepeated removes records of reports that were sent again after the stream had lost them.
func (a *Applier) dropRepeated(c *journal.Commit) error {
	if err := a.journal.File(); err != nil {
		return err
	}
	var err error
	c.Records = slices.DeleteFunc(c.Records, func(r models.Record) bool {
		if err != nil || r.ReportID == "" || r.Renewal() {
			return false
		}
		var held bool
		held, err = a.journal.HasReport(store.SessionKey{AgentID: r.AgentID, Topic: r.SessionTopic}, r.ReportID, 0)
		return held
	})
	return err
}

// stillOutdated returns those of the sessions forgotten at a time that got no report since. The others stay, since what was
// reported to them was acknowledged.
func (a *Applier) stillOutdated(ctx context.Context, forgotten []store.Forgotten, at time.Time) (still []store.Forgotten, err error) {
	for _, f := range forgotten {
		updated := time.Time{}
		err := a.untilDone(ctx, func() (err error) {
			updated, err = a.lastUpdate(f.SessionKey)
			return err
		})
		if err != nil {
			return nil, err
		}
		if updated.After(at) {
			continue
		}
		if agent, _ := a.store.Agent(f.AgentID); agent.LastSeen.After(at) {
			f.LastOfAgent = false
		}
		still = append(still, f)
	}
	return still, nil
}

// lastUpdate returns when the newest report of a session was received, zero if there is no such session.
func (a *Applier) lastUpdate(key store.SessionKey) (time.Time, error) {
	if session, _, ok := a.store.Session(key.AgentID, key.Topic, nil, 1); ok {
		return session.LastUpdated, nil
	}
	session, err := a.journal.Cold(key, 1)
	if session == nil || err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, session.Session.Updated), nil
}

// commit appends a commit to the journal, with the position after the parts that are done, and calls apply.
func (a *Applier) commit(ctx context.Context, c journal.Commit, apply func()) error {
	p := a.position()
	return a.commitAt(ctx, p, c, func() {
		a.saved = *p
		apply()
	})
}

// commitAt is commit for another position.
func (a *Applier) commitAt(ctx context.Context, p *journal.Position, c journal.Commit, apply func()) error {
	c.Position, c.Pauses = p, a.newPauses()
	err := a.untilDone(ctx, func() error {
		return a.append(c, func() {
			a.idle, a.paused = 0, false
			apply()
		})
	})
	if a.after != nil {
		a.after()
	}
	return err
}

// finish notes that the message was applied wholly, and records that from time to time if nothing else does.
func (a *Applier) finish(ctx context.Context) error {
	a.done = a.parts
	a.at = *a.position()
	if a.idle++; a.idle < advanceEvery {
		if !a.store.HasForgotten() {
			return nil
		}
		return a.commit(ctx, journal.Commit{}, func() {})
	}
	return a.Record(ctx)
}

// Record records the position in the journal.
func (a *Applier) Record(ctx context.Context) error {
	if a.at.Sequence == 0 {
		return nil
	}
	err := a.untilDone(ctx, func() error { return a.journal.Advance(a.at, a.newPauses()) })
	if err == nil {
		a.idle, a.paused = 0, false
	}
	return err
}

// newPauses returns the pauses if one was added that is not recorded yet, else nil.
func (a *Applier) newPauses() []store.Pause {
	if !a.paused {
		return nil
	}
	return a.store.Pauses()
}

// retryEvery is the time between two attempts to use a journal that can't be used.
const retryEvery = 50 * time.Millisecond

// untilDone calls do until it succeeds, or fails for another reason than trouble with the journal.
func (a *Applier) untilDone(ctx context.Context, do func() error) error {
	for troubled := false; ; troubled = true {
		err := do()
		if err == nil && troubled {
			a.Trouble(nil)
		}
		if err == nil || errors.Is(err, journal.ErrClosed) || ctx.Err() != nil {
			return err
		}
		a.Trouble(err)
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
