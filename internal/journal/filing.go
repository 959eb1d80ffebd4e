package journal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Bytes of unfiled commits. The filer starts at fileThreshold, files about roundBytes in a round, and writes them in
// batches of about batchBytes: the engine reuses their buffers unless these are larger than 1 MiB. At defaultMaxUnfiled,
// new commits wait for the filer. The larger a round, the more entries of one history it files together. A round ends
// earlier if it has roundSessions: each takes about a kilobyte of memory, however short its reports are, and a server
// that is stopping waits for the round.
const (
	fileThreshold     = 16 << 20
	roundBytes        = 16 << 20
	roundSessions     = 16 << 10
	defaultMaxUnfiled = 256 << 20
	batchBytes        = 768 << 10
)

// fileRetryDelay is the time after which the filer retries a failed round.
const fileRetryDelay = 10 * time.Second

// errStop is returned by a visit function to end an iteration early, without an error.
var errStop = errors.New("stop")

// runFiler files commits whenever enough of them are unfiled, until the journal is closed.
func (j *Journal) runFiler() {
	for {
		var again <-chan time.Time
		if j.filingFailure.Load() != nil {
			again = time.After(fileRetryDelay)
		}
		select {
		case <-j.closing:
			return
		case <-j.fileSoon:
		case <-again:
		}
		for (j.unfiled.Load() >= min(fileThreshold, j.maxUnfiled) || j.fileAll.Load()) && !j.isClosing() {
			if err := j.fileRound(); err != nil {
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

// waitForFiler waits while maxUnfiled bytes or more are unfiled. It returns a *Failure if they can't be filed. The
// caller holds j.appending.
func (j *Journal) waitForFiler() error {
	for j.unfiled.Load() >= j.maxUnfiled && j.failure.Load() == nil {
		if f := j.filingFailure.Load(); f != nil {
			return f
		}
		notify(j.fileSoon)
		select {
		case <-j.roundDone:
		case <-j.closing:
			return nil
		}
	}
	return nil
}

// File files all records that are durable when it is called.
func (j *Journal) File() error {
	for position := j.durable.Load(); j.filedTo.Load().position < position; {
		if err := j.fileRound(); err != nil {
			return err
		}
	}
	return nil
}

// fileUpTo files the records up to a sequence and those of commits with an origin, whose sequences are in no order. It
// deletes the records of forgotten sessions.
func (j *Journal) fileUpTo(sequence uint64) error {
	for {
		before := *j.filedTo.Load()
		if before.sequence >= sequence && before.position >= j.lastForget.Load() {
			return nil
		}
		if err := j.fileRound(); err != nil {
			return err
		}
		if *j.filedTo.Load() == before {
			if j.at.Load() != nil { // everything is filed; the sequence may be of a stream that was lost
				return nil
			}
			return fmt.Errorf("record %d is not in the log", sequence)
		}
	}
}

// fileRound files about [roundBytes] of the oldest commits, or about [roundSessions].
func (j *Journal) fileRound() (err error) {
	defer notify(j.roundDone)
	defer func() { j.noteFiling(err) }()
	j.filing.Lock()
	defer func() {
		j.knowsKept = j.knowsKept && err == nil
		j.filing.Unlock()
	}()
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	from, taken, applied := j.filedTo.Load().position, 0, j.applied()
	var commits []keptCommit
	r := round{engine: j.engine, batch: j.engine.db.NewBatch(), to: *j.filedTo.Load(), sessions: map[store.SessionKey]*filing{},
		topics: map[string][]entry{}, renewed: map[store.SessionKey]bool{}, agents: map[string]bool{}, forgotten: map[string]bool{}}
	err = j.engine.eachCommit(from, func(position uint64, commit string) error {
		if position > applied || taken >= roundBytes || r.size() >= roundSessions {
			return errStop
		}
		taken += len(commit)
		commits = append(commits, keptCommit{position, len(commit)})
		r.to.position = position
		r.again = false
		return visitCommit(commit, visitor{record: r.record, forget: r.forget, evict: r.evict, position: r.reach, origin: r.repeat})
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	if taken == 0 {
		j.fileAll.Store(false)
		return nil
	}
	if err = r.finish(j.store); err != nil {
		return err
	}
	if err := j.dropFiled(&r, commits); err != nil {
		return err
	}
	r.batch.Set(filedKey, r.to.encode(), nil) //nolint:errcheck // see above
	if err := r.write(); err != nil {
		return err
	}
	if len(r.forgotten) > 0 {
		j.deleted.Store(true)
	}
	j.filedTo.Store(&r.to)
	j.store.SetFiledTo(r.to.sequence)
	j.unfiled.Add(-int64(taken))
	return nil
}

// FileSoon starts to file everything that is durable, in the background.
func (j *Journal) FileSoon() {
	j.fileAll.Store(true)
	notify(j.fileSoon)
}

// applied returns the position of the last commit whose records have been applied to the store.
func (j *Journal) applied() uint64 {
	j.applying.Lock()
	defer j.applying.Unlock()
	return j.durable.Load()
}

// noteFiling records how a round of filing ended. It ignores errors of a failed engine, which j.failure holds already.
func (j *Journal) noteFiling(err error) {
	switch {
	case err == nil:
		j.filingFailure.Store(nil)
	case j.failure.Load() == nil && !errors.Is(err, ErrClosed):
		j.filingFailure.Store(&Failure{"the journal's log can't be filed; the log has the error", err})
	}
}

// round is a round of filing. It is written in several batches, in this order: deletions from the histories and states
// that say how far each history is filed; the histories; the removal from the log. If a round is interrupted, the log
// still holds everything. The next round knows from the states how far each history may have been filed, and merges
// with it.
type round struct {
	engine    *engine
	batch     *pebble.Batch // what is not written yet
	to        filed
	again     bool // the commit was made by another message
	sessions  map[store.SessionKey]*filing
	topics    map[string][]entry // entries for the histories of agents, by agent ID
	renewed   map[store.SessionKey]bool
	agents    map[string]bool // agents of forgotten sessions and of sessions in the round: their states are written
	forgotten map[string]bool // prefixes of histories that this round deletes

	key, value []byte // buffers for what is added to the batch, which copies it
}

// size returns the number of sessions in the round.
func (r *round) size() int { return len(r.sessions) + len(r.renewed) }

// filing is what a round files in the history of a session.
type filing struct {
	records []entry
	ids     []string // report IDs
}

// record adds a record to the round.
func (r *round) record(record models.Record, value string) error {
	key := store.SessionKey{AgentID: record.AgentID, Topic: record.SessionTopic}
	if !r.again {
		r.to.sequence = max(r.to.sequence, record.Sequence)
	}
	if record.Renewal() { // it adds nothing to a history; only the state of its session changes
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

// forget removes a session from this round, and deletes what earlier rounds filed of it. Its entries in the history of
// its agent stay until their retention ends; reads skip them.
func (r *round) forget(f store.Forgotten) error {
	session, ids := sessionPrefix(kindRecord, f.SessionKey), sessionPrefix(kindID, f.SessionKey)
	r.agents[f.AgentID] = true // the state of the agent may come from this session alone
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

// reach notes that the round files all records of a message of a stream.
func (r *round) reach(p Position) error {
	if !p.Partial() {
		r.to.sequence = max(r.to.sequence, lastSequenceOf(p.Sequence))
	}
	return nil
}

// repeat notes that the sequences of the commit's records are those of another message.
func (r *round) repeat(Position) error {
	r.again = true
	return nil
}

// evict adds a session that memory evicted to the round: its state says so.
func (r *round) evict(key store.SessionKey) error {
	r.renewed[key] = true
	return nil
}

// deleteRange deletes all keys with this prefix, which must end with a zero byte.
func (r *round) deleteRange(prefix []byte) {
	r.batch.DeleteRange(prefix, end(prefix), nil) //nolint:errcheck // writing to a batch in memory never fails
}

// finish adds the records of the round to the batch, with the states that st has of their sessions and agents. A state
// may include records that are not filed yet. That does no harm, because these are replayed after a restart.
func (r *round) finish(st *store.Store) error {
	filings := make([]store.Filing, 0, len(r.sessions))
	for key, f := range r.sessions {
		sortEntries(f.records)
		filings = append(filings, store.Filing{SessionKey: key, Newest: f.records[0].at})
	}
	slices.SortFunc(filings, func(a, b store.Filing) int { return a.Compare(b.SessionKey) })
	st.File(filings)
	r.putSessionStates(filings)
	renewed := make([]store.Filing, 0, len(r.renewed))
	for key := range r.renewed {
		renewed = append(renewed, store.Filing{SessionKey: key})
	}
	st.File(renewed)
	r.putSessionStates(renewed)
	r.putAgentStates(st)
	for i := range filings {
		f := &filings[i]
		session := r.sessions[f.SessionKey]
		if err := r.put(recordPrefix(f.SessionKey), session.records, f.SessionKnown, f.SessionFiledTo); err != nil {
			return err
		}
		for _, id := range session.ids {
			r.batch.Set(idKey(f.SessionKey, id), nil, nil) //nolint:errcheck // writing to a batch in memory never fails
		}
		if i > 0 && filings[i-1].AgentID == f.AgentID {
			continue
		}
		topics := r.topics[f.AgentID]
		sortEntries(topics)
		// For an agent that is new in memory, the journal may still have entries of forgotten sessions in its history.
		known := f.AgentKnown && f.AgentFiledTo != (store.StatusPosition{})
		if err := r.put(agentPrefix(f.AgentID), topics, known, f.AgentFiledTo); err != nil {
			return err
		}
	}
	return nil
}

// putSessionStates adds the states of the filed sessions to the batch.
func (r *round) putSessionStates(filings []store.Filing) {
	for i := range filings {
		f := &filings[i]
		if f.SessionKnown {
			r.value = appendSessionState(r.value[:0], f.State)
			r.batch.Set(sessionStateKey(f.SessionKey), r.value, nil) //nolint:errcheck // writing to a batch in memory never fails
		}
		if f.AgentKnown || f.SessionKnown {
			r.agents[f.AgentID] = true
		}
	}
}

// putAgentStates adds the states of all agents concerned to the batch.
func (r *round) putAgentStates(st *store.Store) {
	for id := range r.agents {
		if state, ok := st.AgentState(id); ok {
			r.value = appendAgentState(r.value[:0], state)
			r.batch.Set(agentStateKey(id), r.value, nil) //nolint:errcheck // see above
		}
	}
}

// put adds entries of the history with this prefix to the batch. If it is known how far the history was filed before,
// and all entries are newer, nothing has to be read.
func (r *round) put(prefix []byte, entries []entry, known bool, before store.StatusPosition) error {
	newer := known && entries[len(entries)-1].at.Newer(before)
	merge := !newer && !r.forgotten[string(prefix)]
	if err := r.putHistory(prefix, entries, merge); err != nil || r.batch.Len() < batchBytes {
		return err
	}
	return r.write()
}

// write writes the batch and starts a new one.
func (r *round) write() error {
	if err := r.engine.commit(r.batch, pebble.NoSync); err != nil {
		return failureOf(err)
	}
	r.batch = r.engine.db.NewBatch()
	return nil
}
