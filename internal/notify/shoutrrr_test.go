package notify_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// service is a service that Shoutrrr knows: what it gets if all is well, and what it answers then. Its secrets are in
// secrets.
type service struct {
	url     string // as in a file of rules
	request string // the method and URL of the last request
	headers map[string]string
	body    string // JSON, or a form, of the message waiting()
	status  int
	answer  string
}

const (
	workflow = "https://prod-1.westeurope.logic.azure.com:443/workflows/5af/triggers/manual/paths/invoke?api-version=2016-06-01&sp=x&sig=s3cret-query"
	link     = "https://hub.example.com/fleet/?agent=payments&session=0198c5f2"
	// fencedText is waiting() as a block of code.
	fencedText = "```\\nPayments@\u2060laptop asks for permission\\nBash: make migrate\\nFix the refunds\\n```\\n" + link
)

var services = map[string]service{
	// https://developers.google.com/workspace/chat/quickstart/webhooks
	"googlechat": {
		url:     "googlechat://chat.googleapis.com/v1/spaces/AAA/messages?key=s3cret-path&token=s3cret-query",
		request: "POST https://chat.googleapis.com/v1/spaces/AAA/messages?key=s3cret-path&token=s3cret-query",
		body:    `{"text": "` + fencedText + `"}`, status: 200, answer: `{"name": "spaces/AAA/messages/BBB"}`,
	},
	// https://gotify.net/api-docs#/message/createMessage
	"gotify": {
		url:     "gotify://gotify.example.com:8443/base/A1s3cret-path22?priority=7&useheader=yes",
		request: "POST https://gotify.example.com:8443/base/message",
		headers: map[string]string{"X-Gotify-Key": "A1s3cret-path22"},
		body: `{"title": "Payments@\u2060laptop asks for permission", "message": "Bash: make migrate\nFix the refunds\n` + link + `",
			"priority": 7, "extras": null}`,
		status: 200, answer: `{"id": 5, "appid": 1, "message": "x", "title": "x", "priority": 7, "date": "2026-01-02T03:04:05Z"}`,
	},
	// https://spec.matrix.org/v1.11/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid
	"matrix": {
		url:     "matrix://:s3cret-query@matrix.example.com/?rooms=!abc:example.com",
		request: "PUT https://matrix.example.com/_matrix/client/v3/rooms/%21abc:example.com/send/m.room.message/TXN",
		headers: map[string]string{"Authorization": "Bearer s3cret-query"},
		body: `{"msgtype": "m.text",
			"body": "Payments@\u2060laptop asks for permission\nBash: make migrate\nFix the refunds\n` + link + `"}`,
		status: 200, answer: `{"event_id": "$x:example.com"}`,
	},
	// https://developers.mattermost.com/integrate/webhooks/incoming/
	"mattermost": {
		url:     "mattermost://hub@mattermost.example.com/s3cret-path/alerts?icon=robot_face",
		request: "POST https://mattermost.example.com/hooks/s3cret-path",
		body:    `{"text": "` + fencedText + `", "username": "hub", "channel": "alerts", "icon_emoji": "robot_face"}`, status: 200, answer: "ok",
	},
	// https://pushover.net/api#messages
	"pushover": {
		url:     "pushover://:s3cret-query@s3cret-path/?devices=phone&priority=1",
		request: "POST https://api.pushover.net/1/messages.json",
		body: url.Values{
			"token": {"s3cret-query"}, "user": {"s3cret-path"}, "device": {"phone"}, "priority": {"1"},
			"title": {"Payments@\u2060laptop asks for permission"}, "message": {"Bash: make migrate\nFix the refunds\n" + link},
		}.Encode(),
		status: 200, answer: `{"status": 1, "request": "x"}`,
	},
	// https://docs.rocket.chat/docs/integrations
	"rocketchat": {
		url:     "rocketchat://hub@rocket.example.com/s3cret-path/s3cret-query/alerts",
		request: "POST https://rocket.example.com/hooks/s3cret-path/s3cret-query",
		body:    `{"text": "` + fencedText + `", "username": "hub", "channel": "#alerts"}`, status: 200, answer: `{"success": true}`,
	},
	// https://bbernhard.github.io/signal-cli-rest-api/#/Messages/post_v2_send
	"signal": {
		url:     "signal://user:p4ssword@localhost:8080/+15550001/+15550002/group.abc=?disabletls=yes",
		request: "POST http://localhost:8080/v2/send",
		headers: map[string]string{"Authorization": "Basic dXNlcjpwNHNzd29yZA=="},
		body: `{"message": "Payments@\u2060laptop asks for permission\nBash: make migrate\nFix the refunds\n` + link + `",
			"number": "+15550001", "recipients": ["+15550002", "group.abc="]}`,
		status: 201, answer: `{"timestamp": "1767323045000"}`,
	},
	// https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook
	"teams": {
		url:     workflow,
		request: "POST " + workflow,
		body: `{"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": {
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.2", "body": [
				{"type": "TextBlock", "text": "\u2060Payments@laptop asks for permission", "weight": "Bolder", "size": "Medium", "color": "default"},
				{"type": "TextBlock", "text": "\u2060Bash: make migrate", "wrap": true},
				{"type": "TextBlock", "text": "\u2060Fix the refunds", "wrap": true},
				{"type": "TextBlock", "text": "[Open session](` + link + `)", "wrap": true}]}}]}`,
		status: 202,
	},
	// https://zulip.com/api/send-message
	"zulip": {
		url:     "zulip://bot%40example.com:s3cret-query@zulip.example.com/?stream=agents&topic=waiting",
		request: "POST https://zulip.example.com/api/v1/messages",
		headers: map[string]string{"Authorization": "Basic Ym90QGV4YW1wbGUuY29tOnMzY3JldC1xdWVyeQ=="},
		body: url.Values{
			"type": {"channel"}, "to": {"agents"}, "topic": {"waiting"}, "content": {strings.ReplaceAll(fencedText, `\n`, "\n")},
		}.Encode(),
		status: 200, answer: `{"result": "success", "msg": "", "id": 42}`,
	},
}

// internet stands in for the hosts of all services.
type internet struct {
	service
	requests []*http.Request
	bodies   []string
}

// matrixTransaction is the transaction ID at the end of a path, which is random.
var matrixTransaction = regexp.MustCompile(`/[0-9]+-[0-9a-f]{16}$`)

// RoundTrip implements http.RoundTripper.
func (n *internet) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n.requests, n.bodies = append(n.requests, r), append(n.bodies, string(body))
	return &http.Response{
		StatusCode: n.status, Header: http.Header{"Location": {"https://elsewhere.example.com/"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(n.answer)),
	}, nil
}

// last returns the method and URL of the last request, and its body.
func (n *internet) last() (request, body string) {
	r := n.requests[len(n.requests)-1]
	u := *r.URL
	u.User = nil // sent as a header
	return r.Method + " " + matrixTransaction.ReplaceAllString(u.String(), "/TXN"), n.bodies[len(n.bodies)-1]
}

// form decodes a body that is a form.
func form(t *testing.T, body string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(body)
	require.NoError(t, err)
	return values
}

// senderTo returns a sender to a service, which answers as it does if all is well.
func senderTo(t *testing.T, s service) (notify.Sender, *internet) {
	t.Helper()
	sender, err := notify.NewShoutrrr(s.url)
	require.NoError(t, err)
	n := &internet{service: s}
	client := notify.NewHTTPClient()
	client.Transport = n
	notify.UseClient(sender, client)
	return sender, n
}

// TestShoutrrrMessages checks that each service gets what it documents, and only by the client that all senders have:
// the hosts do not exist.
func TestShoutrrrMessages(t *testing.T) {
	for name, s := range services {
		t.Run(name, func(t *testing.T) {
			sender, n := senderTo(t, s)
			remote, err := sender.Send(t.Context(), waiting())
			require.NoError(t, err)
			assert.Empty(t, remote)
			request, body := n.last()
			require.Equal(t, s.request, request)
			if strings.HasPrefix(s.body, "{") {
				require.JSONEq(t, s.body, body)
			} else {
				require.Equal(t, form(t, s.body), form(t, body))
			}
			r := n.requests[len(n.requests)-1]
			for header, value := range s.headers {
				if user := r.URL.User; user != nil { // as http.Client does
					password, _ := user.Password()
					r.SetBasicAuth(user.Username(), password)
				}
				assert.Equal(t, value, r.Header.Get(header))
			}
			assert.Regexp(t, "^KubeAgents/", r.Header.Get("User-Agent"))
		})
	}
}

// TestShoutrrrWithdrawal checks that a message that is taken back is followed by another one, if the rule wants that.
func TestShoutrrrWithdrawal(t *testing.T) {
	for name, s := range services {
		t.Run(name, func(t *testing.T) {
			sender, n := senderTo(t, s)
			followsUp, ok := sender.(interface{ FollowsUp() bool })
			require.True(t, ok && followsUp.FollowsUp())
			m := waiting()
			m.Outcome = notify.OutcomeDenied
			require.NoError(t, sender.Withdraw(t.Context(), m))
			request, body := n.last()
			assert.Equal(t, s.request, request)
			if !strings.HasPrefix(s.body, "{") {
				body = fmt.Sprint(form(t, body))
			}
			assert.Regexp(t, "Denied: Payments@(\u2060)?laptop asks for permission", body)
			assert.NotContains(t, body, "hub.example.com", "there is nothing to open any more")
		})
	}
}

// TestShoutrrrTexts checks what people read.
func TestShoutrrrTexts(t *testing.T) {
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	hostile := waiting()
	hostile.Session.AgentName, hostile.URL = "@room", ""
	hostile.Question.Text, hostile.Session.Title = "- *a* _b_ ``` <!channel> <users/all> [x](https://e.example) {{DATE(1)}} \\*", "1. @all ~c~ ![y](z)"
	far := waiting()
	far.Question.Text, far.Session.Title, far.Session.AgentName = strings.Repeat("x", 1000), strings.Repeat("y", 200), strings.Repeat("z", 200)
	far.URL = "https://hub.example.com/" + strings.Repeat("u", 376)
	farther := waiting()
	farther.URL = "https://hub.example.com/" + strings.Repeat("u", 2025)
	underscore := waiting()
	underscore.URL = "https://hub.example.com/(a)?agent=a_b*c"
	const w = "\u2060"
	for name, test := range map[string]struct {
		message *notify.Message
		want    map[string]string // title, | and text
	}{
		"bare": {bare, map[string]string{
			"pushover": "KubeAgents|Payments@" + w + "laptop finished",
			"teams":    w + "KubeAgents|" + w + "Payments@laptop finished",
			"zulip":    "|```\nPayments@" + w + "laptop finished\n```",
		}},
		"summary": {summary(map[notify.Change]int{notify.Waits: 2}), map[string]string{
			"pushover": "2 sessions need you|2 wait\nhttps://hub.example.com/fleet/",
			"teams":    w + "2 sessions need you|" + w + "2 wait\n[Open dashboard](https://hub.example.com/fleet/)",
			"zulip":    "|```\n2 sessions need you\n2 wait\n```\nhttps://hub.example.com/fleet/",
		}},
		"hostile": {hostile, map[string]string{
			"pushover": "@" + w + "room@" + w + "laptop asks for permission|" +
				"- *a* _b_ ``` <!channel> <users/all> [x](https://e.example) {{DATE(1)}} \\*\n1. @" + w + "all ~c~ ![y](z)",
			"teams": w + "@room@laptop asks for permission|" +
				w + `- \*a\* \_b\_ \` + "`\\`\\`" + ` \<\!channel\> \<users/all\> \[x\]\(https://e.example\) \{\{DATE\(1\)\}\} \\\*` + "\n" +
				w + `1. @all \~c\~ \!\[y\]\(z\)`,
			"zulip": "|```\n@" + w + "room@" + w + "laptop asks for permission\n" +
				"- *a* _b_ `" + w + "`" + w + "`" + w + " <" + w + "!channel> <" + w + "users/all> [x](https://e.example) {{DATE(1)}} \\*\n" +
				"1. @" + w + "all ~c~ ![y](z)\n```",
		}},
		"link that is too long for some": {far, map[string]string{
			"pushover": strings.Repeat("z", 59) + "… asks for permission|" + strings.Repeat("x", 499) + "…\n" + strings.Repeat("y", 119) + "…\n" + far.URL,
		}},
		"link that is too long": {farther, map[string]string{
			"pushover": "Payments@" + w + "laptop asks for permission|Bash: make migrate\nFix the refunds",
			"teams":    w + "Payments@laptop asks for permission|" + w + "Bash: make migrate\n" + w + "Fix the refunds",
			"zulip":    "|```\nPayments@" + w + "laptop asks for permission\nBash: make migrate\nFix the refunds\n```",
		}},
		"link with markup": {underscore, map[string]string{
			"teams": w + "Payments@laptop asks for permission|" + w + "Bash: make migrate\n" + w + "Fix the refunds\n" +
				"[Open session](https://hub.example.com/%28a%29?agent=a%5Fb%2Ac)",
		}},
	} {
		for kind, want := range test.want {
			t.Run(kind+" "+name, func(t *testing.T) {
				sender, n := senderTo(t, services[kind])
				_, err := sender.Send(t.Context(), test.message)
				require.NoError(t, err)
				title, text := shownBy(t, kind, n)
				assert.Equal(t, want, title+"|"+text)
				if kind == "pushover" { // https://pushover.net/api#limits
					assert.LessOrEqual(t, utf8.RuneCountInString(text), 1024)
					assert.LessOrEqual(t, utf8.RuneCountInString(title), 250)
				}
			})
		}
	}
}

// shownBy returns the title and the text of the last message that a service got.
func shownBy(t *testing.T, kind string, n *internet) (title, text string) {
	t.Helper()
	_, body := n.last()
	switch kind {
	case "pushover":
		return form(t, body).Get("title"), form(t, body).Get("message")
	case "zulip":
		return "", form(t, body).Get("content")
	}
	card := decodeCard(t, body)
	return card[0], strings.Join(card[1:], "\n")
}

// decodeCard returns the texts of the blocks of an Adaptive Card.
func decodeCard(t *testing.T, body string) (texts []string) {
	t.Helper()
	var card struct {
		Attachments []struct {
			Content struct {
				Body []struct {
					Text string `json:"text"`
				} `json:"body"`
			} `json:"content"`
		} `json:"attachments"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &card))
	for _, block := range card.Attachments[0].Content.Body {
		texts = append(texts, block.Text)
	}
	return texts
}

// TestShoutrrrErrors checks what becomes of a message that a service does not take. Redirects are not followed, and
// errors have no secrets even if the service sends them back.
func TestShoutrrrErrors(t *testing.T) {
	echo := strings.Join(secrets, " ")
	for name, test := range map[string]struct {
		status  int
		want    string
		refused bool
		after   time.Duration
	}{
		"wrong token": {401, "answers 401 Unauthorized", true, 0},
		"redirect":    {307, "answers 307 Temporary Redirect, and redirects are not followed", true, 0},
		"too many":    {429, "answers 429 Too Many Requests", false, time.Minute},
		"failure":     {502, "answers 502 Bad Gateway", false, 0},
	} {
		for kind, s := range services {
			t.Run(kind+" "+name, func(t *testing.T) {
				sender, n := senderTo(t, s)
				n.status, n.answer = test.status, echo
				_, err := sender.Send(t.Context(), waiting())
				require.Error(t, err)
				assert.Equal(t, n.requests[0].URL.Host+" "+test.want, err.Error())
				checkRetry(t, err, test.refused, test.after)
				withoutSecrets(t, err)
				for _, r := range n.requests {
					assert.Equal(t, n.requests[0].URL.Host, r.URL.Host, "the redirect was followed")
				}
			})
		}
	}
}

// TestShoutrrrAnswersThatAreNotDocumented checks that a service that does not answer as documented did not get the
// message.
func TestShoutrrrAnswersThatAreNotDocumented(t *testing.T) {
	for kind, status := range map[string]int{"gotify": 200, "matrix": 200, "mattermost": 204, "teams": 204, "zulip": 201} {
		sender, n := senderTo(t, services[kind])
		n.status, n.answer = status, "s3cret-path"
		_, err := sender.Send(t.Context(), waiting())
		require.EqualError(t, err, n.requests[0].URL.Host+" answers something else than its API should", kind)
		checkRetry(t, err, false, 0)
	}
}

// TestShoutrrrLibraryFault checks that a fault of the library does not stop the server.
func TestShoutrrrLibraryFault(t *testing.T) {
	sender, n := senderTo(t, services["gotify"])
	notify.BreakLibrary(sender)
	_, err := sender.Send(t.Context(), waiting())
	require.ErrorIs(t, err, notify.ErrRefused)
	assert.Empty(t, n.requests)
}

// TestMatrixRoomByName checks that a room can be named by an alias, which is looked up for each message.
func TestMatrixRoomByName(t *testing.T) {
	s := services["matrix"]
	s.url = "matrix://:x@matrix.example.com/?rooms=%23agents:example.com"
	s.answer = `{"room_id": "!abc:example.com", "event_id": "$x"}`
	sender, n := senderTo(t, s)
	_, err := sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	require.Len(t, n.requests, 2)
	assert.Equal(t, "https://matrix.example.com/_matrix/client/v3/join/%23agents:example.com", n.requests[0].URL.String())
	request, _ := n.last()
	assert.Equal(t, s.request, request)
}

const known = "the URL must begin with the name of a service: googlechat://, gotify://, matrix://, mattermost://, " +
	"pushover://, rocketchat://, signal://, teams:// or zulip://"

func TestShoutrrrURLs(t *testing.T) {
	like := func(service, form string) string { return "the URL for " + service + " must be like " + form }
	googlechat := like("googlechat", "googlechat://chat.googleapis.com/v1/spaces/SPACE/messages?key=KEY&token=TOKEN")
	gotify := like("gotify", "gotify://HOST/TOKEN")
	matrix := like("matrix", "matrix://:TOKEN@HOST/?rooms=!ROOM")
	mattermost := like("mattermost", "mattermost://HOST/TOKEN")
	pushover := like("pushover", "pushover://:TOKEN@USER")
	signal := like("signal", "signal://HOST:PORT/+SENDER/+RECIPIENT")
	teams := like("teams", "teams://?host= followed by the URL of the workflow, percent-encoded")
	zulip := like("zulip", "zulip://BOT%40HOST:KEY@HOST/?stream=STREAM&topic=TOPIC")
	const fragment = "the URL must not contain #: write it as %23"
	for address, want := range map[string]string{
		"":                                       known,
		"s3cret":                                 known,
		"s3cret:x":                               known,
		"https://hooks.example.com/s3cret":       known,
		"gotify+https://h/A1s3cret-path22":       known,
		"logger://":                              known,
		"smtp://u:s3cret@h/?from=a&to=b":         known,
		"mqtt://h/s3cret":                        known,
		"slack://xoxb:s3cret@C1":                 "use the destination slack instead of shoutrrr",
		"discord://s3cret@1":                     "use the destination discord instead of shoutrrr",
		"telegram://s3cret@telegram?chats=1":     "use the destination telegram instead of shoutrrr",
		"ntfy://h/s3cret":                        "use the destination ntfy instead of shoutrrr",
		"generic+https://h/s3cret":               "use the destination webhook instead of shoutrrr",
		"gotify://h/%zz":                         known,
		"gotify:s3cret":                          gotify,
		"gotify://h/s3cret":                      gotify,
		"gotify:///A1s3cret-path22":              gotify,
		"gotify://u@h/A1s3cret-path22":           gotify,
		"gotify://h/A1s3cret-path22?title=x":     gotify,
		"gotify://h/A1s3cret-path22?priority":    gotify,
		"gotify://h/A1s3cret-path22?priority=11": gotify,
		"gotify://h/A1s3cret-path22?priority=1&priority=2":                 gotify,
		"gotify://h/A1s3cret-path22?insecureskipverify=yes":                gotify,
		"gotify://h/A1s3cret-path22#x":                                     fragment,
		"GOTIFY://h/A1s3cret-path22":                                       "",
		"gotify://h/A1s3cret-path22?disabletls=yes":                        "",
		"matrix://h/?rooms=!a":                                             matrix,
		"matrix://:s3cret@h/":                                              matrix,
		"matrix://me:s3cret@h/?rooms=!a":                                   matrix,
		"matrix://:s3cret@h/?rooms=!a,!b":                                  matrix,
		"matrix://:s3cret@dummy.com/?rooms=!a":                             matrix,
		"matrix://:s3cret@h/?rooms=#a":                                     fragment,
		"mattermost://h":                                                   mattermost,
		"pushover://s3cret":                                                pushover,
		"signal://h/+1":                                                    signal,
		"signal://h/+1/you":                                                signal,
		"teams://":                                                         teams,
		"teams://?host=https%3A%2F%2Fe.example%2Fworkflows%2F":             teams,
		"teams://?host=" + workflow:                                        teams, // not encoded
		"teams://?host=" + url.QueryEscape(workflow):                       "",
		"googlechat://chat.googleapis.com/v1/spaces/A/messages?key=s3cret": googlechat,
		"zulip://bot%40h:s3cret@h.example/":                                zulip,
		"zulip://bot%40h:s3cret@h.example/?stream=a&topic=" + strings.Repeat("t", 61): zulip,
		"zulip://bot%40h:s3cret@h.example/?type=direct&to=5":                          "",
	} {
		t.Run(address, func(t *testing.T) {
			_, err := notify.NewShoutrrr(address)
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, want)
		})
	}
}

// TestManualListsEveryService compares the manual with the services that an error lists, and with their URLs.
func TestManualListsEveryService(t *testing.T) {
	_, err := notify.NewShoutrrr("x://")
	for _, found := range regexp.MustCompile(`(\w+)://`).FindAllStringSubmatch(err.Error(), -1) {
		kind := found[1]
		require.Contains(t, services, kind)
		_, err := notify.NewShoutrrr(kind + "://?x=y")
		require.Error(t, err)
		form := strings.TrimPrefix(err.Error(), "the URL for "+kind+" must be like ")
		assert.Contains(t, manual(t), "`"+strings.TrimSuffix(form, " followed by the URL of the workflow, percent-encoded"), kind)
	}
}

// FuzzShoutrrrURL checks that no URL makes the library panic, or leaks into an error.
func FuzzShoutrrrURL(f *testing.F) {
	for _, s := range services {
		f.Add(s.url)
	}
	f.Add("teams://?host=" + url.QueryEscape(workflow))
	f.Fuzz(func(t *testing.T, address string) {
		sender, err := notify.NewShoutrrr(address)
		if err != nil {
			require.NotContains(t, err.Error(), "s3cret")
			return
		}
		n := &internet{service: service{status: 200, answer: "{}"}}
		notify.UseClient(sender, &http.Client{Transport: n})
		_, err = sender.Send(t.Context(), waiting())
		require.NotErrorIs(t, err, notify.ErrRefused, "a URL that was accepted can't be used")
		require.NotEmpty(t, n.requests)
	})
}
