package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
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
