package notify

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// destinations parses the part of a rules file that says where notifications go. The senders check the addresses and
// secrets in it.
func (p *fileParser) destinations(top fields) {
	v, given := top.values["destinations"]
	if !given {
		return
	}
	if v.kind != mapping || len(v.entries) == 0 || len(v.entries) > maxDestinations {
		p.add(v.line, "destinations must be 1 to %d destinations by name", maxDestinations)
		return
	}
	for _, e := range v.entries {
		switch {
		case !name.MatchString(e.key):
			p.add(e.line, "the name of a destination must be %s", allowedName)
		case p.config.Destinations[e.key] != nil:
			p.add(e.line, "destinations has %s twice", e.key)
		default:
			p.names = append(p.names, e.key)
			p.config.Destinations[e.key] = p.destination(e)
		}
	}
}

func (p *fileParser) destination(e entry) *Destination {
	faults := len(p.faults)
	p.resolve(&e.value)
	kinds := p.destinationKinds()
	var keys []string
	for _, kind := range kinds {
		keys = append(keys, kind.key)
	}
	f := p.fields(e.value, "a destination", append(keys, "at_most")...)
	d := &Destination{Name: e.key, Limit: p.limit(f)}
	var given []value
	var create func() (Sender, error)
	for _, kind := range kinds {
		if v, ok := f.values[kind.key]; ok {
			given = append(given, v)
			create, d.Kind = kind.parse(v), kind.key
		}
	}
	if len(given) != 1 && f.ok {
		p.add(f.line, "a destination must have one of the keys %s", enumerate(keys, "and"))
	}
	if len(p.faults) > faults {
		return d
	}
	var err error
	if d.Sender, err = create(); err != nil {
		p.add(given[0].line, "%v", err)
	}
	return d
}

// destinationKind is a key of a destination that says what it is. parse returns what creates the sender if the file has
// no faults.
type destinationKind struct {
	key   string
	parse func(v value) (create func() (Sender, error))
}

func (p *fileParser) destinationKinds() []destinationKind {
	return []destinationKind{
		{"ntfy", p.ntfy},
		{"slack", p.slack},
		{"discord", p.discord},
		{"telegram", p.telegram},
		{"email", p.email},
		{"alertmanager", p.alertmanager},
		{"shoutrrr", p.shoutrrr},
		{"webhook", p.webhook},
		{"command", p.command},
	}
}

func (p *fileParser) ntfy(v value) func() (Sender, error) {
	f := p.fields(v, "ntfy", "url", "token")
	p.require(f, "url")
	url := p.text(f, "url", "the URL of a topic, such as https://ntfy.sh/my-topic")
	token := p.text(f, "token", "an access token")
	return func() (Sender, error) { return NewNtfy(url, token) }
}

func (p *fileParser) slack(v value) func() (Sender, error) {
	f := p.fields(v, "slack", "token", "channel")
	p.require(f, "token", "channel")
	token := p.text(f, "token", "the token of a bot, which begins with xoxb-")
	channel := p.text(f, "channel", "the ID of a channel, such as C0123456789")
	return func() (Sender, error) { return NewSlack(token, channel) }
}

func (p *fileParser) discord(v value) func() (Sender, error) {
	f := p.fields(v, "discord", "url")
	p.require(f, "url")
	url := p.text(f, "url", "the URL of a webhook of Discord, such as https://discord.com/api/webhooks/ID/TOKEN")
	return func() (Sender, error) { return NewDiscord(url) }
}

func (p *fileParser) telegram(v value) func() (Sender, error) {
	f := p.fields(v, "telegram", "token", "chat")
	p.require(f, "token", "chat")
	token := p.text(f, "token", "the token of a bot, such as 123456:ABC-DEF")
	chat := p.text(f, "chat", `the ID of a chat, such as "-1001234567890"`)
	return func() (Sender, error) { return NewTelegram(token, chat) }
}

func (p *fileParser) email(v value) func() (Sender, error) {
	f := p.fields(v, "email", "host", "port", "tls", "user", "password", "from", "to")
	p.require(f, "host", "from", "to")
	o := Email{
		Host:     p.text(f, "host", "the name of a mail server, such as smtp.example.com"),
		Port:     p.port(f),
		TLS:      []EmailTLS{StartTLS, ImplicitTLS, NoTLS}[p.choice(f, "tls", string(StartTLS), string(ImplicitTLS), string(NoTLS))],
		User:     p.text(f, "user", "the name of a user of the mail server"),
		Password: p.text(f, "password", "the password of that user"),
		From:     p.text(f, "from", "an address such as ops@example.com or Ops <ops@example.com>"),
		To:       p.texts(f, "to", "a list of addresses, such as [ops@example.com]"),
	}
	return func() (Sender, error) { return NewEmail(o) }
}

// port returns the value of the key port, and 0 if there is none.
func (p *fileParser) port(f fields) int {
	const allowed = "a number from 1 to 65535"
	written := p.text(f, "port", allowed)
	if written == "" {
		return 0
	}
	port, err := strconv.ParseUint(written, 10, 16)
	if err != nil || port == 0 {
		p.add(f.values["port"].line, "port must be %s", allowed)
	}
	return int(port)
}

func (p *fileParser) alertmanager(v value) func() (Sender, error) {
	f := p.fields(v, "alertmanager", "url")
	p.require(f, "url")
	url := p.text(f, "url", "the URL of an Alertmanager, such as http://localhost:9093")
	return func() (Sender, error) { return NewAlertmanager(url) }
}

func (p *fileParser) shoutrrr(v value) func() (Sender, error) {
	f := p.fields(v, "shoutrrr", "url")
	p.require(f, "url")
	url := p.text(f, "url", "the URL of a service, such as gotify://HOST/TOKEN")
	return func() (Sender, error) { return NewShoutrrr(url) }
}

func (p *fileParser) webhook(v value) func() (Sender, error) {
	f := p.fields(v, "webhook", "url", "secret", "format", "headers")
	p.require(f, "url")
	url := p.text(f, "url", "a URL such as https://hooks.example.com/x")
	secret := p.text(f, "secret", "whsec_ and the base64 of 24 to 64 bytes")
	format := []WebhookFormat{JSON, CloudEvent}[p.choice(f, "format", string(JSON), string(CloudEvent))]
	header := p.headers(f)
	return func() (Sender, error) { return NewWebhook(url, secret, format, header) }
}

func (p *fileParser) command(v value) func() (Sender, error) {
	f := p.fields(v, "command", "program", "args")
	p.require(f, "program")
	program := p.text(f, "program", "the absolute path of a program")
	args := p.texts(f, "args", "a list of arguments, such as [--loud]")
	return func() (Sender, error) {
		sender, err := NewCommand(program, args)
		if err != nil { // the error may contain the path
			return nil, errors.New("program must be the absolute path of a program that can be run")
		}
		return sender, nil
	}
}

// headerName matches names of HTTP headers.
var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,100}$`)

func (p *fileParser) headers(f fields) map[string]string {
	v, given := f.values["headers"]
	if !given {
		return nil
	}
	if v.kind != mapping || len(v.entries) == 0 || len(v.entries) > maxListed {
		p.add(v.line, "headers must be 1 to %d headers, such as {X-Team: a}", maxListed)
		return nil
	}
	headers := map[string]string{}
	for _, e := range v.entries {
		canonical := http.CanonicalHeaderKey(e.key)
		_, repeated := headers[canonical]
		switch {
		case e.value.kind == unresolved:
		case !headerName.MatchString(e.key) || e.value.kind != text || strings.ContainsFunc(e.value.text, unicode.IsControl):
			p.add(e.line, "headers must be names and texts of one line, such as {X-Team: a}")
		case repeated:
			p.add(e.line, "headers has the same name twice")
		}
		headers[canonical] = e.value.text
	}
	return headers
}

// limit returns the limit of a destination.
func (p *fileParser) limit(f fields) Limit {
	const allowed = "a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited"
	switch at := p.text(f, "at_most", allowed); at {
	case "":
		return defaultLimit
	case "unlimited":
		return Limit{}
	default:
		count, duration, _ := strings.Cut(at, " per ")
		messages, err := strconv.Atoi(count)
		per, perErr := time.ParseDuration(duration)
		if err != nil || perErr != nil || messages < 1 || messages > maxPerTime || per < time.Second || per > 24*time.Hour {
			p.add(f.values["at_most"].line, "at_most must be %s", allowed)
		}
		return Limit{Messages: messages, Per: per}
	}
}
