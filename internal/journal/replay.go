package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Progress is the progress of a replay.
type Progress struct {
	Sessions, Records int // how many were loaded so far

	// Extended is the number of sessions that would have been lost while the server was down, and got more time instead.
	// InFuture is the number of sessions with a receipt time in the future, because the clock was set back. Both are set
	// at the end of the replay.
	Extended, InFuture int
}

// replayBatchBytes is the approximate size, in bytes of encoded records, of the batches that the reader passes to the
// store.
const replayBatchBytes = 64 << 10

// Replay loads the journal into st, which must be empty: the state of each session, and its newest records, at most
// historyLimit of them. now is the current time; for a replicated store, that of its position counts instead. From then
// on, the journal belongs to st, and files the states that st has of sessions along with their records. progress is
// called from time to time, and at the end.
func (j *Journal) Replay(ctx context.Context, st *store.Store, historyLimit int, now time.Time, progress func(Progress)) error {
	at, ok := j.Position()
	if st.IsReplicated() {
		now = at.Time
	}
	if err := j.replay(ctx, st, historyLimit, now, progress); err != nil {
		return err
	}
	notify(j.fileSoon)
	if st.IsReplicated() {
		if ok {
			st.LoadedUpTo(at.Sequence)
		}
		return nil // the next messages record what was forgotten
	}
	// Some sessions are forgotten during the replay: their retention is over, or there is less room than before. Record
	// that, except for sessions that a later record brought back.
	forgotten := slices.DeleteFunc(st.TakeForgotten(), func(f store.Forgotten) bool { return st.Has(f.SessionKey) })
	for i := range forgotten {
		_, known := st.Agent(forgotten[i].AgentID)
		forgotten[i].LastOfAgent = !known && !st.HasCold()
	}
	if len(forgotten) == 0 {
		return nil
	}
	return j.Append(Commit{Forgotten: forgotten}, func() {})
}

func (j *Journal) replay(ctx context.Context, st *store.Store, historyLimit int, now time.Time, progress func(Progress)) error {
	j.filing.Lock() // keeps the log from being filed during the replay
	defer j.filing.Unlock()
	j.store, j.limit = st, historyLimit
	if st.IsReplicated() {
		pauses, err := j.engine.readPauses()
		if err != nil {
			return j.unreadable(err)
		}
		st.SetPauses(pauses)
		if cutoff := j.cutoff.Load(); cutoff != nil {
			st.SetCutoff(*cutoff)
		}
	}
	st.BeginLoading(now)
	st.SetFiledTo(j.filedTo.Load().sequence)
	var done Progress
	restored := make(chan []*store.Restored, 4)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer close(restored)
		cancel(j.readSessions(historyLimit, func(batch []*store.Restored) error {
			select {
			case restored <- batch:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
	}()
	for sessions := range restored {
		for _, r := range sessions {
			st.Restore(r, now)
			done.Sessions++
			done.Records += len(r.Records)
		}
		progress(done)
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errReadAll) {
		return j.unreadable(err)
	}
	if err := j.replayLog(st, now, &done); err != nil {
		return j.unreadable(err)
	}
	last, err := j.engine.lastAlive()
	if err != nil {
		return j.unreadable(err)
	}
	done.Extended, done.InFuture = st.EndLoading(last, now)
	st.Expire(now)
	progress(done)
	return nil
}

// replayLog applies the commits that are not filed, at the time now.
func (j *Journal) replayLog(st *store.Store, now time.Time, done *Progress) error {
	var records []models.Record
	forgotten := forgottenSet{}
	return j.engine.eachCommit(j.filedTo.Load().position, func(_ uint64, commit string) error {
		records = records[:0]
		err := visitCommit(commit, visitor{record: func(r models.Record, _ string) error {
			records = append(records, r)
			return nil
		}, forget: func(f store.Forgotten) error { // sessions of earlier commits
			st.Remove(f)
			forgotten.add(f)
			return nil
		}, evict: func(key store.SessionKey) error {
			st.Evict([]store.SessionKey{key})
			return nil
		}, position: func(p Position) error {
			st.LoadMessage(p.Sequence)
			return nil
		}})
		for i := range records {
			key := store.SessionKey{AgentID: records[i].AgentID, Topic: records[i].SessionTopic}
			if err != nil || !st.HasCold() || st.Has(key) {
				continue
			}
			if !forgotten.has(key) {
				err = j.recallFiled(key, now)
			}
			if err == nil && !forgotten.has(store.SessionKey{AgentID: key.AgentID}) {
				err = j.recallFiledAgent(key.AgentID, forgotten) // its state, which includes its other sessions
			}
		}
		if err == nil {
			st.Apply(records...)
			done.Records += len(records)
		}
		return err
	})
}

// recallFiled loads a filed session into the store, if it was left out of the replay for lack of room.
func (j *Journal) recallFiled(key store.SessionKey, now time.Time) error {
	r, err := j.read(key, j.limit)
	switch {
	case r == nil || err != nil:
	case j.store.IsReplicated():
		j.store.Recall(r, now) // it was cold until the record that is about to be applied
	default:
		j.store.Restore(r, now)
	}
	return err
}

// recallFiledAgent loads the state of an agent into the store. For a replicated store, it does so only if the agent has a
// filed session that is not forgotten, as [Journal.RecallAgent] does.
func (j *Journal) recallFiledAgent(id string, forgotten forgottenSet) error {
	if !j.store.IsReplicated() {
		return j.recallAgent(id)
	}
	topics, err := j.engine.topicsOf(id)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if !forgotten.has(store.SessionKey{AgentID: id, Topic: topic}) {
			return j.recallAgent(id)
		}
	}
	return nil
}

// forgottenSet is a set of forgotten sessions. An empty topic stands for all sessions of an agent.
type forgottenSet map[store.SessionKey]bool

func (s forgottenSet) add(f store.Forgotten) {
	if f.LastOfAgent {
		f.Topic = ""
	}
	s[f.SessionKey] = true
}

func (s forgottenSet) has(key store.SessionKey) bool {
	return s[key] || s[store.SessionKey{AgentID: key.AgentID}]
}

// errReadAll is returned by a reader that has reached the end.
var errReadAll = errors.New("read all")

// sessionReader reads filed sessions.
type sessionReader struct {
	iter    *pebble.Iterator
	limit   int    // maximum number of records per session
	dropped uint64 // no filed record has a greater sequence
	send    func([]*store.Restored) error

	agentID string // the agent whose state is in agent
	agent   store.AgentState
	batch   []*store.Restored // the last session may be incomplete
	bytes   int               // size of the records in batch
}

// readSessions sends all filed sessions in batches, and returns errReadAll.
func (j *Journal) readSessions(limit int, send func([]*store.Restored) error) (err error) {
	lower, upper := kindRange(kindRecord)
	return j.readBetween(lower, upper, limit, send)
}

// readBetween is readSessions for the keys from lower up to upper.
func (j *Journal) readBetween(lower, upper []byte, limit int, send func([]*store.Restored) error) (err error) {
	iter, err := j.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	r := sessionReader{iter: iter, limit: limit, dropped: j.filedTo.Load().sequence, send: send}
	for more := iter.First(); more; {
		if more, err = r.take(); err != nil {
			return err
		}
	}
	if err := iter.Error(); err != nil {
		return err
	}
	if err := send(r.batch); err != nil {
		return err
	}
	return errReadAll
}

// take reads the entry at the iterator, moves the iterator on, and reports whether there is more.
func (r *sessionReader) take() (more bool, err error) {
	agentID, topic, rest, ok := splitRecordKey(r.iter.Key())
	value, err := r.iter.ValueAndErr()
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("%w: key %q", errMalformed, r.iter.Key())
	}
	switch {
	case topic == nil:
		r.agentID = string(agentID)
		r.agent, err = decodeAgentState(string(value))
	case rest[0] == partState:
		se, startErr := r.startSession(agentID, topic)
		if err = startErr; err == nil {
			se.Session, err = decodeSessionState(string(value))
		}
	default:
		return r.takeChunk(agentID, topic, string(value))
	}
	return r.iter.Next(), err
}

// startSession adds a session to the end of the batch. If the batch is large, it is sent first.
func (r *sessionReader) startSession(agentID, topic []byte) (*store.Restored, error) {
	if r.bytes >= replayBatchBytes {
		if err := r.send(r.batch); err != nil {
			return nil, err
		}
		r.batch, r.bytes = nil, 0
	}
	se := &store.Restored{SessionKey: store.SessionKey{AgentID: string(agentID), Topic: string(topic)}}
	if r.agentID == se.AgentID {
		se.Agent = r.agent
	}
	r.batch = append(r.batch, se)
	return se, nil
}

// takeChunk reads a chunk of records. If their session has enough records, it moves the iterator past the session's
// remaining chunks.
func (r *sessionReader) takeChunk(agentID, topic []byte, chunk string) (more bool, err error) {
	var se *store.Restored
	if n := len(r.batch); n > 0 {
		se = r.batch[n-1]
	}
	if se == nil || se.AgentID != string(agentID) || se.Topic != string(topic) {
		if se, err = r.startSession(agentID, topic); err != nil {
			return false, err
		}
	}
	err = eachRecord(chunk, func(record *models.Record) error {
		if len(se.Records) == r.limit {
			next := placeOf(record)
			se.Next, se.Dropped = &next, r.dropped
			return errStop
		}
		se.Records = append(se.Records, *record)
		return nil
	})
	r.bytes += len(chunk)
	if err == errStop { //nolint:errorlint // never wrapped
		return r.iter.SeekGE(end(recordPrefix(se.SessionKey))), nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: key %q", err, r.iter.Key())
	}
	return r.iter.Next(), nil
}
