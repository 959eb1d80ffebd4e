package store

import (
	"math"
	"slices"

	"github.com/kubeagents/kubeagents/models"
)

// need is the room that a record takes.
type need struct {
	sessions int
	bytes    int64 // of memory; what it frees is taken off
}

// quota is a bound, or a share of it, that agents are held to.
type quota struct {
	used   *usage
	share  Share
	shared bool // the bound is the share of some agents
	mayPay func(s *Store, set *teamSet, sessions bool) bool
}

// makeRoom makes room for a record of an agent of these teams: within the share of each, and within the bounds of the store. At a
// share it is the team itself that gives something up. It returns 0, or what is used up. The caller holds s.mu.
func (s *Store) makeRoom(set *teamSet, n need) Outcome {
	for _, t := range set.list() {
		if !t.share.Caps() {
			continue
		}
		if outcome := s.makeRoomIn(ofTeam(t), n); outcome != 0 {
			return outcome
		}
	}
	if set == nil && s.share.Caps() {
		if outcome := s.makeRoomIn(s.ofEveryone(), n); outcome != 0 {
			return outcome
		}
	}
	return s.makeRoomIn(s.ofAll(set), n)
}

// ofTeam is the share of a team: its own agents give something up.
func ofTeam(t *Team) quota {
	return quota{&t.used, t.share, true, func(_ *Store, set *teamSet, _ bool) bool { return slices.Contains(set.list(), t) }}
}

// ofEveryone is the share of the agents that are of no team.
func (s *Store) ofEveryone() quota {
	return quota{&s.everyone, s.share, true, func(_ *Store, set *teamSet, _ bool) bool { return set == nil }}
}

// ofAll is the bounds of the store, for agents of these teams. Agents without a cap give something up first, then, for those with one,
// the teams that use up more than they do. So nobody takes from a team within its share but one that uses up less.
func (s *Store) ofAll(own *teamSet) quota {
	return quota{&s.used, Share{}, false, func(s *Store, set *teamSet, sessions bool) bool {
		return set == own || !set.capped() || own.capped() && s.largest(set, sessions) > s.largest(own, sessions)
	}}
}

// capped reports whether one of the teams of the set is held to less than all.
func (set *teamSet) capped() bool {
	return slices.ContainsFunc(set.list(), func(t *Team) bool { return t.share.Caps() })
}

// makeRoomIn makes room within a quota. The caller holds s.mu.
func (s *Store) makeRoomIn(q quota, n need) Outcome {
	for n.sessions > 0 && !q.fitsSessions(s, n.sessions) {
		if s.work >= mostGivenUp || !s.evictOne(q, &s.bounds.MaxSessions) {
			return outOf(OutOfSessions, q)
		}
	}
	for n.bytes > 0 && !q.fitsBytes(s, n.bytes) {
		if s.work >= mostGivenUp || !s.giveUpOne(q) && !s.evictOne(q, &s.bounds.HistoryMaxBytes) {
			return outOf(OutOfMemory, q)
		}
	}
	return 0
}

// mostGivenUp bounds what is given up under one hold of the lock, in units of workPerLock.
const mostGivenUp = 4 * workPerLock

func outOf(whole Outcome, q quota) Outcome {
	if q.shared {
		return whole + 1
	}
	return whole
}

func (q *quota) fitsSessions(s *Store, n int) bool {
	return int64(q.used.sessions+q.used.begun+n) <= q.share.Of(int64(s.opts.MaxSessions))
}

func (q *quota) fitsBytes(s *Store, n int64) bool {
	return q.used.bytes+q.used.kept+n <= q.share.Of(s.opts.HistoryMaxBytes)
}

// trim has a quota held that something was added to: statuses that are not current go, then the content of those that are. The
// caller holds s.mu.
func (s *Store) trim(q quota) {
	for q.used.bytes > q.share.Of(s.opts.HistoryMaxBytes) && s.work < mostGivenUp && s.giveUpOne(q) {
	}
}

// trimFor holds what agents of these teams are counted in to its quotas. The caller holds s.mu.
func (s *Store) trimFor(set *teamSet) {
	for _, t := range set.list() {
		if t.used.bytes > t.share.Of(s.opts.HistoryMaxBytes) {
			s.trim(ofTeam(t))
		}
	}
	if set == nil && s.share.Caps() {
		s.trim(s.ofEveryone())
	}
	if s.used.bytes > s.opts.HistoryMaxBytes {
		s.trim(s.ofAll(set))
	}
}

// giveUpOne drops a status that is not current, or else the content of one that is, of the sessions that have been silent for longest,
// where those who pay have any. It reports whether they do. The caller holds s.mu.
func (s *Store) giveUpOne(q quota) bool {
	h := s.payer(q, false, updatedEarlier, func(h *holding) *session { return h.superseded.Front() })
	if h != nil {
		s.dropSuperseded(h.superseded.Front())
		s.bounds.HistoryMaxBytes++
		s.work++
		return true
	}
	h = s.payer(q, false, updatedEarlier, func(h *holding) *session { return h.contents.Front() })
	if h == nil {
		return false
	}
	s.dropContent(h.contents.Front())
	s.bounds.Contents++
	s.work++
	return true
}

// evictOne has memory forget the session of those who pay that expired longest ago, if there is one, and counts that in bound. The
// caller holds s.mu.
func (s *Store) evictOne(q quota, bound *uint64) bool {
	h := s.payer(q, bound == &s.bounds.MaxSessions, queuedEarlier, func(h *holding) *session { return h.expired.First() })
	if h == nil {
		return false
	}
	s.evict(h.expired.First())
	*bound++
	return true
}

// payer returns what is to give something up, nil where nothing can: of the holdings that may, and of which first returns something,
// that of the agents that use up the most; of several, or within a share, the one of which that is the earliest. The caller holds s.mu.
func (s *Store) payer(q quota, sessions bool, earlier func(a, b *session) bool, first func(*holding) *session) (payer *holding) {
	var most int64
	for set, h := range s.holdings() {
		se := first(h)
		if se == nil || !q.mayPay(s, set, sessions) {
			continue
		}
		weight := int64(math.MaxInt64)
		if !q.shared && set.capped() {
			weight = s.largest(set, sessions)
		}
		if payer == nil || weight > most || weight == most && earlier(se, first(payer)) {
			payer, most = h, weight
		}
	}
	return payer
}

func updatedEarlier(a, b *session) bool { return updatedLater(b, a) }

// dropSuperseded drops the oldest status of se, which holds more than its current one. The caller holds s.mu.
func (s *Store) dropSuperseded(se *session) {
	s.dropOldest(se)
	s.setYield(se, false)
}

// dropContent drops the content of the current status of se. The caller holds s.mu.
func (s *Store) dropContent(se *session) {
	current := se.current()
	before := current.size()
	current.cutContent()
	s.charge(se.agent, current.size()-before)
	s.setYield(se, false)
}

// setYield puts se where it stands among those that can give something up; last, where it has just been heard of. The caller
// holds s.mu.
func (s *Store) setYield(se *session, heard bool) {
	h := s.holdingOf(se.teams.of())
	as := nothing
	switch {
	case len(se.history) > 1:
		as = aStatus
	case len(se.history) == 1 && se.current().hasContent():
		as = aContent
	}
	if as == se.yieldsAs && !heard {
		return
	}
	if as != se.yieldsAs {
		s.keepYield(se)
	}
	switch se.yieldsAs = as; as {
	case aStatus:
		h.superseded.MoveToBack(se)
	case aContent:
		h.contents.MoveToBack(se)
	}
}

// keepYield takes se out of those that can give something up. The caller holds s.mu.
func (s *Store) keepYield(se *session) {
	h := s.holdingOf(se.teams.of())
	switch se.yieldsAs {
	case aStatus:
		h.superseded.Remove(se)
	case aContent:
		h.contents.Remove(se)
	}
	se.yieldsAs = nothing
}

// admitRoom makes room for a record of an agent that is known, nil where it is not, and of a session that is, and keeps that free, if
// the record is to be applied later. Where there is none for a question's content, that is dropped. It returns 0, or what is used up. The caller
// holds s.mu.
func (s *Store) admitRoom(r *models.Record, a *agent, se *session, keep bool) Outcome {
	set := s.teamsOf(a, r.AgentID)
	if se != nil && se.queued == inExpired { // it is not to make room for itself
		s.unqueue(se)
		defer s.enqueue(se)
	}
	n, outcome := s.makeRoomFor(r, set, a, se)
	if outcome.outOfMemory() && r.Turn != nil && r.Turn.Asks != nil {
		withoutContent(r)
		n, outcome = s.makeRoomFor(r, set, a, se)
	}
	switch {
	case outcome != 0:
		s.countRefusal(outcome)
	case keep:
		s.keepFree(set, se, n)
	}
	return outcome
}

// makeRoomFor makes room for a record, and returns what it needs. Making room may take the agent's last session, and so have it need more. The caller
// holds s.mu.
func (s *Store) makeRoomFor(r *models.Record, set *teamSet, a *agent, se *session) (n need, outcome Outcome) {
	n = s.needOf(r, set, a, se)
	for {
		before := s.work
		if outcome = s.makeRoom(set, n); outcome != 0 || s.work == before {
			return n, outcome // mostly nothing was given up
		}
		a = a.known()
		after := s.needOf(r, set, a, se)
		if after == n {
			return n, 0
		}
		n = after
	}
}

// needOf returns what a record needs beyond what is kept for its session already. The caller holds s.mu.
func (s *Store) needOf(r *models.Record, set *teamSet, a *agent, se *session) need {
	if se == nil {
		return need{1, s.growth(r, set, a, nil)}
	}
	return need{0, s.growth(r, set, a, se) - int64(se.kept)}
}

// withoutContent drops the content of the question that r opens, and of what it tells beside it.
func withoutContent(r *models.Record) {
	asks := *r.Turn.Asks
	asks.Content, asks.ContentCut = "", asks.ContentCut || asks.Content != ""
	turn := *r.Turn
	turn.Asks, turn.Beneath.Content = &asks, ""
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

// teamsOf returns the teams of an agent, nil where it is not known, with this ID. The caller holds s.mu.
func (s *Store) teamsOf(a *agent, id string) *teamSet {
	if a != nil {
		return a.teams.of()
	}
	return s.teams.of(id)
}
