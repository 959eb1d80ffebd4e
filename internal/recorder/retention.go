package recorder

import (
	"context"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// pageSize is how many sessions or agents are looked at, and deleted from, at once. So many of the longest IDs fit into a
// message of a stream.
const pageSize = 300

// TrimHistory drops the statuses older than before from memory and from the journal, except the current one of each
// session. It returns the number of statuses deleted from the journal.
func (r *Recorder) TrimHistory(ctx context.Context, before time.Time) (deleted int, err error) {
	if err := r.journal.File(); err != nil {
		return 0, err
	}
	if err := r.trimAgents(ctx, before); err != nil {
		return 0, err
	}
	var after *store.SessionPosition
	for {
		page, err := r.store.Sessions(ctx, store.SessionQuery{}, after, pageSize)
		if err != nil {
			return deleted, err
		}
		trim := journal.Trim{Before: before}
		for _, se := range page.Items {
			if se.Created.Before(before) { // otherwise, except for late reports, all of its statuses are newer
				trim.Sessions = append(trim.Sessions, store.SessionKey{AgentID: se.AgentID, Topic: se.Topic})
			}
		}
		n, err := r.trim(ctx, &trim)
		deleted += n
		if err != nil {
			return deleted, err
		}
		if after = page.Next; after == nil {
			return deleted, r.journal.Reclaim()
		}
	}
}

// trimAgents is TrimHistory for the histories of agents.
func (r *Recorder) trimAgents(ctx context.Context, before time.Time) error {
	var after *store.AgentPosition
	for {
		page, err := r.store.Agents(ctx, store.AgentQuery{}, after, pageSize)
		if err != nil {
			return err
		}
		trim := journal.Trim{Before: before}
		for _, a := range page.Items {
			if a.Registered.Before(before) {
				trim.Histories = append(trim.Histories, a.ID)
			}
		}
		if _, err := r.trim(ctx, &trim); err != nil {
			return err
		}
		if after = page.Next; after == nil {
			return nil
		}
	}
}

// trim deletes history. With a log that servers share, it first leaves out what has nothing to delete, so that messages
// are about what they change.
func (r *Recorder) trim(ctx context.Context, t *journal.Trim) (deleted int, err error) {
	if r.shared {
		if err := r.leaveOutNew(t); err != nil {
			return 0, err
		}
	}
	if len(t.Sessions)+len(t.Histories)+len(t.Agents) == 0 {
		return 0, nil
	}
	return r.log.Do(ctx, &journal.Message{Trim: t})
}

// leaveOutNew removes from t what has nothing to delete.
func (r *Recorder) leaveOutNew(t *journal.Trim) (err error) {
	t.Sessions, err = withOlder(t.Sessions, t.Before, r.journal.HasOlder)
	if err == nil {
		t.Histories, err = withOlder(t.Histories, t.Before, r.journal.AgentHasOlder)
	}
	return err
}

// withOlder returns those of all sessions or agents whose history has something older than before.
func withOlder[T any](all []T, before time.Time, hasOlder func(T, time.Time) (bool, error)) (some []T, err error) {
	for _, one := range all {
		older, err := hasOlder(one, before)
		if err != nil {
			return nil, err
		}
		if older {
			some = append(some, one)
		}
	}
	return some, nil
}

// trim deletes history from memory and from the journal. It returns the number of records deleted from the journal.
func (s *Settler) trim(ctx context.Context, t *journal.Trim) (deleted int, err error) {
	for _, id := range t.Histories {
		if err := s.journal.TrimAgent(id, t.Before); err != nil {
			return deleted, err
		}
	}
	for _, key := range t.Sessions {
		if ctx.Err() != nil {
			return deleted, ctx.Err()
		}
		s.store.TrimHistory(key, t.Before)
		n, err := s.journal.TrimSession(key, t.Before)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	if len(t.Agents) == 0 {
		return deleted, nil
	}
	n, err := s.journal.TrimAgents(t.Agents, t.Before, func(key store.SessionKey) { s.store.TrimHistory(key, t.Before) })
	return deleted + n, err
}

// TrimCold deletes from the journal the sessions that memory forgot and whose retention is over at the time now. It
// returns their number.
func (r *Recorder) TrimCold(ctx context.Context, now time.Time) (removed int, err error) {
	if !r.store.HasCold() {
		return 0, nil
	}
	mark, left := r.store.ColdMark(), false
	if err := r.journal.File(); err != nil {
		return 0, err
	}
	var over []store.Forgotten
	err = r.journal.EachFiled(ctx, func(f journal.Filed) error {
		expired, kept := r.expiredCold(f, now)
		left = left || kept
		over = append(over, expired...)
		return nil
	})
	for chunk := range slices.Chunk(over, pageSize) {
		if err == nil {
			_, err = r.remove(&Call{Over: chunk, Now: now})
		}
	}
	if err == nil && !left {
		r.store.ClearCold(mark)
	}
	return len(over), err
}

// expiredCold returns an agent's sessions that exist only in the journal and whose retention is over. left reports
// whether others exist only in the journal.
func (r *Recorder) expiredCold(f journal.Filed, now time.Time) (over []store.Forgotten, left bool) {
	_, known := r.store.Agent(f.AgentID)
	for topic, state := range f.Sessions {
		key := store.SessionKey{AgentID: f.AgentID, Topic: topic}
		switch {
		case r.store.Has(key):
		case now.Before(r.store.RetainedUntil(state)):
			left = true
		default:
			over = append(over, store.Forgotten{SessionKey: key})
		}
	}
	if !known && len(over) == len(f.Sessions) { // nothing of the agent remains
		key := store.SessionKey{AgentID: f.AgentID, Topic: "-"}
		over = append(over, store.Forgotten{SessionKey: key, LastOfAgent: true})
	}
	return over, left
}
