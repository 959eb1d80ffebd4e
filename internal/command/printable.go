package command

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/models"
)

// printable makes a message safe to print in a terminal, since it may repeat arguments, settings, paths and what a server
// sent: control characters and bytes that are not UTF-8 are escaped as in Go, except for line feeds and tabs, and
// invisible characters are replaced.
func printable(message string) string {
	message = models.WithoutInvisible(message)
	var b strings.Builder
	for i, width := 0, 0; i < len(message); i += width {
		var c rune
		c, width = utf8.DecodeRuneInString(message[i:])
		part := message[i : i+width]
		if unicode.IsControl(c) && c != '\n' && c != '\t' || c == utf8.RuneError && width == 1 {
			part = strings.Trim(strconv.Quote(part), `"`)
		}
		b.WriteString(part)
	}
	return b.String()
}
