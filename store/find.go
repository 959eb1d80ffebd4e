package store

import (
	"strings"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// foundEarlier orders sessions by what events find them by: the tool and the tool's own ID of the session, which is the topic. The
// IDs of agents tell apart what has both in common.
func foundEarlier(a, b *session) bool {
	if a.topic != b.topic {
		return a.topic < b.topic
	}
	if a.source != b.source {
		return a.source.name < b.source.name
	}
	return a.agent.id < b.agent.id
}

// mostFound is how many sessions of one tool with one ID are looked at. There is one, unless somebody names agents at will.
const mostFound = 1000

// find returns the session that an event is of which names no agent: of those of a team that the tool calls by this ID the one that
// was updated last; nil where there is none. The caller holds the store's lock.
func (s *Store) find(team *Team, tool, id string) (found *session) {
	src := s.sources[tool]
	if src == nil {
		return nil
	}
	next := s.namesakes(src, id)
	for range mostFound {
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

// namesakes walks the sessions that a tool calls by this ID, those alone that its events began. The caller holds the store's lock.
func (s *Store) namesakes(tool *source, id string) ordered.Walk[session] {
	return s.tools.From(&session{topic: id, source: tool, agent: new(agent)}).While(func(se *session) bool {
		return se.topic == id && se.source == tool
	})
}

// findAsNamed is find for the session of the agent that r names, which mostly is the one. It returns nil where it is not known, or
// may not be the only one. The caller holds the store's lock.
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

// locate returns the agent and the session that r is of, nil where there is none, and has r name that agent. ok is false where
// there is no such session, and r names an agent that is not of the team. The caller holds the store's lock.
func (s *Store) locate(team *Team, r *models.StatusReport) (a *agent, se *session, ok bool) {
	if r.Event != nil && r.Event.Find {
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
	if se == nil && a != nil && r.Event != nil && r.Event.Orphan && r.Event.Counts&models.Unknown == 0 {
		se = a.adopt(r)
	}
	return a, se, true
}

// adopt returns the session of a that was updated last of those at work, nil where none is, and has r renew that, and no more: it is
// of a subagent that a session runs. The caller holds the store's lock.
func (a *agent) adopt(r *models.StatusReport) *session {
	se := a.sessionsOf(classOf(models.Running, false), nil, false)()
	if se != nil {
		r.SessionTopic, r.SessionTitle, r.AgentName, r.Status = se.topic, "", "", 0
		r.Event = &models.Event{Name: r.Event.Name}
	}
	return se
}

// lookup returns the agent and the session, nil where there is none. The caller holds s.mu.
func (s *Store) lookup(agentID, topic string) (*agent, *session) {
	a := s.agents[agentID]
	if a == nil {
		return nil, nil
	}
	return a, s.sessions[sessionID{a, topic}]
}

// keep returns a string equal to value that does not share the memory of a request: old, if it is equal.
func keep(old, value string) string {
	if old == value {
		return old
	}
	return strings.Clone(value)
}
