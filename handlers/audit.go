package handlers

import (
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
		slog.String("what", r.Method+" "+r.URL.EscapedPath()), // never the query, which may hold a token
		slog.String("outcome", outcome),
		slog.Int("status", env.status),
		slog.String("detail", detail),
		slog.String("request_id", env.id[0]),
	)
}
