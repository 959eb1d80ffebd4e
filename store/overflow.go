package store

import (
	"maps"
	"slices"
)

// Overflow returns the sessions to evict to get back within each bound and share, in order, at most limit. They are those
// that a store that is not replicated would evict. It evicts nothing, but drops statuses and contents.
func (s *Store) Overflow(limit int) []SessionKey {
	s.shrink()
	s.lock()
	defer s.mu.Unlock()
	o := overflow{Store: s, limit: limit, next: map[*holding]*session{}, agents: map[*agent]int32{}, sources: map[*source]int{}}
	defer o.end()
	for _, t := range s.teams.all {
		o.evictTo(teamQuota(t))
	}
	if s.share.IsLimited() {
		o.evictTo(s.everyoneQuota())
	}
	o.evictTo(quota{&s.used, Share{}, false, func(*Store, *teamSet, bool) bool { return true }})
	return o.keys
}

// Evict evicts those of the sessions that are in memory and have expired, and returns them. They are cold from now on.
//
// Between [Store.BeginLoading] and [Store.EndLoading] it evicts nothing yet: a record that is applied later brings the
// session back. EndLoading evicts the rest.
func (s *Store) Evict(keys []SessionKey) (evicted []SessionKey) {
	if s.evictsLater(keys) {
		return nil
	}
	for len(keys) > 0 {
		n, some := s.evictSome(keys)
		keys, evicted = keys[n:], append(evicted, some...)
		s.announce()
		yieldToWaiters()
	}
	return evicted
}

// evictsLater notes that sessions are evicted while the store is being loaded. It returns false if it is not.
func (s *Store) evictsLater(keys []SessionKey) bool {
	s.lock()
	defer s.mu.Unlock()
	if !s.loading {
		return false
	}
	if s.evicted == nil {
		s.evicted = map[SessionKey]struct{}{}
	}
	for _, key := range keys {
		s.evicted[key] = struct{}{}
	}
	return true
}

// evictLoaded evicts the sessions that were evicted while the store was being loaded.
func (s *Store) evictLoaded() {
	s.lock()
	keys := slices.SortedFunc(maps.Keys(s.evicted), SessionKey.Compare)
	s.evicted = nil
	s.mu.Unlock()
	s.Evict(keys)
}

// evictSome is Evict for as many of the keys as fit into one hold of the lock, at least one. It also returns how many.
func (s *Store) evictSome(keys []SessionKey) (n int, evicted []SessionKey) {
	s.lock()
	defer s.mu.Unlock()
	for ; n < len(keys) && s.work < workPerLock; n++ {
		s.work++
		if _, se := s.lookup(keys[n].AgentID, keys[n].Topic); se != nil && se.class.expired() {
			s.evict(se)
			s.bounds.MaxSessions++
			evicted = append(evicted, keys[n])
		}
	}
	return n, evicted
}

// overflow is a run of Overflow. While it is under way, the usages of the store are what they would be after the
// evictions.
type overflow struct {
	*Store
	limit   int
	keys    []SessionKey
	undo    []func()
	next    map[*holding]*session // the first session that is not taken; nil for none
	agents  map[*agent]int32      // sessions taken
	sources map[*source]int       // members taken
}

// evictTo takes sessions until a quota is kept, as far as possible.
func (o *overflow) evictTo(q quota) {
	for len(o.keys) < o.limit && !q.fitsSessions(o.Store, 0) && o.takeFrom(q, true) {
	}
	for len(o.keys) < o.limit && !q.fitsBytes(o.Store, 0) && o.takeFrom(q, false) {
	}
}

// takeFrom takes a session for a quota. It reports whether there was one.
func (o *overflow) takeFrom(q quota, sessions bool) bool {
	h := o.victim(q, sessions, queuedEarlier, o.first)
	if h == nil {
		return false
	}
	o.take(h)
	return true
}

// first returns the session of a holding that expired longest ago and is not taken, nil if there is none.
func (o *overflow) first(h *holding) *session {
	se, ok := o.next[h]
	if !ok {
		se = h.expired.First()
		o.next[h] = se
	}
	return se
}

// take takes the first session of a holding.
func (o *overflow) take(h *holding) {
	se := o.first(h)
	next := h.expired.From(se)
	next()
	o.next[h] = next()
	o.keys = append(o.keys, SessionKey{se.agent.id, se.topic})
	bytes := se.size() + se.turn.size()
	for _, ref := range se.history {
		bytes += ref.size()
	}
	o.leave(se.source)
	if o.agents[se.agent]++; o.agents[se.agent] == se.agent.count {
		bytes += se.agent.size()
		o.leave(se.agent.source)
	}
	o.free(se.agent.teams.of(), 1, bytes)
}

// leave removes a member from a source.
func (o *overflow) leave(src *source) {
	if o.sources[src]++; o.sources[src] == src.members {
		o.free(src.chargedTo, 0, sizeOfSource(src.name))
	}
}

// free takes sessions and bytes from the usages of a set of teams, until the end of the run.
func (o *overflow) free(set *teamSet, sessions int, bytes int64) {
	for u := range o.usages(set) {
		u.sessions, u.bytes = u.sessions-sessions, u.bytes-bytes
		o.undo = append(o.undo, func() { u.sessions, u.bytes = u.sessions+sessions, u.bytes+bytes })
	}
}

// end sets the usages to what they are.
func (o *overflow) end() {
	for _, undo := range o.undo {
		undo()
	}
}
