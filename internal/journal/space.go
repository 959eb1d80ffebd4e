package journal

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/store"
)

// Space returns the number of bytes that the journal takes on disk. Files that the engine is about to delete or reuse
// don't count.
func (j *Journal) Space() (int64, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return 0, err
	}
	m := j.engine.db.Metrics()
	tables, blobs := m.Table.Local, m.BlobFiles.Local
	return int64(m.WAL.PhysicalSize + tables.LiveSize + tables.ZombieSize + blobs.LiveSize + blobs.ZombieSize), nil
}

// EachAgentSpace calls visit for each agent in the journal, with the approximate number of bytes that its data takes on
// disk. It files everything durable first. It stops at the first error of visit, and returns it.
func (j *Journal) EachAgentSpace(ctx context.Context, visit func(agentID string, bytes int64) error) error {
	if err := j.flush(); err != nil {
		return err
	}
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
	for more := iter.First(); more; {
		id, _, _, ok := splitRecordKey(iter.Key())
		if !ok || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), error(errMalformed))
		}
		agentID := string(id)
		bytes, err := j.engine.spaceOf(agentID)
		if err == nil {
			err = visit(agentID, bytes)
		}
		if err != nil {
			return err
		}
		more = iter.SeekGE(end(prefixOf(kindRecord, agentID)))
	}
	return iter.Error()
}

// flush files everything that is durable, and writes it out into tables.
func (j *Journal) flush() error {
	if err := j.File(); err != nil {
		return err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	return j.engine.isolate(j.engine.db.Flush)
}

// prefixesOf returns the prefixes of all keys that belong to an agent.
func prefixesOf(agentID string) [][]byte {
	return [][]byte{prefixOf(kindRecord, agentID), prefixOf(kindID, agentID), agentPrefix(agentID)}
}

// spaceOf returns the approximate number of bytes that an agent takes in tables.
func (e *engine) spaceOf(agentID string) (bytes int64, err error) {
	for _, prefix := range prefixesOf(agentID) {
		n, err := e.db.EstimateDiskUsage(prefix, end(prefix))
		if err != nil {
			return 0, err
		}
		bytes += int64(n)
	}
	return bytes, nil
}

// chunkSpace is the age and the size of a chunk of a session's history.
type chunkSpace struct {
	newest int64 // timestamp of the newest record, in Unix seconds
	bytes  int
}

// OldestCutoff returns a time such that the records from before it make up about the given part, from 0 to 1, of the
// bytes that the sessions' histories of some agents take.
func (j *Journal) OldestCutoff(agents []string, part float64) (before time.Time, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return before, err
	}
	var chunks []chunkSpace
	total := 0
	for _, id := range agents {
		err := j.engine.eachHistoryKey(id, func(at store.StatusPosition, bytes int) {
			chunks = append(chunks, chunkSpace{at.Seconds, bytes})
			total += bytes
		})
		if err != nil {
			return before, err
		}
	}
	slices.SortFunc(chunks, func(a, b chunkSpace) int { return cmp.Compare(a.newest, b.newest) })
	most := int(part * float64(total))
	for _, c := range chunks {
		if most < 0 {
			break
		}
		most -= c.bytes
		before = time.Unix(c.newest+1, 0)
	}
	return before, nil
}

// eachHistoryKey calls visit for each chunk of the histories of an agent's sessions, with the position of its newest
// record and its size.
func (e *engine) eachHistoryKey(agentID string, visit func(newest store.StatusPosition, bytes int)) error {
	prefix := prefixOf(kindRecord, agentID)
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	for more := iter.First(); more; more = iter.Next() {
		_, _, rest, ok := splitRecordKey(iter.Key())
		if !ok {
			return errMalformed
		}
		if rest[0] == partRecord {
			value := iter.LazyValue()
			visit(placeAt(rest[1:]), len(iter.Key())+value.Len())
		}
	}
	return iter.Error()
}

// TrimAgents deletes records older than before from the histories of some agents, except the newest record of each
// session, and frees their disk space. It calls forget for each session before it deletes from it, and returns the
// number of deleted records.
func (j *Journal) TrimAgents(agents []string, before time.Time, forget func(store.SessionKey)) (deleted int, err error) {
	for _, id := range agents {
		topics, err := j.topicsOf(id)
		if err != nil {
			return deleted, err
		}
		for _, topic := range topics {
			key := store.SessionKey{AgentID: id, Topic: topic}
			forget(key)
			n, err := j.TrimSession(key, before)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
		if err := j.TrimAgent(id, before); err != nil {
			return deleted, err
		}
	}
	return deleted, j.compact(agents)
}

// topicsOf returns the topics of the filed sessions of an agent.
func (j *Journal) topicsOf(agentID string) (topics []string, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return nil, err
	}
	return j.engine.topicsOf(agentID)
}

// topicsOf returns the topics of the filed sessions of an agent.
func (e *engine) topicsOf(agentID string) (topics []string, err error) {
	prefix := prefixOf(kindRecord, agentID)
	iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end(prefix)})
	if err != nil {
		return nil, err
	}
	defer iter.Close() //nolint:errcheck // iter.Error is checked below
	for more := iter.First(); more; {
		_, topic, _, ok := splitRecordKey(iter.Key())
		if !ok {
			return nil, errMalformed
		}
		if topic == nil {
			more = iter.Next()
			continue
		}
		topics = append(topics, string(topic))
		more = iter.SeekGE(end(sessionPrefix(kindRecord, store.SessionKey{AgentID: agentID, Topic: string(topic)})))
	}
	return topics, iter.Error()
}

// compact rewrites the tables that hold data of some agents, which frees the space of deleted data.
func (j *Journal) compact(agents []string) error {
	if err := j.flush(); err != nil {
		return err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return err
	}
	e := j.engine
	return e.isolate(func() error {
		for _, id := range agents {
			for _, prefix := range prefixesOf(id) {
				if err := e.db.Compact(context.Background(), prefix, end(prefix), false); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
