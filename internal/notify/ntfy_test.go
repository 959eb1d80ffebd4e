package notify_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// notice is a message as https://docs.ntfy.sh/publish/#publish-as-json describes it, as far as it is used.
type notice struct {
	Topic      string   `json:"topic"`
	SequenceID string   `json:"sequence_id"`
	Title      string   `json:"title"`
	Message    string   `json:"message"`
	Priority   int      `json:"priority"`
	Tags       []string `json:"tags"`
	Click      string   `json:"click"`
	Markdown   bool     `json:"markdown"`
	Actions    []struct {
		Action string `json:"action"`
		Label  string `json:"label"`
		URL    string `json:"url"`
	} `json:"actions"`
}

// ntfyPhone is an ntfy server, and a phone that shows its notifications. A request that the documentation does not allow
// fails the test.
type ntfyPhone struct {
	*httptest.Server
	shown     map[string]notice // by sequence ID
	published int
	token     string // that requests must have
	before216 bool   // the server knows no sequence IDs, and deletes nothing
}

var ntfyNames = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

func newNtfyPhone(t *testing.T, root string) *ntfyPhone {
	t.Helper()
	p := &ntfyPhone{shown: map[string]notice{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+root+"/{$}", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Less(t, len(body), 32<<10, "the maximum length of JSON")
		assert.Equal(t, p.token, r.Header.Get("Authorization"))
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		var n notice
		assert.NoError(t, decoder.Decode(&n), "%s", body)
		assert.Regexp(t, ntfyNames, n.Topic)
		assert.Regexp(t, ntfyNames, n.SequenceID)
		assert.NotEmpty(t, n.Message, `ntfy would write "triggered"`)
		assert.LessOrEqual(t, len(n.Message), 4096, "a longer message becomes a file")
		assert.Contains(t, []int{0, 1, 2, 3, 4, 5}, n.Priority)
		assert.False(t, n.Markdown)
		assert.LessOrEqual(t, len(n.Actions), 3)
		for _, action := range n.Actions {
			assert.Equal(t, "view", action.Action)
			assert.NotEmpty(t, action.Label)
			assert.Regexp(t, "^https?://", action.URL)
		}
		p.published++
		p.shown[n.SequenceID] = n
	})
	mux.HandleFunc("DELETE "+root+"/{topic}/{sequence}", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, p.token, r.Header.Get("Authorization"))
		assert.Equal(t, "my-topic", r.PathValue("topic"))
		if p.before216 {
			http.NotFound(w, r)
			return
		}
		assert.Contains(t, p.shown, r.PathValue("sequence"))
		delete(p.shown, r.PathValue("sequence"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("ntfy does not document %s %s", r.Method, r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// one returns the only notification that is shown.
func (p *ntfyPhone) one(t *testing.T) notice {
	t.Helper()
	require.Len(t, p.shown, 1)
	return slices.Collect(maps.Values(p.shown))[0]
}

func TestNtfyMessage(t *testing.T) {
	p := newNtfyPhone(t, "")
	p.token = "Bearer tk_secret"
	sender, err := notify.NewNtfy(p.URL+"/my-topic", "tk_secret")
	require.NoError(t, err)

	remote, err := sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	n := p.one(t)
	assert.Equal(t, remote, n.SequenceID)
	assert.Equal(t, "my-topic", n.Topic)
	assert.Equal(t, "Payments@laptop asks for permission", n.Title)
	assert.Equal(t, "Bash: make migrate\nFix the refunds", n.Message)
	assert.Equal(t, 4, n.Priority)
	assert.Equal(t, []string{"raised_hand"}, n.Tags)
	assert.Equal(t, "https://hub.example.com/fleet/?agent=payments&session=0198c5f2", n.Click)
	require.Len(t, n.Actions, 1)
	assert.Equal(t, "Open session", n.Actions[0].Label)
	assert.Equal(t, n.Click, n.Actions[0].URL)
}

func TestNtfyMessages(t *testing.T) {
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	long := waiting()
	long.Question.Text, long.Session.Title, long.Session.AgentName = strings.Repeat("👩🏽", 1000), strings.Repeat("é", 200), strings.Repeat("😀", 200)
	markup := waiting()
	markup.Question.Text, markup.Session.Title = "[x](javascript:alert(1)) <b>**y**</b>", `", "actions": [{}], "z": "`
	for name, test := range map[string]struct {
		message  *notify.Message
		title    string
		priority int
		tags     []string
		label    string
	}{
		"waits":    {changed(notify.Waits), "Payments@laptop waits", 4, []string{"raised_hand"}, "Open session"},
		"lost":     {changed(notify.Lost), "Payments@laptop is lost", 0, []string{"ghost"}, "Open session"},
		"failed":   {changed(notify.Failed), "Payments@laptop failed", 0, []string{"x"}, "Open session"},
		"finished": {changed(notify.Finished), "Payments@laptop finished", 0, []string{"white_check_mark"}, "Open session"},
		"summary":  {summary(map[notify.Change]int{notify.Waits: 7, notify.Lost: 5}), "12 sessions need you", 4, nil, "Open dashboard"},
		"calm":     {summary(map[notify.Change]int{notify.Lost: 5}), "5 sessions need you", 0, nil, "Open dashboard"},
		"bare":     {bare, "", 0, []string{"white_check_mark"}, ""},
		"long":     {long, strings.Repeat("😀", 59) + "… asks for permission", 4, []string{"raised_hand"}, "Open session"},
		"markup":   {markup, "Payments@laptop asks for permission", 4, []string{"raised_hand"}, "Open session"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newNtfyPhone(t, "/push")
			sender, err := notify.NewNtfy(p.URL+"/push/my-topic/", "")
			require.NoError(t, err)
			_, err = sender.Send(t.Context(), test.message)
			require.NoError(t, err)
			n := p.one(t)
			assert.Equal(t, test.title, n.Title)
			assert.Equal(t, test.priority, n.Priority)
			assert.Equal(t, test.tags, n.Tags)
			assert.Equal(t, test.message.URL, n.Click)
			if test.label == "" {
				assert.Empty(t, n.Actions)
				return
			}
			require.Len(t, n.Actions, 1)
			assert.Equal(t, test.label, n.Actions[0].Label)
		})
	}
}

// TestNtfyRemindersAndWithdrawal checks that a phone shows one notification for a change, and none when the change no
// longer holds.
func TestNtfyRemindersAndWithdrawal(t *testing.T) {
	for name, thread := range map[string]string{
		"ID that ntfy accepts": "n-12", "another one": "n/12#é", "a long one": strings.Repeat("n", 65),
	} {
		t.Run(name, func(t *testing.T) {
			p := newNtfyPhone(t, "")
			sender, err := notify.NewNtfy(p.URL+"/my-topic", "")
			require.NoError(t, err)
			first, second := waiting(), reminder(waiting(), 35*time.Minute)
			first.ID, first.Thread, second.Thread = thread, thread, thread
			other := changed(notify.Lost)
			other.ID, other.Thread = "n-99", "n-99"

			first.Remote, err = sender.Send(t.Context(), first)
			require.NoError(t, err)
			again, err := sender.Send(t.Context(), first)
			require.NoError(t, err)
			assert.Equal(t, first.Remote, again)
			second.Remote, err = sender.Send(t.Context(), second)
			require.NoError(t, err)
			assert.Equal(t, first.Remote, second.Remote)
			assert.Equal(t, "Payments@laptop still waits (for 35 minutes)", p.one(t).Title)
			assert.Equal(t, 3, p.published)

			_, err = sender.Send(t.Context(), other)
			require.NoError(t, err)
			require.NoError(t, sender.Withdraw(t.Context(), second))
			assert.Equal(t, "Payments@laptop is lost", p.one(t).Title)
		})
	}
}

func TestNtfyBefore216DeletesNothing(t *testing.T) {
	p := newNtfyPhone(t, "")
	p.before216 = true
	sender, err := notify.NewNtfy(p.URL+"/my-topic", "")
	require.NoError(t, err)

	_, err = sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	require.NoError(t, sender.Withdraw(t.Context(), waiting()))
	assert.Len(t, p.shown, 1)
}

func TestNtfyUserInURL(t *testing.T) {
	p := newNtfyPhone(t, "")
	p.token = "Basic dXNlcjpwNHNzd29yZA=="
	sender, err := notify.NewNtfy(strings.Replace(p.URL, "//", "//user:p4ssword@", 1)+"/my-topic", "")
	require.NoError(t, err)

	_, err = sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	require.NoError(t, sender.Withdraw(t.Context(), waiting()))
	assert.Empty(t, p.shown)
}

func TestNtfySettings(t *testing.T) {
	const notTopic = "the URL of an ntfy topic must end with the topic: 1 to 64 letters, digits, hyphens and underscores"
	for name, test := range map[string]struct{ address, token, want string }{
		"no URL":              {"s3cret-topic", "", "the URL of an ntfy topic must be a URL that begins with http:// or https://"},
		"no topic":            {"https://ntfy.sh", "", notTopic},
		"root":                {"https://ntfy.sh/", "", notTopic},
		"invalid topic":       {"https://ntfy.sh/s3cret.topic", "", notTopic},
		"escaped slash":       {"https://ntfy.sh/a%2Fs3cret%20topic", "", notTopic},
		"long topic":          {"https://ntfy.sh/" + strings.Repeat("t", 65), "", notTopic},
		"query":               {"https://ntfy.sh/topic?auth=s3cret", "", "the URL of an ntfy topic must not have a query or a fragment"},
		"fragment":            {"https://ntfy.sh/topic#s3cret", "", "the URL of an ntfy topic must not have a query or a fragment"},
		"token of two lines":  {"https://ntfy.sh/topic", "tk_s3cret\r\nHost: a", "an ntfy token must not contain spaces or special characters"},
		"token with a prefix": {"https://ntfy.sh/topic", "Bearer tk_s3cret", "an ntfy token must not contain spaces or special characters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewNtfy(test.address, test.token)
			require.EqualError(t, err, test.want)
		})
	}
}
