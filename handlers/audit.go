package handlers

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
)

// audit writes down who did what, and what came of it.
func (h *Handler) audit(r *http.Request, env *envelope, outcome, detail string) {
	if h.Access.Audit == nil {
		return
	}
	who := env.grant.Name()
	if who == "" {
		who = "anybody"
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

// How many bytes of a path and of a method the log has at most.
const (
	maxLoggedPath   = 256
	maxLoggedMethod = 32
)

// pathOf returns the path of a request for the log, and never its query, which may hold a token.
func pathOf(r *http.Request) string {
	path := r.URL.EscapedPath()
	if len(path) > maxLoggedPath {
		return path[:maxLoggedPath] + "…"
	}
	return path
}

// methodOf returns the method of a request for the log: a client may choose any word.
func methodOf(r *http.Request) string {
	if len(r.Method) > maxLoggedMethod {
		return r.Method[:maxLoggedMethod] + "…"
	}
	return r.Method
}

// auditExcess writes that requests were refused because there were too many of them: a line a second of each status at most, which says of
// how many it is.
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
		detail += fmt.Sprintf("; so were %d others since the last such line", others)
	}
	h.audit(r, env, "refused", detail)
}

// lines bounds how many lines of the log strangers can cause, of each status code: a burst, and then so many a second.
type lines struct {
	rate  rate.Limit
	burst int

	mu    sync.Mutex
	kinds map[int]*kind // by status code
}

type kind struct {
	limiter *rate.Limiter
	left    int64 // that no line was written of, since the last one
}

// next reports whether another line may be written now, and of how many requests none was since the last one.
func (l *lines) next(status int) (left int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[status]
	if k == nil {
		if l.kinds == nil {
			l.kinds = map[int]*kind{}
		}
		k = &kind{limiter: rate.NewLimiter(l.rate, l.burst)}
		l.kinds[status] = k
	}
	if !k.limiter.Allow() {
		k.left++
		return 0, false
	}
	left, k.left = k.left, 0
	return left, true
}
