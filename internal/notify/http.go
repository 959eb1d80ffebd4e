package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/kubeagents/kubeagents/internal/version"
)

const (
	// requestTimeout is how long a request to a destination may take, with its response.
	requestTimeout = 15 * time.Second

	// maxResponse is how much of a response is read, in bytes: of its header, and of its body.
	maxResponse = 64 << 10

	// maxRetryAfter is the longest time for which a destination can put off a message.
	maxRetryAfter = 24 * time.Hour
)

// httpClient sends every request to destinations. It follows no redirects: they would take the message, and perhaps a
// token, to a place that the operator does not know of.
var httpClient = NewHTTPClient()

// NewHTTPClient returns a client for requests to destinations: bounded in time and in what it reads of the header, and
// without redirects.
func NewHTTPClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = maxResponse
	return &http.Client{
		Transport:     transport,
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// parseAddress returns a destination's URL. The error does not contain it.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("must be a URL that begins with http:// or https://")
	}
	return u, nil
}

// newRequest returns a request to a destination. A nil body stands for none.
func newRequest(ctx context.Context, method string, u *url.URL, body []byte) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "", reader) // an error can't contain a URL that it does not get
	if err != nil {
		return nil, err
	}
	r.URL, r.Host = u, u.Host
	r.Header.Set("User-Agent", "KubeAgents/"+version.String())
	return r, nil
}

// newJSONRequest returns a request to a destination whose body is a value as JSON.
func newJSONRequest(ctx context.Context, method string, u *url.URL, value any) (*http.Request, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	r, err := newRequest(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	return r, nil
}

// statusError is an answer other than 2xx.
type statusError struct {
	host   string
	status int
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d", e.host, e.status)
	if name := http.StatusText(e.status); name != "" {
		text += " " + name
	}
	if e.redirects() {
		text += ", and redirects are not followed"
	}
	return text
}

// Unwrap returns [ErrRefused] if the same request would get the same answer again.
func (e *statusError) Unwrap() error {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return nil
	}
	if e.redirects() || e.status >= 400 && e.status < 500 {
		return ErrRefused
	}
	return nil
}

// StatusOf returns the status of the answer that an error of [Exchange] is about, 0 if there was none.
func StatusOf(err error) int {
	if answer, ok := errors.AsType[*statusError](err); ok {
		return answer.status
	}
	return 0
}

func (e *statusError) redirects() bool { return e.status >= 300 && e.status < 400 }

// answer is what a destination answers to a request.
type answer struct {
	status int
	header http.Header
	body   []byte // at most maxResponse bytes of it
}

// decode decodes the body as JSON, and reports whether it is JSON of that type.
func (a answer) decode(into any) bool { return json.Unmarshal(a.body, into) == nil }

// decoded returns the body of an answer, decoded as JSON, or the zero value if it is not JSON of that type.
func decoded[T any](a answer) (value T) {
	if a.decode(&value) {
		return value
	}
	return *new(T)
}

// Exchange sends a request to a destination, and returns nil if the answer is 2xx. The error names the host, and
// contains nothing else of the request. It is a [*RetryError] if the destination says when it wants the request again,
// and wraps [ErrRefused] if it would refuse it again.
func Exchange(client *http.Client, r *http.Request) error {
	_, err := ask(client, r)
	return err
}

// ask sends a request, and returns the answer, and a nil error if that is 2xx. The error names the host, and contains
// nothing else of the request, and nothing of the response but its status: a destination may send back what it got. It
// is a [*RetryError] if the destination says when it wants the request again, a *statusError for another answer, and
// wraps the context's error if that has ended.
func ask(client *http.Client, r *http.Request) (answer, error) {
	response, err := client.Do(r)
	if err != nil {
		if cause := r.Context().Err(); cause != nil {
			return answer{}, fmt.Errorf("%s: %w", r.URL.Host, cause)
		}
		if refusal, ok := errors.AsType[Refusal](err); ok {
			return answer{}, fmt.Errorf("%s: %w", r.URL.Host, refusal)
		}
		return answer{}, fmt.Errorf("%s: %s", r.URL.Host, explain(err, "HTTP"))
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxResponse)) // a part of the body is as good as another body
	got := answer{status: response.StatusCode, header: response.Header, body: body}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return got, nil
	}
	err = &statusError{host: r.URL.Host, status: response.StatusCode}
	after := retryAfter(response.Header.Get("Retry-After"))
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return got, &RetryError{Err: err, After: cmp.Or(after, tooManyPause)}
	case http.StatusServiceUnavailable:
		if after > 0 {
			return got, &RetryError{Err: err, After: after}
		}
	}
	return got, err
}

// Refusal is the error of a dialer that never connects to an address, and says why. It is part of the errors of
// [Exchange].
type Refusal string

// Error implements error.
func (r Refusal) Error() string { return string(r) }

// Unwrap returns [ErrRefused].
func (r Refusal) Unwrap() error { return ErrRefused }

// notAPI is the error for an answer that is not what the destination's API documents.
func notAPI(r *http.Request) error {
	return fmt.Errorf("%s answers something else than its API should", r.URL.Host)
}

// tooManyPause is the pause after 429 Too Many Requests that doesn't say how long it should be. ntfy is one that
// doesn't, and blocks the addresses of those who go on.
const tooManyPause = time.Minute

// retryIn returns err. If it is a [*RetryError], it asks for a pause of so many seconds instead, unless that is 0: the
// body of an answer may say so more exactly than its header.
func retryIn(err error, seconds float64) error {
	var retry *RetryError
	if seconds > 0 && errors.As(err, &retry) {
		retry.After = time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	return err
}

// retryAfter returns the time in a Retry-After header (RFC 9110, section 10.2.3), and 0 if there is none.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(time.Until(date), maxRetryAfter))
}

// ownError is why a request failed, in words of our own, which come after the name of the host.
type ownError string

// Error implements error.
func (e ownError) Error() string { return string(e) }

// explain says why a request in a protocol got no answer, in words of our own: the text of err may contain the URL, or
// what the destination sent.
func explain(err error, protocol string) string {
	var (
		timeout     net.Error
		name        *net.DNSError
		errno       syscall.Errno
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		own         ownError
	)
	switch {
	case errors.As(err, &name):
		return "its name can't be resolved"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it does not answer in time"
	case errors.As(err, &authority):
		return "its certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		return "its certificate is for another host"
	case errors.As(err, &certificate):
		return "its certificate is not valid"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "it speaks HTTP, not HTTPS"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &own):
		return own.Error()
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF):
		return "it closes the connection without an answer"
	}
	return "the connection fails, or the answer is not " + protocol
}
