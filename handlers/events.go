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
	// maxEventID bounds the ID of an event, in characters.
	maxEventID = 100
	// streamTimeout is how long a write to a subscriber may take.
	streamTimeout = 10 * time.Second
	// endTimeout is how long the last one may take.
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
		w.Header()["Connection"] = connectionClose // so that nothing of it is waited for
		return models.BadRequest("", "a request for the event stream has no body")
	}
	if r.Method == http.MethodHead {
		begin(w)
		return nil
	}
	to := newStream(w)
	sub, err := h.Hub.Subscribe(filter, since, func() { to.limit(endTimeout) })
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
	conn, err := takeOver(w)
	switch {
	case errors.Is(err, http.ErrNotSupported): // other requests share the connection, as in HTTP/2
		defer sub.Close()
		begin(w)
		h.leave(envelopeOf(w))
		ctx, end := context.WithCancel(r.Context())
		defer end()
		defer context.AfterFunc(grant.Ended(), end)()
		h.send(ctx, to, sub)
	case errors.Is(err, errTalking): // it is cut off
		sub.Close()
		return nil
	case err != nil:
		sub.Close()
		return err
	default:
		to.use(conn)
		h.streams.Go(func() { h.serve(grant.Ended(), conn, to, sub) })
	}
	return nil
}

var eventStreamType = []string{"text/event-stream"}

// setStreamHeader sets the head of a stream, which begins now. Proxies are asked to pass on what comes at once.
func setStreamHeader(w http.ResponseWriter) {
	header := w.Header()
	header["Content-Type"] = eventStreamType
	header["Cache-Control"] = noStore
	header.Set("X-Accel-Buffering", "no")
	if env := envelopeOf(w); env != nil {
		env.began, env.status = time.Now(), http.StatusOK
	}
}

// begin sends the head of a stream.
func begin(w http.ResponseWriter) {
	setStreamHeader(w)
	w.WriteHeader(http.StatusOK)
}

// errTalking is why the stream of a client that sends more than its request does not begin.
var errTalking = errors.New("the client sent something after its request for the event stream")

// takeOver takes the connection over from net/http, whose goroutine, buffers and request are let go: they are more than half
// of what a subscriber would take. It sends the head of the stream, which goes on until the connection ends. The error is
// http.ErrNotSupported where that can't be done.
func takeOver(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if buffered.Reader.Buffered() > 0 {
		return nil, errors.Join(errTalking, conn.Close())
	}
	setStreamHeader(w)
	header := w.Header()
	header["Connection"] = connectionClose
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	header.Write(&head) //nolint:errcheck // a buffer takes everything
	head.WriteString("\r\n")
	conn.SetWriteDeadline(time.Now().Add(streamTimeout)) //nolint:errcheck // then the first write says so
	conn.Write(head.Bytes())                             //nolint:errcheck // see above
	return conn, nil
}

// serve sends the events of a subscriber over a connection of its own, which it closes, until ended at most.
func (h *Handler) serve(ended context.Context, conn net.Conn, to *stream, sub *live.Subscriber) {
	defer sub.Close()
	ctx, gone := context.WithCancel(ended)
	var reading sync.WaitGroup
	reading.Go(func() { // until the client is gone, which is all that it may say: whoever sends more is cut off
		defer gone()
		conn.Read(make([]byte, 1)) //nolint:errcheck // nothing else follows from it
	})
	h.send(ctx, to, sub)
	conn.Close() //nolint:errcheck // nothing is left to be written
	reading.Wait()
}

// AwaitStreams returns once every event stream has ended, which they do after [Handler.Drain], or with the error of ctx.
func (h *Handler) AwaitStreams(ctx context.Context) error {
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

// send writes the events of a subscriber until its stream ends or the client is gone.
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
			h.Metrics.ObserveDelivery(count, time.Since(oldest))
		}
	}
}

// stream is an answer that goes on.
type stream struct {
	mu    sync.Mutex // an interruption may come at any time
	out   deadliner
	w     io.Writer
	flush func() error
}

type deadliner interface {
	SetWriteDeadline(deadline time.Time) error
}

// newStream returns a stream by way of net/http.
func newStream(w http.ResponseWriter) *stream {
	control := http.NewResponseController(w)
	return &stream{out: control, w: w, flush: control.Flush}
}

// use has the stream go over a connection from now on.
func (s *stream) use(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.w, s.flush = conn, conn, nil
}

// write sends events.
func (s *stream) write(events []*live.Event) error {
	s.limit(streamTimeout)
	if s.flush == nil { // the connection writes many at once
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

// limit has writes fail that take longer from now on, as far as the connection can.
func (s *stream) limit(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.SetWriteDeadline(time.Now().Add(timeout)) //nolint:errcheck // a connection without deadlines is in memory
}

// eventFilter reads which events are asked for.
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
			p.fail("types", "must be of status, expired and removed, separated by commas")
		}
		f.Types |= t
	}
	return f
}

// since reads after which event to begin. A client that comes back says so in a header, with the parameters that it
// first came with.
func (p *params) since(r *http.Request) string {
	since := p.text("since", maxEventID)
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return since
}

// list returns values that are separated by commas; none where the parameter is absent or empty.
func (p *params) list(name string) []string {
	value, _ := p.get(name)
	if value == "" {
		return nil
	}
	return slices.Collect(strings.SplitSeq(value, ","))
}
