package journal

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// How many bytes of commits wait to be filed: from fileFrom on the filer works, it takes about fileAtOnce at a
// time, and at unfiledMost new commits wait for it. The more is filed at once, the more of it belongs together.
// It is written in batches of about batchBytes.
const (
	fileFrom    = 16 << 20
	fileAtOnce  = 16 << 20
	unfiledMost = 256 << 20
	batchBytes  = 1 << 20
)

// fileAgain is how long the filer waits before it tries again what went wrong.
const fileAgain = 10 * time.Second

// errEnough ends a walk early.
var errEnough = errors.New("that is enough")

// file files commits while enough of them wait, until the journal closes.
func (j *Journal) file() {
	for {
		var again <-chan time.Time
		if j.stuck.Load() != nil {
			again = time.After(fileAgain)
		}
		select {
		case <-j.closing:
			return
		case <-j.fileSoon:
		case <-again:
		}
		for (j.unfiled.Load() >= min(fileFrom, j.mostToFile) || j.fileAll.Load()) && !j.isClosing() {
			if err := j.fileSome(); err != nil {
				if j.failure.Load() == nil {
					j.logger.Error("file the journal's log", "error", err.Error())
				}
				break
			}
		}
	}
}

func (j *Journal) isClosing() bool {
	select {
	case <-j.closing:
		return true
	default:
		return false
	}
}

// waitForFiler waits while too much is unfiled. It returns a *Failure where that can't be filed. The caller holds j.appending.
func (j *Journal) waitForFiler() error {
	for j.unfiled.Load() >= j.mostToFile && j.failure.Load() == nil {
		if f := j.stuck.Load(); f != nil {
			return f
		}
		notify(j.fileSoon)
		select {
		case <-j.filedSome:
		case <-j.closing:
			return nil
		}
	}
	return nil
}

// File returns once every record that is durable now is filed.
func (j *Journal) File() error {
	for position := j.durable.Load(); j.filedTo.Load().position < position; {
		if err := j.fileSome(); err != nil {
			return err
		}
	}
	return nil
}

// fileUpTo returns once the records up to a sequence are filed, and those of forgotten sessions deleted.
func (j *Journal) fileUpTo(sequence uint64) error {
	for {
		before := *j.filedTo.Load()
		if before.sequence >= sequence && before.position >= j.forgetAt.Load() {
			return nil
		}
		if err := j.fileSome(); err != nil {
			return err
		}
		if *j.filedTo.Load() == before {
			return fmt.Errorf("record %d is not in the log", sequence)
		}
	}
}

// fileSome files the oldest commits.
func (j *Journal) fileSome() (err error) {
	defer notify(j.filedSome)
	defer func() { j.noteFiling(err) }()
	j.filing.Lock()
	defer j.filing.Unlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	from, taken, applied := j.filedTo.Load().position, 0, j.applied()
	r := round{engine: j.engine, batch: j.engine.db.NewBatch(), to: *j.filedTo.Load(), sessions: map[store.SessionKey]*filing{},
		topics: map[string][]entry{}, renewed: map[store.SessionKey]bool{}, agents: map[string]bool{}, forgotten: map[string]bool{}}
	err = j.engine.eachCommit(from, func(position uint64, commit string) error {
		if position > applied || taken >= fileAtOnce {
			return errEnough
		}
		taken += len(commit)
		r.to.position = position
		return eachDecoded(commit, r.record, r.forget)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if taken == 0 {
		j.fileAll.Store(false)
		return nil
	}
	if err := r.finish(j.store); err != nil {
		return err
	}
	r.batch.DeleteRange(logKey(from+1), logKey(r.to.position+1), nil) //nolint:errcheck // a batch in memory takes all
	r.batch.Set(filedKey, r.to.encode(), nil)                         //nolint:errcheck // see above
	if err := r.write(); err != nil {
		return err
	}
	if len(r.forgotten) > 0 {
		j.deleted.Store(true)
	}
	j.filedTo.Store(&r.to)
	j.store.Filed(r.to.sequence)
	j.unfiled.Add(-int64(taken))
	return nil
}

// FileSoon has everything filed that is durable, in the background.
func (j *Journal) FileSoon() {
	j.fileAll.Store(true)
	notify(j.fileSoon)
}

// applied returns the position of the last commit whose records are applied.
func (j *Journal) applied() uint64 {
	j.applying.Lock()
	defer j.applying.Unlock()
	return j.durable.Load()
}

// noteFiling notes how a round of filing ended. Where the engine can't be used, that has a failure of its own.
func (j *Journal) noteFiling(err error) {
	switch {
	case err == nil:
		j.stuck.Store(nil)
	case j.failure.Load() == nil && !errors.Is(err, ErrClosed):
		j.stuck.Store(&Failure{"the journal's log can't be filed; the log has the error", err})
	}
}

// round is one round of filing. It is written in several batches: deletions of what was filed before come first, and how
// far histories are filed, then the histories, and at last the removal from the log. Where it breaks off, the log still holds
// everything, and the next round, because it knows how far histories may be filed, merges with what is there.
type round struct {
	engine    *engine
	batch     *pebble.Batch // what is not written yet
	to        filed
	sessions  map[store.SessionKey]*filing
	topics    map[string][]entry // for the histories of agents, by their IDs
	renewed   map[store.SessionKey]bool
	agents    map[string]bool // of what is filed and forgotten
	forgotten map[string]bool // prefixes of histories that were filed before and are to be deleted
}

// filing is what a round files of a session.
type filing struct {
	records []entry
	ids     []string // of reports
}

// record files a record.
func (r *round) record(record models.Record, value string) error {
	key := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
	r.to.sequence = max(r.to.sequence, record.Sequence)
	if record.Renewal() { // what it tells is filed, but for what the store knows of its session
		r.renewed[key] = true
		return nil
	}
	f := r.sessions[key]
	if f == nil {
		f = new(filing)
		r.sessions[key] = f
	}
	place := placeOf(&record)
	f.records = append(f.records, entry{place, value})
	r.topics[key.AgentID] = append(r.topics[key.AgentID], entry{place, key.Topic})
	if record.ReportID != "" {
		f.ids = append(f.ids, record.ReportID)
	}
	return nil
}

// forget takes a session out of all that was filed, in this round or before. What the history of its agent said of it
// before stays, until that is as old as history may become: reads pass it over.
func (r *round) forget(f store.Forgotten) error {
	session, ids := sessionPrefix(kindRecord, f.SessionKey), sessionPrefix(kindID, f.SessionKey)
	r.agents[f.AgentID] = true // it may know something from this session alone
	if f.LastOfAgent {
		session, ids = prefixOf(kindRecord, f.AgentID), prefixOf(kindID, f.AgentID)
		maps.DeleteFunc(r.sessions, func(key store.SessionKey, _ *filing) bool { return key.AgentID == f.AgentID })
		delete(r.topics, f.AgentID)
		agent := agentPrefix(f.AgentID)
		r.deleteRange(agent)
		r.forgotten[string(agent)] = true
	} else if r.sessions[f.SessionKey] != nil {
		delete(r.sessions, f.SessionKey)
		r.topics[f.AgentID] = slices.DeleteFunc(r.topics[f.AgentID], func(e entry) bool { return e.text == f.Topic })
	}
	r.deleteRange(session)
	r.deleteRange(ids)
	r.forgotten[string(recordPrefix(f.SessionKey))] = true
	return nil
}

// deleteRange deletes every key with this prefix, which ends with a zero byte.
func (r *round) deleteRange(prefix []byte) {
	r.batch.DeleteRange(prefix, end(prefix), nil) //nolint:errcheck // a batch in memory takes all
}

// finish puts what is filed into the batch, with what st knows of the sessions and agents that it is of: that may be
// more than is filed, which does no harm, because what is not filed is replayed.
func (r *round) finish(st *store.Store) error {
	filings := make([]store.Filing, 0, len(r.sessions))
	for key, f := range r.sessions {
		sortEntries(f.records)
		filings = append(filings, store.Filing{SessionKey: key, Newest: f.records[0].at})
	}
	slices.SortFunc(filings, func(a, b store.Filing) int {
		return cmp.Or(strings.Compare(a.AgentID, b.AgentID), strings.Compare(a.Topic, b.Topic))
	})
	st.File(filings)
	r.putStates(st, filings)
	renewed := make([]store.Filing, 0, len(r.renewed))
	for key := range r.renewed {
		renewed = append(renewed, store.Filing{SessionKey: key})
	}
	st.File(renewed)
	r.putStates(st, renewed)
	for i := range filings {
		f := &filings[i]
		session := r.sessions[f.SessionKey]
		if err := r.put(recordPrefix(f.SessionKey), session.records, f.Known, f.SessionBefore); err != nil {
			return err
		}
		for _, id := range session.ids {
			r.batch.Set(idKey(f.SessionKey, id), nil, nil) //nolint:errcheck // a batch in memory takes all
		}
		if i > 0 && filings[i-1].AgentID == f.AgentID {
			continue
		}
		topics := r.topics[f.AgentID]
		sortEntries(topics)
		// Of an agent that is new in memory, the journal may still have what forgotten sessions left in its history.
		known := f.AgentKnown && f.AgentBefore != (store.StatusPosition{})
		if err := r.put(agentPrefix(f.AgentID), topics, known, f.AgentBefore); err != nil {
			return err
		}
	}
	return nil
}

// putStates puts what the store knows of the sessions filed, and of all agents concerned, into the batch.
func (r *round) putStates(st *store.Store, filings []store.Filing) {
	for i := range filings {
		f := &filings[i]
		if f.Known {
			r.batch.Set(sessionStateKey(f.SessionKey), appendSessionState(nil, f.State), nil) //nolint:errcheck // a batch in memory takes all
		}
		if f.AgentKnown || f.Known {
			r.agents[f.AgentID] = true
		}
	}
	for id := range r.agents {
		if state, ok := st.AgentState(id); ok {
			r.batch.Set(agentStateKey(id), appendAgentState(nil, state), nil) //nolint:errcheck // see above
		}
	}
}

// put puts entries of the history with this prefix into the batch. Where it is known how far that was filed before, and they are
// all newer, nothing has to be read.
func (r *round) put(prefix []byte, entries []entry, known bool, before store.StatusPosition) error {
	newer := known && entries[len(entries)-1].at.Newer(before)
	merge := !newer && !r.forgotten[string(prefix)]
	if err := r.engine.putHistory(r.batch, prefix, entries, merge); err != nil || r.batch.Len() < batchBytes {
		return err
	}
	return r.write()
}

// write writes the batch, and begins another.
func (r *round) write() error {
	if err := r.engine.commit(r.batch, pebble.NoSync); err != nil {
		return failureOf(err)
	}
	r.batch = r.engine.db.NewBatch()
	return nil
}
