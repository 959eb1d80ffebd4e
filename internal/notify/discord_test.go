package notify_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// discordPost is the body that posts or edits a message, as far as it is used. See
// https://docs.discord.com/developers/resources/webhook#execute-webhook.
type discordPost struct {
	Content string `json:"content"`
	Embeds  []struct {
		Title       string `json:"title"`
		URL         string `json:"url"`
		Description string `json:"description"`
	} `json:"embeds"`
	Mentions *struct {
		Parse []string `json:"parse"`
	} `json:"allowed_mentions"`
}

// discordChannel is a channel of Discord with a webhook. A request that the documentation does not allow fails the test.
type discordChannel struct {
	*httptest.Server
	posts  []discordPost
	thread string // that requests must have
	status int    // instead of success, with answer
	answer string
}

func newDiscordChannel(t *testing.T) *discordChannel {
	t.Helper()
	c := &discordChannel{}
	decode := func(r *http.Request) (p discordPost) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, c.thread, r.URL.Query().Get("thread_id"))
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		assert.NoError(t, decoder.Decode(&p), "%s", body)
		assert.NotEmpty(t, p.Content)
		assert.LessOrEqual(t, len([]rune(p.Content)), 2000)
		if assert.NotNil(t, p.Mentions) {
			assert.Equal(t, []string{}, p.Mentions.Parse, "everybody could be mentioned")
		}
		assert.NotNil(t, p.Embeds, "null removes none")
		for _, embed := range p.Embeds {
			assert.NotEmpty(t, embed.Title+embed.Description)
			assert.LessOrEqual(t, len([]rune(embed.Description)), 4096)
			assert.Equal(t, embed.URL != "", embed.Title != "", "only a title can be a link")
		}
		return p
	}
	reply := func(w http.ResponseWriter, id int) {
		w.Header().Set("Content-Type", "application/json")
		if c.status != 0 {
			w.WriteHeader(c.status)
			fmt.Fprintln(w, c.answer)
			return
		}
		fmt.Fprintf(w, `{"id": "%d", "type": 0, "content": "x", "channel_id": "1"}`, id)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/webhooks/77/t0k-en_", func(w http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.Equal(t, "true", r.URL.Query().Get("wait"))
		if c.status == 0 {
			c.posts = append(c.posts, p)
		}
		reply(w, len(c.posts)-1)
	})
	mux.HandleFunc("PATCH /api/webhooks/77/t0k-en_/messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.False(t, r.URL.Query().Has("wait"))
		var id int
		fmt.Sscan(r.PathValue("id"), &id) //nolint:errcheck // 0 is the first one
		if id < len(c.posts) {
			c.posts[id] = p
		}
		reply(w, id)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Discord does not document %s %s", r.Method, r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *discordChannel) sender(t *testing.T, query string) notify.Sender {
	t.Helper()
	sender, err := notify.NewDiscord(c.URL + "/api/webhooks/77/t0k-en_" + query)
	require.NoError(t, err)
	return sender
}

// shown returns a message as people see it.
func (p discordPost) shown() string {
	text := p.Content
	for _, embed := range p.Embeds {
		if embed.URL != "" {
			text += "\n[" + embed.Title + "](" + embed.URL + ")"
		}
		if embed.Description != "" {
			text += "\n" + embed.Description
		}
	}
	return text
}

func TestDiscordMessages(t *testing.T) {
	const link = "\n[Open session](https://hub.example.com/fleet/?agent=payments&session=0198c5f2)\n"
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	hostile := waiting()
	hostile.Session.AgentName = "@everyone"
	hostile.Question.Text, hostile.Session.Title = "# [click](https://evil.example) **now** `x` ||y|| <@1> \\", "> :bomb: -1"
	distant := waiting()
	distant.URL = "https://hub.example.com/" + strings.Repeat("x", 2048)
	long := waiting()
	long.Session.AgentName, long.Question.Text, long.Session.Title = strings.Repeat("*", 500), strings.Repeat("*", 5000), strings.Repeat("_", 500)
	for name, test := range map[string]struct {
		message *notify.Message
		shown   string
	}{
		"waits":   {waiting(), `Payments\@laptop asks for permission` + link + "Bash\\: make migrate\nFix the refunds"},
		"lost":    {changed(notify.Lost), `Payments\@laptop is lost` + link + "Run the migration?\nFix the refunds"},
		"summary": {summary(map[notify.Change]int{notify.Waits: 2}), "2 sessions need you\n[Open dashboard](https://hub.example.com/fleet/)\n2 wait"},
		"bare":    {bare, `Payments\@laptop finished`},
		"hostile": {
			hostile, `\@everyone\@laptop asks for permission` + link +
				"\\# \\[click\\]\\(https\\://evil.example\\) \\*\\*now\\*\\* \\`x\\` \\|\\|y\\|\\| \\<\\@1\\> \\\\\n\\> \\:bomb\\: \\-1",
		},
		"link that is too long": {distant, `Payments\@laptop asks for permission` + "\nBash\\: make migrate\nFix the refunds"},
		"long texts": {
			long, strings.Repeat(`\*`, 59) + "… asks for permission" + link + strings.Repeat(`\*`, 499) + "…\n" + strings.Repeat(`\_`, 119) + "…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newDiscordChannel(t)
			remote, err := c.sender(t, "").Send(t.Context(), test.message)
			require.NoError(t, err)
			assert.Equal(t, "0", remote)
			require.Len(t, c.posts, 1)
			assert.Equal(t, test.shown, c.posts[0].shown())
		})
	}
}

func TestDiscordRemindersAndWithdrawal(t *testing.T) {
	for name, test := range map[string]struct{ query, thread string }{"channel": {}, "thread": {"?thread_id=123", "123"}} {
		t.Run(name, func(t *testing.T) {
			c := newDiscordChannel(t)
			c.thread = test.thread
			sender := c.sender(t, test.query)
			first := sendThree(t, sender)

			require.NoError(t, sender.Withdraw(t.Context(), first))
			require.Len(t, c.posts, 3)
			assert.Contains(t, c.posts[0].shown(), `Payments\@laptop is lost`)
			assert.Equal(t, `Resolved\: Payments\@laptop asks for permission`, c.posts[1].shown())
			assert.Contains(t, c.posts[2].shown(), `still waits \(for 35 minutes\)`)
		})
	}
}

func TestDiscordWithdrawalOfWhatIsNotThere(t *testing.T) {
	c := newDiscordChannel(t)
	sender := c.sender(t, "")
	require.NoError(t, sender.Withdraw(t.Context(), waiting()), "it is not known whether the message arrived")
	m := waiting()
	m.Remote = "5"
	c.status, c.answer = 404, `{"code": 10008, "message": "Unknown Message"}`
	require.NoError(t, sender.Withdraw(t.Context(), m), "somebody deleted the message")
	c.answer = `{"code": 10015, "message": "Unknown Webhook"}`
	require.ErrorIs(t, sender.Withdraw(t.Context(), m), notify.ErrRefused)
}

func TestDiscordErrors(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		answer  string
		want    string // after the host
		refused bool
		after   time.Duration
	}{
		"unknown webhook":         {404, `{"code": 10015, "message": "t0k-en_"}`, " answers 404 Not Found", true, 0},
		"invalid message":         {400, `{"code": 50035, "message": "t0k-en_"}`, " answers 400 Bad Request", true, 0},
		"failure":                 {502, `<html>`, " answers 502 Bad Gateway", false, 0},
		"too many":                {429, `{"message": "x", "retry_after": 1.5, "global": false}`, " answers 429 Too Many Requests", false, 1500 * time.Millisecond},
		"too many for very long":  {429, `{"retry_after": 1e300}`, " answers 429 Too Many Requests", false, 24 * time.Hour},
		"too many, says a proxy":  {429, `<html>`, " answers 429 Too Many Requests", false, time.Minute},
		"too many before the end": {429, `{"retry_after": -1}`, " answers 429 Too Many Requests", false, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c := newDiscordChannel(t)
			c.status, c.answer = test.status, test.answer
			_, err := c.sender(t, "").Send(t.Context(), waiting())
			require.EqualError(t, err, c.Listener.Addr().String()+test.want)
			checkRetry(t, err, test.refused, test.after)
		})
	}
}

func TestDiscordSettings(t *testing.T) {
	const notWebhook = "the URL of a Discord webhook must be like https://discord.com/api/webhooks/ID/TOKEN"
	for address, want := range map[string]string{
		"s3cret":                              "the URL of a Discord webhook must be a URL that begins with http:// or https://",
		"https://discord.com/api/webhooks/77": notWebhook,
		"https://discord.com/api/webhooks/77/s3cret/slack":            notWebhook,
		"https://discord.com/channels/1/2":                            notWebhook,
		"https://discord.com/api/webhooks/77/s3cret#x":                notWebhook,
		"https://discord.com/api/webhooks/77/s3cret?wait=false":       notWebhook,
		"https://discord.com/api/webhooks/77/s3cret?thread_id=s3cret": "the thread_id of a Discord webhook must be a number",
	} {
		t.Run(address, func(t *testing.T) {
			_, err := notify.NewDiscord(address)
			require.EqualError(t, err, want)
		})
	}
	_, err := notify.NewDiscord("https://discord.com/api/v10/webhooks/77/t0k-en_?thread_id=5")
	require.NoError(t, err)
}
