// Package livetest reads event streams in tests.
package livetest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/stretchr/testify/require"
)

// Reader reads a stream of server-sent events. Create one with NewReader.
type Reader struct{ *client.EventReader }

// NewReader returns a Reader of the event stream r.
func NewReader(r io.Reader) *Reader { return &Reader{client.NewEventReader(r)} }

// RequireNext reads the next event and returns its decoded data. The test fails unless the event has the given name and
// an ID.
func (r *Reader) RequireNext(t testing.TB, name string) map[string]any {
	t.Helper()
	e, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, name, e.Name, "%+v", e)
	require.NotEmpty(t, e.ID)
	var data map[string]any
	require.NoError(t, json.Unmarshal([]byte(e.Data), &data))
	return data
}

// Listen opens the event stream of the server at an address such as http://127.0.0.1:8080, with a query and header
// lines ("Name: value"), and reads the comment at its start. The stream is closed when the test ends or hangUp is
// called.
func Listen(t testing.TB, server, query string, header ...string) (events *Reader, hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/events"+query, nil)
	require.NoError(t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	hangUp = func() {
		cancel()
		resp.Body.Close() //nolint:errcheck // the stream is no longer needed
	}
	t.Cleanup(hangUp)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	events = NewReader(resp.Body)
	first, err := events.Next()
	require.NoError(t, err)
	require.Equal(t, client.Event{ID: first.ID, Comment: "connected", Retry: "2000"}, first)
	return events, hangUp
}
