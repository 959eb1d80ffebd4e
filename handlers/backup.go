package handlers

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// backupTimeout is how long each write of a backup may take.
const backupTimeout = 60 * time.Second

// Backup sends a consistent copy of the journal as a tar archive: GET /api/backup. It is not available without tokens,
// because then nobody has the required scope. If the backup fails halfway, Backup aborts the connection.
func (h *Handler) Backup(w http.ResponseWriter, r *http.Request) error {
	if h.Access.Tokens == nil || h.Journal == nil {
		return &models.Error{Code: models.CodeNotFound, Message: "backups over HTTP need TOKENS_FILE and DATA_DIR"}
	}
	began := false
	err := h.Journal.SendBackup(func() io.Writer {
		began = true
		header := w.Header()
		header["Cache-Control"] = noStore
		header.Set("Content-Type", "application/x-tar")
		header.Set("Content-Disposition", `attachment; filename="kubeagents-backup.tar"`)
		return deadlineWriter{w, http.NewResponseController(w)}
	})
	if err != nil && began {
		h.Logger.LogAttrs(r.Context(), slog.LevelWarn, "backup interrupted", slog.String("error", err.Error()))
		panic(http.ErrAbortHandler) // so that the client does not take a partial backup for a complete one
	}
	if env := envelopeOf(w); err == nil && env != nil {
		h.audit(r, env, "sent", "a backup")
	}
	return err
}

// deadlineWriter sets a new deadline for each write, so that a response may take long as a whole.
type deadlineWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (d deadlineWriter) Write(b []byte) (int, error) {
	d.control.SetWriteDeadline(time.Now().Add(backupTimeout)) //nolint:errcheck // only in-memory connections have no deadlines
	return d.ResponseWriter.Write(b)
}
