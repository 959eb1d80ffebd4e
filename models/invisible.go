package models

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Invisible returns the first character of s that is not allowed in an ID or a name, because it makes two different
// values look the same or changes the order in which text is shown. These are Unicode's bidirectional controls and
// default ignorable code points (UAX #44), the line and paragraph separators, and the annotation characters. found is
// false if there is no such character.
//
// Characters needed to spell a word or an emoji are allowed where they are needed, following UTS #39, section 3.1.1, in
// a simplified form: joiners after a letter of a script that uses them, joiners between emoji, and variation selectors
// after the characters they modify.
func Invisible(s string) (r rune, found bool) {
	for _, r := range invisibles(s) {
		return r, true
	}
	return 0, false
}

// WithoutInvisible returns s with U+FFFD in place of each character that [Invisible] would find.
func WithoutInvisible(s string) string {
	var b strings.Builder
	from := 0
	for i, r := range invisibles(s) {
		b.WriteString(s[from:i])
		b.WriteRune(utf8.RuneError)
		from = i + utf8.RuneLen(r)
	}
	if from == 0 {
		return s
	}
	return b.String() + s[from:]
}

// invisibles yields the characters that [Invisible] finds, each with its byte index.
func invisibles(s string) iter.Seq2[int, rune] {
	return func(yield func(int, rune) bool) {
		if ascii(s) {
			return
		}
		var before, base rune // the previous character, and the last one that is not a mark or modifier
		for i, r := range s {
			if hidden(r) && !spells(r, before, base, s[i+utf8.RuneLen(r):]) && !yield(i, r) {
				return
			}
			if before = r; !unicode.In(r, unicode.Mn, unicode.Mc, unicode.Variation_Selector, skinTones) {
				base = r
			}
		}
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

const (
	nonJoiner  = '\u200c'
	joiner     = '\u200d'
	textStyle  = '\ufe0e'
	emojiStyle = '\ufe0f'
	keycap     = "\u20e3"
)

// ignorable holds the default ignorable code points that unicode.Other_Default_Ignorable_Code_Point lacks, the
// separators and the annotation characters. The category Cf can't be used instead: some of its characters are visible.
var ignorable = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x00ad, 0x00ad, 1}, {0x061c, 0x061c, 1}, {0x180e, 0x180e, 1}, {0x200b, 0x200f, 1}, {0x2028, 0x202e, 1}, {0x2060, 0x206f, 1},
		{0xfeff, 0xfeff, 1}, {0xfff0, 0xfffb, 1},
	},
	R32: []unicode.Range32{{0x1bca0, 0x1bca3, 1}, {0x1d173, 0x1d17a, 1}, {0xe0000, 0xe0fff, 1}},
}

// hidden reports whether a character is invisible on its own.
func hidden(r rune) bool {
	return r >= 0xad && unicode.In(r, ignorable, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Bidi_Control)
}

// spells reports whether a hidden character is part of the spelling of a word or an emoji, given the text before and
// after it.
func spells(r, before, base rune, after string) bool {
	next, _ := utf8.DecodeRuneInString(after)
	switch {
	case r == joiner:
		return unicode.In(base, joining...) || symbol(base) && symbol(next)
	case r == nonJoiner:
		return unicode.In(base, joining...) && unicode.In(next, joining...)
	case r == textStyle || r == emojiStyle:
		return symbol(before) || strings.ContainsRune("‼⁉〰〽ℹ", before) || strings.ContainsRune("0123456789#*", before) && strings.HasPrefix(after, keycap)
	case unicode.Is(unicode.Variation_Selector, r):
		return unicode.In(before, unicode.Han, unicode.Mongolian, unicode.Myanmar, unicode.Phags_Pa, unicode.Sm)
	}
	return false
}

var skinTones = &unicode.RangeTable{R32: []unicode.Range32{{0x1f3fb, 0x1f3ff, 1}}}

// joining lists the scripts whose words are written with joiners.
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Nko, unicode.Mandaic, unicode.Mongolian, unicode.Hanifi_Rohingya, unicode.Adlam,
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada,
	unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar, unicode.Tibetan, unicode.Balinese, unicode.Javanese,
}

// symbol reports whether r is a symbol; all emoji are.
func symbol(r rune) bool {
	return r >= 0xa9 && r != utf8.RuneError && unicode.In(r, unicode.So, unicode.Sm)
}

// validateVisible returns an error that names the field and the character if [Invisible] finds one in value.
func validateVisible(field, value string) error {
	if r, found := Invisible(value); found {
		return BadRequest(field, fmt.Sprintf("must not contain %U: it is invisible, or changes the order of text", r))
	}
	return nil
}
