package notify

import (
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/signal"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/zulip"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// shoutrrrService is a service of the library. It sends all of its requests by the client that it gets, and shows a
// text without markup, or one whose markup can be made inert.
type shoutrrrService struct {
	scheme   string // of its URLs
	form     string // of its URLs
	create   func() librarySender
	login    bool     // its URLs may have a user and a password
	required []string // parameters of its URLs
	optional []string
	check    func(query url.Values) bool // what else is checked about the parameters; nil for nothing
	titled   bool                        // its messages have a title
	inert    func(text string) string    // makes a text mean what it says
	link     func(l shoutrrrLink) string
	maxURL   int // length of the longest link, in bytes, so that a message is not too long
}

// librarySender is what the library does for a service.
type librarySender interface {
	SetHTTPClient(client types.HTTPClient)
	Initialize(u *url.URL, logger types.StdLogger) error
	Send(message string, params *types.Params) error
}

const (
	maxShoutrrrURL = 2048
	maxPushoverURL = 400 // a message has at most 1,024 characters
)

// shoutrrrServices are sorted by name.
var shoutrrrServices = []shoutrrrService{
	{
		scheme: "googlechat", create: func() librarySender { return &googlechat.Service{} },
		form:     "googlechat://chat.googleapis.com/v1/spaces/SPACE/messages?key=KEY&token=TOKEN",
		required: []string{"key", "token"},
		inert:    fenced, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "gotify", create: func() librarySender { return &gotify.Service{} },
		form:     "gotify://HOST/TOKEN",
		optional: []string{"priority", "disabletls", "useheader"},
		titled:   true, inert: plainText, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "matrix", create: func() librarySender { return &matrix.Service{} },
		form:  "matrix://:TOKEN@HOST/?rooms=!ROOM",
		login: true, required: []string{"rooms"}, optional: []string{"disabletls"}, check: isOneRoom,
		inert: plainText, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "mattermost", create: func() librarySender { return &mattermost.Service{} },
		form:  "mattermost://HOST/TOKEN",
		login: true, optional: []string{"icon", "disabletls"},
		inert: fenced, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "pushover", create: func() librarySender { return &pushover.Service{} },
		form:  "pushover://:TOKEN@USER",
		login: true, optional: []string{"devices", "priority"},
		titled: true, inert: plainText, link: plainLink, maxURL: maxPushoverURL,
	}, {
		scheme: "rocketchat", create: func() librarySender { return &rocketchat.Service{} },
		form:  "rocketchat://HOST/TOKEN-A/TOKEN-B",
		login: true,
		inert: fenced, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "signal", create: func() librarySender { return &signal.Service{} },
		form:  "signal://HOST:PORT/+SENDER/+RECIPIENT",
		login: true, optional: []string{"token", "disabletls"},
		inert: plainText, link: plainLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "teams", create: func() librarySender { return &teams.Service{} },
		form:     "teams://?host= followed by the URL of the workflow, percent-encoded",
		required: []string{"host"},
		titled:   true, inert: cardText, link: cardLink, maxURL: maxShoutrrrURL,
	}, {
		scheme: "zulip", create: func() librarySender { return &zulip.Service{} },
		form:  "zulip://BOT%40HOST:KEY@HOST/?stream=STREAM&topic=TOPIC",
		login: true, optional: []string{"stream", "topic", "type", "to"},
		inert: fenced, link: plainLink, maxURL: maxShoutrrrURL,
	},
}

// ownDestinations are services of the library that have a destination of their own, which can do more.
var ownDestinations = map[string]string{
	"slack": "slack", "discord": "discord", "telegram": "telegram", "ntfy": "ntfy",
	"generic": "webhook", "generic+http": "webhook", "generic+https": "webhook",
}

// isOneRoom reports whether a URL names one room of Matrix. With several, a message that is sent again because one of
// them failed would appear twice in the other ones.
func isOneRoom(query url.Values) bool { return !strings.Contains(query.Get("rooms"), ",") }

// isTeamsWorkflow reports whether a URL is that of a workflow of Teams, as Teams shows it.
func isTeamsWorkflow(address string) bool { return teams.ValidateWebhookURL(address) == nil }
