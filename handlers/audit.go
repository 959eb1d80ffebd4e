package handlers

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/internal/access"
)

// audit logs who did what, and the outcome.
func (h *Handler) audit(r *http.Request, env *envelope, outcome, detail string) {
	if h.Access.Audit == nil {
		return
	}
	who := env.grant.Name()
	if who == "" {
		who = "anonymous"
	}
	h.Access.Audit.LogAttrs(r.Context(), slog.LevelInfo, "audit",
		slog.String("who", who),
		slog.String("client", clientText(r, env)),
		slog.String("what", methodOf(r)+" "+pathOf(r)),
		slog.String("outcome", outcome),
		slog.Int("status", env.status),
		slog.String("detail", detail),
		slog.String("request_id", env.id[0]),
	)
}

// How many bytes of a path and of a method are logged at most.
const (
	maxLoggedPath   = 256
	maxLoggedMethod = 32
)

// pathOf returns the path of a request for the log, without tokens and without the query, which may contain one.
func pathOf(r *http.Request) string {
	path := access.HideSecrets(r.URL.EscapedPath())
	if len(path) > maxLoggedPath {
		return path[:maxLoggedPath] + "…"
	}
	return path
}

// methodOf returns the method of a request for the log. It is shortened, since a client may send any word.
func methodOf(r *http.Request) string {
	if len(r.Method) > maxLoggedMethod {
		return r.Method[:maxLoggedMethod] + "…"
	}
	return r.Method
}

// auditExcess logs that requests were refused because there were too many. It logs at most one line per second and
// status, with the number of requests it stands for.
func (h *Handler) auditExcess(r *http.Request, env *envelope) {
	if h.Access.Audit == nil {
		return
	}
	others, ok := h.excess.next(env.status)
	if !ok {
		return
	}
	detail := env.refused
	if others > 0 {
		detail += fmt.Sprintf("; %d more since the last such line", others)
	}
	h.audit(r, env, "refused", detail)
}

// logLimiter limits how many log lines strangers can cause per status code: a burst, and then a rate per second.
type logLimiter struct {
	rate  rate.Limit
	burst int

	mu       sync.Mutex
	statuses map[int]*statusLimiter // by status code
}

type statusLimiter struct {
	limiter    *rate.Limiter
	suppressed int64 // requests not logged since the last line
}

// next reports whether another line may be logged now, and how many requests were not logged since the last one.
func (l *logLimiter) next(status int) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.statuses[status]
	if s == nil {
		if l.statuses == nil {
			l.statuses = map[int]*statusLimiter{}
		}
		s = &statusLimiter{limiter: rate.NewLimiter(l.rate, l.burst)}
		l.statuses[status] = s
	}
	if !s.limiter.Allow() {
		s.suppressed++
		return 0, false
	}
	suppressed, s.suppressed = s.suppressed, 0
	return suppressed, true
}
