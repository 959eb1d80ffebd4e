package store

import (
	"context"
	"iter"
	"math"
	"sync"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/internal/textsearch"
	"github.com/kubeagents/kubeagents/models"
)

// What a list looks at under one hold of the lock: so many items, and so many bytes of texts that it searches.
const (
	scannedPerLock  = 1000
	searchedPerLock = 32 << 10
)

// AgentQuery selects agents. Its zero value selects them all, by ID.
type AgentQuery struct {
	Team    *Team         // of which it is; nil for any
	Status  models.Status // the latest one; 0 for any
	Source  string        // "" for any
	Active  *bool         // whether it has an active session; nil for either
	Waiting *bool         // whether it has a session that is active and pending; nil for either
	Search  string        // a part of its ID or name, in any case; "" for any
	BySeen  bool          // newest report first
	Bytes   int           // of a page at most; 0 for PageBytes
}

// SessionQuery selects sessions. Its zero value selects them all.
type SessionQuery struct {
	Team    *Team         // of which its agent is; nil for any
	AgentID string        // "" for any
	Source  string        // of the agent; "" for any
	Status  models.Status // the current one; 0 for any
	Expired *bool         // nil for either
	Lost    *bool         // nil for either
	Idle    *bool         // whether it has done nothing yet; nil for either
	Search  string        // a part of agent ID, agent name, topic or title, in any case; "" for any
	Oldest  bool          // oldest update first, instead of newest
	Bytes   int           // of a page at most; 0 for PageBytes
}

// Agents returns at most limit of the agents that q selects, from those after a position on, or from the
// first. The error is that of ctx.
func (s *Store) Agents(ctx context.Context, q AgentQuery, after *AgentPosition, limit int) (Page[models.Agent, AgentPosition], error) {
	pattern := textsearch.Compile(q.Search)
	return list(ctx, &s.mu, lister[agent, models.Agent, AgentPosition]{
		walk: func(after *AgentPosition) iter.Seq[*agent] { return s.agentsFrom(q, after) },
		selects: func(a *agent) bool {
			return (q.Source == "" || a.source.name == q.Source) && pattern.MatchAny(a.id, a.name)
		},
		searched: func(a *agent) int { return len(a.id) + len(a.name) },
		search:   q.Search != "",
		view:     (*agent).view,
		bytes:    AgentBytes,
		position: (*agent).position,
		most:     q.Bytes,
	}, after, limit)
}

// Sessions returns at most limit of the sessions that q selects, in its order, from those after a
// position on, or from the first. The error is that of ctx.
func (s *Store) Sessions(ctx context.Context, q SessionQuery, after *SessionPosition, limit int) (Page[models.FleetSession, SessionPosition], error) {
	return list(ctx, &s.mu, sessionLister(s, q, s.fleetView, FleetSessionBytes), after, limit)
}

// AgentSessions is [Store.Sessions] for the agent that q names. ok is false where there is no such agent.
func (s *Store) AgentSessions(ctx context.Context, q SessionQuery, after *SessionPosition, limit int) (page Page[models.Session, SessionPosition], ok bool, err error) {
	if !q.Team.Covers(q.AgentID) {
		return page, false, nil
	}
	if _, ok := s.Agent(q.AgentID); !ok {
		return page, false, nil
	}
	page, err = list(ctx, &s.mu, sessionLister(s, q, s.view, SessionBytes), after, limit)
	return page, true, err
}

func sessionLister[V any](s *Store, q SessionQuery, view func(*session) V, bytes func(*V) int) lister[session, V, SessionPosition] {
	pattern := textsearch.Compile(q.Search)
	return lister[session, V, SessionPosition]{
		walk: func(after *SessionPosition) iter.Seq[*session] { return s.sessionsFrom(q, after) },
		selects: func(se *session) bool {
			return (q.Source == "" || se.source.name == q.Source) &&
				pattern.MatchAny(se.agent.id, se.agent.name, se.topic, se.title)
		},
		searched: func(se *session) int { return len(se.agent.id) + len(se.agent.name) + len(se.topic) + len(se.title) },
		search:   q.Search != "",
		view:     view,
		bytes:    bytes,
		position: (*session).position,
		most:     q.Bytes,
	}
}

// Agent returns an agent. ok is false where there is none.
func (s *Store) Agent(id string) (agent models.Agent, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return agent, false
	}
	return a.view(), true
}

// AgentStatus returns the latest status of an agent and at most limit entries of the status history over
// all its sessions, newest first, from those after a position on, or from the newest. ok is false where
// there is no such agent.
func (s *Store) AgentStatus(id string, after *StatusPosition, limit int) (latest models.AgentStatus, history HistoryPage, ok bool) {
	defer giveWay()
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return latest, history, false
	}
	return a.latest().view(), s.historyPage(a.historyFrom(after), limit, a.dropped, a.floor), true
}

// Session returns a session and at most limit entries of its status history, newest first, from those
// after a position on, or from the newest. ok is false where there is no such session.
func (s *Store) Session(agentID, topic string, after *StatusPosition, limit int) (session models.Session, history HistoryPage, ok bool) {
	full, _, history, ok := s.SessionInFull(agentID, topic, after, limit)
	return full.Session, history, ok
}

// SessionInFull is [Store.Session] with what a list over the fleet shows of the agent, and with the questions that are open, in full,
// oldest first.
func (s *Store) SessionInFull(agentID, topic string, after *StatusPosition, limit int) (session models.FleetSession, questions []models.Question, history HistoryPage, ok bool) {
	defer giveWay()
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, se := s.lookup(agentID, topic)
	if se == nil {
		return session, nil, history, false
	}
	questions = []models.Question{}
	if !se.class.expired() {
		questions = se.turn.questions()
	}
	return s.fleetView(se), questions, s.historyPage(se.historyFrom(after), limit, se.dropped, ordered.Place{Time: math.MinInt64}), true
}

// historyPage copies one page of a history out. Where statuses up to the sequence dropped are missing, and a journal
// has them, none is above floor. The caller holds the store's lock.
func (s *Store) historyPage(history iter.Seq[*status], limit int, dropped uint64, floor ordered.Place) HistoryPage {
	var page HistoryPage
	page.Items = []models.AgentStatus{}
	whole := true // what memory holds is, so far
	for st := range history {
		if len(page.Items) == limit || !page.Add(st.view(), st.position(), limit, 0) {
			page.End()
			break
		}
		if st.is(cut) {
			whole, dropped = false, max(dropped, st.sequence)
		}
		if whole = whole && (dropped == 0 || st.place().Compare(floor) > 0); whole {
			page.Complete = len(page.Items)
		}
	}
	switch {
	case !s.opts.Journaled:
		page.Complete = len(page.Items)
	case dropped > 0 && (page.Next == nil || page.Complete < len(page.Items)):
		page.Journaled = dropped
	}
	return page
}

// lister is how to make pages of a list of T, which show each as a V and know its place as a P. All its
// functions are called with the store's lock held.
type lister[T, V, P any] struct {
	walk     func(after *P) iter.Seq[*T]
	selects  func(*T) bool
	search   bool         // whether selects searches texts
	searched func(*T) int // how many bytes of them
	view     func(*T) V
	bytes    func(*V) int // that a view takes in an answer
	position func(*T) P
	most     int // bytes of a page; 0 for PageBytes
}

// list makes one page. Where few items are selected it walks on, and lets go of the lock now and then, so
// that no list holds up a report.
func list[T, V, P any](ctx context.Context, mu *sync.RWMutex, l lister[T, V, P], after *P, limit int) (Page[V, P], error) {
	page := Page[V, P]{Items: []V{}}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return page, err
		}
		after, more = l.addTo(&page, mu, after, limit)
		giveWay()
	}
	return page, nil
}

// addTo adds to page what one hold of the lock finds after a position. It returns the position that it
// came to, and whether to go on from there.
func (l lister[T, V, P]) addTo(page *Page[V, P], mu *sync.RWMutex, after *P, limit int) (*P, bool) {
	mu.RLock()
	defer mu.RUnlock()
	var last *T
	scanned, searched := 0, 0
	for item := range l.walk(after) {
		if scanned == scannedPerLock || searched >= searchedPerLock {
			position := l.position(last)
			return &position, true
		}
		scanned++
		if l.search {
			searched += l.searched(item)
		}
		last = item
		if !l.selects(item) {
			continue
		}
		if len(page.Items) == limit || !page.add(l.view(item), limit, l.most, l.bytes) {
			return nil, false
		}
		position := l.position(item)
		page.Next = &position
	}
	page.Next = nil
	return nil, false
}

// agentsFrom walks the agents that q selects, but for its search, after a position; with both a team and a source, the source
// may be another. The caller holds s.mu.
func (s *Store) agentsFrom(q AgentQuery, after *AgentPosition) iter.Seq[*agent] {
	r := s.rosterOf(q.Team)
	if q.Source != "" && q.Team == nil {
		src := s.sources[q.Source]
		if src == nil {
			return func(func(*agent) bool) {}
		}
		r = &src.roster
	}
	var walks []ordered.Walk[agent]
	for c := range where(agentClasses, withStatus[agentClass](q.Status), with(agentClass.active, q.Active), with(agentClass.waiting, q.Waiting)) {
		if q.BySeen {
			walks = append(walks, r.seen[c].Before(r.agentIn, after.place()))
			continue
		}
		pivot := agent{class: c}
		if after != nil {
			pivot.id = after.ID + "\x00" // what comes next after the ID
		}
		walks = append(walks, r.byID.From(&pivot).While(func(a *agent) bool { return a.class == c }))
	}
	if q.BySeen {
		return ordered.Merge(walks, seenLater)
	}
	return ordered.Merge(walks, func(a, b *agent) bool { return a.id < b.id })
}

// sessionsFrom walks the sessions that q selects, but for its search, after a position, in its order; with a source and an agent
// or a team, the source may be another. The caller holds s.mu.
func (s *Store) sessionsFrom(q SessionQuery, after *SessionPosition) iter.Seq[*session] {
	r := s.rosterOf(q.Team)
	var a *agent
	switch {
	case q.AgentID != "":
		if !q.Team.Covers(q.AgentID) {
			return func(func(*session) bool) {}
		}
		if a = s.agents[q.AgentID]; a == nil {
			return func(func(*session) bool) {}
		}
	case q.Source != "" && q.Team == nil:
		src := s.sources[q.Source]
		if src == nil {
			return func(func(*session) bool) {}
		}
		r = &src.roster
	}
	var walks []ordered.Walk[session]
	for c := range where(classes, withStatus[class](q.Status), with(class.expired, q.Expired), with(class.lost, q.Lost), with(class.idle, q.Idle)) {
		switch {
		case a != nil:
			walks = append(walks, a.sessionsOf(c, after, q.Oldest))
		case q.Oldest:
			walks = append(walks, r.updated[c].After(r.sessionIn, after.place()))
		default:
			walks = append(walks, r.updated[c].Before(r.sessionIn, after.place()))
		}
	}
	if q.Oldest {
		return ordered.Merge(walks, func(a, b *session) bool { return updatedLater(b, a) })
	}
	return ordered.Merge(walks, updatedLater)
}
