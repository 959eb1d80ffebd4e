package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// unnamedEvent is an event of a tool whose settings name no agent. The agent's ID is derived from the tool's folder.
func unnamedEvent(tool, id, agent string) models.StatusReport {
	return models.StatusReport{AgentID: agent, AgentName: strings.TrimPrefix(agent, tool+":"), AgentSource: tool, SessionTopic: id, Status: models.Running, Message: "in " + agent,
		Event: &models.Event{Name: "Event", FindByToolID: true, FirstName: true, AppliesIn: models.Anywhere}}
}

// namedEvent is an event of a tool whose settings name the agent.
func namedEvent(tool, id, agent string) models.StatusReport {
	r := unnamedEvent(tool, id, agent)
	r.Event.FindByToolID = false
	return r
}

// TestSessionOfAnEvent sends reports one minute apart, and checks the resulting sessions by agent and topic, newest
// update first, each with its message.
func TestSessionOfAnEvent(t *testing.T) {
	of := func(agent, topic, message string) string { return agent + " " + topic + ": " + message }
	a2a := func(agent string) models.StatusReport { return namedEvent("a2a", "task", agent) }
	plain := func(agent, source string) models.StatusReport {
		return models.StatusReport{AgentID: agent, AgentSource: source, SessionTopic: "id", Status: models.Running, Message: "by " + agent}
	}
	for name, test := range map[string]struct {
		reports []models.StatusReport
		want    []string
	}{
		"its first event names the agent": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop")},
			[]string{of("codex:shop", "id", "in codex:shop")}},
		"another folder does not move it": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop"), unnamedEvent("codex", "id", "codex:sub"), unnamedEvent("codex", "id", "codex:worktree")},
			[]string{of("codex:shop", "id", "in codex:worktree")}},
		"another ID is another session, even in the same folder": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop"), unnamedEvent("codex", "other", "codex:shop")},
			[]string{of("codex:shop", "other", "in codex:shop"), of("codex:shop", "id", "in codex:shop")}},
		"the same ID of another tool is another session": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop"), unnamedEvent("cursor", "id", "cursor:shop")},
			[]string{of("cursor:shop", "id", "in cursor:shop"), of("codex:shop", "id", "in codex:shop")}},
		"of two matches, the one updated last counts": {
			[]models.StatusReport{namedEvent("codex", "id", "first"), namedEvent("codex", "id", "second"), namedEvent("codex", "id", "first"), unnamedEvent("codex", "id", "codex:shop")},
			[]string{of("first", "id", "in codex:shop"), of("second", "id", "in second")}},
		"an agent named by the settings is used": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop"), namedEvent("codex", "id", "mine")},
			[]string{of("mine", "id", "in mine"), of("codex:shop", "id", "in codex:shop")}},
		"a session of a named agent is found": {
			[]models.StatusReport{namedEvent("codex", "id", "mine"), unnamedEvent("codex", "id", "codex:shop")},
			[]string{of("mine", "id", "in codex:shop")}},
		"a session begun by a status report is not found": {
			[]models.StatusReport{plain("mine", "codex"), unnamedEvent("codex", "id", "codex:shop")},
			[]string{of("codex:shop", "id", "in codex:shop"), of("mine", "id", "by mine")}},
		"a session begun by an event is found after a status report": {
			[]models.StatusReport{unnamedEvent("codex", "id", "codex:shop"), plain("codex:shop", ""), unnamedEvent("codex", "id", "codex:sub")},
			[]string{of("codex:shop", "id", "in codex:sub")}},
		"a session begun by an event is found after its agent's source changed": {
			[]models.StatusReport{unnamedEvent("codex", "id", "mine"), {AgentID: "mine", AgentSource: "cron", SessionTopic: "t", Status: models.Running, Message: "m"}, unnamedEvent("codex", "id", "codex:sub")},
			[]string{of("mine", "id", "in codex:sub"), of("mine", "t", "m")}},
		"IDs that are only unique per agent are looked up by agent": {
			[]models.StatusReport{a2a("a2a:one"), a2a("a2a:two")},
			[]string{of("a2a:two", "task", "in a2a:two"), of("a2a:one", "task", "in a2a:one")}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			for _, r := range test.reports {
				require.Equal(t, store.Stored, f.send(r))
			}
			got := []string{}
			for _, se := range allSessions(t, f.store, store.SessionQuery{}, all) {
				got = append(got, of(se.AgentID, se.Topic, se.CurrentMessage))
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestASessionKeepsItsOwnSource(t *testing.T) {
	f := newFeed(t, nil)
	f.send(unnamedEvent("codex", "id", "mine"), unnamedEvent("cursor", "other", "mine"))
	sources := map[string]string{}
	for _, se := range allSessions(t, f.store, store.SessionQuery{}, all) {
		sources[se.Topic] = se.AgentSource
	}
	require.Equal(t, map[string]string{"id": "codex", "other": "cursor"}, sources)
	require.Len(t, allSessions(t, f.store, store.SessionQuery{Source: "codex"}, all), 1)
	agent, ok := f.store.Agent("mine")
	require.True(t, ok)
	require.Equal(t, "cursor", agent.Source, "source of the newest report")
}

func TestALaterEventDoesNotRenameTheAgent(t *testing.T) {
	f := newFeed(t, nil)
	first, later := unnamedEvent("codex", "id", "codex:shop"), unnamedEvent("codex", "id", "codex:sub")
	first.AgentHost, later.AgentHost = "laptop", "laptop.local"
	f.send(first, later)
	agent, ok := f.store.Agent("codex:shop")
	require.True(t, ok)
	require.Equal(t, "shop", agent.Name)
	require.Equal(t, "laptop", agent.Host)
	later.AgentName, later.Event.FirstName = "Shop", false
	f.send(later)
	agent, _ = f.store.Agent("codex:shop")
	require.Equal(t, "Shop", agent.Name, "a name from the settings counts")
}

// TestEventsFindSessionsOfTheirTeamOnly lets two teams send events with the same session ID.
func TestEventsFindSessionsOfTheirTeamOnly(t *testing.T) {
	ours := store.NewTeam(store.Share{}, func(id string) bool { return strings.HasPrefix(id, "codex:our") })
	theirs := store.NewTeam(store.Share{}, func(id string) bool { return strings.HasPrefix(id, "codex:their") })
	for _, known := range []bool{true, false} {
		f := newFeed(t, nil)
		if known {
			f.store.SetTeams([]*store.Team{ours, theirs})
		}
		send := func(team *store.Team, r models.StatusReport) store.Outcome {
			f.now = f.now.Add(time.Minute)
			return f.store.Accept(team, []models.StatusReport{r}, f.now, nil)[0]
		}
		require.Equal(t, store.Stored, send(ours, unnamedEvent("codex", "id", "codex:ours")))
		require.Equal(t, store.OutsideTeam, send(theirs, unnamedEvent("codex", "id", "codex:ours")), "the session belongs to another team")
		require.Equal(t, store.OutsideTeam, send(theirs, namedEvent("codex", "id", "codex:ours")))
		require.False(t, store.OutsideTeam.Acknowledged())
		require.Equal(t, store.Stored, send(theirs, unnamedEvent("codex", "id", "codex:theirs")))
		require.Equal(t, store.Stored, send(ours, unnamedEvent("codex", "id", "codex:our sub")), "the session updated last belongs to another team")
		require.Equal(t, store.Stored, send(ours, unnamedEvent("codex", "id", "codex:theirs")), "the folder name may be the same as theirs")
		topics := map[string]string{}
		for _, se := range allSessions(t, f.store, store.SessionQuery{}, all) {
			topics[se.AgentID] = se.CurrentMessage
		}
		require.Equal(t, map[string]string{"codex:ours": "in codex:theirs", "codex:theirs": "in codex:theirs"}, topics)
	}
}

func TestARemovedSessionIsNotFound(t *testing.T) {
	f := newFeed(t, nil)
	f.send(unnamedEvent("codex", "id", "codex:shop"))
	require.True(t, f.store.RemoveSession(store.SessionKey{AgentID: "codex:shop", Topic: "id"}, f.now))
	f.send(unnamedEvent("codex", "id", "codex:sub"))
	_, _, ok := f.store.Session("codex:sub", "id", nil, 1)
	require.True(t, ok, "a new session begins")
	_, ok = f.store.Agent("codex:shop")
	require.False(t, ok)
}

// TestAnExpiredSessionIsFound sends an event long after the previous one. It belongs to the same session.
func TestAnExpiredSessionIsFound(t *testing.T) {
	f := newFeed(t, nil)
	f.send(unnamedEvent("codex", "id", "codex:shop"))
	f.after(48 * time.Hour)
	f.send(unnamedEvent("codex", "id", "codex:sub"))
	require.Len(t, allSessions(t, f.store, store.SessionQuery{}, all), 1)
}

// TestOrphans sends events of an unknown session: those of a subagent that does not name its parent.
func TestOrphans(t *testing.T) {
	orphan := func(agent string) models.StatusReport {
		r := unnamedEvent("cursor", "child", agent)
		r.Event.AppliesIn, r.Event.FallBackToRunning, r.SessionTitle = models.Working|models.Waiting, true, "Child"
		return r
	}
	begins := unnamedEvent("cursor", "parent", "cursor:shop")
	done := begins
	done.Status, done.Message = models.Success, "Done"
	f := newFeed(t, nil)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "no agent is known")
	f.send(begins)
	require.Equal(t, store.Renewed, f.send(orphan("cursor:shop")), "the parent is at work")
	require.Equal(t, store.Ignored, f.send(orphan("cursor:other")), "the parent belongs to another agent")
	sessions := allSessions(t, f.store, store.SessionQuery{}, all)
	require.Len(t, sessions, 1)
	require.Equal(t, "parent", sessions[0].Topic)
	require.Equal(t, "in cursor:shop", sessions[0].CurrentMessage)
	require.Empty(t, sessions[0].Title)
	require.Equal(t, epoch.Add(3*time.Minute), sessions[0].LastUpdated)
	f.send(done)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "the turn has ended")
	require.Equal(t, models.Success, allSessions(t, f.store, store.SessionQuery{}, all)[0].CurrentStatus)

	second := unnamedEvent("cursor", "second parent", "cursor:shop")
	f.send(begins, second)
	f.send(orphan("cursor:shop"))
	require.Equal(t, "second parent", allSessions(t, f.store, store.SessionQuery{}, all)[0].Topic, "the one updated last")
	f.after(time.Hour)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "both have expired")
	require.Equal(t, 2, f.store.Summary().Sessions.Lost)
}
