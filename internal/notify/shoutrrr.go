package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/kubeagents/kubeagents/internal/version"
)

// shoutrrr sends texts to a service that a library knows (https://shoutrrr.nickfedor.com).
//
// The library decides what is sent, and nothing else. Each request goes through [shoutrrrClient]. What the library
// writes into errors and its log may contain secrets, and is dropped.
type shoutrrr struct {
	client  *http.Client
	service shoutrrrService
	url     *url.URL // of the service, with its secrets
}

// NewShoutrrr returns a Sender that sends texts to a service by its Shoutrrr URL, such as gotify://HOST/TOKEN.
//
// A reminder is a message of its own, and a message that is taken back is followed by one that says so. What agents
// sent has no markup, and mentions nobody. A message that is not known to have arrived may appear twice. The error says
// what the URL must look like, and does not contain it.
func NewShoutrrr(address string) (Sender, error) {
	service, u, err := parseShoutrrrURL(address)
	if err != nil {
		return nil, err
	}
	return &shoutrrr{client: httpClient, service: service, url: u}, nil
}

// Send implements [Sender].
func (s *shoutrrr) Send(ctx context.Context, m *Message) (string, error) {
	title, body := textOf(m)
	link := shoutrrrLink{label: linkLabelOf(m), url: m.URL}
	if len(m.URL) > s.service.maxURL {
		link.url = ""
	}
	return "", s.post(ctx, title, body, link)
}

// Withdraw implements [Sender].
func (s *shoutrrr) Withdraw(ctx context.Context, m *Message) error {
	return s.post(ctx, resolvedOf(m), "", shoutrrrLink{})
}

// FollowsUp reports that a message is taken back by another one.
func (s *shoutrrr) FollowsUp() bool { return true }

func (s *shoutrrr) post(ctx context.Context, title, body string, link shoutrrrLink) error {
	client := &shoutrrrClient{exchange: func(r *http.Request) (answer, error) {
		return ask(s.client, r.WithContext(ctx))
	}}
	title, text := s.service.compose(title, body, link)
	ok := s.service.send(client, s.url, title, text)
	switch {
	case client.request == nil:
		return fmt.Errorf("the library has no request for %s: %w", s.service.scheme, ErrRefused)
	case client.err != nil:
		return client.err
	case !ok:
		return notAPI(client.request)
	}
	return nil
}

// shoutrrrClient is the HTTP client of a service for one message. The service gets successful answers only.
type shoutrrrClient struct {
	exchange func(r *http.Request) (answer, error) // see [ask]
	request  *http.Request                         // the last one; nil if there was none
	err      error                                 // of the last request, in words of our own
}

// Do implements [types.HTTPClient].
func (c *shoutrrrClient) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", "KubeAgents/"+version.String())
	r.URL.Path = strings.ReplaceAll(r.URL.Path, "//", "/") // of a Gotify below a path, where the library adds a slash
	c.request = r
	var got answer
	if got, c.err = c.exchange(r); c.err != nil {
		return nil, c.err
	}
	return &http.Response{
		StatusCode: got.status, Status: fmt.Sprint(got.status), Header: got.header, Request: r,
		Body: io.NopCloser(bytes.NewReader(got.body)),
	}, nil
}

// send has the library send a text, and reports whether it takes the text for sent.
func (s *shoutrrrService) send(client *shoutrrrClient, u *url.URL, title, text string) (ok bool) {
	defer func() {
		if recover() != nil { // a fault of the library must not stop the server
			ok = false
		}
	}()
	to := s.create()
	to.SetHTTPClient(client) // before Initialize, which may send requests, and after it, because it may set another one
	if to.Initialize(u, nil) != nil {
		return false
	}
	to.SetHTTPClient(client)
	params := types.Params{}
	if s.titled {
		params.SetTitle(title)
	}
	return to.Send(text, &params) == nil
}

// errShoutrrrFragment is the error for a URL with a #.
var errShoutrrrFragment = errors.New("the URL must not contain #: write it as %23")

// parseShoutrrrURL returns the service that a URL names, and the URL for the library.
func parseShoutrrrURL(address string) (shoutrrrService, *url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return shoutrrrService{}, nil, errUnknownService()
	}
	if own := ownDestinations[u.Scheme]; own != "" {
		return shoutrrrService{}, nil, fmt.Errorf("use the destination %s instead of shoutrrr", own)
	}
	if isTeamsWorkflow(address) {
		u = &url.URL{Scheme: "teams", RawQuery: url.Values{"host": {address}}.Encode()}
	}
	at := slices.IndexFunc(shoutrrrServices, func(s shoutrrrService) bool { return s.scheme == u.Scheme })
	if at < 0 {
		return shoutrrrService{}, nil, errUnknownService()
	}
	service := shoutrrrServices[at]
	if u.Fragment != "" {
		return shoutrrrService{}, nil, errShoutrrrFragment
	}
	if !service.accepts(u) {
		return shoutrrrService{}, nil, fmt.Errorf("the URL for %s must be like %s", service.scheme, service.form)
	}
	return service, u, nil
}

// errUnknownService is the error for a URL that names no service.
func errUnknownService() error {
	var schemes []string
	for _, s := range shoutrrrServices {
		schemes = append(schemes, s.scheme+"://")
	}
	return fmt.Errorf("the URL must begin with the name of a service: %s", enumerate(schemes, "or"))
}

// accepts reports whether the library accepts a URL, and understands all of it. Nothing is sent: every request that the
// library makes is answered with {}. So it can't log in, and a URL with which it would have to is not accepted.
func (s *shoutrrrService) accepts(u *url.URL) bool {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Opaque != "" || u.User != nil && !s.login {
		return false
	}
	known := slices.Concat(s.required, s.optional)
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) > 1 || values[0] == "" {
			return false
		}
	}
	for _, name := range s.required {
		if !query.Has(name) {
			return false
		}
	}
	if s.check != nil && !s.check(query) {
		return false
	}
	reachable := true
	dry := &shoutrrrClient{exchange: func(r *http.Request) (answer, error) {
		reachable = reachable && r.URL.Hostname() != ""
		return answer{status: http.StatusOK, body: []byte("{}")}, nil
	}}
	return s.send(dry, u, "title", "text") && dry.request != nil && reachable
}

// shoutrrrLink is a link to the dashboard; without a URL if there is none.
type shoutrrrLink struct{ label, url string }

// compose returns the title and the text of a message as a service gets them. If the service has no titles, the title
// is part of the text.
func (s *shoutrrrService) compose(title, body string, link shoutrrrLink) (string, string) {
	if !s.titled {
		title, body = "", strings.TrimSuffix(title+"\n"+body, "\n")
	} else if body == "" {
		title, body = "KubeAgents", title // services want a text
	}
	text := s.inert(body)
	if link.url != "" {
		text += "\n" + s.link(link)
	}
	if title != "" {
		title = s.inert(title)
	}
	return title, text
}

// plainText is what a service that has no markup gets. It mentions nobody.
func plainText(text string) string { return withoutMentions(text) }

// fenced returns a text as a block of code, in which nothing is markup or mentions somebody.
func fenced(text string) string {
	const fence = "```"
	inside := fenceBreaker.Replace(text)
	return fence + "\n" + inside + "\n" + fence
}

// fenceBreaker takes apart what could end a block of code, or is replaced even inside of one.
var fenceBreaker = strings.NewReplacer("`", "`"+wordJoiner, "<", "<"+wordJoiner, "@", "@"+wordJoiner)

// cardText returns a text for the Markdown of an Adaptive Card. An invisible character before each line keeps it from
// beginning a list.
func cardText(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = wordJoiner + cardEscaper.Replace(line)
	}
	return strings.Join(lines, "\n")
}

var cardEscaper = strings.NewReplacer(backslashed("\\`*_~|<>[](){}!")...)

// plainLink returns a link for people who see no markup.
func plainLink(l shoutrrrLink) string { return l.url }

// cardLink returns a link for an Adaptive Card.
func cardLink(l shoutrrrLink) string {
	return "[" + l.label + "](" + cardURLEscaper.Replace(l.url) + ")"
}

// cardURLEscaper encodes what may be markup in the URL of a link.
var cardURLEscaper = strings.NewReplacer(
	"_", "%5F", "*", "%2A", "(", "%28", ")", "%29", "[", "%5B", "]", "%5D", "<", "%3C", ">", "%3E", "\\", "%5C")
