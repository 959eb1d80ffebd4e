package textsearch_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/textsearch"
)

func TestTextMatchesInAnyCase(t *testing.T) {
	for name, test := range map[string]struct {
		pattern, text string
		matches       bool
	}{
		"an ASCII text":                      {"CHECKOUT", "payment/checkout_test.go", true},
		"Cyrillic letters":                   {"ПОКРЫТИЕ", "Поднять покрытие", true},
		"a final sigma":                      {"σίσυφος", "ΣΊΣΥΦΟΣ", true},
		"the Kelvin sign":                    {"kelvin", "\u212Aelvin", true},
		"a long s":                           {"SO", "al\u017Fo", true},
		"sharp s and its capital":            {"STRA\u1E9EE", "Straße", true},
		"a fold of two runes does not count": {"STRASSE", "Straße", false},
		"dotted I has no other case":         {"istanbul", "İstanbul", false},
		"dotted I matches itself":            {"İSTAN", "İstanbul", true},
		"a match at the end":                 {"100%", "coverage 100%", true},
		"a match after a false start":        {"aab", "aaab", true},
		"a text shorter than the pattern":    {"coverage", "cover", false},
		"an empty pattern":                   {"", "", true},
		"an invalid byte matches U+FFFD":     {"\xff", "a\uFFFDb", true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.matches, textsearch.Compile(test.pattern).MatchAny(test.text))
		})
	}
}

func TestAnyOfSeveralTextsMatches(t *testing.T) {
	pattern := textsearch.Compile("B")
	assert.True(t, pattern.MatchAny("a", "ab"))
	assert.False(t, pattern.MatchAny("a", "c"))
	assert.False(t, pattern.MatchAny())
	assert.True(t, textsearch.Pattern{}.MatchAny())
}

func TestMatchIsPartEqualUnderFolding(t *testing.T) {
	texts := rapid.StringOfN(rapid.RuneFrom([]rune("aAkK\u212AsS\u017FßẞσςΣiIİı理")), -1, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.OneOf(rapid.String(), texts).Draw(t, "pattern")
		text := rapid.OneOf(rapid.String(), texts).Draw(t, "text")
		require.Equal(t, containsFold(text, pattern), textsearch.Compile(pattern).MatchAny(text))
	})
}

func TestEveryPartMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		runes := []rune(rapid.String().Draw(t, "text"))
		from := rapid.IntRange(0, len(runes)).Draw(t, "from")
		to := rapid.IntRange(from, len(runes)).Draw(t, "to")
		require.True(t, textsearch.Compile(string(runes[from:to])).MatchAny(string(runes)))
	})
}

func TestSearchAllocatesNothing(t *testing.T) {
	pattern, text := textsearch.Compile("checkout"), strings.Repeat("Check Σ ", 20)
	require.Zero(t, testing.AllocsPerRun(100, func() { pattern.MatchAny(text, text) }))
}

// containsFold is the model: it compares the pattern with every substring of text of the same length.
func containsFold(text, pattern string) bool {
	runes, n := []rune(text), utf8.RuneCountInString(pattern)
	for i := range len(runes) - n + 1 {
		if strings.EqualFold(string(runes[i:i+n]), pattern) {
			return true
		}
	}
	return false
}

// BenchmarkHostile searches for a pattern that almost matches everywhere.
func BenchmarkHostile(b *testing.B) {
	pattern, text := textsearch.Compile(strings.Repeat("a", 250)+"b"), strings.Repeat("a", 500)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if pattern.MatchAny(text) {
			b.Fatal("it is not there")
		}
	}
}
