package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	discordPath = regexp.MustCompile(`^/api(/v[0-9]{1,2})?/webhooks/[0-9]{1,20}/[A-Za-z0-9_-]{1,200}$`)
	discordID   = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// maxDiscordURL is the length of the longest link in a message, in bytes. The rest of a message is far below the
// limits.
const maxDiscordURL = 2048

// discordUnknownMessage is the code of the error that says that a message was deleted. See
// https://docs.discord.com/developers/topics/opcodes-and-status-codes#json.
const discordUnknownMessage = 10008

// discord posts messages by a webhook of Discord (https://docs.discord.com/developers/resources/webhook).
type discord struct {
	client *http.Client
	url    *url.URL // of the webhook, with its token
	thread string   // ID of a thread in the webhook's channel; "" for none
}

// NewDiscord returns a Sender that posts messages by a webhook of Discord. address is the webhook's URL, such as
// https://discord.com/api/webhooks/1/x, and may have the parameter thread_id, for a thread in the webhook's channel.
//
// A reminder is a message of its own. A message that is taken back is replaced by one that says so. Messages mention
// nobody, and have none of the markup in what agents sent. Discord can't tell that a message is sent again, so one that
// is not known to have arrived may appear twice. The error does not contain the URL.
func NewDiscord(address string) (Sender, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("the URL of a Discord webhook %w", err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	thread := query.Get("thread_id")
	query.Del("thread_id")
	if !discordPath.MatchString(u.Path) || err != nil || len(query) > 0 || u.Fragment != "" {
		return nil, errors.New("the URL of a Discord webhook must be like https://discord.com/api/webhooks/ID/TOKEN")
	}
	if thread != "" && !discordID.MatchString(thread) {
		return nil, errors.New("the thread_id of a Discord webhook must be a number")
	}
	webhook := &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: u.Path}
	return &discord{client: httpClient, url: webhook, thread: thread}, nil
}

// discordMessage is the body that posts or replaces a message.
type discordMessage struct {
	Content  string          `json:"content"`
	Embeds   []discordEmbed  `json:"embeds"`
	Mentions discordMentions `json:"allowed_mentions"`
}

// discordEmbed is a box below the content. It mentions nobody.
type discordEmbed struct {
	Title       string `json:"title,omitzero"`
	URL         string `json:"url,omitzero"` // of the title
	Description string `json:"description,omitzero"`
}

// discordMentions says which mentions in the content notify somebody.
type discordMentions struct {
	Parse []string `json:"parse"` // kinds of mentions; empty for none
}

// discordAnswer is a message, or an error.
type discordAnswer struct {
	ID         string  `json:"id"`
	Code       int     `json:"code"`        // of an error
	RetryAfter float64 `json:"retry_after"` // in seconds
}

// Send implements [Sender]. It returns the message's ID.
func (d *discord) Send(ctx context.Context, m *Message) (string, error) {
	title, body := textOf(m)
	embed := discordEmbed{Description: discordEscaper.Replace(body)}
	if m.URL != "" && len(m.URL) <= maxDiscordURL {
		embed.Title, embed.URL = linkLabelOf(m), m.URL
	}
	embeds := []discordEmbed{embed}
	if embed == (discordEmbed{}) {
		embeds = nil
	}
	got, err := d.request(ctx, http.MethodPost, d.url, &discordMessage{Content: title, Embeds: embeds})
	if err != nil || !discordID.MatchString(got.ID) { // without an ID, it is posted, but can't be replaced
		return "", err
	}
	return got.ID, nil
}

// Withdraw implements [Sender].
func (d *discord) Withdraw(ctx context.Context, m *Message) error {
	if !discordID.MatchString(m.Remote) {
		return nil
	}
	posted := d.url.JoinPath("messages", m.Remote)
	got, err := d.request(ctx, http.MethodPatch, posted, &discordMessage{Content: resolvedOf(m)})
	var answer *statusError
	if errors.As(err, &answer) && answer.status == http.StatusNotFound && got.Code == discordUnknownMessage {
		return nil
	}
	return err
}

// request posts or replaces a message. Its content is plain text.
func (d *discord) request(ctx context.Context, method string, u *url.URL, m *discordMessage) (discordAnswer, error) {
	query := url.Values{}
	if method == http.MethodPost {
		query.Set("wait", "true") // answer with the message, once it is posted
	}
	if d.thread != "" {
		query.Set("thread_id", d.thread)
	}
	to := *u
	to.RawQuery = query.Encode()
	m.Content, m.Mentions.Parse = discordEscaper.Replace(m.Content), []string{}
	if m.Embeds == nil {
		m.Embeds = []discordEmbed{} // null would keep those of the message that is replaced
	}
	r, err := newJSONRequest(ctx, method, &to, m)
	if err != nil {
		return discordAnswer{}, err
	}
	got, err := ask(d.client, r)
	answer := decoded[discordAnswer](got)
	return answer, retryIn(err, answer.RetryAfter)
}

// discordEscaper puts a backslash before the characters that begin markup, mentions, links and emojis. See
// https://support.discord.com/hc/en-us/articles/210298617.
var discordEscaper = strings.NewReplacer(backslashed("\\`*_~|<>[]()#+-:@")...)

// backslashed returns the arguments that make a [strings.Replacer] put a backslash before each of some characters.
func backslashed(characters string) (oldnew []string) {
	for _, r := range characters {
		oldnew = append(oldnew, string(r), `\`+string(r))
	}
	return oldnew
}
