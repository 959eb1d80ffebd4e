package textsearch

import "unicode"

// fold returns the same rune for all runes that differ only in case: the least rune of the orbit that
// [unicode.SimpleFold] walks, in lower case if that is an ASCII letter.
func fold(r rune) rune {
	if r < 0x80 {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if least < 0x80 {
		return fold(least)
	}
	return least
}
