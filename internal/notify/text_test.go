package notify_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// waiting returns a message about a session that asks for permission.
func waiting() *notify.Message {
	return &notify.Message{
		ID: "n-12", Thread: "n-12", SentAt: began.Add(5 * time.Second), Rule: "on-call", Change: notify.Waits, Since: began,
		URL: "https://hub.example.com/fleet/?agent=payments&session=0198c5f2",
		Session: &models.FleetSession{
			Session: models.Session{
				AgentID: "payments", Topic: "0198c5f2", Title: "Fix the refunds", CurrentStatus: models.Pending, CurrentMessage: "Run the migration?",
			},
			AgentName: "Payments", AgentSource: "claude-code", AgentHost: "laptop",
		},
		Question: &models.Question{ID: "q-3", Kind: models.Permission, Text: "Bash: make migrate", Choices: []string{"yes", "no"}},
	}
}

// changed returns a message about a change of a session that asks nothing.
func changed(change notify.Change) *notify.Message {
	m := waiting()
	m.Change, m.Question = change, nil
	return m
}

// reminder makes a message a reminder, some time after the change.
func reminder(m *notify.Message, after time.Duration) *notify.Message {
	m.ID, m.SentAt = "n-17", m.Since.Add(after)
	return m
}

func summary(counts map[notify.Change]int) *notify.Message {
	return &notify.Message{
		ID: "n-20", Thread: "n-20", SentAt: began, Rule: "on-call", URL: "https://hub.example.com/fleet/", Summary: counts,
	}
}

func TestTextForPeople(t *testing.T) {
	asks := func(kind models.QuestionKind) *notify.Message {
		m := waiting()
		m.Question = &models.Question{ID: "q-3", Kind: kind, Text: "Which one?"}
		return m
	}
	with := func(m *notify.Message, edit func(m *notify.Message)) *notify.Message {
		edit(m)
		return m
	}
	for name, test := range map[string]struct {
		message     *notify.Message
		title, body string
	}{
		"asks for permission":      {waiting(), "Payments@laptop asks for permission", "Bash: make migrate\nFix the refunds"},
		"asks for a choice":        {asks(models.Choice), "Payments@laptop asks for a choice", "Which one?\nFix the refunds"},
		"asks to approve a plan":   {asks(models.Plan), "Payments@laptop asks to approve a plan", "Which one?\nFix the refunds"},
		"asks a question":          {asks(models.Text), "Payments@laptop asks a question", "Which one?\nFix the refunds"},
		"waits and asks nothing":   {changed(notify.Waits), "Payments@laptop waits", "Run the migration?\nFix the refunds"},
		"is lost":                  {changed(notify.Lost), "Payments@laptop is lost", "Run the migration?\nFix the refunds"},
		"failed":                   {changed(notify.Failed), "Payments@laptop failed", "Run the migration?\nFix the refunds"},
		"finished":                 {changed(notify.Finished), "Payments@laptop finished", "Run the migration?\nFix the refunds"},
		"still waits":              {reminder(waiting(), 35*time.Minute+59*time.Second), "Payments@laptop still waits (for 35 minutes)", "Bash: make migrate\nFix the refunds"},
		"still waits, just so":     {reminder(waiting(), 59*time.Second), "Payments@laptop still waits (for less than a minute)", "Bash: make migrate\nFix the refunds"},
		"still waits for a minute": {reminder(waiting(), time.Minute), "Payments@laptop still waits (for 1 minute)", "Bash: make migrate\nFix the refunds"},
		"is still lost":            {reminder(changed(notify.Lost), 2*time.Hour), "Payments@laptop is still lost (for 2 hours)", "Run the migration?\nFix the refunds"},
		"failed long ago":          {reminder(changed(notify.Failed), 50*time.Hour), "Payments@laptop failed 2 days ago", "Run the migration?\nFix the refunds"},
		"finished a while ago":     {reminder(changed(notify.Finished), 119*time.Minute), "Payments@laptop finished 119 minutes ago", "Run the migration?\nFix the refunds"},
		"agent without a name":     {with(waiting(), func(m *notify.Message) { m.Session.AgentName = "" }), "payments asks for permission", "Bash: make migrate\nFix the refunds"},
		"agent without a host":     {with(waiting(), func(m *notify.Message) { m.Session.AgentHost = "" }), "Payments asks for permission", "Bash: make migrate\nFix the refunds"},
		"session without a title":  {with(waiting(), func(m *notify.Message) { m.Session.Title = "" }), "Payments@laptop asks for permission", "Bash: make migrate\n0198c5f2"},
		"title equal to the text":  {with(waiting(), func(m *notify.Message) { m.Question.Text = "Fix the refunds" }), "Payments@laptop asks for permission", "Fix the refunds"},
		"title alone": {with(waiting(), func(m *notify.Message) {
			m.Text, m.Question.Text, m.Session.CurrentMessage = notify.TitleOnly, "", ""
		}), "Payments@laptop asks for permission", "Fix the refunds"},
		"no text": {with(waiting(), func(m *notify.Message) {
			m.Text, m.Question.Text, m.Session.CurrentMessage, m.Session.Title = notify.NoText, "", "", ""
		}), "Payments@laptop asks for permission", ""},
		"summary":                         {summary(map[notify.Change]int{notify.Waits: 7, notify.Lost: 5}), "12 sessions need you", "7 wait, 5 are lost"},
		"summary of every change":         {summary(map[notify.Change]int{notify.Waits: 1, notify.Lost: 1, notify.Failed: 2, notify.Finished: 3}), "4 sessions need you", "1 waits, 1 is lost, 2 failed, 3 finished"},
		"summary of one":                  {summary(map[notify.Change]int{notify.Failed: 1}), "1 session needs you", "1 failed"},
		"summary of sessions that finish": {summary(map[notify.Change]int{notify.Finished: 3}), "3 sessions finished", ""},
		"hostile texts": {with(waiting(), func(m *notify.Message) {
			m.Session.AgentName = "a\x1b[31m\u202egnp\u2069"
			m.Question.Text = "rm\r\n-rf\x00 /\u200b \u2028home\ufeff"
			m.Session.Title = "**bold** <b>x</b>\xff"
		}), "a [31mgnp@laptop asks for permission", "rm -rf / home\n**bold** <b>x</b>"},
		"name cut inside an emoji": {with(waiting(), func(m *notify.Message) {
			m.Session.AgentName = strings.Repeat("x", 57) + "👩\u200d💻"
		}), strings.Repeat("x", 57) + "👩… asks for permission", "Bash: make migrate\nFix the refunds"},
		"words and emoji that need joiners": {with(waiting(), func(m *notify.Message) { m.Session.Title = "می\u200cخواهم 👩\u200d💻" }), "Payments@laptop asks for permission", "Bash: make migrate\nمی\u200cخواهم 👩\u200d💻"},
	} {
		t.Run(name, func(t *testing.T) {
			title, body := notify.TextOf(test.message)
			assert.Equal(t, test.title, title)
			assert.Equal(t, test.body, body)
		})
	}
}

// TestTextForPeopleIsPlain checks that no text of an agent makes a notification long, or contains characters that are
// invisible or do something.
func TestTextForPeopleIsPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Custom(func(t *rapid.T) string {
			part := rapid.SampledFrom([]string{"word ", "\u202e", "\u200d", "\u061c", "👩\u200d💻", "\n", "\x1b[0m", "\xff", strings.Repeat("é", 300), "می\u200c"})
			return strings.Join(rapid.SliceOfN(rapid.OneOf(part, rapid.String()), 0, 20).Draw(t, "parts"), "")
		})
		m := waiting()
		m.Session.AgentName, m.Session.AgentHost = text.Draw(t, "name"), text.Draw(t, "host")
		m.Session.Title, m.Question.Text = text.Draw(t, "title"), text.Draw(t, "question")

		title, body := notify.TextOf(m)
		require.LessOrEqual(t, utf8.RuneCountInString(title), 100)
		require.LessOrEqual(t, utf8.RuneCountInString(body), 650)
		require.LessOrEqual(t, strings.Count(body, "\n"), 1)
		for _, r := range title + strings.Replace(body, "\n", "", 1) {
			require.False(t, unicode.IsControl(r), "%U", r)
		}
		for line := range strings.SplitSeq(title+"\n"+body, "\n") {
			found, hidden := models.Invisible(line)
			require.False(t, hidden, "%U in %q", found, line)
			require.True(t, utf8.ValidString(line))
		}
	})
}

// sendThree sends a loss, a question, and a reminder of the question, and returns the question's message as it was sent.
func sendThree(t *testing.T, sender notify.Sender) (question *notify.Message) {
	t.Helper()
	_, err := sender.Send(t.Context(), changed(notify.Lost))
	require.NoError(t, err)
	question = waiting()
	question.Remote, err = sender.Send(t.Context(), question)
	require.NoError(t, err)
	second := reminder(waiting(), 35*time.Minute)
	second.Remote = question.Remote
	_, err = sender.Send(t.Context(), second)
	require.NoError(t, err)
	return question
}
