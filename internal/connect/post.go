package connect

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/http"
	"os"
	"time"
)

// Limits of [Post], as those of the commands for a POSIX shell.
const (
	postTimeout = 3 * time.Second
	dialTimeout = 2 * time.Second
)

// Post posts a tool's event to an address, as the commands for a POSIX shell do: with the token and the agent's ID from
// the variables of an environment, with the machine's name, and with further headers. It follows no redirect. The
// caller closes the body of the response, and reads it within 3 seconds.
func Post(ctx context.Context, address string, event []byte, environment map[string]string, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(trimEvent(event)))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, header)
	if token := environment[TokenVariable]; token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if id := environment[AgentIDVariable]; id != "" {
		r.Header.Set("X-Agent-Id", id)
	}
	if host, err := os.Hostname(); err == nil {
		r.Header.Set("X-Agent-Host", host)
	}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DialContext:       (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableKeepAlives: true,
	}
	client := http.Client{Transport: transport, Timeout: postTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client.Do(r)
}

// maxMark is the maximum number of bytes that trimEvent drops.
const maxMark = 8

// trimEvent drops what some tools on Windows write before an event: a byte order mark, or what became of one in
// another encoding.
func trimEvent(event []byte) []byte {
	if start := bytes.IndexByte(event, '{'); start > 0 && start <= maxMark {
		return event[start:]
	}
	return event
}
