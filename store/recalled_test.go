package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestASessionRecalledInVainStaysCold looks for cold sessions while the only one is in memory, for a report that comes to
// nothing.
func TestASessionRecalledInVainStaysCold(t *testing.T) {
	now := time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)
	st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 10,
		EventWindow: 10, Journaled: true, Replicated: true})
	r := &store.Restored{SessionKey: store.SessionKey{AgentID: "a", Topic: "t"}, Session: store.SessionState{Cold: true}, Records: []models.Record{{
		StatusReport: models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Success, Timestamp: now}, Received: now, Sequence: 1}}}
	st.Restore(r, now)
	mark := st.ColdMark()
	st.Recall(r, now)
	require.True(t, st.Has(r.SessionKey))
	st.Settle()
	require.False(t, st.Has(r.SessionKey))
	st.ClearCold(mark)
	require.True(t, st.HasCold())
}
