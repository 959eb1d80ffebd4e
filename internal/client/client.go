// Package client reads from a KubeAgents server over HTTP. Its types are safe for concurrent use unless they say
// otherwise.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// maxResponse is the maximum size of a response, in bytes.
const maxResponse = 64 << 20

// Timeout is how long a request may take. It does not apply to [Client.Events].
const Timeout = 10 * time.Second

// Client reads from one server.
type Client struct {
	server *url.URL
	token  string
	http   *http.Client
}

// New returns a client of the server at an address such as http://localhost:8080 or https://example.com/kubeagents. It
// sends the token, unless that is "". The error says that the address is not one of a server.
func New(server, token string) (*Client, error) { return NewWith(server, token, nil) }

// NewWith is like [New], with a transport of its own, nil for the default one.
func NewWith(server, token string, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(server, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the address of a server, such as http://localhost:8080", server)
	}
	refuse := func(r *http.Request, _ []*http.Request) error {
		return fmt.Errorf("the server redirects to %s: use that address", r.URL.Redacted())
	}
	return &Client{server: u, token: token, http: &http.Client{CheckRedirect: refuse, Transport: transport}}, nil
}

// Server returns the server's address.
func (c *Client) Server() string { return c.server.Redacted() }

// Summary returns the counts of agents and sessions.
func (c *Client) Summary(ctx context.Context) (s models.Summary, err error) {
	_, err = c.get(ctx, "/api/summary", nil, &s)
	return s, err
}

// RequiresToken reports whether agents need a token to report to the server.
func (c *Client) RequiresToken(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	resp, err := c.send(ctx, "/connect/codex", nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read as far as needed
	lines, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil || !bytes.Contains(lines, []byte("/webhook/codex")) {
		return false, fmt.Errorf("%s does not answer like a KubeAgents server", c.Server())
	}
	return bytes.Contains(lines, []byte(connect.TokenVariable)), nil
}

// Ready returns nil if the server can take requests. Otherwise, for example while the server starts or stops, the error
// is a *Refusal with status 503.
func (c *Client) Ready(ctx context.Context) error { return c.probe(ctx, "/health/ready") }

// Live returns nil if the server is running, whether or not it can take requests.
func (c *Client) Live(ctx context.Context) error { return c.probe(ctx, "/health/live") }

func (c *Client) probe(ctx context.Context, target string) error {
	answer := struct {
		Status string `json:"status"`
	}{}
	if _, err := c.get(ctx, target, nil, &answer); err != nil {
		return err
	}
	if answer.Status != "ok" {
		return fmt.Errorf("%s does not answer like a KubeAgents server", c.Server())
	}
	return nil
}

// Page is a page of a list of sessions.
type Page struct {
	Sessions   []models.FleetSession `json:"sessions"`
	NextCursor string                `json:"next_cursor"` // "" on the last page
	EventID    string                `json:"-"`           // position in the stream of events at which the page was read
}

// Sessions returns a page of the sessions that the parameters of GET /api/sessions select.
func (c *Client) Sessions(ctx context.Context, parameters url.Values) (p Page, err error) {
	header, err := c.get(ctx, "/api/sessions", parameters, &p)
	p.EventID = header.Get("X-Event-Id")
	return p, err
}

func (c *Client) get(ctx context.Context, path string, parameters url.Values, into any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	resp, err := c.send(ctx, path, parameters)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read as far as needed
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(into); err != nil {
		return nil, fmt.Errorf("%s does not answer like a KubeAgents server: %w", c.Server(), err)
	}
	return resp.Header, nil
}

// send sends a GET request. The error names the server, and says in words why there is no response with status 200.
func (c *Client) send(ctx context.Context, path string, parameters url.Values) (*http.Response, error) {
	u := *c.server
	u.Path += path
	u.RawQuery = parameters.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s can't be reached: %w", c.Server(), withoutURL(err))
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close() //nolint:errcheck // it is read as far as needed
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// withoutURL returns the cause of an error of net/http, which repeats the whole URL.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return errors.New("it does not answer in time")
		}
		return wrapped.Err
	}
	return err
}

// Refusal is the error for a response with another status than 200.
type Refusal struct {
	Status int
	text   string
}

func (r *Refusal) Error() string { return r.text }

// refusal returns the error that a response with another status than 200 stands for.
func (c *Client) refusal(resp *http.Response) *Refusal {
	var said models.Error
	if json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&said) != nil || said.Message == "" {
		return &Refusal{resp.StatusCode, fmt.Sprintf("%s answers %s", c.Server(), resp.Status)}
	}
	return &Refusal{resp.StatusCode, fmt.Sprintf("%s refuses: %s", c.Server(), said.Message)}
}
