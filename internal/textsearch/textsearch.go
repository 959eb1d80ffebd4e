// Package textsearch finds a pattern in texts, ignoring case.
//
// # Invariants
//
// Two texts match if [strings.EqualFold] reports true for them: rune by rune, under Unicode's simple case folding.
// Folds that change the number of runes ("ß" and "SS") don't count. A byte that is not valid UTF-8 counts as U+FFFD.
//
// A search allocates nothing, and its time is proportional to the length of the texts, whatever the pattern. It uses
// the algorithm of Knuth, Morris and Pratt (Fast pattern matching in strings, 1977).
package textsearch

import "strings"

// Pattern is a text to search for. It is immutable. The zero value matches every text.
type Pattern struct {
	runes []rune // folded
	// borders[n] is the length of the longest proper prefix of the first n runes that is also a suffix of them.
	borders []int
}

// Compile returns a pattern that matches text in any case.
func Compile(text string) Pattern {
	p := Pattern{runes: []rune(strings.Map(fold, text))}
	p.borders = make([]int, len(p.runes)+1)
	for n, matched := 1, 0; n < len(p.runes); n++ {
		matched = p.next(matched, p.runes[n])
		p.borders[n+1] = matched
	}
	return p
}

// next returns how many runes of the pattern are matched after the folded rune r, if matched of them were matched
// before it. matched must be less than the length of the pattern.
func (p *Pattern) next(matched int, r rune) int {
	for p.runes[matched] != r {
		if matched == 0 {
			return 0
		}
		matched = p.borders[matched]
	}
	return matched + 1
}

// MatchAny reports whether any of texts contains the pattern. The empty pattern matches even without texts.
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

// within reports whether text contains the pattern, which must not be empty.
func (p *Pattern) within(text string) bool {
	matched := 0
	for _, r := range text {
		if matched = p.next(matched, fold(r)); matched == len(p.runes) {
			return true
		}
	}
	return false
}
