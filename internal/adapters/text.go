package adapters

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/models"
)

// ellipsis stands for what was cut off.
const ellipsis = "…"

// line returns the first line of s that is not blank, without control characters, of at most limit characters.
func line(s string, limit int) string {
	return cut(firstLine(s), limit, false)
}

// maxTitle is how long a title that is made of a prompt becomes: it is to be read at a glance.
const maxTitle = 120

// title returns the first line of s, shortened at a word.
func title(s string) string {
	t := cut(firstLine(s), maxTitle, true)
	if t == "." || t == ".." {
		return ""
	}
	return t
}

func firstLine(s string) string {
	for s != "" {
		end := strings.IndexAny(s, "\n\r")
		first := s
		if end >= 0 {
			first, s = s[:end], s[end+1:]
		} else {
			s = ""
		}
		if first = strings.TrimSpace(plain(first)); first != "" {
			return first
		}
	}
	return ""
}

// name returns s as an ID or a name of at most limit characters: without control characters, with U+FFFD for each that can't be seen, and
// "" where nothing is left that can serve as one.
func name(s string, limit int) string {
	s = models.WithoutInvisible(cut(strings.TrimSpace(plain(s)), limit, false))
	if s == "." || s == ".." {
		return ""
	}
	return s
}

// maxContent is how many characters of prompts and answers are kept.
const maxContent = 10_000

// content returns s with its lines, of at most limit characters.
func content(s string, limit int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\ufffd")
	return cut(strings.TrimSpace(mapped(s, func(r rune) bool { return r == '\n' || r == '\t' })), limit, false)
}

// cutBytes returns s, or as much of its beginning as makes limit bytes, and whether that is not all of it.
func cutBytes(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// plain returns s, as UTF-8, with a space for each control character.
func plain(s string) string {
	if isPlain(s) {
		return s
	}
	return mapped(strings.ToValidUTF8(s, "\ufffd"), func(rune) bool { return false })
}

// isPlain reports whether s is of printable ASCII characters alone, as most names and lines are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func mapped(s string, kept func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !kept(r) {
			return ' '
		}
		return r
	}, s)
}

// cut returns s, or as much of its beginning as makes limit characters with an ellipsis. Where atWord says so, it ends with a
// word, if one ends in its second half.
func cut(s string, limit int, atWord bool) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	end := 0
	for range limit - 1 {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	next, _ := utf8.DecodeRuneInString(s[end:])
	s = s[:end]
	if atWord && !unicode.IsSpace(next) {
		if i := strings.LastIndexFunc(s, unicode.IsSpace); i >= len(s)/2 {
			s = s[:i]
		}
	}
	return strings.TrimRightFunc(s, unicode.IsSpace) + ellipsis
}
