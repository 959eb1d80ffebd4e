package handlers

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
)

// DefaultAnswerBytes is how many bytes the answers in memory take at most, unless a budget says otherwise.
const DefaultAnswerBytes = 64 << 20

// madeAtATime is how many bytes of an answer are encoded before other goroutines may run: see decodedAtATime.
const madeAtATime = 64 << 10

// What answers take in memory. Those of at most smallAnswer bytes count for nothing: MaxInFlight bounds them.
const (
	smallAnswer = 32 << 10
	itemMaking  = 1 << 10     // for each item of a page that is made
	callMaking  = 1 << 20     // for a call of a tool that is answered
	gzipMaking  = 1_280 << 10 // to compress an answer
)

// Hold has answers that are not small take a part of the budget of whoever asks until they are sent.
func (h *Handler) Hold(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env := envelopeOf(w)
		env.held = h.Answers.For(env.grant.Team())
		defer env.held.End()
		next.ServeHTTP(w, r)
	})
}

// making keeps room for a page of so many items while it is made.
func (h *Handler) making(ctx context.Context, held *budget.Holding, items int) error {
	if held == nil {
		return nil
	}
	return h.crowded(held.Make(ctx, int64(items)*itemMaking))
}

// grow keeps room for bytes more of an answer that is to be sent.
func (h *Handler) grow(ctx context.Context, held *budget.Holding, bytes int) error {
	if held == nil {
		return nil
	}
	return h.crowded(held.Grow(ctx, int64(bytes)))
}

// crowded returns what to tell a client for which there was no room, and counts it.
func (h *Handler) crowded(err error) error {
	switch {
	case errors.Is(err, budget.ErrFull):
		h.Metrics.CountCrowded()
		return models.Unavailable("answers in memory have reached ANSWERS_MAX_BYTES: try again later, or ask for a smaller page")
	case errors.Is(err, budget.ErrShare):
		h.Metrics.CountCrowded()
		return models.Unavailable("this token's answers in memory have reached their share of ANSWERS_MAX_BYTES: read the open ones first, or ask for a smaller page")
	}
	return err
}

// body is an answer that is made, within what its holding has room for.
type body struct {
	h    *Handler
	ctx  context.Context
	held *budget.Holding // nil for no bound
	text []byte
}

// newBody returns the body of an answer that takes about so many bytes, with room for them.
func (h *Handler) newBody(ctx context.Context, held *budget.Holding, size int) (*body, error) {
	b := &body{h: h, ctx: ctx, held: held}
	return b, b.makeRoom(size)
}

func (b *body) makeRoom(size int) error {
	if err := b.h.grow(b.ctx, b.held, size); err != nil {
		return err
	}
	before := cap(b.text)
	b.text = append(make([]byte, 0, size), b.text...)
	if b.held != nil {
		b.held.Keep(b.held.Held() - int64(before))
	}
	return nil
}

// Write implements io.Writer.
func (b *body) Write(p []byte) (int, error) {
	if need := len(b.text) + len(p); need > cap(b.text) {
		if err := b.makeRoom(need + need/4); err != nil {
			return 0, err
		}
	}
	if (len(b.text)+len(p))/madeAtATime > len(b.text)/madeAtATime {
		runtime.Gosched()
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// respondLarge is respond for an answer that takes about so many bytes.
func (h *Handler) respondLarge(w http.ResponseWriter, r *http.Request, v any, size int) error {
	held := heldOf(w)
	gzip := gzipRoom(r, size)
	if err := h.grow(r.Context(), held, gzip); err != nil {
		return err
	}
	b, err := h.newBody(r.Context(), held, size+size/4)
	if err != nil {
		return err
	}
	if err := json.MarshalWrite(b, v); err != nil {
		return err
	}
	if _, err := b.Write([]byte{'\n'}); err != nil {
		return err
	}
	if fresh(w, r, b.text) {
		return nil
	}
	if held != nil {
		held.Keep(int64(cap(b.text) + gzip))
	}
	writeBody(w, http.StatusOK, b.text)
	return nil
}

// gzipRoom returns how many bytes it takes to compress an answer of that size, 0 where that is not asked for.
func gzipRoom(r *http.Request, size int) int {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return gzipMaking + size
	}
	return 0
}

// heldOf returns what the answer holds of the budget, nil where that is not counted.
func heldOf(w http.ResponseWriter) *budget.Holding {
	if env := envelopeOf(w); env != nil {
		return env.held
	}
	return nil
}

// collected is an answer that is sent once all of it is there, so that whatever made it is let go of first.
type collected struct {
	http.ResponseWriter
	compressed bool // only if it is compressed
	status     int  // 0 until the answer begins; see passes
	passes     bool // the answer goes on at once
	text       *bytes.Buffer
}

// Collect sends answers once all of them is there: whoever reads slowly holds up nothing but the answer's bytes.
func Collect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		collect(w, false, func(w http.ResponseWriter) { next.ServeHTTP(w, r) })
	})
}

func collect(w http.ResponseWriter, compressed bool, answer func(http.ResponseWriter)) {
	c := &collected{ResponseWriter: w, compressed: compressed}
	answer(c)
	c.send()
}

// Unwrap lets http.ResponseController reach the connection.
func (c *collected) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (c *collected) WriteHeader(status int) {
	if c.status != 0 {
		return
	}
	if status < http.StatusOK {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	c.status = status
	if c.passes = c.compressed && c.Header().Get("Content-Encoding") == ""; c.passes {
		c.ResponseWriter.WriteHeader(status)
	}
}

// Write implements io.Writer.
func (c *collected) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.passes {
		return c.ResponseWriter.Write(p)
	}
	if c.text == nil {
		c.text = buffers.Get().(*bytes.Buffer)
	}
	return c.text.Write(p)
}

// send sends what was collected.
func (c *collected) send() {
	if c.passes || c.status == 0 {
		return
	}
	if c.text == nil {
		c.ResponseWriter.WriteHeader(c.status)
		return
	}
	defer release(c.text)
	if held := heldOf(c); held != nil {
		held.Keep(int64(c.text.Cap()))
	}
	c.Header()["Content-Length"] = []string{strconv.Itoa(c.text.Len())}
	c.ResponseWriter.WriteHeader(c.status)
	c.ResponseWriter.Write(c.text.Bytes()) //nolint:errcheck // the client is gone, and nobody else is to be told
}
