package handlers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/models"
)

// Cluster is what the handler needs to know of the stream of messages that several servers share. Its methods are safe
// for concurrent use.
type Cluster interface {
	// State returns how far the server is with the stream.
	State() cluster.State
	// Await returns nil once the server has applied the stream up to a position. Otherwise, the error is
	// [cluster.ErrOtherMessage] or that of ctx.
	Await(ctx context.Context, p cluster.Position) error
	// CatchUp returns nil once the server has applied what the stream has now.
	CatchUp(ctx context.Context) error
	// Now returns the time of the stream. It may differ from this machine's.
	Now() time.Time
	// Snapshot writes a snapshot to NATS. The error is [cluster.ErrSnapshotUnderWay], or says why it could not be written.
	Snapshot(ctx context.Context) (cluster.Snapshot, error)
}

// afterParameter is the query parameter of reads that names a position of the stream, which the response must include.
const afterParameter = "after"

// afterTimeout is how long a read waits for that position.
const afterTimeout = 5 * time.Second

// now returns the current time as far as it is compared with times of reports, of sessions and of what people do: in a
// cluster, that of the stream.
func (h *Handler) now() time.Time {
	if h.Cluster != nil {
		return h.Cluster.Now()
	}
	return time.Now()
}

// refresh expires the sessions that are due, so that a read is correct between two ticks of the expiry ticker. In a
// cluster, sessions expire only by messages of the stream, as they do at all servers.
func (h *Handler) refresh() {
	if h.Cluster == nil {
		h.Store.Expire(time.Now())
	}
}

type awaitedKey struct{}

// await waits until the server has applied the stream up to the position that the parameter after names, if there is
// one, and sets the headers that say how current the response is. The caller must read the state afterwards, with the
// request that await returns: its parameters may include after. The error is for the client.
//
// Without a cluster, await does nothing, and after is unknown.
func (h *Handler) await(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if h.Cluster == nil {
		return r, nil
	}
	r = r.WithContext(context.WithValue(r.Context(), awaitedKey{}, true))
	if err := h.awaitPosition(r); err != nil {
		return r, err
	}
	state, header := h.Cluster.State(), w.Header()
	header["X-Position"] = []string{state.Position.String()}
	header["Date"] = []string{h.now().UTC().Format(http.TimeFormat)} // up to which the response knows what happened
	if state.Age > 0 {
		header["X-Data-Age"] = []string{strconv.Itoa(wholeSeconds(state.Age))}
	}
	return r, nil
}

// wholeSeconds returns a duration in seconds, rounded up.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

func (h *Handler) awaitPosition(r *http.Request) error {
	p := newParams(r)
	text, given := p.get(afterParameter)
	if !given || p.err != nil {
		return p.err
	}
	position, err := cluster.ParsePosition(text)
	if err != nil {
		return models.BadRequest(afterParameter, "must be the X-Position of an earlier response, such as 81231-k3xq9wz2abcdefgh")
	}
	ctx, cancel := context.WithTimeout(r.Context(), afterTimeout)
	defer cancel()
	switch err := h.Cluster.Await(ctx, position); {
	case errors.Is(err, cluster.ErrOtherMessage):
		conflict := models.Conflict("after names a message that is not in the stream: the stream was recreated, or the position is from another one; read without after")
		conflict.Field = afterParameter
		return conflict
	case err != nil && r.Context().Err() == nil:
		return h.errBehind()
	default:
		return err
	}
}

// catchUp returns nil once the server has applied what the stream has now. A change that rests on an earlier one, such as
// the removal of a mute, calls it first: another server may have taken the earlier one just now. The error is for the client.
func (h *Handler) catchUp(ctx context.Context) error {
	if h.Cluster == nil {
		return nil
	}
	catching, cancel := context.WithTimeout(ctx, afterTimeout)
	defer cancel()
	if err := h.Cluster.CatchUp(catching); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return models.Unavailable("this server can't find out what the others have recorded: send the request again")
}

// errBehind returns the error for a read whose position the server has not reached in time.
func (h *Handler) errBehind() error {
	state := h.Cluster.State()
	cause := state.Cause
	if cause == "" {
		cause = fmt.Sprintf("%d messages of the stream are not applied yet", state.Behind)
	}
	return models.Unavailable(fmt.Sprintf("this server has not reached the position in after within %d seconds: %s", afterTimeout/time.Second, cause))
}

// readsAfter reports whether the parameters of a request may include after: it is a read that has waited for it.
func readsAfter(r *http.Request) bool { return r.Context().Value(awaitedKey{}) != nil }

// awaitPage is await for the page of the dashboard. While such a request waits, it counts as one in flight, as others
// always do. The request that it returns has no parameter after, which selects no view.
func (h *Handler) awaitPage(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	query := r.URL.Query()
	if h.Cluster == nil || !query.Has(afterParameter) {
		return h.await(w, r)
	}
	env := envelopeOf(w)
	if err := h.admit(w, env); err != nil {
		return r, err
	}
	defer h.leave(env)
	r, err := h.await(w, r)
	query.Del(afterParameter)
	u := *r.URL
	u.RawQuery, r.URL = query.Encode(), &u
	return r, err
}

// setPosition sets the header with a position that includes what the request has changed. Call it once that is recorded,
// before the response begins.
func (h *Handler) setPosition(w http.ResponseWriter) {
	if h.Cluster != nil {
		w.Header()["X-Position"] = []string{h.Cluster.State().Position.String()}
	}
}
