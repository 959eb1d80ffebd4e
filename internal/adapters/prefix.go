package adapters

import (
	"unicode/utf16"
	"unicode/utf8"
)

// prefixBuffer collects a string and keeps its first limit bytes.
type prefixBuffer struct {
	text  []byte
	limit int
	high  rune // a high surrogate that has no low surrogate yet; 0 for none
	cut   bool // the string was longer than limit
}

// add appends piece unchanged.
func (k *prefixBuffer) add(piece []byte) {
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

// addUnit appends a UTF-16 code unit. It combines surrogate pairs.
func (k *prefixBuffer) addUnit(unit rune) {
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

// endHigh appends U+FFFD for a high surrogate without a low one.
func (k *prefixBuffer) endHigh() {
	if k.high != 0 {
		k.high = 0
		k.addRune(utf8.RuneError)
	}
}

func (k *prefixBuffer) addRune(r rune) {
	var encoded [utf8.UTFMax]byte
	k.add(utf8.AppendRune(encoded[:0], r))
}

// end returns the kept text, without an incomplete character at its end, and whether it is the whole string.
func (k *prefixBuffer) end() (text []byte, whole bool) {
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
