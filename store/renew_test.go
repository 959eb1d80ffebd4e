package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestReportsRenew sends reports that ask for a renewal to a session that is running with the message "Go".
func TestReportsRenew(t *testing.T) {
	first := models.StatusReport{AgentID: "a", SessionTopic: "s", Status: models.Running, Message: "Go", ReportID: "1", TTLMinutes: 10}
	for name, test := range map[string]struct {
		change func(*models.StatusReport)
		after  time.Duration
		want   store.Outcome
	}{
		"the same, with a known report ID":      {nil, 5 * time.Minute, store.Renewed},
		"the same, with another report ID":      {func(r *models.StatusReport) { r.ReportID = "2" }, 5 * time.Minute, store.Renewed},
		"the same, after the session was lost":  {nil, 15 * time.Minute, store.Renewed},
		"another message":                       {func(r *models.StatusReport) { r.ReportID, r.Message = "2", "Stop" }, 5 * time.Minute, store.Stored},
		"another status":                        {func(r *models.StatusReport) { r.ReportID, r.Status = "2", models.Failed }, 5 * time.Minute, store.Stored},
		"another session":                       {func(r *models.StatusReport) { r.SessionTopic = "t" }, 5 * time.Minute, store.Stored},
		"another status with a known report ID": {func(r *models.StatusReport) { r.Status = models.Failed }, 5 * time.Minute, store.Duplicate},
		"no renewal asked for":                  {func(r *models.StatusReport) { r.Renew = false }, 5 * time.Minute, store.Duplicate},
		"the same, with an old timestamp":       {func(r *models.StatusReport) { r.Timestamp = epoch.Add(-time.Hour) }, 5 * time.Minute, store.Renewed},
		"the same, with a timestamp to come":    {func(r *models.StatusReport) { r.Timestamp = epoch.Add(6 * time.Minute) }, 5 * time.Minute, store.Renewed},
		"the same, with other content":          {func(r *models.StatusReport) { r.Content = "more" }, 5 * time.Minute, store.Renewed},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(nil)
			require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch, first))
			again := first
			again.Renew = true
			if test.change != nil {
				test.change(&again)
			}
			now := epoch.Add(test.after)
			require.Equal(t, []store.Outcome{test.want}, accept(st, now, again))
			se, history := sessionOf(t, st, again.SessionTopic)
			if test.want != store.Renewed {
				return
			}
			require.Len(t, history, 1, "a renewal adds no entry")
			require.Equal(t, epoch, history[0].Timestamp)
			require.Empty(t, history[0].Content)
			require.Equal(t, now.Add(10*time.Minute), se.ExpiresAt)
			require.False(t, se.Expired)
			require.False(t, se.Lost)
		})
	}
}

// TestReportsInOneBatchRenew sends a report and its renewal together, as records that are not settled yet.
func TestReportsInOneBatchRenew(t *testing.T) {
	st := newStore(nil)
	report := models.StatusReport{AgentID: "a", SessionTopic: "s", Status: models.Running, Message: "Go"}
	accept(st, epoch, report)
	changed, renews := report, report
	changed.Status, renews.Renew = models.Failed, true
	var ad store.Admission
	require.True(t, st.Admit(nil, []models.StatusReport{changed, renews}, epoch.Add(time.Minute), &ad))
	require.Equal(t, []store.Outcome{store.Stored, store.Stored}, ad.Outcomes, "it can't be known what the second one renews")
}

// TestRenewalsKeepAcknowledgements renews a session that a person has acknowledged, before and after it is lost.
func TestRenewalsKeepAcknowledgements(t *testing.T) {
	st := newStore(nil)
	waits := models.StatusReport{AgentID: "a", SessionTopic: "s", Status: models.Pending, Message: "No node for it", TTLMinutes: 10, Renew: true}
	acknowledges := models.StatusReport{AgentID: "a", SessionTopic: "s", Event: &models.Event{Acknowledge: &models.Acknowledgement{At: epoch}}}
	accept(st, epoch, waits)
	accept(st, epoch.Add(time.Minute), acknowledges)
	require.Equal(t, []store.Outcome{store.Renewed}, accept(st, epoch.Add(2*time.Minute), waits))
	se, _ := sessionOf(t, st, "s")
	require.NotNil(t, se.Acknowledged)

	lost := epoch.Add(time.Hour)
	accept(st, lost, acknowledges)
	require.Equal(t, []store.Outcome{store.Renewed}, accept(st, lost.Add(time.Minute), waits))
	se, _ = sessionOf(t, st, "s")
	require.Nil(t, se.Acknowledged, "it waits again, which is news")
}

// TestRenewalsSetTheTTLAndNoKnownName renews a session with other attributes: another reporter may have set them.
func TestRenewalsSetTheTTLAndNoKnownName(t *testing.T) {
	st := newStore(nil)
	r := models.StatusReport{AgentID: "a", SessionTopic: "s", Status: models.Running, TTLMinutes: 10}
	accept(st, epoch, r)
	renews := func(name string) models.FleetSession {
		again := r
		again.Renew, again.TTLMinutes = true, 20
		again.AgentName, again.AgentSource, again.AgentHost, again.SessionTitle = name, name, name, name
		require.Equal(t, []store.Outcome{store.Renewed}, accept(st, epoch.Add(time.Minute), again))
		return allSessions(t, st, store.SessionQuery{}, all)[0]
	}
	for _, name := range []string{"first", "second"} {
		se := renews(name)
		require.Equal(t, []string{"first", "first", "first", "first"}, []string{se.AgentName, se.AgentSource, se.AgentHost, se.Title}, name)
		require.Equal(t, 20, se.TTLMinutes)
	}
}

// TestRenewalsLeaveQuestionsOpen renews a session while a question hides its status: what the reporter renews, goes on.
func TestRenewalsLeaveQuestionsOpen(t *testing.T) {
	const agent = "claude-code:payments"
	first := models.StatusReport{AgentID: agent, SessionTopic: "s", Status: models.Running, Message: "Go", ReportID: "1", TTLMinutes: 10}
	renews, changed := first, first
	renews.Renew, changed.Renew, changed.ReportID, changed.Message = true, true, "2", "Other"
	begin := func() *store.Store {
		st := newStore(nil)
		accept(st, epoch, first)
		accept(st, epoch.Add(time.Minute), asks("", "", "rm"))
		return st
	}
	st := begin()
	now := epoch.Add(2 * time.Minute)
	require.Equal(t, []store.Outcome{store.Renewed}, accept(st, now, renews))
	se, questions, page, _ := st.SessionInFull(agent, "s", nil, all)
	require.Len(t, questions, 1)
	require.Equal(t, models.Pending, se.CurrentStatus)
	require.Equal(t, now.Add(24*time.Hour), se.ExpiresAt)
	require.Len(t, page.Items, 2)

	require.Equal(t, []store.Outcome{store.Stored}, accept(st, now.Add(time.Second), changed), "news ends the question")
	_, questions, _, _ = st.SessionInFull(agent, "s", nil, all)
	require.Empty(t, questions)

	st = begin()
	later := epoch.Add(26 * time.Hour)
	require.Equal(t, []store.Outcome{store.Stored, store.Renewed}, accept(st, later, renews, renews), "its question expired, so its status is news")
	se, questions, page, _ = st.SessionInFull(agent, "s", nil, all)
	require.Empty(t, questions)
	require.False(t, se.Lost)
	require.Equal(t, "Go", se.CurrentMessage)
	require.Len(t, page.Items, 3)
}

func sessionOf(t *testing.T, st *store.Store, topic string) (models.Session, []models.AgentStatus) {
	t.Helper()
	se, page, ok := st.Session("a", topic, nil, all)
	require.True(t, ok)
	return se, page.Items
}
