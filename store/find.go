package store

import (
	"strings"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// toolLess orders sessions by what events find them by: the tool's own ID of the session, which is the topic, and the
// tool. Agent IDs break ties.
func toolLess(a, b *session) bool {
	if a.topic != b.topic {
		return a.topic < b.topic
	}
	if a.source != b.source {
		return a.source.name < b.source.name
	}
	return a.agent.id < b.agent.id
}

// maxFound limits how many sessions of one tool with one ID are examined. There is only one, unless a client makes up
// agents.
const maxFound = 1000

// find returns the session of an event that names no agent: of the team's sessions that the tool knows by this ID, the
// one updated last; nil if there is none. The caller holds the store's lock.
func (s *Store) find(team *Team, tool, id string) (found *session) {
	src := s.sources[tool]
	if src == nil {
		return nil
	}
	next := s.sessionsByToolID(src, id)
	for range maxFound {
		se := next()
		if se == nil {
			break
		}
		if team.Covers(se.agent.id) && (found == nil || updatedLater(se, found)) {
			found = se
		}
	}
	return found
}

// sessionsByToolID walks the sessions that a tool knows by this ID and that its events began. The caller holds the
// store's lock.
func (s *Store) sessionsByToolID(tool *source, id string) ordered.Walk[session] {
	return s.tools.From(&session{topic: id, source: tool, agent: new(agent)}).While(func(se *session) bool {
		return se.topic == id && se.source == tool
	})
}

// findAsNamed is a shortcut for find: it tries the session of the agent that r names, which is usually the right one.
// It returns nil if that session is not known, or may not be the only match. The caller holds the store's lock.
func (s *Store) findAsNamed(team *Team, r *models.StatusReport) *session {
	if s.ambiguous > 0 {
		return nil
	}
	a, se := s.lookup(r.AgentID, r.SessionTopic)
	if se == nil || !se.inTools || se.source.name != r.AgentSource || !team.Covers(a.id) {
		return nil
	}
	return se
}

// AgentOf returns the ID of the agent that a valid report counts for, and changes nothing. An event counts for the agent
// of its session, if that is known. ok is false if it names an agent outside the team. A nil team is the whole fleet.
func (s *Store) AgentOf(team *Team, r models.StatusReport) (agentID string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, _, ok = s.locate(team, &r)
	return r.AgentID, ok
}

// locate returns the agent and the session of r, nil if not known, and sets the agent ID of r to that of the session.
// ok is false if there is no such session and r names an agent outside the team. The caller holds the store's lock.
func (s *Store) locate(team *Team, r *models.StatusReport) (a *agent, se *session, ok bool) {
	if r.Event != nil && r.Event.FindByToolID {
		se := s.findAsNamed(team, r)
		if se == nil {
			se = s.find(team, r.AgentSource, r.SessionTopic)
		}
		if se != nil {
			if r.AgentID = se.agent.id; se.agent.host != "" {
				r.AgentHost = ""
			}
			return se.agent, se, true
		}
	}
	if !team.Covers(r.AgentID) {
		return nil, nil, false
	}
	a, se = s.lookup(r.AgentID, r.SessionTopic)
	if se == nil && a != nil && r.Event != nil && r.Event.FallBackToRunning && r.Event.AppliesIn&models.Unknown == 0 {
		se = a.adopt(r)
	}
	return a, se, true
}

// adopt returns the running session of a that was updated last, nil if there is none, and turns r into a renewal of it:
// r is an event of a subagent of that session. The caller holds the store's lock.
func (a *agent) adopt(r *models.StatusReport) *session {
	se := a.sessionsOf(classOf(models.Running, false), nil, false)()
	if se != nil {
		r.SessionTopic, r.SessionTitle, r.AgentName, r.Status = se.topic, "", "", 0
		r.Event = &models.Event{Name: r.Event.Name}
	}
	return se
}

// lookup returns an agent and its session, nil if not known. The caller holds s.mu.
func (s *Store) lookup(agentID, topic string) (*agent, *session) {
	a := s.agents[agentID]
	if a == nil {
		return nil, nil
	}
	return a, s.sessions[sessionID{a, topic}]
}

// reuseOrClone returns old if it equals value, else a copy of value that does not keep the memory of a request alive.
func reuseOrClone(old, value string) string {
	if old == value {
		return old
	}
	return strings.Clone(value)
}
