package access_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestLinesForTheSameAgentsAgree checks that lines for the same agents may not state different values of share or
// disk_full.
func TestLinesForTheSameAgentsAgree(t *testing.T) {
	line := func(name string, share float64, full access.DiskFull, agents ...string) string {
		_, e := access.NewToken(name)
		e.Scopes, e.Agents, e.Share, e.DiskFull = []string{"report"}, agents, share, full
		return e.String() + "\n"
	}
	const drop, refuse = access.DropOldest, access.RefuseReports
	for _, c := range []struct {
		shares [2]float64
		full   [2]access.DiskFull
		agree  bool
	}{
		{agree: true},
		{shares: [2]float64{0.25, 0}, agree: true},
		{shares: [2]float64{0, 0.25}, agree: true},
		{shares: [2]float64{0.25, 0.25}, agree: true},
		{shares: [2]float64{0.25, 0.5}},
		{full: [2]access.DiskFull{drop, ""}, agree: true},
		{full: [2]access.DiskFull{"", drop}, agree: true},
		{full: [2]access.DiskFull{drop, drop}, agree: true},
		{full: [2]access.DiskFull{drop, refuse}},
		{shares: [2]float64{0.25, 0.25}, full: [2]access.DiskFull{drop, refuse}},
		{shares: [2]float64{0.25, 0.5}, full: [2]access.DiskFull{drop, drop}},
	} {
		_, err := access.ParseTokens([]byte(line("one", c.shares[0], c.full[0], "b/*", "a/*") + line("two", c.shares[1], c.full[1], "a/*", "b/*")))
		require.Equal(t, c.agree, err == nil, "%+v: %v", c, err)
		if !c.agree {
			require.ErrorContains(t, err, "line 2: share and disk_full must be the same as on other lines for the same agents")
		}
		_, err = access.ParseTokens([]byte(line("one", c.shares[0], c.full[0], "a/*") + line("two", c.shares[1], c.full[1], "b/*")))
		require.NoError(t, err, "lines for different agents")
	}
}

// TestShares checks which shares are given to the metrics, and that each team has the name of its first token.
func TestShares(t *testing.T) {
	st := store.New(store.Options{DefaultTTL: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 16, EventWindow: 1})
	k := access.NewKeyring(st, access.Limits{TeamShare: 0.5})
	require.Empty(t, k.Shares(0))
	line := func(name string, share float64, agents ...string) string {
		_, e := access.NewToken(name)
		e.Scopes, e.Agents, e.Share = []string{"report"}, agents, share
		return e.String() + "\n"
	}
	load := func(lines ...string) {
		t.Helper()
		_, err := k.Load([]byte(strings.Join(lines, "")))
		require.NoError(t, err)
	}
	load(line("first", 0, "a/*"), line("second", 0, "a/*"), line("other", 0.25, "b/*"), line("all", 0))
	for i := range 4 {
		for _, agent := range []string{"a/x", "b/x", "c"} {
			st.Accept(nil, []models.StatusReport{{AgentID: agent, SessionTopic: fmt.Sprint(i), Status: models.Running}}, time.Now(), nil)
		}
	}
	first, other := metrics.Share{Team: "first", Setting: "MAX_SESSIONS", Used: 0.5}, metrics.Share{Team: "other", Setting: "MAX_SESSIONS", Used: 1}
	require.ElementsMatch(t, []metrics.Share{first, other}, k.Shares(0.5))
	require.Equal(t, []metrics.Share{other}, k.Shares(0.51))

	load(line("second", 0, "a/*"), line("all", 0.25))
	first.Team = "second"
	require.ElementsMatch(t, []metrics.Share{first, {Team: "all", Setting: "MAX_SESSIONS", Used: 2}}, k.Shares(0.5))
}
