// Package handlers takes HTTP requests in and sends the answers out: decode, call the store, encode. The
// wire contract is openapi.yaml, which lives here.
package handlers

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Handler answers every route but /metrics. Its methods are safe for concurrent use.
type Handler struct {
	Parts
	started time.Time

	replayed  atomic.Bool // the journal, where there is one, has been read
	draining  atomic.Bool
	streams   sync.WaitGroup // event streams on connections of their own
	inFlight  places
	strangers strangers
	excess    lines // of the log, of requests refused because there were too many of them
	faults    lines // of the log, of other requests of strangers that failed

	sameOrigin *http.CrossOriginProtection
}

// Parts are what a handler works with.
type Parts struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Journal  *journal.Journal // nil where state is kept in memory only
	Hub      *live.Hub
	Metrics  *metrics.Metrics
	Logger   *slog.Logger
	Version  string // what /health shows

	PublicURL *url.URL       // that people and agents use, without a slash at the end; nil for the one by which each asks
	Answers   *budget.Budget // of the memory of answers; nil for one of [DefaultAnswerBytes]
	Bodies    *budget.Budget // of the memory of bodies; nil for one of [DefaultBodyBytes]
	Access    Access
	Capture   adapters.Capture // what is kept of events of agents' tools; everything unless it says less
	Dashboard *dashboard.Dashboard
}

// New returns a handler. Where there is a journal, it answers that it is not ready until [Handler.Replayed] is called.
func New(p Parts) *Handler {
	if p.Answers == nil {
		p.Answers = budget.New(DefaultAnswerBytes)
	}
	if p.Bodies == nil {
		p.Bodies = budget.New(DefaultBodyBytes)
	}
	h := &Handler{Parts: p, started: time.Now(), sameOrigin: ownOrigin(p.PublicURL)}
	h.excess = lines{rate: 1, burst: 1}
	h.faults = lines{rate: 10, burst: 100}
	h.strangers.onDrop = func(bound metrics.Bound) {
		h.Metrics.CountRefusal(http.StatusServiceUnavailable)
		h.Metrics.CountBound(bound)
	}
	h.Metrics.AddStrangers(h.strangers.count)
	h.replayed.Store(p.Journal == nil)
	return h
}

// Replayed has reports taken and reads answered from now on: the store holds what the journal knows.
func (h *Handler) Replayed() { h.replayed.Store(true) }

// errReplaying is what is answered until then.
var errReplaying = models.Unavailable("the server is starting: it is reading its journal")

// Endpoint answers a request, or returns an error before it has written anything. The endpoints of a
// [Handler] are its methods.
type Endpoint func(w http.ResponseWriter, r *http.Request) error

// Handle makes an http.HandlerFunc of an endpoint: where that returns an error, it answers with it.
func (h *Handler) Handle(answer Endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := answer(w, r); err != nil {
			h.fail(w, r, err)
		}
	}
}

// Read makes an http.HandlerFunc of an endpoint that shows the state. What is due expires first, so that
// the answer is true between two runs of the ticker. The header X-Event-Id says from where the event stream goes on.
func (h *Handler) Read(answer Endpoint) http.HandlerFunc {
	return h.AfterReplay(func(w http.ResponseWriter, r *http.Request) error {
		h.Store.Expire(time.Now())
		w.Header()["X-Event-Id"] = []string{h.Hub.Position()}
		return answer(w, r)
	})
}

// AfterReplay makes an http.HandlerFunc of an endpoint that needs to know all that the journal knows.
func (h *Handler) AfterReplay(answer Endpoint) http.HandlerFunc {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if !h.replayed.Load() {
			return errReplaying
		}
		return answer(w, r)
	})
}

// retryAfter is how many seconds a client should wait where the server can't do what it asks.
const retryAfter = "5"

var statusOfCode = map[models.Code]int{
	models.CodeBadRequest:           http.StatusBadRequest,
	models.CodeUnauthorized:         http.StatusUnauthorized,
	models.CodeForbidden:            http.StatusForbidden,
	models.CodeNotFound:             http.StatusNotFound,
	models.CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	models.CodeConflict:             http.StatusConflict,
	models.CodePayloadTooLarge:      http.StatusRequestEntityTooLarge,
	models.CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	models.CodeMisdirectedRequest:   http.StatusMisdirectedRequest,
	models.CodeTooManyRequests:      http.StatusTooManyRequests,
	models.CodeUnavailable:          http.StatusServiceUnavailable,
	models.CodeInternal:             http.StatusInternalServerError,
}

// statusClientGone is the status, in the log and in the metrics, of a request whose client went away before it was answered. It is
// nginx's.
const statusClientGone = 499

// fail answers a request with an error. The text of one that is not a *models.Error goes to the log alone.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known *models.Error
	var failure *journal.Failure
	switch {
	case errors.As(err, &known):
	case errors.As(err, &failure):
		known = models.Unavailable("the journal is unavailable: " + failure.Cause)
	case errors.Is(err, journal.ErrClosed):
		known = models.Unavailable("the server is stopping")
	case r.Context().Err() != nil: // the client is gone: there is nobody to answer
		w.WriteHeader(statusClientGone)
		return
	default:
		if env := envelopeOf(w); env != nil {
			env.cause = err
		}
		known = &models.Error{Code: models.CodeInternal, Message: "an internal error occurred: see the server's log under this request's X-Request-Id"}
	}
	w.Header()["Cache-Control"] = noStore
	switch known.Code {
	case models.CodeUnavailable:
		if w.Header().Get("Retry-After") == "" {
			w.Header().Set("Retry-After", retryAfter)
		}
	case models.CodeUnauthorized, models.CodeForbidden, models.CodeMisdirectedRequest, models.CodeTooManyRequests:
		if env := envelopeOf(w); env != nil {
			env.refused = known.Message
		}
	}
	writeJSON(w, statusOfCode[known.Code], known)
}

// NotFound answers a request that no route takes.
func (h *Handler) NotFound(http.ResponseWriter, *http.Request) error {
	return models.NotFound("route: see /openapi.yaml")
}

// Shared header values; they are never changed.
var (
	jsonType        = []string{"application/json"}
	noCache         = []string{"private, no-cache"}
	noStore         = []string{"no-store"}
	connectionClose = []string{"close"}
)

// buffers holds *bytes.Buffer for answers.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledAnswer is the size from which an answer's buffer is not kept for the next one.
const maxPooledAnswer = 64 << 10

func release(b *bytes.Buffer) {
	if b.Cap() <= maxPooledAnswer {
		b.Reset()
		buffers.Put(b)
	}
}

// encode writes v as JSON and ends the line, for whoever reads it in a terminal.
func encode(body *bytes.Buffer, v any) error {
	if err := json.MarshalWrite(body, v); err != nil {
		return err
	}
	return body.WriteByte('\n')
}

// writeJSON answers with v. That can't fail, but where the client is gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if err := encode(body, v); err != nil {
		panic("encode answer: " + err.Error()) // all that is encoded is plain values
	}
	writeBody(w, status, body.Bytes())
}

// writeBody answers with a body of JSON.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client is gone, and nobody else is to be told
}

// respond answers a read with v, or with 304 where the client has it: the ETag is a hash of the answer's
// bytes (RFC 9110, section 13.1.2).
func respond(w http.ResponseWriter, r *http.Request, v any) error {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if err := encode(body, v); err != nil {
		return err
	}
	if held := heldOf(w); held != nil {
		held.Keep(0)
	}
	if fresh(w, r, body.Bytes()) {
		return nil
	}
	writeBody(w, http.StatusOK, body.Bytes())
	return nil
}

// fresh sets the ETag of an answer, and answers with 304 where the client has it already.
func fresh(w http.ResponseWriter, r *http.Request, body []byte) bool {
	etag := `"` + strconv.FormatUint(xxhash.Sum64(body), 16) + `"`
	header := w.Header()
	header["Etag"] = []string{etag}
	header["Cache-Control"] = noCache
	if !matches(r.Header.Values("If-None-Match"), etag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}
