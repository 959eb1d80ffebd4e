// Package livetest reads event streams in tests.
package livetest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Event is one server-sent event, or a block of lines that has only a comment, an ID or a retry time.
type Event struct {
	ID, Name, Data string
	Comment, Retry string
}

// Reader reads a stream of server-sent events. Create one with NewReader.
type Reader struct {
	LastID string // ID of the last event read

	lines *bufio.Reader
}

// NewReader returns a Reader of the event stream r.
func NewReader(r io.Reader) *Reader { return &Reader{lines: bufio.NewReader(r)} }

// Next returns the next block of lines, or the error of the stream.
func (r *Reader) Next() (e Event, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.ID, r.LastID = value, value
		case "event":
			e.Name = value
		case "data":
			e.Data += value
		case "retry":
			e.Retry = value
		default:
			if line == "\n" {
				return e, nil
			}
			e.Comment += value
		}
	}
}

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
	require.Equal(t, Event{ID: first.ID, Comment: "connected", Retry: "2000"}, first)
	return events, hangUp
}
