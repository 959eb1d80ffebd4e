package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// found is an event of a tool whose settings name no agent: this one is made of the folder that the tool works in.
func found(tool, id, agent string) models.StatusReport {
	return models.StatusReport{AgentID: agent, AgentName: strings.TrimPrefix(agent, tool+":"), AgentSource: tool, SessionTopic: id, Status: models.Running, Message: "in " + agent,
		Event: &models.Event{Name: "Event", Find: true, FirstName: true, Counts: models.Anywhere}}
}

// named is an event whose settings name its agent.
func named(tool, id, agent string) models.StatusReport {
	r := found(tool, id, agent)
	r.Event.Find = false
	return r
}

// TestWhichSessionAnEventIsOf sends reports a minute apart, and holds which sessions there are then, by agent and topic, newest update
// first, each with the message that it shows.
func TestWhichSessionAnEventIsOf(t *testing.T) {
	of := func(agent, topic, message string) string { return agent + " " + topic + ": " + message }
	a2a := func(agent string) models.StatusReport { return named("a2a", "task", agent) }
	plain := func(agent, source string) models.StatusReport {
		return models.StatusReport{AgentID: agent, AgentSource: source, SessionTopic: "id", Status: models.Running, Message: "by " + agent}
	}
	for name, test := range map[string]struct {
		reports []models.StatusReport
		want    []string
	}{
		"its first event names the agent": {
			[]models.StatusReport{found("codex", "id", "codex:shop")},
			[]string{of("codex:shop", "id", "in codex:shop")}},
		"another folder moves it nowhere": {
			[]models.StatusReport{found("codex", "id", "codex:shop"), found("codex", "id", "codex:sub"), found("codex", "id", "codex:worktree")},
			[]string{of("codex:shop", "id", "in codex:worktree")}},
		"another ID is another session, though of the same folder": {
			[]models.StatusReport{found("codex", "id", "codex:shop"), found("codex", "other", "codex:shop")},
			[]string{of("codex:shop", "other", "in codex:shop"), of("codex:shop", "id", "in codex:shop")}},
		"another tool's session with the same ID is another one": {
			[]models.StatusReport{found("codex", "id", "codex:shop"), found("cursor", "id", "cursor:shop")},
			[]string{of("cursor:shop", "id", "in cursor:shop"), of("codex:shop", "id", "in codex:shop")}},
		"of two that match, the one that was updated last counts": {
			[]models.StatusReport{named("codex", "id", "first"), named("codex", "id", "second"), named("codex", "id", "first"), found("codex", "id", "codex:shop")},
			[]string{of("first", "id", "in codex:shop"), of("second", "id", "in second")}},
		"an agent that is named is as it is named": {
			[]models.StatusReport{found("codex", "id", "codex:shop"), named("codex", "id", "mine")},
			[]string{of("mine", "id", "in mine"), of("codex:shop", "id", "in codex:shop")}},
		"a session of an agent that was named is found": {
			[]models.StatusReport{named("codex", "id", "mine"), found("codex", "id", "codex:shop")},
			[]string{of("mine", "id", "in codex:shop")}},
		"a session that a status report began is not found": {
			[]models.StatusReport{plain("mine", "codex"), found("codex", "id", "codex:shop")},
			[]string{of("codex:shop", "id", "in codex:shop"), of("mine", "id", "by mine")}},
		"a session that an event began is found after a status report of it": {
			[]models.StatusReport{found("codex", "id", "codex:shop"), plain("codex:shop", ""), found("codex", "id", "codex:sub")},
			[]string{of("codex:shop", "id", "in codex:sub")}},
		"a session that an event began is found though its agent's source is another since": {
			[]models.StatusReport{found("codex", "id", "mine"), {AgentID: "mine", AgentSource: "cron", SessionTopic: "t", Status: models.Running, Message: "m"}, found("codex", "id", "codex:sub")},
			[]string{of("mine", "id", "in codex:sub"), of("mine", "t", "m")}},
		"IDs that are not unique by themselves are looked up by agent": {
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
	f.send(found("codex", "id", "mine"), found("cursor", "other", "mine"))
	sources := map[string]string{}
	for _, se := range allSessions(t, f.store, store.SessionQuery{}, all) {
		sources[se.Topic] = se.AgentSource
	}
	require.Equal(t, map[string]string{"id": "codex", "other": "cursor"}, sources)
	require.Len(t, allSessions(t, f.store, store.SessionQuery{Source: "codex"}, all), 1)
	agent, ok := f.store.Agent("mine")
	require.True(t, ok)
	require.Equal(t, "cursor", agent.Source, "that of the newest report")
}

func TestALaterEventRenamesNobody(t *testing.T) {
	f := newFeed(t, nil)
	first, later := found("codex", "id", "codex:shop"), found("codex", "id", "codex:sub")
	first.AgentHost, later.AgentHost = "laptop", "laptop.local"
	f.send(first, later)
	agent, ok := f.store.Agent("codex:shop")
	require.True(t, ok)
	require.Equal(t, "shop", agent.Name)
	require.Equal(t, "laptop", agent.Host)
	later.AgentName, later.Event.FirstName = "Shop", false
	f.send(later)
	agent, _ = f.store.Agent("codex:shop")
	require.Equal(t, "Shop", agent.Name, "a name that settings give counts")
}

// TestEventsFindSessionsOfTheirTeamAlone has two teams, each with agents of its own, send events with the same ID of a session.
func TestEventsFindSessionsOfTheirTeamAlone(t *testing.T) {
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
		require.Equal(t, store.Stored, send(ours, found("codex", "id", "codex:ours")))
		require.Equal(t, store.Foreign, send(theirs, found("codex", "id", "codex:ours")), "the session is not theirs to find")
		require.Equal(t, store.Foreign, send(theirs, named("codex", "id", "codex:ours")))
		require.False(t, store.Foreign.Acknowledged())
		require.Equal(t, store.Stored, send(theirs, found("codex", "id", "codex:theirs")))
		require.Equal(t, store.Stored, send(ours, found("codex", "id", "codex:our sub")), "theirs was updated last, and is not ours")
		require.Equal(t, store.Stored, send(ours, found("codex", "id", "codex:theirs")), "a folder of ours may be called as theirs is")
		topics := map[string]string{}
		for _, se := range allSessions(t, f.store, store.SessionQuery{}, all) {
			topics[se.AgentID] = se.CurrentMessage
		}
		require.Equal(t, map[string]string{"codex:ours": "in codex:theirs", "codex:theirs": "in codex:theirs"}, topics)
	}
}

func TestWhatWasRemovedIsNotFound(t *testing.T) {
	f := newFeed(t, nil)
	f.send(found("codex", "id", "codex:shop"))
	require.True(t, f.store.RemoveSession(store.SessionKey{AgentID: "codex:shop", Topic: "id"}, f.now))
	f.send(found("codex", "id", "codex:sub"))
	_, _, ok := f.store.Session("codex:sub", "id", nil, 1)
	require.True(t, ok, "it begins anew")
	_, ok = f.store.Agent("codex:shop")
	require.False(t, ok)
}

// TestAnExpiredSessionIsFound has an event come long after the one before: it is of the same session.
func TestAnExpiredSessionIsFound(t *testing.T) {
	f := newFeed(t, nil)
	f.send(found("codex", "id", "codex:shop"))
	f.after(48 * time.Hour)
	f.send(found("codex", "id", "codex:sub"))
	require.Len(t, allSessions(t, f.store, store.SessionQuery{}, all), 1)
}

// TestOrphans has events come of a session that no tool told the beginning of: those of a subagent that says not whose it is.
func TestOrphans(t *testing.T) {
	orphan := func(agent string) models.StatusReport {
		r := found("cursor", "child", agent)
		r.Event.Counts, r.Event.Orphan, r.SessionTitle = models.Working|models.Waiting, true, "Child"
		return r
	}
	begins := found("cursor", "parent", "cursor:shop")
	done := begins
	done.Status, done.Message = models.Success, "Done"
	f := newFeed(t, nil)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "there is no agent")
	f.send(begins)
	require.Equal(t, store.Renewed, f.send(orphan("cursor:shop")), "the parent is at work")
	require.Equal(t, store.Ignored, f.send(orphan("cursor:other")), "it is of another agent")
	sessions := allSessions(t, f.store, store.SessionQuery{}, all)
	require.Len(t, sessions, 1)
	require.Equal(t, "parent", sessions[0].Topic)
	require.Equal(t, "in cursor:shop", sessions[0].CurrentMessage)
	require.Empty(t, sessions[0].Title)
	require.Equal(t, epoch.Add(3*time.Minute), sessions[0].LastUpdated)
	f.send(done)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "the turn has ended")
	require.Equal(t, models.Success, allSessions(t, f.store, store.SessionQuery{}, all)[0].CurrentStatus)

	second := found("cursor", "second parent", "cursor:shop")
	f.send(begins, second)
	f.send(orphan("cursor:shop"))
	require.Equal(t, "second parent", allSessions(t, f.store, store.SessionQuery{}, all)[0].Topic, "the one updated last")
	f.after(time.Hour)
	require.Equal(t, store.Ignored, f.send(orphan("cursor:shop")), "both have expired")
	require.Equal(t, 2, f.store.Summary().Sessions.Lost)
}
