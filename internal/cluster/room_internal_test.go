package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestSplit splits calls with reports of all sizes: each message fits into what NATS takes, the reports keep their order,
// and each call gets the outcomes of its own reports.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		team := store.NewTeam(store.Share{}, func(string) bool { return true })
		team.SetPatterns([]string{strings.Repeat("p", rapid.IntRange(1, 1000).Draw(t, "pattern"))})
		var rooms []*room
		var order []string
		for i := range rapid.IntRange(1, 8).Draw(t, "calls") {
			c := &recorder.Call{Team: team}
			r := &room{call: c}
			long := strings.Repeat("x", rapid.SampledFrom([]int{0, 100, 40_000}).Draw(t, "length"))
			for n := range rapid.SampledFrom([]int{0, 1, 5, 100, 5000}).Draw(t, "reports") {
				c.Reports = append(c.Reports, models.StatusReport{AgentID: fmt.Sprint(i), SessionTopic: fmt.Sprint(n), Content: long[:min(len(long), 40_000_000/(1+n)/1000)]})
				r.refused = append(r.refused, 0)
				order = append(order, fmt.Sprint(i, " ", n))
			}
			r.reports = c.Reports
			rooms = append(rooms, r)
		}
		var sent []string
		for _, s := range split(rooms) {
			require.LessOrEqual(t, len(s.message.Encode(journal.MessageVersion)), MaxMessageBytes-1000)
			var result recorder.Result
			reports := 0
			for _, q := range s.message.Requests {
				var outcomes []store.Outcome
				for _, r := range q.Reports {
					sent = append(sent, r.AgentID+" "+r.SessionTopic)
					outcomes = append(outcomes, store.Outcome(1+len(r.SessionTopic)))
				}
				reports += len(q.Reports)
				result.Outcomes = append(result.Outcomes, outcomes)
			}
			require.LessOrEqual(t, reports, journal.MaxRecords)
			s.shareOut(result)
		}
		require.Equal(t, order, sent)
		for _, r := range rooms {
			r.finish()
			require.Len(t, r.call.Outcomes, len(r.call.Reports))
			for i, outcome := range r.call.Outcomes {
				require.EqualValues(t, 1+len(r.call.Reports[i].SessionTopic), outcome)
			}
		}
	})
}

// TestSessionsToEvictFitIntoAMessage takes sessions with the longest IDs.
func TestSessionsToEvictFitIntoAMessage(t *testing.T) {
	var keys []store.SessionKey
	for range evictLimit {
		keys = append(keys, store.SessionKey{AgentID: strings.Repeat("😀", models.MaxAgentID), Topic: strings.Repeat("😀", models.MaxSessionTopic)})
	}
	message := &journal.Message{Server: "one", Lease: 1 << 40, Evicted: fitting(keys)}
	require.Greater(t, len(message.Evicted), 300)
	require.Less(t, len(message.Encode(journal.MessageVersion)), MaxMessageBytes-1000)
	require.Equal(t, keys[:10], fitting(keys[:10]))
}
