package report

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	requestTimeout = 30 * time.Second
	maxResponse    = 1 << 20
)

// Client sends reports to one server. Use it from one goroutine.
type Client struct {
	server    *url.URL
	token     string
	tokenFile string
	caFile    string

	ca   []byte // with which http was made
	http *http.Client
}

// NewClient returns a client of the server at an address such as https://example.com/kubeagents. The files may be "".
// They are read before each request, so that new ones take effect.
func NewClient(server *url.URL, token, tokenFile, caFile string) *Client {
	return &Client{server: server, token: token, tokenFile: tokenFile, caFile: caFile}
}

// verdict is what the server says of one report.
type verdict struct {
	code    string // "" if it accepted the report
	field   string
	message string
}

// The codes after which a report is sent again.
const (
	codeUnavailable = "unavailable"
	codeForbidden   = "forbidden"
	codeBadRequest  = "bad_request"
	codeUnknown     = "unknown" // the response does not say
)

// Failure is the error of a request of which the server took nothing.
type Failure struct {
	text       string
	retryAfter time.Duration // 0 if the server does not say
	tooLarge   bool
}

func (f *Failure) Error() string { return f.text }

// response is the body of a response: that to a batch, or an error.
type response struct {
	Message  string `json:"message"`
	Error    string `json:"error"`
	Accepted *int   `json:"accepted"`
	Rejected int    `json:"rejected"`
	Errors   []struct {
		Index   int    `json:"index"`
		Error   string `json:"error"`
		Message string `json:"message"`
		Field   string `json:"field"`
	} `json:"errors"`
}

// post sends reports and returns a verdict on each. If the server took none because of something that concerns them
// all, the error is a *Failure. outdated says that the server does not know renewals.
func (c *Client) post(ctx context.Context, batch []Report) (verdicts []verdict, wait time.Duration, outdated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, batch)
	if err != nil {
		return nil, 0, false, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read as far as needed
	wait = retryAfter(resp.Header)
	var said response
	decoded := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&said)
	if decoded != nil || said.Accepted == nil {
		return nil, 0, false, c.failure(resp, said, wait)
	}
	for _, name := range resp.Header.Values("X-Ignored-Fields") {
		outdated = outdated || strings.Contains(name, "renew")
	}
	return said.verdicts(len(batch)), wait, outdated, nil
}

// verdicts returns what the response says of each of n reports. It lists the first errors only. If there are more, the
// reports after the last error in the list may have been accepted or not.
func (s *response) verdicts(n int) []verdict {
	list := make([]verdict, n)
	last := -1
	for _, e := range s.Errors {
		if e.Index < 0 || e.Index >= n {
			continue
		}
		list[e.Index] = verdict{e.Error, e.Field, e.Message}
		last = max(last, e.Index)
	}
	if len(s.Errors) < s.Rejected {
		for i := last + 1; i < n; i++ {
			list[i] = verdict{code: codeUnknown}
		}
	}
	return list
}

func (c *Client) send(ctx context.Context, batch []Report) (*http.Response, error) {
	body, err := json.Marshal(batch)
	if err != nil {
		return nil, err
	}
	token, err := c.readToken()
	if err != nil {
		return nil, &Failure{text: err.Error()}
	}
	if err := c.connect(); err != nil {
		return nil, &Failure{text: err.Error()}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server.JoinPath("webhook/status").String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "kubeagents-watcher")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, &Failure{text: fmt.Sprintf("%s can't be reached: %s", c.server.Redacted(), cause(err))}
	}
	return resp, nil
}

// readToken returns the token, "" if there is none.
func (c *Client) readToken() (string, error) {
	if c.tokenFile == "" {
		return c.token, nil
	}
	text, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return "", fmt.Errorf("KUBEAGENTS_TOKEN_FILE: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("KUBEAGENTS_TOKEN_FILE: %s is empty", c.tokenFile)
	}
	if strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("KUBEAGENTS_TOKEN_FILE: %s must hold one token and nothing else", c.tokenFile)
	}
	return token, nil
}

// connect makes the HTTP client, and makes it anew when the file of CA certificates changes.
func (c *Client) connect() error {
	var ca []byte
	if c.caFile != "" {
		var err error
		if ca, err = os.ReadFile(c.caFile); err != nil {
			return fmt.Errorf("KUBEAGENTS_CA_FILE: %w", err)
		}
	}
	if c.http != nil && bytes.Equal(ca, c.ca) {
		return nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = requestTimeout
	if c.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return fmt.Errorf("KUBEAGENTS_CA_FILE: %s has no certificate in PEM", c.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	c.ca, c.http = ca, &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return fmt.Errorf("it redirects to %s: use that address in KUBEAGENTS_SERVER", r.URL.Redacted())
	}}
	return nil
}

// cause says what is behind an error of net/http, which repeats the whole URL.
func cause(err error) string {
	if authority, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return authority.Error() + ": set KUBEAGENTS_CA_FILE to the certificate of the CA"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return "it does not answer in time"
		}
		return wrapped.Err.Error()
	}
	return err.Error()
}

// retryAfter returns how long the server asks to wait, 0 if it does not.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Hour)
}

// failure says in words why the server took nothing.
func (c *Client) failure(resp *http.Response, said response, wait time.Duration) *Failure {
	f := &Failure{retryAfter: wait, tooLarge: resp.StatusCode == http.StatusRequestEntityTooLarge}
	server, message := c.server.Redacted(), said.Message
	switch {
	case resp.StatusCode == http.StatusUnauthorized && c.token == "" && c.tokenFile == "":
		f.text = fmt.Sprintf("%s requires a token with the scope report: set KUBEAGENTS_TOKEN_FILE", server)
	case resp.StatusCode == http.StatusUnauthorized:
		f.text = fmt.Sprintf("%s does not accept the token: %s", server, message)
	case message == "" || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		f.text = fmt.Sprintf("%s answers %s, unlike a KubeAgents server: check KUBEAGENTS_SERVER", server, resp.Status)
	default:
		f.text = fmt.Sprintf("%s refuses: %s", server, message)
	}
	return f
}
