package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	slackChannel   = regexp.MustCompile(`^[CDGUW][A-Z0-9]{1,30}$`)
	slackTimestamp = regexp.MustCompile(`^[0-9]{1,20}\.[0-9]{1,10}$`)
	slackErrorCode = regexp.MustCompile(`^[a-z_]{1,50}$`) // no token looks like one
)

// maxSlackURL is the length of the longest link in a message, in bytes. The rest of a message is far below the limits.
const maxSlackURL = 3000

// slackAPI is where the methods of Slack's Web API are.
var slackAPI = &url.URL{Scheme: "https", Host: "slack.com", Path: "/api/"}

// slack posts messages to a channel of Slack (https://docs.slack.dev/reference/methods/chat.postMessage).
type slack struct {
	client  *http.Client
	root    *url.URL
	token   string
	channel string
}

// NewSlack returns a Sender that posts messages to a channel of Slack, as the bot that the token belongs to. The bot
// needs the scope chat:write, and has to be in the channel. channel is the channel's ID.
//
// A reminder is a reply in the thread of the message that it repeats, and is also shown in the channel: a reply alone
// would notify nobody. A message that is taken back is replaced by one that says so. What agents sent is shown as it
// is, without markup and links. Slack can't tell that a message is sent again, so one that is not known to have arrived
// may appear twice. The error does not contain the token.
func NewSlack(token, channel string) (Sender, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("a Slack token must not contain spaces or special characters")
	}
	if !slackChannel.MatchString(channel) {
		return nil, errors.New("the channel of Slack must be the ID of a channel, such as C0123456789, not its name")
	}
	return &slack{client: httpClient, root: slackAPI, token: token, channel: channel}, nil
}

// slackMessage is the body of chat.postMessage and chat.update.
type slackMessage struct {
	Channel        string       `json:"channel"`
	TS             string       `json:"ts,omitzero"`              // chat.update only: of the message to replace
	ThreadTS       string       `json:"thread_ts,omitzero"`       // of the message to reply to
	ReplyBroadcast bool         `json:"reply_broadcast,omitzero"` // show the reply in the channel as well
	Text           string       `json:"text"`                     // for notifications, and for screen readers
	Blocks         []slackBlock `json:"blocks"`
	Parse          string       `json:"parse"`
	LinkNames      bool         `json:"link_names"`
	UnfurlLinks    *bool        `json:"unfurl_links,omitempty"` // not known to chat.update
	UnfurlMedia    *bool        `json:"unfurl_media,omitempty"`
}

// slackBlock is a section with a text, or a rich text, which has elements.
type slackBlock struct {
	Type     string         `json:"type"`
	Text     *slackText     `json:"text,omitempty"`
	Elements []slackElement `json:"elements,omitempty"`
}

type slackText struct {
	Type  string `json:"type"`
	Text  string `json:"text"`
	Emoji bool   `json:"emoji"` // whether :smile: is an emoji
}

// slackElement is an element of a rich text, or a link in one.
type slackElement struct {
	Type     string         `json:"type"`
	Elements []slackElement `json:"elements,omitempty"`
	URL      string         `json:"url,omitzero"`
	Text     string         `json:"text,omitzero"`
}

// slackAnswer is what every method answers.
type slackAnswer struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error"`
	Channel string `json:"channel"`
	TS      string `json:"ts"`
}

// Send implements [Sender]. It returns the ID of the channel and the message's timestamp.
func (s *slack) Send(ctx context.Context, m *Message) (string, error) {
	title, body := textOf(m)
	out := s.messageOf(s.channel, strings.TrimSuffix(title+"\n"+body, "\n"))
	out.UnfurlLinks, out.UnfurlMedia = new(bool), new(bool)
	if m.URL != "" && len(m.URL) <= maxSlackURL {
		out.Blocks = append(out.Blocks, slackLink(m.URL, linkLabelOf(m)))
	}
	if channel, ts, ok := parseSlackRemote(m.Remote); ok && m.Reminder() && channel == s.channel {
		out.ThreadTS, out.ReplyBroadcast = ts, true
	}
	got, err := s.call(ctx, "chat.postMessage", out)
	if err != nil {
		return "", err
	}
	remote := got.Channel + "/" + got.TS
	if _, _, ok := parseSlackRemote(remote); !ok {
		return "", nil // it is posted, but can't be replaced
	}
	return remote, nil
}

// Withdraw implements [Sender].
func (s *slack) Withdraw(ctx context.Context, m *Message) error {
	channel, ts, ok := parseSlackRemote(m.Remote)
	if !ok {
		return nil
	}
	out := s.messageOf(channel, resolvedOf(m))
	out.TS = ts
	_, err := s.call(ctx, "chat.update", out)
	var answer *slackError
	if errors.As(err, &answer) && slackCannotReplace[answer.code] {
		return nil
	}
	return err
}

// messageOf returns a message that consists of a text. Slack interprets no markup in a plain_text.
func (s *slack) messageOf(channel, text string) *slackMessage {
	return &slackMessage{
		Channel: channel,
		Text:    slackEscaper.Replace(text),
		Blocks:  []slackBlock{{Type: "section", Text: &slackText{Type: "plain_text", Text: text}}},
		Parse:   "none",
	}
}

// slackEscaper escapes the characters that begin links, mentions and entities. See
// https://docs.slack.dev/messaging/formatting-message-text/#escaping.
var slackEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slackLink returns a link. Unlike a button, it needs no server that Slack can call when somebody clicks on it.
func slackLink(address, label string) slackBlock {
	link := slackElement{Type: "link", URL: address, Text: label}
	section := slackElement{Type: "rich_text_section", Elements: []slackElement{link}}
	return slackBlock{Type: "rich_text", Elements: []slackElement{section}}
}

// parseSlackRemote returns the parts of a message's name: the ID of its channel and its timestamp.
func parseSlackRemote(remote string) (channel, ts string, ok bool) {
	channel, ts, _ = strings.Cut(remote, "/")
	return channel, ts, slackChannel.MatchString(channel) && slackTimestamp.MatchString(ts)
}

// call calls a method of the API.
func (s *slack) call(ctx context.Context, method string, m *slackMessage) (*slackAnswer, error) {
	r, err := newJSONRequest(ctx, http.MethodPost, s.root.JoinPath(method), m)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	got, err := ask(s.client, r)
	if err != nil {
		return nil, err
	}
	var out slackAnswer
	if !got.decode(&out) || !out.OK && !slackErrorCode.MatchString(out.Error) {
		return nil, notAPI(r)
	}
	if out.OK {
		return &out, nil
	}
	err = &slackError{host: r.URL.Host, code: out.Error}
	if slackTooMany[out.Error] {
		return nil, &RetryError{Err: err, After: cmp.Or(retryAfter(got.header.Get("Retry-After")), tooManyPause)}
	}
	return nil, err
}

// slackError is an answer with a code instead of a result, such as channel_not_found.
type slackError struct{ host, code string }

func (e *slackError) Error() string { return fmt.Sprintf("%s answers %s", e.host, e.code) }

// Unwrap returns [ErrRefused] if the same request would get the same answer again.
func (e *slackError) Unwrap() error {
	if slackTooMany[e.code] || slackTemporary[e.code] {
		return nil
	}
	return ErrRefused
}

// The errors of Slack after which a message is sent again, or can't be replaced any more.
var (
	slackTooMany   = map[string]bool{"ratelimited": true, "rate_limited": true, "message_limit_exceeded": true}
	slackTemporary = map[string]bool{
		"fatal_error": true, "internal_error": true, "request_timeout": true, "service_unavailable": true,
		"team_added_to_org": true,
	}
	slackCannotReplace = map[string]bool{"message_not_found": true, "edit_window_closed": true, "cant_update_message": true}
)
