package handlers

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/live"
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
	if p.err != nil {
		return p.err
	}
	stream := newStream(w, r)
	if r.Method == http.MethodHead {
		return stream.begin()
	}
	sub, err := h.Hub.Subscribe(filter, since, stream.interrupt)
	switch {
	case errors.Is(err, live.ErrFull):
		return models.Unavailable("there are as many subscribers as MAX_SUBSCRIBERS allows")
	case errors.Is(err, live.ErrClosed):
		return models.Unavailable("the server is stopping")
	case err != nil:
		return err
	}
	defer sub.Close()
	if err := stream.begin(); err != nil {
		return err
	}
	h.send(r.Context(), stream, sub) // an answer that has begun can only end
	return nil
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
	w       http.ResponseWriter
	control *http.ResponseController
	shared  bool // other requests share its connection
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{w, http.NewResponseController(w), r.ProtoMajor > 1}
}

var eventStreamType = []string{"text/event-stream"}

// begin sends the head of the answer. Proxies are asked to pass on what comes at once. A connection of its own ends with
// the stream, so that no deadline of it reaches another request.
func (s *stream) begin() error {
	header := s.w.Header()
	header["Content-Type"] = eventStreamType
	header["Cache-Control"] = noStore
	if !s.shared {
		header["Connection"] = connectionClose
	}
	header.Set("X-Accel-Buffering", "no")
	if err := s.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if env := envelopeOf(s.w); env != nil {
		env.began = time.Now()
	}
	s.w.WriteHeader(http.StatusOK)
	return nil
}

// write sends events.
func (s *stream) write(events []*live.Event) error {
	if err := s.limit(streamTimeout); err != nil {
		return err
	}
	for _, e := range events {
		if _, err := s.w.Write(e.Frame); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// interrupt has a write that waits for the client fail before long.
func (s *stream) interrupt() { s.limit(endTimeout) } //nolint:errcheck // then the write ends by its own limit

func (s *stream) limit(timeout time.Duration) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
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
