package cluster

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// TestLineages compares lineages of states and streams.
func TestLineages(t *testing.T) {
	parse := func(text string) lineage {
		l, err := parseLineage(text)
		require.NoError(t, err, text)
		require.Equal(t, text, l.String())
		return l
	}
	for name, test := range map[string]struct {
		state, stream, want string // "" if they have nothing in common
	}{
		"the same stream":                              {"c b/20-y a/10-x", "c b/20-y a/10-x", "c"},
		"a stream that continues the state's":          {"b a/10-x", "c b/20-y a/10-x", "b/20-y"},
		"a stream that continues a former one":         {"b a/10-x", "c a/15-x", "a/10-x"},
		"a stream that continues less of a former one": {"b a/10-x", "c a/5-x", "a/5-x"},
		"a former stream":                              {"c b/20-y a/10-x", "b a/10-x", "b/20-y"},
		"a stream that begins with nothing":            {"b a/10-x", "c", ""},
		"a state that was away for two streams":        {"a", "c b/20-y a/10-x", "a/10-x"},
	} {
		t.Run(name, func(t *testing.T) {
			common, found := parse(test.state).common(parse(test.stream))
			assert.Equal(t, test.want != "", found)
			if found {
				assert.Equal(t, test.want, lineage{common}.String())
			}
		})
	}
	own := parse("b a/10-x")
	at := journal.Position{Sequence: 20, ID: "y"}
	assert.True(t, parse("c b/20-y a/10-x").continues(own, at))
	assert.False(t, parse("c b/20-z a/10-x").continues(own, at))
	assert.False(t, own.continues(own, at))
	partial := journal.Position{Sequence: 20, ID: "y", Parts: 1}
	assert.Equal(t, "b/19-y a/10-x", own.endingAt(partial).String(), "the rest of the message is not in the state")
	first := journal.Position{Sequence: 1, ID: "y", Parts: 1}
	assert.Equal(t, own.endingAt(first), parse(own.endingAt(first).String()))
	_, err := parseLineage("c b/20")
	require.Error(t, err)
}
