package access

import (
	"regexp"
	"strings"
)

// secretPrefix matches the beginning of a token that the program made, and of a webhook secret.
var secretPrefix = regexp.MustCompile(`(^|[^0-9A-Za-z])(ka|whsec)_`)

// wholeSecret matches a token that the program made, or a webhook secret, in a URL.
var wholeSecret = regexp.MustCompile(`(ka_)[0-9A-Za-z]{20,}|(whsec_)[0-9A-Za-z+/=%]{20,}`)

// HideSecrets returns the text of a URL with … in place of tokens that the program made and of webhook secrets. Unlike
// [LooksSecret], it leaves long runs of letters and digits alone, because IDs may have this form.
func HideSecrets(text string) string { return wholeSecret.ReplaceAllString(text, "${1}${2}…") }

// minSecretRun is the length in bytes from which on letters and digits in a row could be a token. Tokens that the
// program makes, and secrets of sign-ins, are longer.
const minSecretRun = 20

// LooksSecret reports whether text could contain a token, a webhook secret or the secret of a sign-in, so that it must
// not be repeated: in the program's own form, or as a long run of letters and digits.
func LooksSecret(text string) bool {
	return secretPrefix.MatchString(text) || hasSecretRun(text)
}

// hasSecretRun reports whether text has a run of at least minSecretRun letters and digits, with a digit in it.
func hasSecretRun(text string) bool {
	for run := range strings.FieldsFuncSeq(text, func(c rune) bool { return !isDigit(c) && !isBase64Letter(c) }) {
		if len(run) >= minSecretRun && strings.ContainsFunc(run, isDigit) {
			return true
		}
	}
	return false
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

// isBase64Letter reports whether c is a character of base64 or base64url other than a digit.
func isBase64Letter(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '+' || c == '/' || c == '-' || c == '_'
}
