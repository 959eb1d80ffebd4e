package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
)

// envelope wraps a ResponseWriter and records facts about the request and its response.
type envelope struct {
	http.ResponseWriter
	status int
	bytes  int64
	began  time.Time // when a stream began; zero for other responses
	cause  error     // the internal error, if any

	started time.Time
	held    *budget.Reservation // memory of the response; nil if not counted
	late    bool                // the client read the response too slowly

	grant   *access.Grant // what the client may do, once known
	client  netip.Addr    // the client's address, once known; see [Handler.clientOf]
	refused string        // why the request was refused, "" if it was not
	counted bool          // whether it counts as a request in flight

	webhookID string // ID of a signed webhook, once its signature is checked
	repeated  bool   // a webhook with this ID was accepted before

	id   [1]string  // the value of the X-Request-Id header
	span trace.Span // nil if the request is not traced
}

func (e *envelope) WriteHeader(status int) {
	if e.status == 0 && status >= http.StatusOK {
		e.status = status
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *envelope) Write(b []byte) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	if len(b) > pieceBytes {
		return e.writePieces(b)
	}
	n, err := e.ResponseWriter.Write(b)
	e.bytes += int64(n)
	return n, err
}

// How fast a client must read a large response: pieceBytes within pieceTimeout, and all of it within answerTimeout.
const (
	pieceBytes    = 64 << 10
	pieceTimeout  = 10 * time.Second
	answerTimeout = 60 * time.Second
)

// writePieces writes b piece by piece. It fails if the client reads too slowly.
func (e *envelope) writePieces(b []byte) (written int, err error) {
	control := http.NewResponseController(e.ResponseWriter)
	for piece := range slices.Chunk(b, pieceBytes) {
		deadline := time.Now().Add(pieceTimeout)
		if last := e.started.Add(answerTimeout); !e.started.IsZero() && last.Before(deadline) {
			deadline = last
		}
		control.SetWriteDeadline(deadline) //nolint:errcheck // only in-memory connections have no deadlines
		n, err := e.ResponseWriter.Write(piece)
		written += n
		e.bytes += int64(n)
		if err != nil {
			e.late = !time.Now().Before(deadline)
			return written, err
		}
	}
	return written, nil
}

// Unwrap lets http.ResponseController reach the connection.
func (e *envelope) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// envelopeOf returns the envelope that w wraps, nil if there is none.
func envelopeOf(w http.ResponseWriter) *envelope {
	for {
		switch inner := w.(type) {
		case *envelope:
			return inner
		case interface{ Unwrap() http.ResponseWriter }:
			w = inner.Unwrap()
		default:
			return nil
		}
	}
}

// requestIDs generates request IDs: a prefix that differs for each start of the server, and a number.
type requestIDs struct {
	prefix string
	last   atomic.Uint64
}

func newRequestIDs() *requestIDs {
	return &requestIDs{prefix: strconv.FormatInt(time.Now().UnixNano(), 36) + "-"}
}

// of returns the ID that the client sent if it is valid, or a new one.
func (ids *requestIDs) of(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); validRequestID(id) {
		return id
	}
	var id [32]byte
	return string(strconv.AppendUint(append(id[:0], ids.prefix...), ids.last.Add(1), 36))
}

// validRequestID reports whether id consists of 1 to 128 visible ASCII characters, so that it can be sent back and
// logged.
func validRequestID(id string) bool {
	return id != "" && len(id) <= 128 && strings.IndexFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

// Observe assigns each request its ID, turns panics into errors, and records each request in the metrics and the log.
// It logs successful requests at level debug, failed ones at warn, and those with internal errors at error. While the
// server is stopping, it closes each connection after its response.
func (h *Handler) Observe(next http.Handler) http.Handler {
	ids := newRequestIDs()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		env := &envelope{ResponseWriter: w, started: started, id: [1]string{ids.of(r)}}
		if h.Tracing {
			env.span = spanOf(r)
		}
		header := w.Header()
		header["X-Request-Id"] = env.id[:]
		setSecurity(header, r.TLS != nil)
		if h.draining.Load() {
			header["Connection"] = connectionClose
		}
		defer func() {
			if p := recover(); p != nil {
				h.recovered(env, r, p)
			}
			took := time.Since(started)
			answered := took
			if !env.began.IsZero() {
				answered = env.began.Sub(started)
			}
			route := chi.RouteContext(r.Context()).RoutePattern()
			if env.span != nil {
				nameSpan(env, r.Method, route)
			}
			h.Metrics.ObserveRequest(route, r.Method, env.status, answered)
			if env.late {
				h.Metrics.CountAnswerCutOff()
			}
			h.log(r, env, took)
		}()
		next.ServeHTTP(env, r)
	})
}

// recovered responds to a request whose handler panicked. If the response has begun, or the handler panicked with
// http.ErrAbortHandler, it aborts the connection, so that the client does not take a partial response for a complete
// one.
func (h *Handler) recovered(env *envelope, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	if env.status == 0 {
		h.fail(env, r, err)
		return
	}
	h.log(r, &envelope{status: http.StatusInternalServerError, cause: err, id: env.id}, 0)
	panic(http.ErrAbortHandler)
}

func (h *Handler) log(r *http.Request, env *envelope, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case env.status >= http.StatusInternalServerError && env.status != http.StatusServiceUnavailable && env.status != http.StatusBadGateway:
		level = slog.LevelError
	case env.status >= http.StatusBadRequest && env.status != statusClientGone:
		level = slog.LevelWarn
	}
	if env.refused != "" {
		h.Metrics.CountRefusal(env.status)
		switch env.status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusMisdirectedRequest:
			h.auditExcess(r, env)
		default:
			h.audit(r, env, "refused", env.refused)
		}
		return
	}
	if !h.Logger.Enabled(r.Context(), level) {
		return
	}
	var suppressed int64
	if level == slog.LevelWarn && env.grant == nil {
		var ok bool
		if suppressed, ok = h.faults.next(env.status); !ok {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("request_id", env.id[0]),
		slog.String("method", methodOf(r)),
		slog.String("path", pathOf(r)),
		slog.Int("status", env.status),
		slog.Int64("bytes", env.bytes),
		slog.Duration("took", took),
		slog.String("client", clientText(r, env)),
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int64("others_not_logged", suppressed))
	}
	if env.grant != nil {
		attrs = append(attrs, slog.String("token", env.grant.Name()))
	}
	if env.span != nil {
		attrs = append(attrs, slog.String("trace_id", env.span.SpanContext().TraceID().String()))
	}
	if env.cause != nil {
		attrs = append(attrs, slog.Any("error", env.cause))
	}
	h.Logger.LogAttrs(r.Context(), level, "request", attrs...)
}

// MethodNotAllowed responds to a request to a path that supports only other methods. The Allow header lists them.
func (h *Handler) MethodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	allowed := allowedMethods(chi.RouteContext(r.Context()))
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &models.Error{
		Code:    models.CodeMethodNotAllowed,
		Message: "this path only supports " + strings.Join(allowed, ", "),
	}
}

func allowedMethods(ctx *chi.Context) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if ctx.Routes.Match(chi.NewRouteContext(), method, ctx.RoutePath) {
			allowed = append(allowed, method)
		}
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	return allowed
}
