package client

import (
	"bufio"
	"context"
	"io"
	"net/url"
	"strings"
)

// Event is one server-sent event. A block of lines that has no event has a comment, an ID or a retry time alone. See
// the HTML standard, section 9.2.
type Event struct {
	ID, Name, Data string
	Comment, Retry string
}

// EventReader reads a stream of server-sent events. Use it from one goroutine.
type EventReader struct {
	LastID string // ID of the last event that had one

	lines *bufio.Reader
	body  io.Closer
}

// NewEventReader returns a reader of the stream r.
func NewEventReader(r io.Reader) *EventReader { return &EventReader{lines: bufio.NewReader(r)} }

// Next returns the next block of lines.
func (r *EventReader) Next() (e Event, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			e.ID, r.LastID = value, value
		case "event":
			e.Name = value
		case "data":
			if e.Data != "" {
				e.Data += "\n"
			}
			e.Data += value
		case "retry":
			e.Retry = value
		case "":
			if strings.TrimRight(line, "\r\n") == "" {
				return e, nil
			}
			e.Comment += value
		}
	}
}

// Close ends the stream.
func (r *EventReader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// Events opens the stream of changes since a position, or from now on if that is "". Close the reader that it returns.
func (c *Client) Events(ctx context.Context, since string) (*EventReader, error) {
	parameters := url.Values{}
	if since != "" {
		parameters.Set("since", since)
	}
	resp, err := c.send(ctx, "/api/events", parameters)
	if err != nil {
		return nil, err
	}
	r := NewEventReader(resp.Body)
	r.body = resp.Body
	return r, nil
}
