// Package textsearch finds a pattern in texts, whatever the case of either.
//
// # Invariants
//
// Two texts match where [strings.EqualFold] holds: rune by rune, under Unicode's simple case folding. A fold that changes the
// number of runes ("ß" and "SS") does not count. A byte that is not valid UTF-8 stands for U+FFFD.
//
// A search allocates nothing, and takes time in proportion to the texts, whatever the pattern: it is that of Knuth, Morris and Pratt
// (Fast pattern matching in strings, 1977).
package textsearch

import "strings"

// Pattern is a text to search for. It never changes. The zero value is in every text.
type Pattern struct {
	runes []rune // folded
	// borders says for each number of first runes of the pattern how long the longest part of these is, shorter than all of them, that
	// they both begin and end with.
	borders []int
}

// Compile returns the pattern that matches text in any case.
func Compile(text string) Pattern {
	p := Pattern{runes: []rune(strings.Map(fold, text))}
	p.borders = make([]int, len(p.runes)+1)
	for n, matched := 1, 0; n < len(p.runes); n++ {
		matched = p.next(matched, p.runes[n])
		p.borders[n+1] = matched
	}
	return p
}

// next returns how many first runes of the pattern a text ends with that ended with so many before r, a folded rune, came. There are more
// runes in the pattern than those.
func (p *Pattern) next(matched int, r rune) int {
	for p.runes[matched] != r {
		if matched == 0 {
			return 0
		}
		matched = p.borders[matched]
	}
	return matched + 1
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
func (p *Pattern) within(text string) bool {
	matched := 0
	for _, r := range text {
		if matched = p.next(matched, fold(r)); matched == len(p.runes) {
			return true
		}
	}
	return false
}
