package notify

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/models"
)

// The maximum lengths of text for people, in characters. Titles fit on the screen of a phone. All of the text fits into
// the 4,096 bytes that a message of ntfy may have.
const (
	maxNotifiedAgent = 60
	maxNotifiedText  = 500
	maxNotifiedTitle = 120
)

// Words returns what the message tells people: a title such as "payments@laptop asks for permission", and further lines,
// "" for none. Both are plain text without invisible or control characters, and may still contain markup.
func (m *Message) Words() (title, body string) { return textOf(m) }

// Resolution returns what replaces the message when it is taken back, as one line.
func (m *Message) Resolution() string { return resolvedOf(m) }

// textOf returns what a message tells people: a title such as "payments@laptop asks for permission", and further lines,
// "" for none. Both are plain text without invisible or control characters. What agents sent may still contain markup,
// so a destination that interprets markup has to escape it.
func textOf(m *Message) (title, body string) {
	if m.Summary != nil {
		return summaryOf(m.Summary)
	}
	return agentOf(m.Session) + " " + eventOf(m), bodyOf(m)
}

// resolvedOf returns what replaces a message that is taken back, as one line.
func resolvedOf(m *Message) string {
	title, _ := textOf(m)
	what := cmp.Or(outcomeTexts[m.Outcome], "Resolved")
	if m.By != "" {
		what += " by " + lineOf(m.By, maxNotifiedAgent)
	}
	return what + ": " + title
}

var outcomeTexts = map[Outcome]string{
	OutcomeAnswered:     "Answered",
	OutcomeDenied:       "Denied",
	OutcomeWithdrawn:    "No longer needed",
	OutcomeExpired:      "Expired",
	OutcomeAcknowledged: "Acknowledged",
	OutcomeSnoozed:      "Snoozed",
	OutcomeRemoved:      "Removed",
}

// linkLabelOf says where the message's URL leads.
func linkLabelOf(m *Message) string {
	if m.Summary != nil {
		return "Open dashboard"
	}
	return "Open session"
}

// agentOf names the agent of a session as the dashboard does.
func agentOf(session *models.FleetSession) string {
	name := cmp.Or(session.AgentName, session.AgentID)
	if session.AgentName != "" && session.AgentHost != "" {
		name += "@" + session.AgentHost
	}
	return lineOf(name, maxNotifiedAgent)
}

// eventOf says what happened to the session, as the rest of a sentence that begins with its agent.
func eventOf(m *Message) string {
	since := durationOf(m.SentAt.Sub(m.Since))
	switch {
	case m.Change == Waits && m.Reminder():
		return "still waits (for " + since + ")"
	case m.Change == Waits:
		return waitOf(m.Question)
	case m.Change == Lost && m.Reminder():
		return "is still lost (for " + since + ")"
	case m.Change == Lost:
		return "is lost"
	case m.Change == Answered:
		return "was answered"
	case m.Reminder():
		return m.Change.String() + " " + since + " ago"
	}
	return m.Change.String() // failed or finished
}

var questionTexts = map[models.QuestionKind]string{
	models.Permission: "asks for permission",
	models.Choice:     "asks for a choice",
	models.Plan:       "asks to approve a plan",
	models.Text:       "asks a question",
}

func waitOf(question *models.Question) string {
	if question == nil {
		return "waits"
	}
	return cmp.Or(questionTexts[question.Kind], "asks a question")
}

// bodyOf returns a line with the session's question or message, and one with its title.
func bodyOf(m *Message) string {
	text, title := m.Session.CurrentMessage, m.Session.Title
	if m.Question != nil {
		text = m.Question.Text
	}
	if title == "" && m.Text != NoText {
		title = m.Session.Topic
	}
	text, title = lineOf(text, maxNotifiedText), lineOf(title, maxNotifiedTitle)
	switch {
	case text == "" || text == title:
		return title
	case title == "":
		return text
	}
	return text + "\n" + title
}

// summaryOf returns the text of a summary, such as "3 sessions need you" and "2 wait, 1 is lost". A session that
// finished needs nobody.
func summaryOf(counts map[Change]int) (title, body string) {
	finished, answered := counts[Finished], counts[Answered]
	need := counts[Waits] + counts[Lost] + counts[Failed]
	switch {
	case need+finished == 0:
		return countOf(answered, "question") + " " + either(answered, "was", "were") + " answered", ""
	case need+answered == 0:
		return countOf(finished, "session") + " finished", ""
	}
	var parts []string
	for _, part := range []struct {
		count     int
		one, many string
	}{
		{counts[Waits], "waits", "wait"},
		{counts[Lost], "is lost", "are lost"},
		{counts[Failed], "failed", "failed"},
		{finished, "finished", "finished"},
		{answered, "was answered", "were answered"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, either(part.count, part.one, part.many)))
		}
	}
	if need == 0 {
		return countOf(finished+answered, "session") + " went on", strings.Join(parts, ", ")
	}
	return countOf(need, "session") + " " + either(need, "needs", "need") + " you", strings.Join(parts, ", ")
}

// durationOf returns a duration in words, such as "35 minutes".
func durationOf(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return countOf(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return countOf(int(d.Hours()), "hour")
	}
	return countOf(int(d.Hours()/24), "day")
}

func countOf(n int, what string) string {
	return fmt.Sprintf("%d %s", n, either(n, what, what+"s"))
}

func either(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// lineOf returns text as one line of at most limit characters, without invisible or control characters, and with an
// ellipsis if it was cut.
func lineOf(text string, limit int) string {
	text = visible(text)
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	cut := string([]rune(text)[:limit-1])
	return visible(cut) + "…" // the cut may have left a joiner at the end, which is invisible now
}

// visible returns text as one line without invisible or control characters.
func visible(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text) // without invalid UTF-8 as well: U+FFFD stands for it, which is removed below
	for { // a joiner may have been visible only after a character that is removed
		shorter := strings.ReplaceAll(models.WithoutInvisible(text), string(utf8.RuneError), "")
		if shorter == text {
			return strings.Join(strings.Fields(text), " ")
		}
		text = shorter
	}
}
