package journal

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/store"
)

// Recall loads a session into the store if memory forgot it and the journal still has it. now is the current time. If
// the retention of the session is over, Recall doesn't load it and returns true; the caller must then record that the
// session was forgotten, before the session starts again.
func (j *Journal) Recall(key store.SessionKey, now time.Time) (over bool, err error) {
	if !j.store.HasCold() || j.store.Has(key) {
		return false, nil
	}
	r, err := j.Cold(key, j.limit)
	if r == nil || err != nil {
		return false, err
	}
	if !now.Before(j.store.RetainedUntil(r.Session)) {
		return true, nil
	}
	j.store.Recall(r, now)
	return false, nil
}

// RecallAgent loads the state of an agent into the store if memory forgot the agent and the journal still has it.
func (j *Journal) RecallAgent(id string) error {
	if !j.store.HasCold() {
		return nil
	}
	cools, known := j.store.AgentIsCooling(id)
	if known {
		return nil
	}
	if cools || j.filedTo.Load().position < j.lastForget.Load() {
		if err := j.File(); err != nil {
			return err
		}
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.store.IsReplicated() {
		// What is left of an agent without sessions depends on when its last one was forgotten.
		if held, err := j.holdsSession(id); !held || err != nil {
			return err
		}
	}
	return j.recallAgent(id)
}

// recallAgent is RecallAgent once everything about the agent is filed. The caller holds j.mu, or is Replay.
func (j *Journal) recallAgent(id string) error {
	if j.engine == nil {
		return ErrClosed
	}
	value, found, err := j.engine.find(agentStateKey(id))
	if !found {
		return err
	}
	state, err := decodeAgentState(value)
	if err == nil {
		j.store.RecallAgent(id, state)
	}
	return err
}

// Cold returns a session that memory forgot, with its newest records, at most limit of them. It returns nil if the
// journal doesn't have the session.
func (j *Journal) Cold(key store.SessionKey, limit int) (*store.Restored, error) {
	if !j.store.HasCold() {
		return nil, nil
	}
	if j.store.IsCooling(key) {
		if err := j.File(); err != nil {
			return nil, err
		}
	}
	r, err := j.readFiled(key, limit)
	if r == nil || err != nil || j.filedTo.Load().position >= j.lastForget.Load() {
		return r, err
	}
	if err := j.File(); err != nil { // a commit that is not filed yet may forget the session
		return nil, err
	}
	return j.readFiled(key, limit)
}

func (j *Journal) readFiled(key store.SessionKey, limit int) (*store.Restored, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.read(key, limit)
}

// HoldsAgent reports whether the journal has sessions of an agent. It returns false at once if memory has every
// session.
func (j *Journal) HoldsAgent(id string) (bool, error) {
	if !j.store.HasCold() {
		return false, nil
	}
	if err := j.File(); err != nil {
		return false, err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.holdsSession(id)
}

// holdsSession reports whether a session of an agent is filed. The caller holds j.mu.
func (j *Journal) holdsSession(id string) (held bool, err error) {
	if j.engine == nil {
		return false, ErrClosed
	}
	iter, err := j.engine.db.NewIter(&pebble.IterOptions{LowerBound: end(agentStateKey(id)), UpperBound: end(prefixOf(kindRecord, id))})
	if err != nil {
		return false, err
	}
	held = iter.First()
	return held, iter.Close()
}

// read returns a session with its newest filed records, at most limit of them, or nil if nothing is filed. The caller
// holds j.mu.
func (j *Journal) read(key store.SessionKey, limit int) (*store.Restored, error) {
	if j.engine == nil {
		return nil, ErrClosed
	}
	if _, filed, err := j.engine.find(sessionStateKey(key)); !filed {
		return nil, err
	}
	var found *store.Restored
	prefix := sessionPrefix(kindRecord, key)
	err := j.readBetween(prefix, end(prefix), limit, func(batch []*store.Restored) error {
		if len(batch) > 0 {
			found = batch[0]
		}
		return nil
	})
	if err != nil && !errors.Is(err, errReadAll) || found == nil {
		return nil, err
	}
	value, known, err := j.engine.find(agentStateKey(key.AgentID))
	if known {
		found.Agent, err = decodeAgentState(value)
	}
	return found, err
}

// Filed is an agent in the journal, with the state of each of its sessions.
type Filed struct {
	AgentID  string
	Sessions map[string]store.SessionState // by topic
}

// EachFiled calls visit for each agent that has filed sessions. It stops at the first error of visit, and returns it.
func (j *Journal) EachFiled(ctx context.Context, visit func(Filed) error) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	lower, upper := kindRange(kindRecord)
	iter, err := j.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	var filed Filed
	for more := iter.First(); more; {
		agentID, topic, rest, ok := splitRecordKey(iter.Key())
		if !ok || ctx.Err() != nil {
			return errors.Join(ctx.Err(), iter.Error())
		}
		if filed.AgentID != string(agentID) {
			if err := visitFiled(visit, filed); err != nil {
				return err
			}
			filed = Filed{string(agentID), map[string]store.SessionState{}}
		}
		if more, err = filed.take(iter, string(topic), rest[0] == partState); err != nil {
			return err
		}
	}
	return errors.Join(iter.Error(), visitFiled(visit, filed))
}

func visitFiled(visit func(Filed) error, f Filed) error {
	if f.AgentID == "" {
		return nil
	}
	return visit(f)
}

// take adds the session at the iterator, and moves the iterator on, past the records of the session.
func (f *Filed) take(iter *pebble.Iterator, topic string, state bool) (more bool, err error) {
	if topic == "" {
		return iter.Next(), nil
	}
	key := store.SessionKey{AgentID: f.AgentID, Topic: topic}
	if state {
		value, err := iter.ValueAndErr()
		if err != nil {
			return false, err
		}
		if f.Sessions[topic], err = decodeSessionState(string(value)); err != nil {
			return false, err
		}
	} else if _, ok := f.Sessions[topic]; !ok {
		f.Sessions[topic] = store.SessionState{} // filed by an earlier version, which wrote no state
	}
	return iter.SeekGE(end(sessionPrefix(kindRecord, key))), nil
}
