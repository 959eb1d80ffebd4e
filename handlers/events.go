package handlers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
)

const (
	// maxEventID is the maximum length of an event ID, in characters.
	maxEventID = 100
	// streamTimeout is how long a write to a subscriber may take.
	streamTimeout = 10 * time.Second
	// endTimeout is how long the last write to a subscriber may take.
	endTimeout = time.Second
)

// Events streams changes as they happen: GET /api/events, server-sent events (WHATWG HTML, section 9.2).
func (h *Handler) Events(w http.ResponseWriter, r *http.Request) error {
	p := newParams(r)
	filter, since := p.eventFilter(), p.since(r)
	grant := grantOf(w)
	filter.Team, filter.Share = grant.Team(), grant.Share()
	if err := p.done(); err != nil {
		return err
	}
	if r.ContentLength != 0 {
		w.Header()["Connection"] = connectionClose // so that net/http does not wait for the body
		return models.BadRequest("", "a request for the event stream must have no body")
	}
	if r.Method == http.MethodHead {
		begin(w)
		return nil
	}
	h.awaitEvent(r, since)
	to := newStream(w)
	sub, err := h.Hub.Subscribe(filter, since, func() { to.setTimeout(endTimeout) })
	switch {
	case errors.Is(err, live.ErrFull):
		return h.full(envelopeOf(w), metrics.BoundSubscribers)
	case errors.Is(err, live.ErrShare):
		return h.full(envelopeOf(w), metrics.BoundSubscribersShare)
	case errors.Is(err, live.ErrClosed):
		return models.Unavailable("the server is stopping")
	case err != nil:
		return err
	}
	conn, err := hijack(w)
	switch {
	case errors.Is(err, http.ErrNotSupported): // other requests share the connection, as in HTTP/2
		defer sub.Close()
		begin(w)
		h.leave(envelopeOf(w))
		ctx, end := context.WithCancel(r.Context())
		defer end()
		defer context.AfterFunc(grant.Ended(), end)()
		h.send(ctx, to, sub)
	case errors.Is(err, errExtraData): // the connection is closed already
		sub.Close()
		return nil
	case err != nil:
		sub.Close()
		return err
	default:
		to.switchTo(conn)
		h.streams.Go(func() { h.serve(grant.Ended(), conn, to, sub) })
	}
	return nil
}

// awaitEvent waits until this server has reached the event with the ID since, if another server of the cluster sent it. If
// that takes too long, the stream begins with a reset.
func (h *Handler) awaitEvent(r *http.Request, since string) {
	if h.Cluster == nil || since == "" {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), afterTimeout)
	defer cancel()
	h.Hub.Await(ctx, since)
}

var eventStreamType = []string{"text/event-stream"}

// setStreamHeader sets the header of a stream that begins now. X-Accel-Buffering asks proxies not to buffer it.
func setStreamHeader(w http.ResponseWriter) {
	header := w.Header()
	header["Content-Type"] = eventStreamType
	header["Cache-Control"] = noStore
	header.Set("X-Accel-Buffering", "no")
	if env := envelopeOf(w); env != nil {
		env.began, env.status = time.Now(), http.StatusOK
	}
}

// begin sends the header of a stream.
func begin(w http.ResponseWriter) {
	setStreamHeader(w)
	w.WriteHeader(http.StatusOK)
}

// errExtraData means that a client sent data after its request for the event stream.
var errExtraData = errors.New("the client sent data after its request for the event stream")

// hijack takes the connection over from net/http, so that its goroutine, buffers and request are released. They are
// more than half of the memory that a subscriber would take. It sends the header of the stream, which lasts until the
// connection is closed. The error is http.ErrNotSupported if the connection can't be taken over.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if buffered.Reader.Buffered() > 0 {
		return nil, errors.Join(errExtraData, conn.Close())
	}
	setStreamHeader(w)
	header := w.Header()
	header["Connection"] = connectionClose
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	header.Write(&head) //nolint:errcheck // writing to a buffer never fails
	head.WriteString("\r\n")
	conn.SetWriteDeadline(time.Now().Add(streamTimeout)) //nolint:errcheck // if it fails, so does the first write of events
	conn.Write(head.Bytes())                             //nolint:errcheck // see above
	return conn, nil
}

// serve sends a subscriber's events over conn, and closes it at the end. It returns when ended does, or before.
func (h *Handler) serve(ended context.Context, conn net.Conn, to *stream, sub *live.Subscriber) {
	defer sub.Close()
	ctx, gone := context.WithCancel(ended)
	var reading sync.WaitGroup
	reading.Go(func() { // returns when the client closes the connection, or sends anything, which it must not
		defer gone()
		conn.Read(make([]byte, 1)) //nolint:errcheck // the stream ends either way
	})
	h.send(ctx, to, sub)
	conn.Close() //nolint:errcheck // everything has been written
	reading.Wait()
}

// WaitForStreams waits until every event stream has ended, as they do after [Handler.Drain]. It returns the error of
// ctx if ctx ends first.
func (h *Handler) WaitForStreams(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		h.streams.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send writes a subscriber's events until its stream ends or the client is gone.
func (h *Handler) send(ctx context.Context, to *stream, sub *live.Subscriber) {
	for {
		events, err := sub.Next(ctx)
		if err != nil || to.write(events) != nil {
			return
		}
		count := 0
		var oldest time.Time
		for _, e := range events {
			if e.At.IsZero() {
				continue
			}
			if count == 0 {
				oldest = e.At
			}
			count++
		}
		if count > 0 {
			h.Metrics.ObserveDelivery(count, max(0, h.now().Sub(oldest)))
		}
	}
}

// stream is an event stream being sent to a client.
type stream struct {
	mu    sync.Mutex // guards the fields below: the deadline may be changed at any time
	out   deadliner
	w     io.Writer
	flush func() error
}

type deadliner interface {
	SetWriteDeadline(deadline time.Time) error
}

// newStream returns a stream that writes through net/http.
func newStream(w http.ResponseWriter) *stream {
	control := http.NewResponseController(w)
	return &stream{out: control, w: w, flush: control.Flush}
}

// switchTo makes the stream write to conn directly.
func (s *stream) switchTo(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.w, s.flush = conn, conn, nil
}

// write sends events.
func (s *stream) write(events []*live.Event) error {
	s.setTimeout(streamTimeout)
	if s.flush == nil { // the connection can write many buffers at once
		frames := make(net.Buffers, len(events))
		for i, e := range events {
			frames[i] = e.Frame
		}
		_, err := frames.WriteTo(s.w)
		return err
	}
	for _, e := range events {
		if _, err := s.w.Write(e.Frame); err != nil {
			return err
		}
	}
	return s.flush()
}

// setTimeout sets the deadline for writes, if the connection supports it.
func (s *stream) setTimeout(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.SetWriteDeadline(time.Now().Add(timeout)) //nolint:errcheck // only in-memory connections have no deadlines
}

// eventFilter parses the parameters that select events.
func (p *params) eventFilter() live.Filter {
	f := live.Filter{AgentID: p.text("agent_id", models.MaxAgentID), Lost: p.flag("lost")}
	for _, name := range p.list("status") {
		status, err := models.ParseStatus("status", name)
		if err != nil && p.err == nil {
			p.err = err
		}
		f.Statuses = append(f.Statuses, status)
	}
	for _, name := range p.list("types") {
		t, ok := live.ParseType(name)
		if !ok {
			p.fail("types", "must be one or more of status, acknowledged, expired and removed, separated by commas")
		}
		f.Types |= t
	}
	return f
}

// since returns the ID of the event after which the stream begins. The Last-Event-ID header takes precedence: a client
// that reconnects sends it along with its original parameters.
func (p *params) since(r *http.Request) string {
	since := p.text("since", maxEventID)
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return since
}

// list returns the comma-separated values of a parameter, none if it is absent or empty.
func (p *params) list(name string) []string {
	value, _ := p.get(name)
	if value == "" {
		return nil
	}
	return slices.Collect(strings.SplitSeq(value, ","))
}
