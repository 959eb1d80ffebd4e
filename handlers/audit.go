package handlers

import (
	"fmt"
	"log/slog"
	"net/http"
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
		slog.String("what", r.Method+" "+pathOf(r)),
		slog.String("outcome", outcome),
		slog.Int("status", env.status),
		slog.String("detail", detail),
		slog.String("request_id", env.id[0]),
	)
}

// maxLoggedPath is how many bytes of a path the log has at most.
const maxLoggedPath = 256

// pathOf returns the path of a request for the log, and never its query, which may hold a token.
func pathOf(r *http.Request) string {
	path := r.URL.EscapedPath()
	if len(path) > maxLoggedPath {
		return path[:maxLoggedPath] + "…"
	}
	return path
}

// auditExcess writes that requests were refused because there were too many of them: a line a second at most, which says of how many
// it is.
func (h *Handler) auditExcess(r *http.Request, env *envelope) {
	if h.Access.Audit == nil {
		return
	}
	left := h.excess.unsaid.Add(1)
	if !h.excess.lines.Allow() {
		return
	}
	h.excess.unsaid.Add(-left)
	detail := env.refused
	if left > 1 {
		detail += fmt.Sprintf("; so were %d others since the last such line", left-1)
	}
	h.audit(r, env, "refused", detail)
}
