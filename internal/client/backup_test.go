package client_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/client"
)

// slowServer answers after a delay. Its body is sent in parts, each after another delay.
type slowServer struct {
	answer time.Duration
	parts  []time.Duration
}

// RoundTrip implements http.RoundTripper.
func (s slowServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := sleep(r.Context(), s.answer); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Request: r, Body: &slowBody{r.Context(), s.parts}}, nil
}

type slowBody struct {
	ctx   context.Context //nolint:containedctx // it is that of the request
	parts []time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		return 0, io.EOF
	}
	delay := b.parts[0]
	b.parts = b.parts[1:]
	return copy(p, "x"), sleep(b.ctx, delay)
}

func (*slowBody) Close() error { return nil }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// TestBackupStalls fetches backups from servers that take their time, and from some that take too much of it.
func TestBackupStalls(t *testing.T) {
	for name, test := range map[string]struct {
		server slowServer
		want   string
	}{
		"a slow server":                     {slowServer{time.Minute, []time.Duration{time.Minute, 119 * time.Second, time.Minute}}, ""},
		"a server that does not answer":     {slowServer{answer: time.Hour}, "http://hub.example does not answer: it has sent nothing for 2m0s"},
		"a server that sends nothing":       {slowServer{parts: []time.Duration{time.Hour}}, "http://hub.example does not answer: it has sent nothing for 2m0s"},
		"a server that stops in the middle": {slowServer{parts: []time.Duration{0, 0, 121 * time.Second}}, "it has sent nothing for 2m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := client.NewWith("http://hub.example", "", test.server)
				require.NoError(t, err)
				archive, err := c.Backup(t.Context())
				if err == nil {
					first := make([]byte, 1)
					_, err = archive.Read(first)
					time.Sleep(time.Hour) // the reader may take its time
					var rest []byte
					if err == nil {
						rest, err = io.ReadAll(archive)
					}
					require.Equal(t, test.want == "", err == nil && string(first)+string(rest) == strings.Repeat("x", len(test.server.parts)))
					require.NoError(t, archive.Close())
				}
				if test.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, test.want)
				}
			})
		})
	}
}
