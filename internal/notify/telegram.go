package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var (
	telegramToken = regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]{1,100}$`)
	telegramChat  = regexp.MustCompile(`^(-?[0-9]{1,20}|@[A-Za-z0-9_]{4,32})$`)
)

// maxTelegramURL is the length of the longest link in a message, in bytes. With it, a message has at most 4,096
// characters.
const maxTelegramURL = 2048

// telegramAPI is where the methods of Telegram's Bot API are.
var telegramAPI = &url.URL{Scheme: "https", Host: "api.telegram.org", Path: "/"}

// telegram sends messages to a chat of Telegram (https://core.telegram.org/bots/api#sendmessage).
type telegram struct {
	client *http.Client
	root   *url.URL
	token  string
	chat   string
}

// NewTelegram returns a Sender that sends messages to a chat of Telegram, as the bot that the token belongs to. chat is
// the chat's ID, or the name of a public channel with an @.
//
// A reminder is a reply to the message that it repeats. A message that is taken back is replaced by one that says so.
// What agents sent is plain text, and mentions nobody. Telegram can't tell that a message is sent again, so one that is
// not known to have arrived may appear twice. The error does not contain the token.
func NewTelegram(token, chat string) (Sender, error) {
	if !telegramToken.MatchString(token) {
		return nil, errors.New("a Telegram token must be like 123456:ABC-DEF")
	}
	if !telegramChat.MatchString(chat) {
		return nil, errors.New("the chat of Telegram must be the ID of a chat, such as -1001234567890, " +
			"or the name of a public channel, such as @agents")
	}
	return &telegram{client: httpClient, root: telegramAPI, token: token, chat: chat}, nil
}

// telegramMessage is the body of sendMessage and editMessageText. Without parse_mode, the text has no markup.
type telegramMessage struct {
	Chat      string            `json:"chat_id"`
	MessageID int64             `json:"message_id,omitzero"` // editMessageText only
	Text      string            `json:"text"`
	Preview   telegramPreview   `json:"link_preview_options"`
	Reply     *telegramReply    `json:"reply_parameters,omitempty"`
	Keyboard  *telegramKeyboard `json:"reply_markup,omitempty"`
}

type telegramPreview struct {
	Disabled bool `json:"is_disabled"`
}

// telegramReply names the message that another one replies to.
type telegramReply struct {
	MessageID int64 `json:"message_id"`
	Orphan    bool  `json:"allow_sending_without_reply"` // send it even if that message was deleted
}

// telegramKeyboard is rows of buttons below a message.
type telegramKeyboard struct {
	Rows [][]telegramButton `json:"inline_keyboard"`
}

type telegramButton struct {
	Text string `json:"text"`
	URL  string `json:"url"`
}

// telegramAnswer is what every method answers.
type telegramAnswer struct {
	OK     bool `json:"ok"`
	Result struct {
		MessageID int64 `json:"message_id"`
		Chat      struct {
			ID int64 `json:"id"`
		} `json:"chat"`
	} `json:"result"`
	Description string `json:"description"` // of an error
	Parameters  struct {
		RetryAfter float64 `json:"retry_after"` // in seconds
	} `json:"parameters"`
}

// Send implements [Sender]. It returns the IDs of the chat and of the message.
func (t *telegram) Send(ctx context.Context, m *Message) (string, error) {
	title, body := textOf(m)
	out := &telegramMessage{Chat: t.chat, Text: withoutMentions(strings.TrimSuffix(title+"\n"+body, "\n"))}
	if m.URL != "" && len(m.URL) <= maxTelegramURL {
		out.link(m.URL, linkLabelOf(m))
	}
	if _, id, ok := parseTelegramRemote(m.Remote); ok && m.Reminder() {
		out.Reply = &telegramReply{MessageID: id, Orphan: true}
	}
	got, err := t.call(ctx, "sendMessage", out)
	if err != nil || got.Result.MessageID <= 0 { // without an ID, it is sent, but can't be replaced
		return "", err
	}
	return fmt.Sprintf("%d/%d", got.Result.Chat.ID, got.Result.MessageID), nil
}

// Withdraw implements [Sender].
func (t *telegram) Withdraw(ctx context.Context, m *Message) error {
	chat, id, ok := parseTelegramRemote(m.Remote)
	if !ok {
		return nil
	}
	out := &telegramMessage{Chat: chat, MessageID: id, Text: withoutMentions(resolvedOf(m))}
	got, err := t.call(ctx, "editMessageText", out)
	for _, description := range telegramCannotReplace {
		if errors.Is(err, ErrRefused) && strings.Contains(strings.ToLower(got.Description), description) {
			return nil
		}
	}
	return err
}

// telegramCannotReplace is part of the descriptions of errors that say that a message is replaced already, was deleted,
// or can't be replaced any more.
var telegramCannotReplace = []string{"message is not modified", "message to edit not found", "message can't be edited"}

// link adds a link: as a button if Telegram accepts that, which needs a host with a dot, else to the text.
func (m *telegramMessage) link(address, label string) {
	if u, err := url.Parse(address); err == nil && strings.Contains(u.Hostname(), ".") {
		m.Keyboard = &telegramKeyboard{Rows: [][]telegramButton{{{Text: label, URL: address}}}}
		return
	}
	m.Text += "\n" + address
}

// wordJoiner is an invisible character.
const wordJoiner = "\u2060"

// withoutMentions returns a text in which Telegram finds no mentions such as @somebody, which would notify that person.
func withoutMentions(text string) string { return strings.ReplaceAll(text, "@", "@"+wordJoiner) }

// parseTelegramRemote returns the parts of a message's name: the IDs of its chat and of the message.
func parseTelegramRemote(remote string) (chat string, id int64, ok bool) {
	chat, number, _ := strings.Cut(remote, "/")
	id, err := strconv.ParseInt(number, 10, 64)
	return chat, id, err == nil && telegramChat.MatchString(chat)
}

// call calls a method of the API.
func (t *telegram) call(ctx context.Context, method string, m *telegramMessage) (telegramAnswer, error) {
	m.Preview.Disabled = true
	r, err := newJSONRequest(ctx, http.MethodPost, t.root.JoinPath("bot"+t.token, method), m)
	if err != nil {
		return telegramAnswer{}, err
	}
	got, err := ask(t.client, r)
	out := decoded[telegramAnswer](got)
	if err == nil && !out.OK {
		return telegramAnswer{}, notAPI(r)
	}
	return out, retryIn(explainTelegram(err, out.Description), out.Parameters.RetryAfter)
}

// telegramReasons are parts of the descriptions of common errors, with what they mean.
var telegramReasons = []struct{ part, reason string }{
	{"chat not found", "the bot does not know the chat"},
	{"bot was blocked", "the bot was blocked"},
	{"bot was kicked", "the bot was removed from the chat"},
	{"not enough rights", "the bot may not write in the chat"},
	{"upgraded to a supergroup", "the chat has another ID since it became a supergroup"},
}

// explainTelegram adds what a description means to an error. It does not repeat the description, which could contain
// anything.
func explainTelegram(err error, description string) error {
	var answer *statusError
	if !errors.As(err, &answer) {
		return err
	}
	for _, r := range telegramReasons {
		if strings.Contains(strings.ToLower(description), r.part) {
			return fmt.Errorf("%w: %s", err, r.reason)
		}
	}
	return err
}
