package store

import (
	"math"
	"slices"

	"github.com/kubeagents/kubeagents/models"
)

// need is the room that a record needs.
type need struct {
	sessions int
	bytes    int64 // of memory; net of what the record frees
}

// quota is a bound of the store, or the share of it that some agents may use.
type quota struct {
	used     *usage
	share    Share
	shared   bool // the bound is a share
	mayEvict func(s *Store, set *teamSet, sessions bool) bool
}

// makeRoom makes room for a record of an agent with these teams: within each team's share, and within the bounds of the
// store. Within a share, only the team's own data is dropped. It returns 0 if there is room, otherwise the refusal. The
// caller holds s.mu.
func (s *Store) makeRoom(set *teamSet, n need) Outcome {
	for _, t := range set.list() {
		if !t.share.IsLimited() {
			continue
		}
		if outcome := s.makeRoomIn(teamQuota(t), n); outcome != 0 {
			return outcome
		}
	}
	if set == nil && s.share.IsLimited() {
		if outcome := s.makeRoomIn(s.everyoneQuota(), n); outcome != 0 {
			return outcome
		}
	}
	return s.makeRoomIn(s.storeQuota(set), n)
}

// teamQuota returns the share of a team. It is enforced on the team's own agents.
func teamQuota(t *Team) quota {
	return quota{&t.used, t.share, true, func(_ *Store, set *teamSet, _ bool) bool { return slices.Contains(set.list(), t) }}
}

// everyoneQuota returns the share of the agents without a team.
func (s *Store) everyoneQuota() quota {
	return quota{&s.everyone, s.share, true, func(_ *Store, set *teamSet, _ bool) bool { return set == nil }}
}

// storeQuota returns the bounds of the store, as seen by agents with these teams. Data of agents without a cap is
// dropped first. After that, agents with a cap drop data of their own, or of teams that use more than they do. So a
// team within its share loses data only to a team that uses less.
func (s *Store) storeQuota(own *teamSet) quota {
	return quota{&s.used, Share{}, false, func(s *Store, set *teamSet, sessions bool) bool {
		return set == own || !set.capped() || own.capped() && s.largestUse(set, sessions) > s.largestUse(own, sessions)
	}}
}

// capped reports whether the share of one of the teams in the set is less than the whole.
func (set *teamSet) capped() bool {
	return slices.ContainsFunc(set.list(), func(t *Team) bool { return t.share.IsLimited() })
}

// makeRoomIn makes room within a quota. A replicated store evicts nothing, but may exceed the quota: see [Store.Room]. It
// returns 0 if there is room, otherwise the refusal. The caller holds s.mu.
func (s *Store) makeRoomIn(q quota, n need) Outcome {
	for n.sessions > 0 && !q.fitsSessions(s, n.sessions) {
		if s.opts.Replicated && s.mayExceedSessions(q, n.sessions) {
			break
		}
		if s.opts.Replicated || s.work >= maxDropped || !s.evictOne(q, &s.bounds.MaxSessions) {
			return refusalAt(OutOfSessions, q)
		}
	}
	for n.bytes > 0 && !q.fitsBytes(s, n.bytes) {
		dropped := s.work < maxDropped && s.dropOne(q)
		if !dropped && s.opts.Replicated && s.mayExceedBytes(q, n.bytes) {
			break
		}
		if !dropped && (s.opts.Replicated || s.work >= maxDropped || !s.evictOne(q, &s.bounds.HistoryMaxBytes)) {
			return refusalAt(OutOfMemory, q)
		}
	}
	return 0
}

// maxDropped limits what is dropped under one hold of the lock, in units of workPerLock.
const maxDropped = 4 * workPerLock

// refusalAt returns the refusal for a quota: ofBound, or its counterpart for a share if the quota is one.
func refusalAt(ofBound Outcome, q quota) Outcome {
	if q.shared {
		return ofBound + 1
	}
	return ofBound
}

func (q *quota) fitsSessions(s *Store, n int) bool {
	return int64(q.used.sessions+q.used.reservedSessions+n) <= q.share.Of(int64(s.opts.MaxSessions))
}

func (q *quota) fitsBytes(s *Store, n int64) bool {
	return q.used.bytes+q.used.reserved+n <= q.share.Of(s.opts.HistoryMaxBytes)
}

// trim brings a quota back within its bound after something was added: it drops statuses that are not current, then
// contents of current ones. The caller holds s.mu.
func (s *Store) trim(q quota) {
	for q.used.bytes > q.share.Of(s.opts.HistoryMaxBytes) && s.work < maxDropped && s.dropOne(q) {
	}
}

// trimFor trims each quota that agents with these teams count toward. The caller holds s.mu.
func (s *Store) trimFor(set *teamSet) {
	for _, t := range set.list() {
		if t.used.bytes > t.share.Of(s.opts.HistoryMaxBytes) {
			s.trim(teamQuota(t))
		}
	}
	if set == nil && s.share.IsLimited() {
		s.trim(s.everyoneQuota())
	}
	if s.used.bytes > s.opts.HistoryMaxBytes {
		s.trim(s.storeQuota(set))
	}
}

// dropOne drops a status that is not current or, if there is none, the content of a current one, from the session that
// has been silent for the longest among those that q may drop from. It reports whether it dropped anything. The caller
// holds s.mu.
func (s *Store) dropOne(q quota) bool {
	h := s.victim(q, false, updatedEarlier, func(h *holding) *session { return h.superseded.Front() })
	if h != nil {
		s.dropSuperseded(h.superseded.Front())
		s.bounds.HistoryMaxBytes++
		s.work++
		return true
	}
	h = s.victim(q, false, updatedEarlier, func(h *holding) *session { return h.contents.Front() })
	if h == nil {
		return false
	}
	s.dropContent(h.contents.Front())
	s.bounds.Contents++
	s.work++
	return true
}

// evictOne evicts the session that expired longest ago among those that q may evict, and counts it in bound. It reports
// whether there was one. The caller holds s.mu.
func (s *Store) evictOne(q quota, bound *uint64) bool {
	h := s.toEvictFrom(q, bound == &s.bounds.MaxSessions)
	if h == nil {
		return false
	}
	s.evict(h.expired.First())
	*bound++
	return true
}

// toEvictFrom returns the holding to evict a session from, nil if there is none. The caller holds s.mu.
func (s *Store) toEvictFrom(q quota, sessions bool) *holding {
	return s.victim(q, sessions, queuedEarlier, func(h *holding) *session { return h.expired.First() })
}

// victim returns the holding to drop something from, nil if there is none. It considers the holdings that q may drop
// from and for which first returns a session, and picks the one whose agents use the most. On a tie, and within a
// share, it picks the one whose first session is the earliest. The caller holds s.mu.
func (s *Store) victim(q quota, sessions bool, earlier func(a, b *session) bool, first func(*holding) *session) (chosen *holding) {
	var most int64
	for set, h := range s.holdings() {
		se := first(h)
		if se == nil || !q.mayEvict(s, set, sessions) {
			continue
		}
		weight := int64(math.MaxInt64)
		if !q.shared && set.capped() {
			weight = s.largestUse(set, sessions)
		}
		if chosen == nil || weight > most || weight == most && earlier(se, first(chosen)) {
			chosen, most = h, weight
		}
	}
	return chosen
}

func updatedEarlier(a, b *session) bool { return updatedLater(b, a) }

// dropSuperseded drops the oldest status of se, which has at least two. The caller holds s.mu.
func (s *Store) dropSuperseded(se *session) {
	s.dropOldest(se)
	s.setDroppable(se, false)
}

// dropContent drops the content of the current status of se. The caller holds s.mu.
func (s *Store) dropContent(se *session) {
	current := se.current()
	before := current.size()
	current.dropContent()
	s.charge(se.agent, current.size()-before)
	s.setDroppable(se, false)
}

// setDroppable puts se into the list of its holding that matches what can be dropped from it; at the end, if it was
// just renewed. The caller holds s.mu.
func (s *Store) setDroppable(se *session, renewed bool) {
	h := s.holdingOf(se.teams.of())
	as := nothingDroppable
	switch {
	case len(se.history) > 1:
		as = statusDroppable
	case len(se.history) == 1 && se.current().hasContent():
		as = contentDroppable
	}
	if as == se.droppable && !renewed {
		return
	}
	if as != se.droppable {
		s.clearDroppable(se)
	}
	switch se.droppable = as; as {
	case statusDroppable:
		h.superseded.MoveToBack(se)
	case contentDroppable:
		h.contents.MoveToBack(se)
	}
}

// clearDroppable takes se out of the lists of its holding. The caller holds s.mu.
func (s *Store) clearDroppable(se *session) {
	h := s.holdingOf(se.teams.of())
	switch se.droppable {
	case statusDroppable:
		h.superseded.Remove(se)
	case contentDroppable:
		h.contents.Remove(se)
	}
	se.droppable = nothingDroppable
}

// admitRoom makes room for a record. a and se are its agent and session, nil if not known. If reserve is set, the
// record is applied later, and the room is reserved for it. If the content of a question does not fit, it is dropped.
// It returns 0 if there is room or the store is replicated, otherwise the refusal. The caller holds s.mu.
func (s *Store) admitRoom(r *models.Record, a *agent, se *session, reserve bool) Outcome {
	if s.opts.Replicated {
		return 0
	}
	n, outcome := s.roomFor(r, a, se)
	switch {
	case outcome != 0:
		s.countRefusal(outcome)
	case reserve:
		s.reserve(s.teamsOf(a, r.AgentID), se, n)
	}
	return outcome
}

// roomFor makes room for a record as admitRoom does, and returns what it needs. The caller holds s.mu.
func (s *Store) roomFor(r *models.Record, a *agent, se *session) (need, Outcome) {
	set := s.teamsOf(a, r.AgentID)
	if se != nil && se.queued == inExpired { // must not be evicted to make room for itself
		s.unqueue(se)
		defer s.enqueue(se)
	}
	n, outcome := s.makeRoomFor(r, set, a, se)
	if outcome.outOfMemory() && r.Turn != nil && r.Turn.Question != nil {
		withoutContent(r)
		n, outcome = s.makeRoomFor(r, set, a, se)
	}
	return n, outcome
}

// makeRoomFor makes room for a record, and returns what it needs. Making room may evict the agent's last session, which
// increases the need. The caller holds s.mu.
func (s *Store) makeRoomFor(r *models.Record, set *teamSet, a *agent, se *session) (n need, outcome Outcome) {
	n = s.needOf(r, set, a, se)
	for {
		before := s.work
		if outcome = s.makeRoom(set, n); outcome != 0 || s.work == before {
			return n, outcome // usually nothing was dropped
		}
		a = a.live()
		after := s.needOf(r, set, a, se)
		if after == n {
			return n, 0
		}
		n = after
	}
}

// needOf returns what a record needs beyond what is reserved for its session. The caller holds s.mu.
func (s *Store) needOf(r *models.Record, set *teamSet, a *agent, se *session) need {
	if se == nil {
		return need{1, s.growth(r, set, a, nil)}
	}
	return need{0, s.growth(r, set, a, se) - int64(se.reserved)}
}

// withoutContent drops the content of the question that r opens, of the status beneath it, and of the status that r
// sets.
func withoutContent(r *models.Record) {
	asks := *r.Turn.Question
	asks.Content, asks.ContentCut = "", asks.ContentCut || asks.Content != ""
	turn := *r.Turn
	turn.Question, turn.Underlying.Content = &asks, ""
	r.Turn = &turn
	if !r.Renewal() {
		r.Content = ""
	}
}

func (s *Store) countRefusal(outcome Outcome) {
	if outcome == OutOfSessionShare || outcome == OutOfMemoryShare || outcome == OutOfDiskShare {
		s.bounds.RefusedShare++
		return
	}
	s.bounds.Refused++
}

// teamsOf returns the teams of the agent with this ID; a is nil if it is not known. The caller holds s.mu.
func (s *Store) teamsOf(a *agent, id string) *teamSet {
	if a != nil {
		return a.teams.of()
	}
	return s.teams.of(id)
}
