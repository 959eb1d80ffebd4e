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

func sessionOf(t *testing.T, st *store.Store, topic string) (models.Session, []models.AgentStatus) {
	t.Helper()
	se, page, ok := st.Session("a", topic, nil, all)
	require.True(t, ok)
	return se, page.Items
}
