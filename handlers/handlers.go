// Package handlers serves the HTTP API: it decodes requests, calls the store, and encodes responses. The API is defined
// by openapi.yaml in this directory.
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
	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Handler serves every route except /metrics. Its methods are safe for concurrent use.
type Handler struct {
	Options
	started time.Time

	replayed  atomic.Bool // the journal, if there is one, has been read
	draining  atomic.Bool
	streams   sync.WaitGroup // event streams on hijacked connections
	inFlight  places
	strangers strangers
	excess    logLimiter // for requests refused because there were too many
	faults    logLimiter // for other failed requests of strangers

	sameOrigin *http.CrossOriginProtection

	notificationTests *rate.Limiter
}

// Options are the dependencies and settings of a handler.
type Options struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Journal  *journal.Journal // nil if state is kept in memory only
	Hub      *live.Hub
	Metrics  *metrics.Metrics
	Logger   *slog.Logger
	Version  string // shown by /health, like Commit
	Commit   string // "" if it is not known

	PublicURL *url.URL       // the address that people and agents use, without a trailing slash; nil for the address of each request
	Responses *budget.Budget // for the memory of responses; nil for [DefaultResponseBytes]
	Bodies    *budget.Budget // for the memory of request bodies; nil for [DefaultBodyBytes]
	Access    Access
	Capture   adapters.Capture // how much of the events of agents' tools is kept; "" for everything
	Dashboard *dashboard.Dashboard
	Notifier  *notify.Notifier
	Tracing   bool // requests may have spans
	HasRules  bool // there is a file with rules for the notifier
	Devices   *devices.Registry
	Cluster   Cluster // nil for a server by itself
}

// New returns a handler. If there is a journal or a cluster, the handler is not ready until [Handler.SetReady] is called.
func New(p Options) *Handler {
	if p.Responses == nil {
		p.Responses = budget.New(DefaultResponseBytes)
	}
	if p.Bodies == nil {
		p.Bodies = budget.New(DefaultBodyBytes)
	}
	h := &Handler{Options: p, started: time.Now(), sameOrigin: ownOrigin(p.PublicURL)}
	h.excess = logLimiter{rate: 1, burst: 1}
	h.faults = logLimiter{rate: 10, burst: 100}
	h.strangers.onDrop = func(bound metrics.Bound) {
		h.Metrics.CountRefusal(http.StatusServiceUnavailable)
		h.Metrics.CountBound(bound)
	}
	h.Metrics.AddStrangers(h.strangers.count)
	h.notificationTests = rate.NewLimiter(rate.Every(testEvery), testBurst)
	h.replayed.Store(p.Journal == nil && p.Cluster == nil)
	return h
}

// SetReady makes the handler ready for reports and reads. Call it when the store has loaded the journal.
func (h *Handler) SetReady() { h.replayed.Store(true) }

// IsReady reports whether the server should get requests: the journal has been read, the server has caught up with the
// other servers, if there are any, and it is not stopping.
func (h *Handler) IsReady() bool {
	_, status := h.ready()
	return status == http.StatusOK
}

// errReplaying is the response to reports and reads until then.
var errReplaying = models.Unavailable("the server is starting: it is reading its journal")

// Endpoint responds to a request, or returns an error before it has written anything. The endpoints of a [Handler] are
// its methods.
type Endpoint func(w http.ResponseWriter, r *http.Request) error

// Handle turns an endpoint into an http.HandlerFunc, which responds with the error that the endpoint returns, if any.
func (h *Handler) Handle(answer Endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := answer(w, r); err != nil {
			h.fail(w, r, err)
		}
	}
}

// Read turns an endpoint that reads the state of agents and sessions into an http.HandlerFunc. It first expires the
// sessions that are due: see [Handler.refresh]. The X-Event-Id header is the position from which the event stream
// continues.
func (h *Handler) Read(answer Endpoint) http.HandlerFunc {
	return h.ReadAfter(func(w http.ResponseWriter, r *http.Request) error {
		h.refresh()
		w.Header()["X-Event-Id"] = []string{h.Hub.Position()}
		return answer(w, r)
	})
}

// ReadAfter turns an endpoint that reads something else, such as notifications, into an http.HandlerFunc. In a cluster,
// the parameter after may name a position that the response must include: see [Handler.await].
func (h *Handler) ReadAfter(answer Endpoint) http.HandlerFunc {
	return h.AfterReplay(func(w http.ResponseWriter, r *http.Request) error {
		r, err := h.await(w, r)
		if err != nil {
			return err
		}
		return answer(w, r)
	})
}

// AfterReplay turns an endpoint that needs the state from the journal into an http.HandlerFunc. Until
// [Handler.SetReady] is called, it responds with 503.
func (h *Handler) AfterReplay(answer Endpoint) http.HandlerFunc {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if !h.replayed.Load() {
			return errReplaying
		}
		return answer(w, r)
	})
}

// retryAfter is the Retry-After header of 503 responses, in seconds.
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
	models.CodeBadGateway:           http.StatusBadGateway,
	models.CodeUnavailable:          http.StatusServiceUnavailable,
	models.CodeInternal:             http.StatusInternalServerError,
}

// statusClientGone is the status in the log and in the metrics of a request whose client went away before the response.
// nginx uses the same.
const statusClientGone = 499

// knownError returns the error that clients get for err: err itself if it is a *models.Error, or one that says that the
// journal or the stream is unavailable. It returns nil for any other.
func knownError(err error) *models.Error {
	var known *models.Error
	var failure *journal.Failure
	var unavailable *recorder.Unavailable
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &failure):
		return models.Unavailable("the journal is unavailable: " + failure.Cause)
	case !errors.As(err, &unavailable):
		return nil
	case unavailable.Unknown:
		return models.Unavailable("it is not known whether this was stored, because the stream is unavailable: " + unavailable.Cause +
			". Send it again with the same report_id or Idempotency-Key, and it counts once")
	}
	return models.Unavailable("the stream is unavailable: " + unavailable.Cause)
}

// fail responds with an error. The text of an error that is not a *models.Error is only logged.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	known := knownError(err)
	switch {
	case known != nil:
	case errors.Is(err, journal.ErrClosed):
		known = models.Unavailable("the server is stopping")
	case r.Context().Err() != nil: // the client is gone
		w.WriteHeader(statusClientGone)
		return
	default:
		if env := envelopeOf(w); env != nil {
			env.cause = err
		}
		known = &models.Error{Code: models.CodeInternal, Message: "an internal error occurred: see the server's log under this request's X-Request-Id"}
	}
	w.Header()["Cache-Control"] = noStore
	if known.Code == models.CodeUnauthorized && r.ContentLength != 0 {
		w.Header()["Connection"] = connectionClose // so that net/http does not wait for the body of a stranger
	}
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

// NotFound responds to a request that matches no route.
func (h *Handler) NotFound(http.ResponseWriter, *http.Request) error {
	return models.NotFound("route: see /openapi.yaml")
}

// Shared header values. They must not be modified.
var (
	jsonType        = []string{"application/json"}
	noCache         = []string{"private, no-cache"}
	noStore         = []string{"no-store"}
	connectionClose = []string{"close"}
)

// buffers holds *bytes.Buffer for responses.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledAnswer is the maximum size of a buffer that is kept for other responses.
const maxPooledAnswer = 64 << 10

func release(b *bytes.Buffer) {
	if b.Cap() <= maxPooledAnswer {
		b.Reset()
		buffers.Put(b)
	}
}

// encode writes v as JSON with a final newline, so that it reads well in a terminal.
func encode(body *bytes.Buffer, v any) error {
	if err := json.MarshalWrite(body, v, json.Deterministic(true)); err != nil { // so that an ETag stands for the content
		return err
	}
	return body.WriteByte('\n')
}

// writeJSON responds with v. It fails only if the client is gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if err := encode(body, v); err != nil {
		panic("encode answer: " + err.Error()) // can't happen: all responses are plain values
	}
	writeBody(w, status, body.Bytes())
}

// writeBody responds with a JSON body.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // fails only if the client is gone
}

// respond responds to a read with v, or with 304 if the client already has it. The ETag is a hash of the response's
// bytes (RFC 9110, section 13.1.2).
func respond(w http.ResponseWriter, r *http.Request, v any) error {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if err := encode(body, v); err != nil {
		return err
	}
	if held := heldOf(w); held != nil {
		held.ShrinkTo(0)
	}
	if notModified(w, r, body.Bytes()) {
		return nil
	}
	writeBody(w, http.StatusOK, body.Bytes())
	return nil
}

// notModified sets the ETag of a response. If the client already has it, notModified responds with 304 and returns
// true.
func notModified(w http.ResponseWriter, r *http.Request, body []byte) bool {
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
