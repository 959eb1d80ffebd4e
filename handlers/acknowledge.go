package handlers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Limits of a request to acknowledge sessions.
const (
	maxAcknowledgeBody = 64 << 10 // bytes
	maxAcknowledged    = 1000     // sessions
	maxSnoozeMinutes   = 7 * 24 * 60
	acknowledgedPage   = 256 << 10 // bytes of memory for sessions that are acknowledged for the same reason
)

// acknowledgeRequest is the body of a request to acknowledge sessions.
type acknowledgeRequest struct {
	Sessions []sessionRef `json:"sessions"` // these sessions, or
	Needs    string       `json:"needs"`    // those that need attention for a reason
	Minutes  int          `json:"minutes"`  // of a snooze; 0 for no end
	AsOf     time.Time    `json:"as_of"`    // see [recorder.Seen]
}

type sessionRef struct {
	AgentID string    `json:"agent_id"`
	Topic   string    `json:"session_topic"`
	AsOf    time.Time `json:"as_of"` // of this session; zero for that of the request
}

// seenAs returns the session that ref names, as seen up to asOf unless ref says otherwise.
func (ref sessionRef) seenAs(asOf time.Time) recorder.Seen {
	if !ref.AsOf.IsZero() {
		asOf = ref.AsOf
	}
	return recorder.Seen{SessionKey: store.SessionKey{AgentID: ref.AgentID, Topic: ref.Topic}, AsOf: asOf}
}

type acknowledgeResult struct {
	Acknowledged int  `json:"acknowledged"` // sessions
	More         bool `json:"more"`         // more sessions need attention for the same reason
}

// AcknowledgeSession acknowledges or snoozes a session that needs attention, and returns it: POST
// /api/agents/{agent_id}/sessions/{session_topic}/acknowledge.
func (h *Handler) AcknowledgeSession(w http.ResponseWriter, r *http.Request) error {
	in, err := h.readAcknowledgement(w, r)
	if err != nil {
		return err
	}
	if in.Sessions != nil || in.Needs != "" {
		return models.BadRequest("sessions", "and needs must be absent: the path names the session")
	}
	key := store.SessionKey{AgentID: pathParam(r, "agent_id"), Topic: pathParam(r, "session_topic")}
	if !grantOf(w).Covers(key.AgentID) {
		return models.NotFound("session")
	}
	n, err := h.acknowledge(grantOf(w), []recorder.Seen{{SessionKey: key, AsOf: in.AsOf}}, in.Minutes)
	if err != nil {
		return err
	}
	h.setPosition(w)
	session, _, _, ok := h.Store.SessionInFull(key.AgentID, key.Topic, nil, 1)
	switch {
	case !ok:
		return models.NotFound("session")
	case n == 0 && !in.AsOf.IsZero():
		return models.Conflict("the session does not need attention, or something new has happened to it after as_of: look at it again")
	case n == 0:
		return models.Conflict("the session does not need attention: it is neither waiting nor lost, and has not failed")
	}
	if !grantOf(w).Allows(access.Read) {
		session.Title, session.CurrentMessage, session.Question = "", "", nil
	}
	writeJSON(w, http.StatusOK, session)
	return nil
}

// Acknowledge acknowledges or snoozes several sessions that need attention: POST /api/acknowledge.
func (h *Handler) Acknowledge(w http.ResponseWriter, r *http.Request) error {
	in, err := h.readAcknowledgement(w, r)
	if err != nil {
		return err
	}
	if in.Needs != "" {
		if err := h.catchUp(r.Context()); err != nil {
			return err
		}
	}
	sessions, more, err := h.sessionsToAcknowledge(r.Context(), grantOf(w).Team(), in)
	if err != nil {
		return err
	}
	n, err := h.acknowledge(grantOf(w), sessions, in.Minutes)
	if err != nil {
		return err
	}
	h.setPosition(w)
	writeJSON(w, http.StatusOK, acknowledgeResult{n, more})
	return nil
}

// readAcknowledgement reads the body of a request, which may be empty.
func (h *Handler) readAcknowledgement(w http.ResponseWriter, r *http.Request) (in acknowledgeRequest, err error) {
	if err := readObject(w, r, maxAcknowledgeBody, &in, "a JSON object with sessions (a list of agent_id and session_topic) or needs, and optionally minutes and as_of (a time such as 2026-01-02T15:04:05Z)"); err != nil {
		return in, err
	}
	return in, checkMinutes(in.Minutes)
}

func checkMinutes(minutes int) error {
	if minutes < 0 || minutes > maxSnoozeMinutes {
		return models.BadRequest("minutes", fmt.Sprintf("must be 1 to %d, or 0 for no end", maxSnoozeMinutes))
	}
	return nil
}

// acknowledgeFor acknowledges a session for the caller of a tool.
func (h *Handler) acknowledgeFor(c caller, in acknowledgeArgs) (result acknowledgeResult, err error) {
	if err := checkMinutes(in.Minutes); err != nil {
		return result, err
	}
	session := sessionRef{AgentID: in.AgentID, Topic: in.SessionTopic, AsOf: in.AsOf}
	result.Acknowledged, err = h.acknowledge(c.grant, []recorder.Seen{session.seenAs(time.Time{})}, in.Minutes)
	return result, err
}

// sessionsToAcknowledge returns the sessions that a request names: those of a team, at most maxAcknowledged.
func (h *Handler) sessionsToAcknowledge(ctx context.Context, team *store.Team, in acknowledgeRequest) (sessions []recorder.Seen, more bool, err error) {
	if len(in.Sessions) > maxAcknowledged {
		return nil, false, models.BadRequest("sessions", fmt.Sprintf("must have at most %d items", maxAcknowledged))
	}
	for _, ref := range in.Sessions {
		sessions = append(sessions, ref.seenAs(in.AsOf))
	}
	need, ok := models.ParseNeed(in.Needs)
	switch {
	case (in.Needs == "") == (in.Sessions == nil):
		return nil, false, models.BadRequest("sessions", "or needs is required, and not both")
	case in.Needs == "":
		return sessions, false, nil
	case !ok:
		return nil, false, models.BadRequest("needs", "must be one of "+strings.Join(models.NeedNames[:], ", "))
	}
	page, err := h.Store.Sessions(ctx, store.SessionQuery{Team: team, Need: need, Bytes: acknowledgedPage}, nil, maxAcknowledged)
	for _, se := range page.Items {
		sessions = append(sessions, sessionRef{AgentID: se.AgentID, Topic: se.Topic}.seenAs(in.AsOf))
	}
	return sessions, page.Next != nil, err
}

// acknowledge records that a client acknowledges sessions, for so many minutes or, if that is 0, without an end. It
// returns how many of them needed attention.
func (h *Handler) acknowledge(grant *access.Grant, sessions []recorder.Seen, minutes int) (int, error) {
	now := h.now().UTC()
	ack := models.Acknowledgement{At: now, By: grant.Name()}
	if minutes > 0 {
		ack.Until = now.Add(time.Duration(minutes) * time.Minute)
	}
	n, refused, err := h.Recorder.Acknowledge(grant.Team(), sessions, ack, now)
	if err == nil && refused != 0 {
		err = noRoom(refused)
	}
	return n, err
}
