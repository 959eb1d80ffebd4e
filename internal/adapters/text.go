package adapters

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/models"
)

// ellipsis replaces text that was cut off.
const ellipsis = "…"

// line returns the first line of s that is not blank, without control characters, of at most limit characters.
func line(s string, limit int) string {
	return cut(firstLine(s), limit, false)
}

// maxTitle is the maximum length of a title made from a prompt, in characters. It is short enough to read at a glance.
const maxTitle = 120

// title returns the first line of s, shortened at a word boundary.
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

// name returns s as an ID or a name of at most limit characters, with spaces for control characters and U+FFFD for
// invisible ones. It returns "" if the result can't be an ID.
func name(s string, limit int) string {
	s = models.WithoutInvisible(cut(strings.TrimSpace(plain(s)), limit, false))
	if s == "." || s == ".." {
		return ""
	}
	return s
}

// maxContent is how many characters of prompts and answers are kept at most.
const maxContent = 10_000

// content returns s with its line breaks, cut to at most limit characters.
func content(s string, limit int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\ufffd")
	return cut(strings.TrimSpace(replaceControl(s, func(r rune) bool { return r == '\n' || r == '\t' })), limit, false)
}

// cutBytes returns s cut to at most limit bytes at a character boundary, and whether it was cut.
func cutBytes(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// plain returns s as valid UTF-8, with a space for each control character.
func plain(s string) string {
	if isPlain(s) {
		return s
	}
	return replaceControl(strings.ToValidUTF8(s, "\ufffd"), func(rune) bool { return false })
}

// isPlain reports whether s consists of printable ASCII characters only, as most names and lines do.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func replaceControl(s string, kept func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !kept(r) {
			return ' '
		}
		return r
	}, s)
}

// cut returns s cut to at most limit characters, including an ellipsis if it was cut. With atWord, it cuts at a word
// boundary if there is one in the second half.
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
