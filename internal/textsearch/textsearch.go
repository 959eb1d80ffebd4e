// Package textsearch finds a pattern in texts, whatever the case of either.
//
// # Invariants
//
// Two texts match where [strings.EqualFold] holds: rune by rune, under Unicode's simple case folding. A fold that changes the
// number of runes ("ß" and "SS") does not count. A byte that is not valid UTF-8 stands for U+FFFD.
//
// A search allocates nothing.
package textsearch

import "strings"

// Pattern is a text to search for. It never changes. The zero value is in every text.
type Pattern struct{ runes []rune }

// Compile returns the pattern that matches text in any case.
func Compile(text string) Pattern {
	return Pattern{[]rune(strings.Map(fold, text))}
}

// MatchAny reports whether any of texts contains the pattern. The empty pattern matches even where there are no texts.
func (p Pattern) MatchAny(texts ...string) bool {
	if len(p.runes) == 0 {
		return true
	}
	for _, text := range texts {
		if p.within(text) {
			return true
		}
	}
	return false
}

// within reports whether text contains the pattern, which is not empty.
func (p Pattern) within(text string) bool {
	for i, r := range text {
		if fold(r) == p.runes[0] && p.prefixes(text[i:]) {
			return true
		}
	}
	return false
}

// prefixes reports whether text begins with the pattern.
func (p Pattern) prefixes(text string) bool {
	i := 0
	for _, r := range text {
		if i == len(p.runes) {
			return true
		}
		if fold(r) != p.runes[i] {
			return false
		}
		i++
	}
	return i == len(p.runes)
}
