package store

import (
	"context"
	"iter"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/internal/textsearch"
	"github.com/kubeagents/kubeagents/models"
)

// Limits of what a list examines under one hold of the lock: items, and bytes of text to search.
const (
	scannedPerLock  = 1000
	searchedPerLock = 32 << 10
)

// AgentQuery selects agents. The zero value selects all, ordered by ID.
type AgentQuery struct {
	Team    *Team         // team of the agent; nil for any
	Status  models.Status // latest status; 0 for any
	Source  string        // "" for any
	Active  *bool         // has an active session; nil for either
	Waiting *bool         // has an active session that is pending; nil for either
	Search  string        // substring of its ID or name, case-insensitive; "" for any
	BySeen  bool          // order by newest report first
	Bytes   int           // limit of a page; 0 for PageBytes
}

// SessionQuery selects sessions. The zero value selects all.
type SessionQuery struct {
	Team    *Team         // team of the agent; nil for any
	AgentID string        // "" for any
	Source  string        // source of the session; "" for any
	Status  models.Status // current status; 0 for any
	Expired *bool         // nil for either
	Lost    *bool         // nil for either
	Idle    *bool         // has done nothing yet; nil for either
	Need    models.Need   // why it needs attention, which also sets the order: see [models.Needs]; 0 for any session
	Search  string        // substring of agent ID, agent name, topic or title, case-insensitive; "" for any
	Oldest  bool          // oldest update first, instead of newest
	Bytes   int           // limit of a page; 0 for PageBytes
}

// Agents returns at most limit of the agents that q selects, starting after a position, or with the first one if after
// is nil. The error is that of ctx.
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
		maxBytes: q.Bytes,
	}, after, limit)
}

// Sessions returns at most limit of the sessions that q selects, in its order, starting after a position, or with the
// first one if after is nil. The error is that of ctx.
func (s *Store) Sessions(ctx context.Context, q SessionQuery, after *SessionPosition, limit int) (Page[models.FleetSession, SessionPosition], error) {
	return list(ctx, &s.mu, sessionLister(s, q, s.fleetView, FleetSessionBytes), after, limit)
}

// AgentSessions is [Store.Sessions] for the agent that q names. ok is false if there is no such agent.
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
	position := (*session).position
	if q.Need != 0 {
		position = (*session).needPosition
	}
	return lister[session, V, SessionPosition]{
		walk: func(after *SessionPosition) iter.Seq[*session] { return s.sessionsFrom(q, after) },
		selects: func(se *session) bool {
			return (q.Source == "" || se.source.name == q.Source) && q.selects(se) &&
				pattern.MatchAny(se.agent.id, se.agent.name, se.topic, se.title)
		},
		searched: func(se *session) int { return len(se.agent.id) + len(se.agent.name) + len(se.topic) + len(se.title) },
		search:   q.Search != "",
		view:     view,
		bytes:    bytes,
		position: position,
		maxBytes: q.Bytes,
	}
}

// selects reports whether a session that needs attention as q says also meets its other conditions. Without a need,
// sessionsFrom does this. The caller holds the store's lock.
func (q *SessionQuery) selects(se *session) bool {
	if q.Need == 0 {
		return true
	}
	for range classesWhere(classes, q.conditions(func(c class) bool { return c == se.class })...) {
		return q.AgentID == "" || se.agent.id == q.AgentID
	}
	return false
}

// conditions returns the conditions that q sets for the class of a session, and more.
func (q *SessionQuery) conditions(more ...func(class) bool) []func(class) bool {
	return append(more, withStatus[class](q.Status), withProperty(class.expired, q.Expired), withProperty(class.lost, q.Lost), withProperty(class.idle, q.Idle))
}

// Agent returns an agent. ok is false if there is no such agent.
func (s *Store) Agent(id string) (agent models.Agent, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return agent, false
	}
	return a.view(), true
}

// AgentStatus returns the latest status of an agent, and at most limit entries of the status history over all its
// sessions, newest first, starting after a position, or with the newest one if after is nil. ok is false if there is no
// such agent.
func (s *Store) AgentStatus(id string, after *StatusPosition, limit int) (latest models.AgentStatus, history HistoryPage, ok bool) {
	defer yieldToWaiters()
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[id]
	if a == nil {
		return latest, history, false
	}
	return a.latest().view(), s.historyPage(s.sinceCutoff(a.historyFrom(after)), limit, a.dropped, a.floor), true
}

// Session returns a session, and at most limit entries of its status history, newest first, starting after a position,
// or with the newest one if after is nil. ok is false if there is no such session.
func (s *Store) Session(agentID, topic string, after *StatusPosition, limit int) (session models.Session, history HistoryPage, ok bool) {
	full, _, history, ok := s.SessionInFull(agentID, topic, after, limit)
	return full.Session, history, ok
}

// SessionInFull is [Store.Session] with the details of the agent that a list over the fleet shows, and with the open
// questions in full, oldest first.
func (s *Store) SessionInFull(agentID, topic string, after *StatusPosition, limit int) (session models.FleetSession, questions []models.Question, history HistoryPage, ok bool) {
	defer yieldToWaiters()
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

// Closure is a question that closed, and when.
type Closure struct {
	models.ClosedQuestion
	At time.Time // UTC; when the session was last updated, if no entry of the history mentions it yet
}

// Closures returns the questions of a session that closed lately: those that no entry of the history mentions yet, and
// those that the newest entries mention.
func (s *Store) Closures(agentID, topic string, entries int) (closures []Closure) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, se := s.lookup(agentID, topic)
	if se == nil {
		return nil
	}
	add := func(notes []models.ClosedQuestion, when int64) {
		closed, _ := models.SplitNotes(notes)
		for _, c := range closed {
			c.Text, c.By, c.Answer = strings.Clone(c.Text), strings.Clone(c.By), strings.Clone(c.Answer)
			closures = append(closures, Closure{c, at(when)})
		}
	}
	if se.turn != nil {
		add(se.turn.closed, se.updated)
	}
	for st := range se.historyFrom(nil) {
		if entries--; entries < 0 {
			break
		}
		_, _, notes := st.notes()
		add(notes, st.received)
	}
	return closures
}

// KnowsBegin reports whether memory certainly has the status with which a session's current one began. If not, the
// session's StatusSince may be the timestamp of the oldest status that is left, which changes as statuses are dropped. A
// replicated store always knows it.
func (s *Store) KnowsBegin(agentID, topic string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, se := s.lookup(agentID, topic)
	return se != nil && (s.opts.Replicated || se.dropped == 0 || int(se.runLength) < len(se.history))
}

// historyPage copies one page of a history. If statuses are missing that a journal holds, dropped is the greatest
// sequence and floor the greatest place among them. The caller holds the store's lock.
func (s *Store) historyPage(history iter.Seq[*status], limit int, dropped uint64, floor ordered.Place) HistoryPage {
	var page HistoryPage
	page.Items = []models.AgentStatus{}
	whole := true // no gap and no dropped content so far
	for st := range history {
		if len(page.Items) == limit || !page.Add(st.view(), st.position(), limit, 0) {
			page.MarkMore()
			break
		}
		if st.is(contentDropped) {
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

// lister defines a list of T, whose items are shown as V and have positions of type P. Its functions are called with
// the store's lock held.
type lister[T, V, P any] struct {
	walk     func(after *P) iter.Seq[*T]
	selects  func(*T) bool
	search   bool         // selects searches texts
	searched func(*T) int // bytes of text that selects searches in an item
	view     func(*T) V
	bytes    func(*V) int // size of a view in a response
	position func(*T) P
	maxBytes int // limit of a page; 0 for PageBytes
}

// list returns one page. It releases the lock regularly, so that a list that selects few items does not delay reports.
func list[T, V, P any](ctx context.Context, mu *sync.RWMutex, l lister[T, V, P], after *P, limit int) (Page[V, P], error) {
	page := Page[V, P]{Items: []V{}}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return page, err
		}
		after, more = l.addTo(&page, mu, after, limit)
		yieldToWaiters()
	}
	return page, nil
}

// addTo adds to page what it finds after a position under one hold of the lock. It returns the position that it
// reached, and whether to continue from there.
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
		if len(page.Items) == limit || !page.add(l.view(item), limit, l.maxBytes, l.bytes) {
			return nil, false
		}
		position := l.position(item)
		page.Next = &position
	}
	page.Next = nil
	return nil, false
}

// agentsFrom walks the agents that q selects, ignoring its search, after a position. With both a team and a source in
// q, it also yields agents of other sources. The caller holds s.mu.
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
	for c := range classesWhere(agentClasses, withStatus[agentClass](q.Status), withProperty(agentClass.active, q.Active), withProperty(agentClass.waiting, q.Waiting)) {
		if q.BySeen {
			walks = append(walks, r.seen[c].Before(r.agentIn, after.place()))
			continue
		}
		pivot := agent{class: c}
		if after != nil {
			pivot.id = after.ID + "\x00" // the first possible string after the ID
		}
		walks = append(walks, r.byID.From(&pivot).While(func(a *agent) bool { return a.class == c }))
	}
	if q.BySeen {
		return ordered.Merge(walks, seenLater)
	}
	return ordered.Merge(walks, func(a, b *agent) bool { return a.id < b.id })
}

// sessionsFrom walks the sessions that q selects, ignoring its search, after a position, in its order. With a source
// and either an agent or a team in q, it also yields sessions of other sources. The caller holds s.mu.
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
	if q.Need != 0 {
		return ahead(r.needingFrom(q.Need, after)).All()
	}
	var walks []ordered.Walk[session]
	for c := range classesWhere(classes, q.conditions()...) {
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
