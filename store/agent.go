package store

import (
	"strings"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// agent is one that reports. It lives as long as it has a session.
type agent struct {
	id         string
	name       string
	nameSeq    uint64 // the sequence that name is of
	sourceSeq  uint64 // the sequence that source is of
	registered int64
	sessions   ordered.Timeline[session] // by class and newest report
	statuses   ordered.Timeline[status]  // of all its sessions
	count      int32                     // sessions
	active     int32                     // sessions not expired
	dropped    uint64                    // the greatest sequence of a status that its sessions no longer hold; 0 for none
	filed      StatusPosition            // of the newest status that is filed in the journal; zero for none
	floor      ordered.Place             // the last place of such a status: above it, none is missing

	// What the indexes order by; see moveAgent.
	source   *source
	lastSeen int64
	seenSeq  uint64 // the sequence of the record that lastSeen is of
	class    class

	teams *membership[agent]

	slotInFleet, slotInSource uint8
	inFleet, inSource         *ordered.Leaf[agent]
}

// source is where agents run. It lives as long as it has an agent.
type source struct {
	name   string
	agents int
	roster
}

func (a *agent) seenPlace() ordered.Place {
	return ordered.Place{Time: a.lastSeen, Sequence: a.seenSeq}
}

// How agents are kept by their newest report, in the fleet and in their source.
var (
	agentInFleet = ordered.Member[agent]{Place: (*agent).seenPlace,
		Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return &a.inFleet, &a.slotInFleet }}
	agentInSource = ordered.Member[agent]{Place: (*agent).seenPlace,
		Slot: func(a *agent) (**ordered.Leaf[agent], *uint8) { return &a.inSource, &a.slotInSource }}
)

// classAndIDLess orders agents by class, then by ID.
func classAndIDLess(a, b *agent) bool {
	if a.class != b.class {
		return a.class < b.class
	}
	return a.id < b.id
}

func seenLater(a, b *agent) bool { return a.seenPlace().Compare(b.seenPlace()) > 0 }

// newAgent makes an agent that has no session yet. The caller holds s.mu, and adds a session before it
// lets go.
func (s *Store) newAgent(id string, received int64) *agent {
	a := &agent{id: strings.Clone(id), registered: received}
	a.teams = memberOf[agent](s.teams.of(a.id))
	s.agents[a.id] = a
	return a
}

// sourceName returns the name of the source of a, "" where that has none yet. The caller holds the store's lock.
func (a *agent) sourceName() string {
	if a.source == nil {
		return ""
	}
	return a.source.name
}

// sourceOf returns the source of that name for a, which is counted there unless it is its source already. The caller
// holds s.mu, and moves a.
func (s *Store) sourceOf(a *agent, name string) *source {
	if a.source != nil && a.source.name == name {
		return a.source
	}
	src := s.sources[name]
	if src == nil {
		src = &source{name: strings.Clone(name), roster: newRoster(&agentInSource, &sessionInSource)}
		s.sources[src.name] = src
	}
	src.agents++
	return src
}

// leaveSource tells src that it has an agent less. The caller holds s.mu.
func (s *Store) leaveSource(src *source) {
	src.agents--
	if src.agents == 0 {
		delete(s.sources, src.name)
	}
}

// moveAgent moves a to where src, its state, and its newest report say, in every index. The caller holds
// s.mu.
func (s *Store) moveAgent(a *agent, src *source, lastSeen int64, seenSeq uint64) {
	class := classOf(a.latest().kind, a.active == 0)
	if class == a.class && src == a.source {
		if lastSeen != a.lastSeen || seenSeq != a.seenSeq {
			a.lastSeen, a.seenSeq = lastSeen, seenSeq
			s.fleet.advanceAgent(a)
			src.advanceAgent(a)
			for _, t := range a.teams.all() {
				t.advanceAgent(a)
			}
		}
		return
	}
	if a.source != nil {
		s.unlistAgent(a)
	}
	a.class, a.source, a.lastSeen, a.seenSeq = class, src, lastSeen, seenSeq
	s.listAgent(a)
}

// listAgent puts a into every index. The caller holds s.mu.
func (s *Store) listAgent(a *agent) {
	s.fleet.addAgent(a)
	a.source.addAgent(a)
	for _, t := range a.teams.all() {
		t.addAgent(a)
	}
}

// unlistAgent takes a out of every index. The caller holds s.mu.
func (s *Store) unlistAgent(a *agent) {
	s.fleet.removeAgent(a)
	a.source.removeAgent(a)
	for _, t := range a.teams.all() {
		t.removeAgent(a)
	}
}

// removeAgent forgets a, which has no session left. The caller holds s.mu.
func (s *Store) removeAgent(a *agent) {
	s.unlistAgent(a)
	s.leaveSource(a.source)
	delete(s.agents, a.id)
}

// latest returns the status of a with the greatest (timestamp, sequence). The caller holds the store's
// lock.
func (a *agent) latest() *status { return a.statuses.Newest() }

// view returns a as a read shows it. The caller holds the store's lock.
func (a *agent) view() models.Agent {
	latest := a.latest()
	return models.Agent{
		ID:                 a.id,
		Name:               a.name,
		Source:             a.source.name,
		Registered:         at(a.registered),
		LastSeen:           at(a.lastSeen),
		SessionCount:       int(a.count),
		ActiveSessionCount: int(a.active),
		LatestStatus:       latest.kind,
		LatestMessage:      latest.message(),
	}
}
