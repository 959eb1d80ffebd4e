package cluster_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/cluster"
)

func TestPositionsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := cluster.Position{Sequence: rapid.Uint64Range(1, math.MaxUint64).Draw(t, "sequence"), ID: rapid.StringMatching(`[0-9a-zA-Z]{1,64}`).Draw(t, "ID")}
		parsed, err := cluster.ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	})
	beginning, err := cluster.ParsePosition(cluster.Position{}.String())
	require.NoError(t, err)
	require.Zero(t, beginning)
}

func TestMalformedPositions(t *testing.T) {
	for _, text := range []string{"", "-", "1", "1-", "0-a", "-a", "+1-a", "01-a", "1--a", "1-a-b", "1-ä", "1-a ", " 1-a", "x-a",
		"18446744073709551616-a", "1-" + strings.Repeat("a", 65)} {
		_, err := cluster.ParsePosition(text)
		require.Error(t, err, "%q", text)
	}
}
