package handlers

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/models"
)

// snapshotAnswer is the response to a request for a snapshot.
type snapshotAnswer struct {
	Position string    `json:"position"` // of the stream, up to which the snapshot has everything
	Bytes    uint64    `json:"bytes"`
	Written  time.Time `json:"written"`
}

// Snapshot writes a snapshot of the state to NATS, and responds once it can be read there: POST /api/snapshots.
func (h *Handler) Snapshot(w http.ResponseWriter, r *http.Request) error {
	if h.Cluster == nil {
		return &models.Error{Code: models.CodeNotFound, Message: "snapshots need a cluster: set NATS_URL, or use a backup"}
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Time{}) //nolint:errcheck // only in-memory connections have no deadlines
	snapshot, err := h.Cluster.Snapshot(r.Context())
	control.SetWriteDeadline(time.Now().Add(backupTimeout)) //nolint:errcheck // see above
	if errors.Is(err, cluster.ErrSnapshotUnderWay) {
		return models.Conflict("this server is writing a snapshot already")
	}
	if err != nil {
		return err
	}
	if env := envelopeOf(w); env != nil {
		h.audit(r, env, "wrote", "a snapshot of "+strconv.FormatUint(snapshot.Size, 10)+" bytes")
	}
	w.Header()["Cache-Control"] = noStore
	writeJSON(w, http.StatusCreated, snapshotAnswer{snapshot.Position.String(), snapshot.Size, snapshot.Written.UTC()})
	return nil
}
