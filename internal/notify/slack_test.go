package notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// slackPost is the body of chat.postMessage and chat.update, as far as it is used. See
// https://docs.slack.dev/reference/methods/chat.postMessage and https://docs.slack.dev/reference/block-kit/blocks.
type slackPost struct {
	Channel        string `json:"channel"`
	TS             string `json:"ts"`
	ThreadTS       string `json:"thread_ts"`
	ReplyBroadcast bool   `json:"reply_broadcast"`
	Text           string `json:"text"`
	Parse          string `json:"parse"`
	LinkNames      bool   `json:"link_names"`
	UnfurlLinks    *bool  `json:"unfurl_links"`
	UnfurlMedia    *bool  `json:"unfurl_media"`
	Blocks         []struct {
		Type string `json:"type"`
		Text *struct {
			Type  string `json:"type"`
			Text  string `json:"text"`
			Emoji bool   `json:"emoji"`
		} `json:"text"`
		Elements []struct {
			Type     string `json:"type"`
			Elements []struct {
				Type string `json:"type"`
				URL  string `json:"url"`
				Text string `json:"text"`
			} `json:"elements"`
		} `json:"elements"`
	} `json:"blocks"`
}

// shown returns the text that people see.
func (p *slackPost) shown() string {
	var lines []string
	for _, block := range p.Blocks {
		if block.Text != nil {
			lines = append(lines, block.Text.Text)
		}
		for _, section := range block.Elements {
			for _, link := range section.Elements {
				lines = append(lines, "["+link.Text+"]("+link.URL+")")
			}
		}
	}
	return strings.Join(lines, "\n")
}

// slackWorkspace is a channel of Slack. A request that the documentation does not allow fails the test.
type slackWorkspace struct {
	*httptest.Server
	posts  []*slackPost // what the channel shows, with thread_ts
	answer string       // instead of the answer to a valid request
	header map[string]string
}

func newSlackWorkspace(t *testing.T) *slackWorkspace {
	t.Helper()
	w := &slackWorkspace{}
	decode := func(r *http.Request) *slackPost {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, "Bearer xoxb-1-x", r.Header.Get("Authorization"))
		assert.Equal(t, "application/json; charset=utf-8", r.Header.Get("Content-Type"))
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		p := &slackPost{}
		assert.NoError(t, decoder.Decode(p), "%s", body)
		checkSlackPost(t, p)
		return p
	}
	reply := func(out http.ResponseWriter, valid string) {
		for name, value := range w.header {
			out.Header().Set(name, value)
		}
		if w.answer != "" {
			valid = w.answer
		}
		fmt.Fprintln(out, valid)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/chat.postMessage", func(out http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.Equal(t, "C0123456789", p.Channel)
		assert.Empty(t, p.TS)
		assert.Equal(t, new(bool), p.UnfurlLinks)
		assert.Equal(t, new(bool), p.UnfurlMedia)
		assert.Equal(t, p.ThreadTS != "", p.ReplyBroadcast, "a reply that is not shown in the channel notifies nobody")
		if w.answer == "" {
			p.TS = fmt.Sprintf("1503435956.%06d", len(w.posts))
			w.posts = append(w.posts, p)
		}
		reply(out, fmt.Sprintf(`{"ok": true, "channel": "C0123456789", "ts": %q, "message": {"text": "x"}}`, p.TS))
	})
	mux.HandleFunc("POST /api/chat.update", func(out http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.Empty(t, p.ThreadTS)
		assert.Nil(t, p.UnfurlLinks, "not an argument of chat.update")
		for i, old := range w.posts {
			if old.TS == p.TS && old.Channel == p.Channel {
				w.posts[i] = p
				reply(out, fmt.Sprintf(`{"ok": true, "channel": "C0123456789", "ts": %q, "text": "x"}`, p.TS))
				return
			}
		}
		reply(out, `{"ok": false, "error": "message_not_found"}`)
	})
	mux.HandleFunc("/", func(out http.ResponseWriter, r *http.Request) {
		t.Errorf("Slack does not document %s %s", r.Method, r.RequestURI)
		out.WriteHeader(http.StatusTeapot)
	})
	w.Server = httptest.NewServer(mux)
	t.Cleanup(w.Close)
	return w
}

// checkSlackPost checks what holds for every message.
func checkSlackPost(t *testing.T, p *slackPost) {
	t.Helper()
	assert.NotEmpty(t, p.Text)
	assert.LessOrEqual(t, len(p.Text), 4000)
	assert.NotRegexp(t, `[<>]|&([^agl]|$)`, p.Text, "not escaped")
	assert.Equal(t, "none", p.Parse)
	assert.False(t, p.LinkNames)
	assert.NotEmpty(t, p.Blocks)
	for _, block := range p.Blocks {
		switch block.Type {
		case "section":
			assert.Equal(t, "plain_text", block.Text.Type)
			assert.False(t, block.Text.Emoji)
			assert.NotEmpty(t, block.Text.Text)
			assert.LessOrEqual(t, len([]rune(block.Text.Text)), 3000)
		case "rich_text":
			for _, section := range block.Elements {
				assert.Equal(t, "rich_text_section", section.Type)
				for _, link := range section.Elements {
					assert.Equal(t, "link", link.Type)
					assert.Regexp(t, "^https?://", link.URL)
				}
			}
		default:
			t.Errorf("unexpected block %s", block.Type)
		}
	}
}

// sender returns a sender to the channel.
func (w *slackWorkspace) sender(t *testing.T) notify.Sender {
	t.Helper()
	sender, err := notify.NewSlack("xoxb-1-x", "C0123456789")
	require.NoError(t, err)
	notify.UseAPI(sender, rootOf(t, w.Server, "/api/"))
	return sender
}

// rootOf returns the URL of a stand-in.
func rootOf(t *testing.T, server *httptest.Server, path string) *url.URL {
	t.Helper()
	root, err := url.Parse(server.URL + path)
	require.NoError(t, err)
	return root
}

func TestSlackMessages(t *testing.T) {
	const link = "\n[Open session](https://hub.example.com/fleet/?agent=payments&session=0198c5f2)"
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	hostile := waiting()
	hostile.Question.Text, hostile.Session.Title = "<!channel> & <https://evil.example|click> *now* :bomb:", "<@U1>"
	distant := waiting()
	distant.URL = "https://hub.example.com/" + strings.Repeat("x", 3000)
	long := waiting()
	long.Question.Text, long.Session.Title = strings.Repeat("&", 5000), strings.Repeat("<", 5000)
	for name, test := range map[string]struct {
		message     *notify.Message
		shown, text string // text is "" if it is not of interest
	}{
		"waits":   {waiting(), "Payments@laptop asks for permission\nBash: make migrate\nFix the refunds" + link, "Payments@laptop asks for permission\nBash: make migrate\nFix the refunds"},
		"lost":    {changed(notify.Lost), "Payments@laptop is lost\nRun the migration?\nFix the refunds" + link, ""},
		"summary": {summary(map[notify.Change]int{notify.Waits: 2}), "2 sessions need you\n2 wait\n[Open dashboard](https://hub.example.com/fleet/)", ""},
		"bare":    {bare, "Payments@laptop finished", "Payments@laptop finished"},
		"hostile": {
			hostile, "Payments@laptop asks for permission\n<!channel> & <https://evil.example|click> *now* :bomb:\n<@U1>" + link,
			"Payments@laptop asks for permission\n&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; *now* :bomb:\n&lt;@U1&gt;",
		},
		"link that is too long": {distant, "Payments@laptop asks for permission\nBash: make migrate\nFix the refunds", ""},
		"long texts": {
			long, "Payments@laptop asks for permission\n" + strings.Repeat("&", 499) + "…\n" + strings.Repeat("<", 119) + "…" + link, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSlackWorkspace(t)
			remote, err := w.sender(t).Send(t.Context(), test.message)
			require.NoError(t, err)
			assert.Equal(t, "C0123456789/1503435956.000000", remote)
			require.Len(t, w.posts, 1)
			assert.Equal(t, test.shown, w.posts[0].shown())
			if test.text != "" {
				assert.Equal(t, test.text, w.posts[0].Text)
			}
		})
	}
}

func TestSlackRemindersAndWithdrawal(t *testing.T) {
	w := newSlackWorkspace(t)
	sender := w.sender(t)
	first := sendThree(t, sender)
	require.Len(t, w.posts, 3)
	assert.Equal(t, w.posts[1].TS, w.posts[2].ThreadTS)
	assert.Contains(t, w.posts[2].shown(), "Payments@laptop still waits (for 35 minutes)")

	require.NoError(t, sender.Withdraw(t.Context(), first))
	assert.Contains(t, w.posts[0].shown(), "Payments@laptop is lost")
	assert.Equal(t, "Resolved: Payments@laptop asks for permission", w.posts[1].shown())

	w.posts = nil
	require.NoError(t, sender.Withdraw(t.Context(), first), "somebody deleted the message")
	require.NoError(t, sender.Withdraw(t.Context(), waiting()), "it is not known whether the message arrived")
}

// TestSlackReminderInAnotherChannel checks that a reminder is not a reply if the message is in another channel, because
// the rules have changed since.
func TestSlackReminderInAnotherChannel(t *testing.T) {
	w := newSlackWorkspace(t)
	second := reminder(waiting(), time.Hour)
	second.Remote = "C999/1503435956.000000"
	_, err := w.sender(t).Send(t.Context(), second)
	require.NoError(t, err)
	assert.Empty(t, w.posts[0].ThreadTS)
}

func TestSlackErrors(t *testing.T) {
	const refused, repeated = true, false
	for name, test := range map[string]struct {
		answer, retryAfter string
		want               string // after the host
		refused            bool
		after              time.Duration // 0 if it says nothing
	}{
		"wrong token":             {`{"ok": false, "error": "invalid_auth"}`, "", " answers invalid_auth", refused, 0},
		"unknown channel":         {`{"ok": false, "error": "channel_not_found"}`, "", " answers channel_not_found", refused, 0},
		"archived channel":        {`{"ok": false, "error": "is_archived"}`, "", " answers is_archived", refused, 0},
		"new error":               {`{"ok": false, "error": "who_knows"}`, "", " answers who_knows", refused, 0},
		"failure":                 {`{"ok": false, "error": "internal_error"}`, "", " answers internal_error", repeated, 0},
		"too many, for some time": {`{"ok": false, "error": "ratelimited"}`, "30", " answers ratelimited", repeated, 30 * time.Second},
		"too many":                {`{"ok": false, "error": "message_limit_exceeded"}`, "", " answers message_limit_exceeded", repeated, time.Minute},
		"token as an error":       {`{"ok": false, "error": "xoxb-1-x"}`, "", " answers something else than its API should", repeated, 0},
		"no JSON":                 {`<html>xoxb-1-x</html>`, "", " answers something else than its API should", repeated, 0},
		"another JSON":            {`["xoxb-1-x"]`, "", " answers something else than its API should", repeated, 0},
		"neither":                 {`{}`, "", " answers something else than its API should", repeated, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSlackWorkspace(t)
			w.answer = test.answer
			if test.retryAfter != "" {
				w.header = map[string]string{"Retry-After": test.retryAfter}
			}
			host := w.Listener.Addr().String()
			_, err := w.sender(t).Send(t.Context(), waiting())
			require.EqualError(t, err, host+test.want)
			checkRetry(t, err, test.refused, test.after)
		})
	}
}

// checkRetry checks whether a message is sent again after an error, and when. after is 0 if the error does not say.
func checkRetry(t *testing.T, err error, refused bool, after time.Duration) {
	t.Helper()
	assert.Equal(t, refused, errors.Is(err, notify.ErrRefused))
	var retry *notify.RetryError
	if after == 0 {
		assert.NotErrorAs(t, err, &retry)
		return
	}
	require.ErrorAs(t, err, &retry)
	assert.Equal(t, after, retry.After)
}

// TestSlackNamesThatCannotBeUsed checks that a message without a name that can be used counts as delivered.
func TestSlackNamesThatCannotBeUsed(t *testing.T) {
	for _, answer := range []string{
		`{"ok": true}`, `{"ok": true, "channel": "C1", "ts": "x"}`, `{"ok": true, "channel": "C1/../x", "ts": "1.2"}`,
	} {
		w := newSlackWorkspace(t)
		w.answer = answer
		remote, err := w.sender(t).Send(t.Context(), waiting())
		require.NoError(t, err, answer)
		assert.Empty(t, remote, answer)
	}
}

func TestSlackSettings(t *testing.T) {
	const (
		badToken   = "a Slack token must not contain spaces or special characters"
		badChannel = "the channel of Slack must be the ID of a channel, such as C0123456789, not its name"
	)
	for name, test := range map[string]struct{ token, channel, want string }{
		"no token":           {"", "C0123456789", badToken},
		"token of two lines": {"xoxb-s3cret\nx", "C0123456789", badToken},
		"no channel":         {"xoxb-1-x", "", badChannel},
		"name of a channel":  {"xoxb-1-x", "#agents", badChannel},
		"token as channel":   {"C0123456789", "xoxb-s3cret", badChannel},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewSlack(test.token, test.channel)
			require.EqualError(t, err, test.want)
		})
	}
}
