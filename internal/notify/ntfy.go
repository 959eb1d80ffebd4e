package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// ntfyName is what a topic and a sequence ID of ntfy look like.
var ntfyName = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

// ntfy publishes messages to a topic of ntfy (https://docs.ntfy.sh/publish/).
type ntfy struct {
	client *http.Client
	root   *url.URL // of the server
	topic  string
	token  string
}

// NewNtfy returns a Sender that publishes messages to a topic of ntfy. address is the topic's URL, such as
// https://ntfy.sh/my-topic. token is an access token, "" for none.
//
// A reminder replaces the notification that it repeats, and a message that is taken back is deleted from the phone.
// That needs ntfy 2.16 or later. On an earlier version, a reminder is a notification of its own, and nothing is
// deleted. The error contains neither the URL nor the token.
func NewNtfy(address, token string) (Sender, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("the URL of an ntfy topic %w", err)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the URL of an ntfy topic must not have a query or a fragment")
	}
	path := strings.TrimSuffix(u.Path, "/")
	at := strings.LastIndexByte(path, '/') + 1
	topic := path[at:]
	if !ntfyName.MatchString(topic) {
		return nil, errors.New("the URL of an ntfy topic must end with the topic: " +
			"1 to 64 letters, digits, hyphens and underscores")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("an ntfy token must not contain spaces or special characters")
	}
	root := &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: path[:at]}
	return &ntfy{client: httpClient, root: root, topic: topic, token: token}, nil
}

// ntfyMessage is a message as it is published. See https://docs.ntfy.sh/publish/#publish-as-json.
type ntfyMessage struct {
	Topic      string       `json:"topic"`
	SequenceID string       `json:"sequence_id"` // messages with the same one replace each other
	Title      string       `json:"title,omitzero"`
	Message    string       `json:"message"`
	Priority   int          `json:"priority,omitzero"` // 1 to 5; 0 for the default, 3
	Tags       []string     `json:"tags,omitempty"`
	Click      string       `json:"click,omitzero"` // URL
	Actions    []ntfyAction `json:"actions,omitempty"`
}

type ntfyAction struct {
	Action string `json:"action"`
	Label  string `json:"label"`
	URL    string `json:"url"`
}

// ntfyHigh is the priority of messages that should make the phone vibrate for long and pop up.
const ntfyHigh = 4

// ntfyTags are the emojis of the changes. See https://docs.ntfy.sh/emojis/.
var ntfyTags = map[Change]string{Waits: "raised_hand", Lost: "ghost", Failed: "x", Finished: "white_check_mark", Answered: "speech_balloon"}

// Send implements [Sender]. It returns the message's sequence ID.
func (n *ntfy) Send(ctx context.Context, m *Message) (string, error) {
	out := n.messageOf(m)
	body, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("encode a message: %w", err)
	}
	return out.SequenceID, n.request(ctx, http.MethodPost, n.root, body)
}

// Withdraw implements [Sender].
func (n *ntfy) Withdraw(ctx context.Context, m *Message) error {
	err := n.request(ctx, http.MethodDelete, n.root.JoinPath(n.topic, sequenceOf(m)), nil)
	var answer *statusError
	if errors.As(err, &answer) && (answer.status == http.StatusNotFound || answer.status == http.StatusMethodNotAllowed) {
		return nil // a version of ntfy that can't delete
	}
	return err
}

func (n *ntfy) request(ctx context.Context, method string, u *url.URL, body []byte) error {
	r, err := newRequest(ctx, method, u, body)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if n.token != "" {
		r.Header.Set("Authorization", "Bearer "+n.token)
	}
	return Exchange(n.client, r)
}

func (n *ntfy) messageOf(m *Message) *ntfyMessage {
	out := &ntfyMessage{Topic: n.topic, SequenceID: sequenceOf(m), Click: m.URL}
	if out.Title, out.Message = textOf(m); out.Message == "" { // ntfy would write "triggered"
		out.Title, out.Message = "", out.Title
	}
	if m.Summary == nil {
		out.Tags = []string{ntfyTags[m.Change]}
	}
	if m.Change == Waits || m.Summary[Waits] > 0 {
		out.Priority = ntfyHigh
	}
	if m.URL != "" {
		out.Actions = []ntfyAction{{Action: "view", Label: linkLabelOf(m), URL: m.URL}}
	}
	return out
}

// sequenceOf returns the sequence ID that a message shares with the other ones of its thread.
func sequenceOf(m *Message) string {
	if ntfyName.MatchString(m.Thread) {
		return m.Thread
	}
	sum := sha256.Sum256([]byte(m.Thread))
	return hex.EncodeToString(sum[:16])
}
