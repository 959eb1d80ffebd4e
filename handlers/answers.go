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

// DefaultResponseBytes is the default limit for the memory of responses, in bytes.
const DefaultResponseBytes = 64 << 20

// encodedAtATime is how many bytes of a response are encoded before other goroutines may run: see decodedAtATime.
const encodedAtATime = 64 << 10

// The memory that responses take, in bytes. Responses of at most smallAnswer bytes are not counted: MaxInFlight limits
// them.
const (
	smallAnswer = 32 << 10
	itemCost    = 1 << 10     // to build each item of a page
	callCost    = 1 << 20     // to answer a tool call
	gzipCost    = 1_280 << 10 // to compress a response
)

// LimitResponseMemory counts the memory of responses that are not small against the budget of the client's team until
// they are sent.
func (h *Handler) LimitResponseMemory(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env := envelopeOf(w)
		env.held = h.Responses.For(env.grant.Team(), env.grant.Share())
		defer env.held.Release()
		next.ServeHTTP(w, r)
	})
}

// reserveItems reserves memory for a page of items while it is built.
func (h *Handler) reserveItems(ctx context.Context, held *budget.Reservation, items int) error {
	if held == nil {
		return nil
	}
	return h.budgetError(held.ReserveToBuild(ctx, int64(items)*itemCost))
}

// grow reserves memory for more bytes of a response.
func (h *Handler) grow(ctx context.Context, held *budget.Reservation, bytes int) error {
	if held == nil {
		return nil
	}
	return h.budgetError(held.Reserve(ctx, int64(bytes)))
}

// budgetError turns an error of the response budget into one for the client, and counts it.
func (h *Handler) budgetError(err error) error {
	switch {
	case errors.Is(err, budget.ErrFull):
		h.Metrics.CountAnswerRefused()
		return models.Unavailable("responses in memory have reached ANSWERS_MAX_BYTES: try again later, or request a smaller page")
	case errors.Is(err, budget.ErrShare):
		h.Metrics.CountAnswerRefused()
		return models.Unavailable("this token's responses in memory have reached their share of ANSWERS_MAX_BYTES: read the pending ones first, or request a smaller page")
	}
	return err
}

// body is a response body being built. Its memory counts against held.
type body struct {
	h    *Handler
	ctx  context.Context
	held *budget.Reservation // nil for no limit
	text []byte
}

// newBody returns an empty body with memory for about size bytes.
func (h *Handler) newBody(ctx context.Context, held *budget.Reservation, size int) (*body, error) {
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
		b.held.ShrinkTo(b.held.Held() - int64(before))
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
	if (len(b.text)+len(p))/encodedAtATime > len(b.text)/encodedAtATime {
		runtime.Gosched()
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// respondLarge is like respond, for a response of about size bytes.
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
	if notModified(w, r, b.text) {
		return nil
	}
	if held != nil {
		held.ShrinkTo(int64(cap(b.text) + gzip))
	}
	writeBody(w, http.StatusOK, b.text)
	return nil
}

// gzipRoom returns the memory needed to compress a response of size bytes, 0 if the client does not accept gzip.
func gzipRoom(r *http.Request, size int) int {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return gzipCost + size
	}
	return 0
}

// heldOf returns the memory that the response holds of the budget, nil if it is not counted.
func heldOf(w http.ResponseWriter) *budget.Reservation {
	if env := envelopeOf(w); env != nil {
		return env.held
	}
	return nil
}

// collected is a response that is buffered and sent when it is complete, so that the resources used to build it are
// released first.
type collected struct {
	http.ResponseWriter
	compressed  bool // buffer compressed responses only
	status      int  // 0 until the header is written
	passthrough bool // write directly, without buffering
	text        *bytes.Buffer
}

// BufferResponse sends each response only when it is complete. A client that reads slowly then ties up only the bytes
// of its response.
func BufferResponse(next http.Handler) http.Handler {
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
	if c.passthrough = c.compressed && c.Header().Get("Content-Encoding") == ""; c.passthrough {
		c.ResponseWriter.WriteHeader(status)
	}
}

// Write implements io.Writer.
func (c *collected) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.passthrough {
		return c.ResponseWriter.Write(p)
	}
	if c.text == nil {
		c.text = buffers.Get().(*bytes.Buffer)
	}
	return c.text.Write(p)
}

// send sends the buffered response.
func (c *collected) send() {
	if c.passthrough || c.status == 0 {
		return
	}
	if c.text == nil {
		c.ResponseWriter.WriteHeader(c.status)
		return
	}
	defer release(c.text)
	if held := heldOf(c); held != nil {
		held.ShrinkTo(int64(c.text.Cap()))
	}
	c.Header()["Content-Length"] = []string{strconv.Itoa(c.text.Len())}
	c.ResponseWriter.WriteHeader(c.status)
	c.ResponseWriter.Write(c.text.Bytes()) //nolint:errcheck // fails only if the client is gone
}
