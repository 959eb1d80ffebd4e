package recorder

import (
	"context"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// RemoveSession removes a session from the journal and the store. It returns the number of removed sessions, 0 or 1. If
// it returns an error, the removal could not be made durable, and nothing was removed.
func (r *Recorder) RemoveSession(key store.SessionKey, now time.Time) (int, error) {
	return r.remove(&Call{Removal: &journal.Removal{AgentID: key.AgentID, Topic: key.Topic}, Now: now})
}

// RemoveAgent is [Recorder.RemoveSession] for all sessions of an agent. It returns how many of them were in memory, or
// 1 if all of them were only in the journal.
func (r *Recorder) RemoveAgent(ctx context.Context, id string, now time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return r.remove(&Call{Removal: &journal.Removal{AgentID: id}, Now: now})
}

// remove carries out a removal, and returns the number of removed sessions.
func (r *Recorder) remove(c *Call) (int, error) {
	if r.log == nil {
		return removeFrom(r.store, c.Removal, c.Now), nil
	}
	if err := r.log.Failure(); err != nil {
		return 0, err
	}
	c.lead = make(chan bool, 1)
	r.submit(c)
	return c.Removed, c.Err
}

// removeFrom removes sessions from a store, and returns their number.
func removeFrom(st *store.Store, removal *journal.Removal, now time.Time) int {
	switch {
	case removal.Topic == "":
		return st.RemoveAgent(removal.AgentID, now)
	case st.RemoveSession(store.SessionKey{AgentID: removal.AgentID, Topic: removal.Topic}, now):
		return 1
	}
	return 0
}

// remove records a removal in the journal and then applies it to the store, so that nothing is removed if the removal
// can't be made durable. The next commit records the same sessions as forgotten once more, which does no harm.
func (s *Settler) remove(c *Call) error {
	if c.Removal == nil {
		return s.append(journal.Commit{Forgotten: s.stillCold(c.Over)}, func() {})
	}
	commit, err := s.removal(c.Removal, c.Now)
	if err != nil || len(commit.Forgotten) == 0 {
		return err
	}
	return s.append(commit, func() { c.Removed = max(1, removeFrom(s.store, c.Removal, c.Now)) })
}

// removal returns the commit of a removal, which forgets nothing if there is nothing to remove. Sessions that are only in
// the journal are forgotten as well; those of an agent count as one.
func (s *Settler) removal(removal *journal.Removal, now time.Time) (c journal.Commit, err error) {
	if removal.Topic == "" {
		c.Forgotten, err = s.sessionsToForget(removal.AgentID)
		return c, err
	}
	c.Forgotten, err = s.sessionToForget(store.SessionKey{AgentID: removal.AgentID, Topic: removal.Topic}, now)
	return c, err
}

// sessionToForget returns the record of a forgotten session for the journal, or nil if there is no such session.
func (s *Settler) sessionToForget(key store.SessionKey, now time.Time) ([]store.Forgotten, error) {
	if !s.store.Has(key) {
		if held, over, err := s.cold(key, now); !held || over {
			return nil, err
		}
	}
	agent, _ := s.store.Agent(key.AgentID)
	return []store.Forgotten{{SessionKey: key, LastOfAgent: agent.SessionCount <= 1 && !s.store.HasCold()}}, nil
}

// sessionsToForget is sessionToForget for all sessions of an agent.
func (s *Settler) sessionsToForget(id string) (forgotten []store.Forgotten, err error) {
	var after *store.SessionPosition
	for {
		page, _, err := s.store.AgentSessions(context.Background(), store.SessionQuery{AgentID: id}, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, se := range page.Items {
			forgotten = append(forgotten, store.Forgotten{SessionKey: store.SessionKey{AgentID: id, Topic: se.Topic}})
		}
		if after = page.Next; after == nil {
			break
		}
	}
	if cold, err := s.journal.HoldsAgent(id); err != nil || len(forgotten) == 0 && !cold {
		return nil, err
	} else if len(forgotten) == 0 {
		forgotten = append(forgotten, store.Forgotten{SessionKey: store.SessionKey{AgentID: id, Topic: "-"}})
	}
	forgotten[len(forgotten)-1].LastOfAgent = true
	return forgotten, nil
}

// stillCold returns those sessions that have not come back to memory.
func (s *Settler) stillCold(over []store.Forgotten) []store.Forgotten {
	return slices.DeleteFunc(slices.Clone(over), func(f store.Forgotten) bool {
		_, known := s.store.Agent(f.AgentID)
		return s.store.Has(f.SessionKey) || f.LastOfAgent && known
	})
}
