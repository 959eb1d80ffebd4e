package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

// Limits of mutes.
const (
	maxMuteBody    = 8 << 10 // bytes
	maxMuteMinutes = 30 * 24 * 60
	mutesPerToken  = 100
)

// muteRequest is the body of a request to mute: one agent, one rule, or everything.
type muteRequest struct {
	AgentID string    `json:"agent_id"`
	Rule    string    `json:"rule"`
	Minutes int       `json:"minutes"` // or
	Until   time.Time `json:"until"`
}

// shownMute is a mute as a client sees it.
type shownMute struct {
	notify.Mute
	Removable bool `json:"removable"` // the client may remove it
}

type muteList struct {
	Mutes   []shownMute `json:"mutes"`
	Manages bool        `json:"manages"` // see [access.Grant.ManagesNotifications]
}

// Mutes returns the mutes that a client may see: GET /api/notifications/mutes.
func (h *Handler) Mutes(w http.ResponseWriter, r *http.Request) error {
	return respond(w, r, muteList{h.mutesFor(grantOf(w)), grantOf(w).ManagesNotifications()})
}

// mutesFor returns the mutes that a client may see: those of its agents, and those of everything. Clients that manage
// notifications see all.
func (h *Handler) mutesFor(grant *access.Grant) []shownMute {
	shown := []shownMute{}
	for _, m := range h.Notifier.Mutes() {
		if seesMute(grant, m) {
			shown = append(shown, shownMute{m, removesMute(grant, m)})
		}
	}
	return shown
}

func seesMute(grant *access.Grant, m notify.Mute) bool {
	return removesMute(grant, m) || m.Rule == "" && (m.Agent == "" || grant.Covers(m.Agent))
}

// removesMute reports whether a client may remove a mute: its own always, otherwise if it could have made it.
func removesMute(grant *access.Grant, m notify.Mute) bool {
	if grant.ManagesNotifications() {
		return true
	}
	return grant.Allows(access.Acknowledge) && (m.By == grant.Name() || m.Agent != "" && grant.Covers(m.Agent))
}

// Mute holds back notifications for a time: POST /api/notifications/mutes.
func (h *Handler) Mute(w http.ResponseWriter, r *http.Request) error {
	var in muteRequest
	const allowed = "a JSON object with minutes or until (a time such as 2026-01-02T15:04:05Z), and optionally agent_id or rule"
	if err := readObject(w, r, maxMuteBody, &in, allowed); err != nil {
		return err
	}
	m, err := h.mute(r.Context(), grantOf(w), in)
	if err != nil {
		return err
	}
	h.setPosition(w)
	writeJSON(w, http.StatusOK, m)
	h.auditDone(r, w, "muted", fmt.Sprintf("%s until %s", targetOf(m.Mute), m.Until.Format(time.RFC3339)))
	return nil
}

// mute adds a mute for a client, in the place of the one that the client has for the same.
func (h *Handler) mute(ctx context.Context, grant *access.Grant, in muteRequest) (shownMute, error) {
	until, err := in.end(h.now())
	if err == nil {
		err = h.catchUp(ctx)
	}
	if err == nil {
		err = h.mayMute(grant, in)
	}
	if err != nil {
		return shownMute{}, err
	}
	m := notify.Mute{Agent: in.AgentID, Rule: in.Rule, Until: until, By: grant.Name()}
	own, same := 0, ""
	for _, other := range h.Notifier.Mutes() {
		if other.By != m.By {
			continue
		}
		own++
		if other.Agent == m.Agent && other.Rule == m.Rule {
			same = other.ID
		}
	}
	if grant != nil && own >= mutesPerToken && same == "" {
		return shownMute{}, models.Conflict(fmt.Sprintf("this token has %d mutes already: remove one first", own))
	}
	m, err = h.Notifier.Mute(m)
	switch {
	case errors.Is(err, notify.ErrTooManyMutes):
		return shownMute{}, models.Conflict("there are too many mutes: remove one first")
	case err != nil:
		return shownMute{}, err
	}
	if same != "" {
		_, err = h.Notifier.Unmute(same)
	}
	return shownMute{m, true}, err
}

// end returns when the mute ends.
func (in *muteRequest) end(now time.Time) (time.Time, error) {
	latest := now.Add(maxMuteMinutes * time.Minute)
	switch {
	case (in.Minutes == 0) == in.Until.IsZero():
		return time.Time{}, models.BadRequest("minutes", "or until is required, and not both")
	case in.Minutes < 0 || in.Minutes > maxMuteMinutes:
		return time.Time{}, models.BadRequest("minutes", fmt.Sprintf("must be 1 to %d", maxMuteMinutes))
	case in.Minutes > 0:
		return now.Add(time.Duration(in.Minutes) * time.Minute), nil
	case !in.Until.After(now) || in.Until.After(latest):
		return time.Time{}, models.BadRequest("until", "must be in the future, and at most 30 days from now")
	}
	return in.Until, nil
}

// mayMute returns an error unless a client may mute what a request names, and it exists.
func (h *Handler) mayMute(grant *access.Grant, in muteRequest) error {
	manages := grant.ManagesNotifications()
	switch {
	case in.AgentID != "" && in.Rule != "":
		return models.BadRequest("rule", "must not be set together with agent_id")
	case in.AgentID == "" && !manages:
		return models.Forbidden("muting a rule or everything needs a token with the scope admin for all agents")
	case in.AgentID != "":
		if _, known := h.Store.Agent(in.AgentID); !known || !grant.Covers(in.AgentID) {
			return models.NotFound("agent")
		}
	case in.Rule != "":
		if names := h.ruleNames(); !slices.Contains(names, in.Rule) {
			return models.NotFound("rule: " + listOf("rules", names))
		}
	}
	return nil
}

// Unmute removes a mute: DELETE /api/notifications/mutes/{mute_id}.
func (h *Handler) Unmute(w http.ResponseWriter, r *http.Request) error {
	if err := h.catchUp(r.Context()); err != nil {
		return err
	}
	m, err := h.unmute(grantOf(w), pathParam(r, "mute_id"))
	if err != nil {
		return err
	}
	h.setPosition(w)
	w.WriteHeader(http.StatusNoContent)
	h.auditDone(r, w, "unmuted", targetOf(m))
	return nil
}

// unmute removes a mute for a client.
func (h *Handler) unmute(grant *access.Grant, id string) (m notify.Mute, err error) {
	for _, m := range h.Notifier.Mutes() {
		switch {
		case m.ID != id || !seesMute(grant, m):
			continue
		case !removesMute(grant, m):
			return m, models.Forbidden("only the token that added this mute may remove it, or one with the scope admin for all agents")
		}
		removed, err := h.Notifier.Unmute(id)
		if err != nil || removed {
			return m, err
		}
	}
	return m, models.NotFound("mute: it may have ended already")
}

// muteFor mutes an agent for the caller of a tool.
func (h *Handler) muteFor(ctx context.Context, c caller, in muteArgs) (result mutedResult, err error) {
	if in.AgentID == "" {
		return result, models.BadRequest("agent_id", "is required")
	}
	m, err := h.mute(ctx, c.grant, muteRequest{AgentID: in.AgentID, Minutes: in.Minutes})
	return mutedResult{m.Until}, err
}

// unmuteFor removes the mutes of an agent for the caller of a tool.
func (h *Handler) unmuteFor(ctx context.Context, c caller, in unmuteArgs) (result unmutedResult, err error) {
	if err := h.catchUp(ctx); err != nil {
		return result, err
	}
	for _, m := range h.Notifier.Mutes() {
		if m.Agent == "" || m.Agent != in.AgentID || !removesMute(c.grant, m) {
			continue
		}
		if _, err := h.unmute(c.grant, m.ID); err != nil {
			return result, err
		}
		result.Unmuted++
	}
	return result, nil
}

// targetOf says what a mute is about.
func targetOf(m notify.Mute) string {
	switch {
	case m.Agent != "":
		return fmt.Sprintf("agent %q", m.Agent)
	case m.Rule != "":
		return "rule " + m.Rule
	}
	return "everything"
}

// auditDone logs what a request changed.
func (h *Handler) auditDone(r *http.Request, w http.ResponseWriter, outcome, detail string) {
	if env := envelopeOf(w); env != nil {
		h.audit(r, env, outcome, detail)
	}
}
