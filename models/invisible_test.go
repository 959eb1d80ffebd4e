package models_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// TestInvisible checks that characters that hide or reorder text are found, and that those that spell words and emoji
// are not.
func TestInvisible(t *testing.T) {
	for name, s := range map[string]string{
		"ASCII": "claude-code:payments@laptop", "control": "a\x00b", "accents": "José Ñandú", "a combining accent": "cafe\u0301", "Chinese": "代理",
		"Arabic": "وكيل", "Arabic numbers": "\u0600\u0661", "Hebrew": "סוכן", "Persian with a non-joiner": "می\u200cخواهم", "Persian, vowelled": "کِتاب\u200cها",
		"Hindi": "क्\u200dष", "Malayalam, at the end": "അവന്\u200d", "Sinhala": "ශ්\u200dරී", "Korean": "에이전트", "a heart": "❤️", "a heart as text": "❤︎", "a family": "👨‍👩‍👧",
		"a profession": "👩🏽‍💻", "a flag of a rainbow": "🏳️‍🌈", "a heart on fire": "❤️‍🔥", "a nod": "🙂‍↔️", "a keycap": "1️⃣", "a country": "🇩🇪", "information": "ℹ️",
		"a variant of an ideograph": "葛\U000E0100", "Mongolian": "ᠠ\u180b", "invalid UTF-8": "a\xffb", "a no-break space": "a\u00a0b",
	} {
		_, found := models.Invisible(s)
		require.False(t, found, name)
		require.Equal(t, s, models.WithoutInvisible(s), name)
	}
	for _, r := range []rune{0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x180b, 0x180e, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c,
		0x202d, 0x202e, 0x2060, 0x2064, 0x2066, 0x2067, 0x2068, 0x2069, 0x206f, 0x3164, 0xfe00, 0xfe0e, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0xfffb, 0x1d173, 0xe0001, 0xe0041, 0xe0100, 0xe01ef} {
		for _, s := range []string{"a%cb", "%ca", "a%c", "%c"} {
			s = fmt.Sprintf(s, r)
			got, found := models.Invisible(s)
			require.True(t, found, "%U in %+q", r, s)
			require.Equal(t, r, got)
			require.Equal(t, strings.ReplaceAll(s, string(r), "\ufffd"), models.WithoutInvisible(s))
		}
	}
	for name, s := range map[string]string{"two joiners": "क्\u200d\u200dष", "two non-joiners": "می\u200c\u200cخواهم", "a non-joiner at the end": "می\u200c", "a joiner after an emoji": "👍\u200d",
		"two selectors": "❤\ufe0f\ufe0f", "a digit with a selector": "1\ufe0f", "a flag with tags": "🏴\U000E0067\U000E0062\U000E007F", "a joiner of Latin letters": "a\u200db",
		"a joiner of an emoji and a letter": "👍\u200da", "a sign of direction": "שלום\u200f!"} {
		_, found := models.Invisible(s)
		require.True(t, found, name)
	}
	require.Equal(t, "می\u200cخواهم \ufffd", models.WithoutInvisible("می\u200cخواهم \u200c"), "what is needed stays")
}

// TestInvisibleCharactersInNames checks which fields reject invisible characters, and that the error names the
// character by its code point instead of containing it.
func TestInvisibleCharactersInNames(t *testing.T) {
	const bad = "a\u202eb"
	for field, set := range map[string]func(*models.StatusReport){
		"agent_id":      func(r *models.StatusReport) { r.AgentID = bad },
		"session_topic": func(r *models.StatusReport) { r.SessionTopic = bad },
		"agent_name":    func(r *models.StatusReport) { r.AgentName = bad },
		"agent_source":  func(r *models.StatusReport) { r.AgentSource = bad },
		"agent_host":    func(r *models.StatusReport) { r.AgentHost = bad },
	} {
		r := models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running}
		set(&r)
		err := r.Validate(time.Now())
		require.EqualError(t, err, field+" must not contain U+202E: it is invisible, or changes the order of text")
	}
	r := models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, SessionTitle: bad, Message: bad, Content: bad, ReportID: bad}
	require.NoError(t, r.Validate(time.Now()), "texts, and an ID that nobody reads")
}
