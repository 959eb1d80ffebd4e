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

// Progress is how far a replay has come.
type Progress struct {
	Sessions, Records int

	// What is known at its end: how many sessions would have been lost while the server was down, and have got some time now, and how
	// many were reported at what is the future now, because the clock was set back.
	Spared, Ahead int
}

// replayAtOnce is about how many bytes of encoded records go from the reader of the journal to the store at a
// time.
const replayAtOnce = 64 << 10

// Replay puts into st, which must be empty, what the journal knows of each session, and of its records the historyLimit
// newest. now is the time. From then on the journal is that of st: what st knows of a session is filed with its
// records. progress is called now and then.
func (j *Journal) Replay(ctx context.Context, st *store.Store, historyLimit int, now time.Time, progress func(Progress)) error {
	if err := j.replay(ctx, st, historyLimit, now, progress); err != nil {
		return err
	}
	notify(j.fileSoon)
	// What is forgotten by now, because time has passed or there is less room than there was, the journal has to know.
	// What came back with a later record stays as a whole.
	forgotten := slices.DeleteFunc(st.TakeForgotten(), func(f store.Forgotten) bool { return st.Knows(f.SessionKey) })
	for i := range forgotten {
		_, known := st.Agent(forgotten[i].AgentID)
		forgotten[i].LastOfAgent = !known && !st.HasCold()
	}
	if len(forgotten) == 0 {
		return nil
	}
	return j.Append(forgotten, nil, func() {})
}

func (j *Journal) replay(ctx context.Context, st *store.Store, historyLimit int, now time.Time, progress func(Progress)) error {
	j.filing.Lock() // nothing is filed meanwhile
	defer j.filing.Unlock()
	j.store, j.limit = st, historyLimit
	st.Loading(now)
	st.Filed(j.filedTo.Load().sequence)
	var done Progress
	restored := make(chan []*store.Restored, 4)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer close(restored)
		cancel(j.engine.readSessions(historyLimit, j.filedTo.Load().sequence, func(batch []*store.Restored) error {
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
	done.Spared, done.Ahead = st.Loaded(last, now)
	st.Expire(now)
	progress(done)
	return nil
}

// replayLog applies what is not filed, at the time now.
func (j *Journal) replayLog(st *store.Store, now time.Time, done *Progress) error {
	var records []models.Record
	gone := forgottenSet{}
	return j.engine.eachCommit(j.filedTo.Load().position, func(_ uint64, commit string) error {
		records = records[:0]
		err := eachDecoded(commit, func(r models.Record, _ string) error {
			records = append(records, r)
			return nil
		}, func(f store.Forgotten) error { // of what came with earlier commits
			st.Remove(f)
			gone.add(f)
			return nil
		})
		for i := range records {
			key := store.SessionKey{AgentID: records[i].AgentID, Topic: records[i].SessionTopic}
			if err != nil || !st.HasCold() || st.Knows(key) {
				continue
			}
			if !gone.has(key) {
				err = j.recallFiled(key, now)
			}
			if err == nil && !gone.has(store.SessionKey{AgentID: key.AgentID}) {
				err = j.recallAgent(key.AgentID) // what is filed of its other sessions stays
			}
		}
		if err == nil {
			st.Apply(records...)
			done.Records += len(records)
		}
		return err
	})
}

// recallFiled puts a session into the store that there was no room for, if that is what it is.
func (j *Journal) recallFiled(key store.SessionKey, now time.Time) error {
	r, err := j.read(key, j.limit)
	if r != nil && err == nil {
		j.store.Restore(r, now)
	}
	return err
}

// forgottenSet is the sessions that were forgotten; with the topic "", all of an agent.
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

// errReadAll is why a reader that came to the end stopped.
var errReadAll = errors.New("read all")

// sessionReader reads what is filed, session by session.
type sessionReader struct {
	iter    *pebble.Iterator
	limit   int    // records of a session
	dropped uint64 // no filed record has a greater sequence
	send    func([]*store.Restored) error

	agentID string // whose state agent is
	agent   store.AgentState
	batch   []*store.Restored // the last one may go on
	bytes   int               // in batch
}

// readSessions sends all that is filed, and returns errReadAll.
func (e *engine) readSessions(limit int, dropped uint64, send func([]*store.Restored) error) (err error) {
	lower, upper := kindRange(kindRecord)
	return e.readBetween(lower, upper, limit, dropped, send)
}

// readBetween is readSessions for the keys from lower up to upper.
func (e *engine) readBetween(lower, upper []byte, limit int, dropped uint64, send func([]*store.Restored) error) (err error) {
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // its error is looked at below
	r := sessionReader{iter: iter, limit: limit, dropped: dropped, send: send}
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

// take takes what the iterator is at, and moves it on. It reports whether there is more.
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
		se, beginErr := r.begin(agentID, topic)
		if err = beginErr; err == nil {
			se.Session, err = decodeSessionState(string(value))
		}
	default:
		return r.takeChunk(agentID, topic, string(value))
	}
	return r.iter.Next(), err
}

// begin makes a session the last of the batch, which is sent first if it is large.
func (r *sessionReader) begin(agentID, topic []byte) (*store.Restored, error) {
	if r.bytes >= replayAtOnce {
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

// takeChunk takes a chunk of records, or, where their session has enough of them, moves on to the next session.
func (r *sessionReader) takeChunk(agentID, topic []byte, chunk string) (more bool, err error) {
	var se *store.Restored
	if n := len(r.batch); n > 0 {
		se = r.batch[n-1]
	}
	if se == nil || se.AgentID != string(agentID) || se.Topic != string(topic) {
		if se, err = r.begin(agentID, topic); err != nil {
			return false, err
		}
	}
	err = eachRecord(chunk, func(record *models.Record) error {
		if len(se.Records) == r.limit {
			next := placeOf(record)
			se.Next, se.Dropped = &next, r.dropped
			return errEnough
		}
		se.Records = append(se.Records, *record)
		return nil
	})
	r.bytes += len(chunk)
	if err == errEnough { //nolint:errorlint // it comes as it is
		return r.iter.SeekGE(end(recordPrefix(se.SessionKey))), nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: key %q", err, r.iter.Key())
	}
	return r.iter.Next(), nil
}
