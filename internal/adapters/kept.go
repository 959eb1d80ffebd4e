package adapters

import (
	"unicode/utf16"
	"unicode/utf8"
)

// kept collects a string of which only the first limit bytes are kept.
type kept struct {
	text  []byte
	limit int
	high  rune // a high surrogate that waits for its low one; 0 for none
	cut   bool // there was more
}

// add adds a piece as it is.
func (k *kept) add(piece []byte) {
	if len(piece) == 0 {
		return
	}
	k.endHigh()
	if k.cut {
		return
	}
	if room := k.limit - len(k.text); len(piece) > room {
		piece, k.cut = piece[:room], true
	}
	k.text = append(k.text, piece...)
}

// addUnit adds a code unit of UTF-16. Of a surrogate pair, the second completes the first.
func (k *kept) addUnit(unit rune) {
	if pair := utf16.DecodeRune(k.high, unit); pair != utf8.RuneError {
		k.high = 0
		k.addRune(pair)
		return
	}
	k.endHigh()
	if 0xD800 <= unit && unit < 0xDC00 {
		k.high = unit
		return
	}
	k.addRune(unit)
}

// endHigh adds U+FFFD for a high surrogate that nothing completed.
func (k *kept) endHigh() {
	if k.high != 0 {
		k.high = 0
		k.addRune(utf8.RuneError)
	}
}

func (k *kept) addRune(r rune) {
	var encoded [utf8.UTFMax]byte
	k.add(utf8.AppendRune(encoded[:0], r))
}

// end returns what was kept, up to the end of a character, and whether it is everything.
func (k *kept) end() (text []byte, whole bool) {
	k.endHigh()
	if k.cut {
		return wholeRunes(k.text), false
	}
	return k.text, true
}

// wholeRunes returns b without an incomplete character at its end.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= max(0, len(b)-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}
