package handlers

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// backupTimeout is how long a client may take for each piece of a backup.
const backupTimeout = 60 * time.Second

// Backup sends a consistent copy of the journal, as a tar archive: GET /api/backup. Without tokens there is none, because then nobody
// has the scope that it needs. Where it breaks off, so does the connection.
func (h *Handler) Backup(w http.ResponseWriter, r *http.Request) error {
	if h.Access.Tokens == nil || h.Journal == nil {
		return models.NotFound("backup: it needs TOKENS_FILE and DATA_DIR")
	}
	began := false
	err := h.Journal.SendBackup(func() io.Writer {
		began = true
		header := w.Header()
		header["Cache-Control"] = noStore
		header.Set("Content-Type", "application/x-tar")
		header.Set("Content-Disposition", `attachment; filename="kubeagents-backup.tar"`)
		return patient{w, http.NewResponseController(w)}
	})
	if err != nil && began {
		h.Logger.LogAttrs(r.Context(), slog.LevelWarn, "a backup broke off", slog.String("error", err.Error()))
		panic(http.ErrAbortHandler) // so that the client does not take a part for the whole
	}
	if env := envelopeOf(w); err == nil && env != nil {
		h.audit(r, env, "sent", "a backup")
	}
	return err
}

// patient is an answer that may take long as a whole, but not in any piece.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	p.control.SetWriteDeadline(time.Now().Add(backupTimeout)) //nolint:errcheck // a connection without deadlines is in memory
	return p.ResponseWriter.Write(b)
}
