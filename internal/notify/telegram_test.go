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
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// telegramPost is the body of sendMessage and editMessageText, as far as it is used. See
// https://core.telegram.org/bots/api#sendmessage.
type telegramPost struct {
	Chat      string `json:"chat_id"`
	MessageID int64  `json:"message_id"`
	Text      string `json:"text"`
	Preview   *struct {
		Disabled bool `json:"is_disabled"`
	} `json:"link_preview_options"`
	Reply *struct {
		MessageID int64 `json:"message_id"`
		Orphan    bool  `json:"allow_sending_without_reply"`
	} `json:"reply_parameters"`
	Keyboard *struct {
		Rows [][]struct {
			Text string `json:"text"`
			URL  string `json:"url"`
		} `json:"inline_keyboard"`
	} `json:"reply_markup"`
}

// shown returns a message as people see it.
func (p *telegramPost) shown() string {
	text := p.Text
	if p.Keyboard != nil {
		button := p.Keyboard.Rows[0][0]
		text += "\n[" + button.Text + "](" + button.URL + ")"
	}
	return text
}

// telegramGroup is a chat of Telegram. A request that the documentation does not allow fails the test.
type telegramGroup struct {
	*httptest.Server
	posts  []*telegramPost // whose IDs begin with 1
	status int             // instead of success, with answer
	answer string
}

func newTelegramGroup(t *testing.T) *telegramGroup {
	t.Helper()
	g := &telegramGroup{}
	decode := func(r *http.Request) *telegramPost {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields() // such as parse_mode
		p := &telegramPost{}
		assert.NoError(t, decoder.Decode(p), "%s", body)
		assert.Equal(t, "-100123", p.Chat)
		assert.NotEmpty(t, p.Text)
		assert.LessOrEqual(t, len(utf16.Encode([]rune(p.Text))), 4096)
		assert.NotRegexp(t, `@\w`, p.Text, "somebody is mentioned")
		if assert.NotNil(t, p.Preview) {
			assert.True(t, p.Preview.Disabled)
		}
		return p
	}
	reply := func(w http.ResponseWriter, id int64) {
		w.Header().Set("Content-Type", "application/json")
		if g.status != 0 {
			w.WriteHeader(g.status)
			fmt.Fprintln(w, g.answer)
			return
		}
		fmt.Fprintf(w, `{"ok": true, "result": {"message_id": %d, "chat": {"id": -100123, "type": "supergroup"}, "text": "x"}}`, id)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bot123:AA-s3cret/sendMessage", func(w http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.Zero(t, p.MessageID)
		if g.status == 0 {
			g.posts = append(g.posts, p)
		}
		reply(w, int64(len(g.posts)))
	})
	mux.HandleFunc("POST /bot123:AA-s3cret/editMessageText", func(w http.ResponseWriter, r *http.Request) {
		p := decode(r)
		assert.Nil(t, p.Reply)
		if g.status == 0 {
			g.posts[p.MessageID-1] = p
		}
		reply(w, p.MessageID)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Telegram does not document %s %s", r.Method, r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func (g *telegramGroup) sender(t *testing.T) notify.Sender {
	t.Helper()
	sender, err := notify.NewTelegram("123:AA-s3cret", "-100123")
	require.NoError(t, err)
	notify.UseAPI(sender, rootOf(t, g.Server, "/"))
	return sender
}

func TestTelegramMessages(t *testing.T) {
	const link = "\n[Open session](https://hub.example.com/fleet/?agent=payments&session=0198c5f2)"
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	hostile := waiting()
	hostile.Question.Text, hostile.Session.Title = "<b>@alice_b</b> *x* [y](tg://user?id=1)", "@everyone"
	home := waiting()
	home.URL = "http://localhost:8080/?agent=payments"
	distant := waiting()
	distant.URL = "https://hub/" + strings.Repeat("x", 2048)
	long := waiting()
	long.Session.AgentName, long.Question.Text, long.Session.Title = strings.Repeat("@", 500), strings.Repeat("👩", 5000), strings.Repeat("@", 500)
	long.URL = "https://hub/" + strings.Repeat("x", 2036)
	for name, test := range map[string]struct {
		message *notify.Message
		shown   string
	}{
		"waits":   {waiting(), "Payments@\u2060laptop asks for permission\nBash: make migrate\nFix the refunds" + link},
		"lost":    {changed(notify.Lost), "Payments@\u2060laptop is lost\nRun the migration?\nFix the refunds" + link},
		"summary": {summary(map[notify.Change]int{notify.Waits: 2}), "2 sessions need you\n2 wait\n[Open dashboard](https://hub.example.com/fleet/)"},
		"bare":    {bare, "Payments@\u2060laptop finished"},
		"hostile": {hostile, "Payments@\u2060laptop asks for permission\n<b>@\u2060alice_b</b> *x* [y](tg://user?id=1)\n@\u2060everyone" + link},
		"link that can't be a button": {
			home, "Payments@\u2060laptop asks for permission\nBash: make migrate\nFix the refunds\nhttp://localhost:8080/?agent=payments",
		},
		"link that is too long": {distant, "Payments@\u2060laptop asks for permission\nBash: make migrate\nFix the refunds"},
		"long texts": {
			long, strings.Repeat("@\u2060", 59) + "… asks for permission\n" + strings.Repeat("👩", 499) + "…\n" +
				strings.Repeat("@\u2060", 119) + "…\n" + long.URL,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTelegramGroup(t)
			remote, err := g.sender(t).Send(t.Context(), test.message)
			require.NoError(t, err)
			assert.Equal(t, "-100123/1", remote)
			require.Len(t, g.posts, 1)
			assert.Equal(t, test.shown, g.posts[0].shown())
		})
	}
}

func TestTelegramRemindersAndWithdrawal(t *testing.T) {
	g := newTelegramGroup(t)
	sender := g.sender(t)
	first := sendThree(t, sender)
	require.Len(t, g.posts, 3)
	assert.Nil(t, g.posts[1].Reply)
	require.NotNil(t, g.posts[2].Reply)
	assert.Equal(t, int64(2), g.posts[2].Reply.MessageID)
	assert.True(t, g.posts[2].Reply.Orphan, "a reminder is lost if the first message was deleted")

	require.NoError(t, sender.Withdraw(t.Context(), first))
	assert.Contains(t, g.posts[0].shown(), "laptop is lost")
	assert.Equal(t, "Resolved: Payments@\u2060laptop asks for permission", g.posts[1].shown(), "without the button")
	assert.Contains(t, g.posts[2].shown(), "still waits (for 35 minutes)")
}

func TestTelegramWithdrawalOfWhatIsNotThere(t *testing.T) {
	g := newTelegramGroup(t)
	sender := g.sender(t)
	require.NoError(t, sender.Withdraw(t.Context(), waiting()), "it is not known whether the message arrived")
	m := waiting()
	m.Remote = "-100123/7"
	g.status = 400
	for _, description := range []string{
		"message to edit not found", "message can't be edited",
		"message is not modified: specified new message content and reply markup are exactly the same as a current content",
	} {
		g.answer = `{"ok": false, "error_code": 400, "description": "Bad Request: ` + description + `"}`
		require.NoError(t, sender.Withdraw(t.Context(), m), description)
	}
	g.answer = `{"ok": false, "error_code": 400, "description": "Bad Request: chat not found"}`
	require.ErrorIs(t, sender.Withdraw(t.Context(), m), notify.ErrRefused)
}

func TestTelegramErrors(t *testing.T) {
	const notAPI = " answers something else than its API should"
	for name, test := range map[string]struct {
		status  int
		answer  string
		want    string // after the host
		refused bool
		after   time.Duration
	}{
		"wrong token":          {401, `{"ok": false, "error_code": 401, "description": "Unauthorized"}`, " answers 401 Unauthorized", true, 0},
		"unknown chat":         {400, `{"ok": false, "error_code": 400, "description": "Bad Request: chat not found"}`, " answers 400 Bad Request: the bot does not know the chat", true, 0},
		"blocked":              {403, `{"ok": false, "description": "Forbidden: bot was blocked by the user"}`, " answers 403 Forbidden: the bot was blocked", true, 0},
		"other error":          {400, `{"ok": false, "description": "123:AA-s3cret"}`, " answers 400 Bad Request", true, 0},
		"too many":             {429, `{"ok": false, "description": "Too Many Requests: retry after 7", "parameters": {"retry_after": 7}}`, " answers 429 Too Many Requests", false, 7 * time.Second},
		"too many, in general": {429, `{"ok": false}`, " answers 429 Too Many Requests", false, time.Minute},
		"failure":              {502, `<html>123:AA-s3cret</html>`, " answers 502 Bad Gateway", false, 0},
		"no JSON":              {200, `<html>123:AA-s3cret</html>`, notAPI, false, 0},
		"not OK":               {200, `{"ok": false, "description": "123:AA-s3cret"}`, notAPI, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTelegramGroup(t)
			g.status, g.answer = test.status, test.answer
			_, err := g.sender(t).Send(t.Context(), waiting())
			require.EqualError(t, err, g.Listener.Addr().String()+test.want)
			checkRetry(t, err, test.refused, test.after)
		})
	}
}

func TestTelegramSettings(t *testing.T) {
	const (
		badToken = "a Telegram token must be like 123456:ABC-DEF"
		badChat  = "the chat of Telegram must be the ID of a chat, such as -1001234567890, or the name of a public channel, such as @agents"
	)
	for name, test := range map[string]struct{ token, chat, want string }{
		"no token":         {"", "5", badToken},
		"half a token":     {"AAs3cret", "5", badToken},
		"path in a token":  {"1:s3cret/../x", "5", badToken},
		"token with bot":   {"bot1:s3cret", "5", badToken},
		"no chat":          {"1:x", "", badChat},
		"name of a group":  {"1:x", "My agents", badChat},
		"token as a chat":  {"1:x", "123:s3cret", badChat},
		"name without @":   {"1:x", "agents", badChat},
		"channel":          {"1:x", "@agents", ""},
		"chat of a person": {"1:x", "123", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewTelegram(test.token, test.chat)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.want)
		})
	}
}
