package journal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// How many bytes of commits wait to be filed: from fileFrom on the filer works, it takes about fileAtOnce at a
// time, and at unfiledMost new commits wait for it. The more is filed at once, the more of it belongs together.
// It is written in batches of about batchBytes.
const (
	fileFrom    = 8 << 20
	fileAtOnce  = 8 << 20
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
		for j.unfiled.Load() >= min(fileFrom, j.mostToFile) && !j.isClosing() {
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
	from, taken, durable := j.filedTo.Load().position, 0, j.durable.Load()
	r := round{engine: j.engine, batch: j.engine.db.NewBatch(), to: *j.filedTo.Load(), agents: map[string]bool{}, forgotten: map[string]bool{}, renewed: map[store.SessionKey]bool{}}
	defer func() { r.batch.Close() }() //nolint:errcheck // it only lets go of memory
	err = j.engine.eachCommit(from, func(position uint64, commit string) error {
		if position > durable || taken >= fileAtOnce {
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
	j.unfiled.Add(-int64(taken))
	return nil
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
	records   []entry
	topics    []entry  // the histories of agents
	ids       [][]byte // the keys of report IDs
	renewed   map[store.SessionKey]bool
	agents    map[string]bool // of what is filed and forgotten
	forgotten map[string]bool // prefixes of histories that were filed before and are to be deleted
	keys      []byte          // the memory of keys
}

// record files a record.
func (r *round) record(record models.Record, value string) error {
	session := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
	r.to.sequence = max(r.to.sequence, record.Sequence)
	if record.Renewal() { // what it tells is filed, but for what the store knows of its session
		r.renewed[session] = true
		return nil
	}
	place := placeOf(&record)
	r.records = append(r.records, entry{r.key(func(b []byte) []byte {
		return appendPlace(append(appendSession(b, kindRecord, session), partRecord), place)
	}), value})
	r.topics = append(r.topics, entry{r.key(func(b []byte) []byte {
		return appendPlace(appendAgent(b, kindAgent, record.AgentID), place)
	}), record.SessionTopic})
	if record.ReportID != "" {
		r.ids = append(r.ids, r.key(func(b []byte) []byte {
			return append(appendSession(b, kindID, session), record.ReportID...)
		}))
	}
	return nil
}

// key returns a key that encode appends.
func (r *round) key(encode func([]byte) []byte) []byte {
	const several = 64 << 10
	if cap(r.keys)-len(r.keys) < several/16 {
		r.keys = make([]byte, 0, several)
	}
	start := len(r.keys)
	r.keys = encode(r.keys)
	return r.keys[start:len(r.keys):len(r.keys)]
}

// forget takes a session out of all that was filed, in this round or before. What the history of its agent said of it
// before stays, until that is as old as history may become: reads pass it over.
func (r *round) forget(f store.Forgotten) error {
	session, ids := appendSession(nil, kindRecord, f.SessionKey), appendSession(nil, kindID, f.SessionKey)
	agent := agentPrefix(f.AgentID)
	r.agents[f.AgentID] = true // it may know something from this session alone
	if f.LastOfAgent {
		session, ids = appendAgent(nil, kindRecord, f.AgentID), appendAgent(nil, kindID, f.AgentID)
		r.topics = deletePrefix(r.topics, agent)
		r.deleteRange(agent)
		r.forgotten[string(agent)] = true
	} else {
		r.topics = slices.DeleteFunc(r.topics, func(e entry) bool { return e.text == f.Topic && bytes.HasPrefix(e.key, agent) })
	}
	r.records = deletePrefix(r.records, session)
	r.ids = slices.DeleteFunc(r.ids, func(key []byte) bool { return bytes.HasPrefix(key, ids) })
	r.deleteRange(session)
	r.deleteRange(ids)
	r.forgotten[string(recordPrefix(f.SessionKey))] = true
	return nil
}

func deletePrefix(entries []entry, prefix []byte) []entry {
	return slices.DeleteFunc(entries, func(e entry) bool { return bytes.HasPrefix(e.key, prefix) })
}

// deleteRange deletes every key with this prefix, which ends with a zero byte.
func (r *round) deleteRange(prefix []byte) {
	r.batch.DeleteRange(prefix, end(prefix), nil) //nolint:errcheck // a batch in memory takes all
}

// finish puts what is filed into the batch, with what st knows of the sessions and agents that it is of: that may be
// more than is filed, which does no harm, because what is not filed is replayed.
func (r *round) finish(st *store.Store) error {
	sessions, agents := byHistory(r.records), byHistory(r.topics)
	filings := make([]store.Filing, len(sessions))
	for i, entries := range sessions {
		agentID, topic, _, _ := splitRecordKey(entries[0].key)
		filings[i].SessionKey = store.SessionKey{AgentID: string(agentID), Topic: string(topic)}
		filings[i].Newest = placeAt(entries[0].place())
	}
	st.File(filings)
	r.putStates(st, filings)
	renewed := make([]store.Filing, 0, len(r.renewed))
	for key := range r.renewed {
		renewed = append(renewed, store.Filing{SessionKey: key})
	}
	st.File(renewed)
	r.putStates(st, renewed)
	for i, entries := range sessions {
		if err := r.put(entries, filings[i].Known, filings[i].SessionBefore); err != nil {
			return err
		}
	}
	// Agents come in the order of their sessions, and each has one.
	next := 0
	for _, entries := range agents {
		first := next
		for next < len(filings) && bytes.Equal(agentPrefix(filings[next].AgentID), entries[0].prefix()) {
			next++
		}
		if first == next { // all its sessions were forgotten
			continue
		}
		if err := r.put(entries, filings[first].AgentKnown, filings[first].AgentBefore); err != nil {
			return err
		}
	}
	for _, key := range r.ids {
		r.batch.Set(key, nil, nil) //nolint:errcheck // a batch in memory takes all
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
		if f.AgentKnown {
			r.agents[f.AgentID] = true
		}
	}
	for id := range r.agents {
		if state, ok := st.AgentState(id); ok {
			r.batch.Set(agentStateKey(id), appendAgentState(nil, state), nil) //nolint:errcheck // see above
		}
	}
}

// byHistory sorts entries, and returns those of each history.
func byHistory(entries []entry) (histories [][]entry) {
	slices.SortFunc(entries, compareEntries)
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && bytes.Equal(entries[n].prefix(), entries[0].prefix()) {
			n++
		}
		histories = append(histories, entries[:n])
		entries = entries[n:]
	}
	return histories
}

// put puts entries of one history into the batch. Where it is known how far that was filed before, and they are all newer,
// nothing has to be read.
func (r *round) put(entries []entry, known bool, before store.StatusPosition) error {
	newer := known && placeAt(entries[len(entries)-1].place()).Newer(before)
	merge := !newer && !r.forgotten[string(entries[0].prefix())]
	if err := r.engine.putHistory(r.batch, entries, merge); err != nil || r.batch.Len() < batchBytes {
		return err
	}
	return r.write()
}

// write writes the batch, and begins another.
func (r *round) write() error {
	if err := r.engine.commit(r.batch, pebble.NoSync); err != nil {
		return failureOf(err)
	}
	if err := r.batch.Close(); err != nil {
		return err
	}
	r.batch = r.engine.db.NewBatch()
	return nil
}
