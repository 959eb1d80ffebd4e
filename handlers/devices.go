package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/models"
)

// Limits of requests about devices.
const (
	maxDeviceBody   = 64 << 10 // bytes
	maxPresenceBody = 8 << 10  // bytes
	maxDeviceName   = 60       // characters
	maxDeviceAgents = 100
	maxDeviceRules  = 20
	maxPageID       = 60 // characters
)

// presentFor is how long a page counts as being used after it said so.
const presentFor = 45 * time.Second

// deviceRequest is the body of a request to add a device.
type deviceRequest struct {
	Subscription subscriptionRequest `json:"subscription"`
	Renews       string              `json:"renews"` // endpoint of the subscription that this one replaces; nothing else changes
	Name         string              `json:"name"`
	Rules        []string            `json:"rules"`
	On           []notify.Change     `json:"on"`
	AgentIDs     []string            `json:"agent_ids"`
	Text         notify.Text         `json:"text"`
}

// subscriptionRequest is a PushSubscription as browsers encode it (Push API, W3C).
type subscriptionRequest struct {
	Endpoint       string `json:"endpoint"`
	ExpirationTime any    `json:"expirationTime"` // ignored: a subscription that has expired answers 410
	Keys           struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// deviceView is a device as its owner sees it: without its subscription.
type deviceView struct {
	ID       string          `json:"id"`
	Name     string          `json:"name,omitzero"`
	Added    time.Time       `json:"added"`
	Rules    []string        `json:"rules,omitempty"`
	On       []notify.Change `json:"on,omitempty"`
	AgentIDs []string        `json:"agent_ids,omitempty"`
	Text     notify.Text     `json:"text"`
	Host     string          `json:"push_service"` // host of the endpoint

	Delivered time.Time `json:"delivered_at,omitzero"` // when a message was last handed to the push service; since the start
	Failure   string    `json:"failure,omitzero"`      // of the last attempt, if it failed
	Failed    time.Time `json:"failed_at,omitzero"`
}

type devicesView struct {
	PublicKey string       `json:"public_key,omitzero"` // with which browsers subscribe: applicationServerKey
	Off       string       `json:"off,omitzero"`        // why Web Push is off, and what to do about it
	Devices   []deviceView `json:"devices"`
	Removed   []string     `json:"removed,omitempty"` // IDs of devices that their browsers must not add again
	Rules     []string     `json:"rules"`             // that a device may follow
}

// Devices lists the devices of the client's token: GET /api/notifications/devices.
func (h *Handler) Devices(w http.ResponseWriter, _ *http.Request) error {
	grant := grantOf(w)
	view := devicesView{Off: h.Options.Devices.Reason, Devices: []deviceView{}, Rules: []string{}, Removed: h.Options.Devices.Removed(grant.Token())}
	if service := h.Options.Devices.Push; service != nil {
		view.PublicKey, view.Off = service.PublicKey(), ""
		if view.PublicKey == "" {
			view.Off = "try again in a few seconds: the servers have no keys yet"
		}
	}
	destinations := h.Notifier.Destinations()
	for _, d := range h.Options.Devices.Of(grant.Token()) {
		view.Devices = append(view.Devices, viewOfDevice(d, destinations))
	}
	if mayFollowRules(grant) {
		view.Rules = append(view.Rules, h.ruleNames()...)
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// pushFor returns what the dashboard's page needs to know of Web Push.
func (h *Handler) pushFor(grant *access.Grant) dashboard.Push {
	registry := h.Options.Devices
	return dashboard.Push{On: registry.Push != nil, Devices: len(registry.Of(grant.Token())) > 0}
}

// mayFollowRules reports whether devices of a client may get what rules of the file select: these tell what others are
// notified of.
func mayFollowRules(g *access.Grant) bool { return g.ManagesNotifications() }

func viewOfDevice(d devices.Device, destinations []notify.DestinationView) deviceView {
	view := deviceView{
		ID: d.ID, Name: d.Name, Added: d.Added, Rules: d.Rules, On: d.Changes, AgentIDs: d.AgentIDs, Text: d.Text, Host: d.Subscription.Host(),
	}
	for i := range destinations {
		if at := &destinations[i]; at.DeviceID == d.ID {
			view.Delivered = at.Worked
			if at.Failing {
				view.Failure, view.Failed = at.Failure, at.Failed
			}
		}
	}
	return view
}

// AddDevice adds a device: POST /api/notifications/devices.
func (h *Handler) AddDevice(w http.ResponseWriter, r *http.Request) error {
	service := h.Options.Devices.Push
	if service == nil {
		return models.Conflict("Web Push is off: " + h.Options.Devices.Reason)
	}
	var in deviceRequest
	if err := readObject(w, r, maxDeviceBody, &in, "a JSON object with subscription (what a browser's PushSubscription.toJSON() returns), and "+
		"optionally name, on, agent_ids, rules, text and renews"); err != nil {
		return err
	}
	grant := grantOf(w)
	d := devices.Device{
		Token: grant.Token(), Name: in.Name, Rules: in.Rules, Changes: in.On, AgentIDs: in.AgentIDs, Text: in.Text,
		Subscription: push.Subscription{Endpoint: in.Subscription.Endpoint, P256dh: in.Subscription.Keys.P256dh, Auth: in.Subscription.Keys.Auth},
	}
	if err := service.Check(d.Subscription); err != nil {
		return models.BadRequest("subscription", err.Error())
	}
	if err := h.catchUp(r.Context()); err != nil {
		return err
	}
	var err error
	outcome := "added"
	if in.Renews != "" {
		var ok bool
		outcome = "renewed"
		if d, ok, err = h.Options.Devices.Renew(d.Token, in.Renews, d.Subscription); !ok {
			return models.NotFound("subscription that this one renews")
		}
	} else if err = h.checkDevice(&d, grant); err == nil {
		d, err = h.Options.Devices.Add(d)
	}
	switch {
	case errors.Is(err, devices.ErrTooMany), errors.Is(err, devices.ErrFull):
		return models.Conflict(err.Error())
	case err != nil:
		return err
	}
	h.setPosition(w)
	writeJSON(w, http.StatusCreated, viewOfDevice(d, nil))
	h.auditDone(r, w, outcome, fmt.Sprintf("device %s at %s", d.ID, d.Subscription.Host()))
	return nil
}

// checkDevice completes what a device is to be notified of, or returns an error that says what is wrong.
func (h *Handler) checkDevice(d *devices.Device, grant *access.Grant) error {
	if err := models.ValidateName("name", d.Name, false, maxDeviceName); err != nil {
		return err
	}
	if len(d.AgentIDs) > maxDeviceAgents {
		return models.BadRequest("agent_ids", fmt.Sprintf("must have at most %d items", maxDeviceAgents))
	}
	for _, id := range d.AgentIDs {
		if err := models.ValidateName("agent_ids", id, true, models.MaxAgentID); err != nil {
			return err
		}
	}
	switch {
	case len(d.Rules) > maxDeviceRules:
		return models.BadRequest("rules", fmt.Sprintf("must have at most %d items", maxDeviceRules))
	case len(d.Rules) > 0 && !mayFollowRules(grant):
		return models.Forbidden("following rules needs a token with the scope admin for all agents")
	case len(d.Rules) > 0 && (d.Changes != nil || d.AgentIDs != nil):
		return models.BadRequest("rules", "must be absent, or on and agent_ids: a device follows rules, or is notified of changes of its own")
	}
	known := h.ruleNames()
	for _, name := range d.Rules {
		if !slices.Contains(known, name) {
			return models.BadRequest("rules", "must be names of rules in NOTIFY_FILE")
		}
	}
	if d.Changes == nil && d.Rules == nil {
		d.Changes = []notify.Change{notify.Waits, notify.Lost, notify.Failed}
	}
	slices.Sort(d.Changes)
	d.Changes = slices.Compact(d.Changes)
	return nil
}

// RemoveDevice removes a device of the client's token: DELETE /api/notifications/devices/{device_id}.
func (h *Handler) RemoveDevice(w http.ResponseWriter, r *http.Request) error {
	id := pathParam(r, "device_id")
	if err := h.catchUp(r.Context()); err != nil {
		return err
	}
	ok, err := h.Options.Devices.Remove(grantOf(w).Token(), id)
	if err == nil && !ok {
		err = models.NotFound("device")
	}
	if err != nil {
		return err
	}
	h.setPosition(w)
	w.WriteHeader(http.StatusNoContent)
	h.auditDone(r, w, "removed", "device "+id)
	return nil
}

// TestDevice sends a test message to a device of the client's token: POST /api/notifications/devices/{device_id}/test.
func (h *Handler) TestDevice(w http.ResponseWriter, r *http.Request) error {
	id := pathParam(r, "device_id")
	if err := h.catchUp(r.Context()); err != nil {
		return err
	}
	owns := func(d devices.Device) bool { return d.ID == id }
	if !slices.ContainsFunc(h.Options.Devices.Of(grantOf(w).Token()), owns) {
		return models.NotFound("device")
	}
	if err := h.admitTest(w); err != nil {
		return err
	}
	if err := h.testDestination(r.Context(), notify.DeviceDestination(id)); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, testResult{true})
	return nil
}

// presenceRequest is the body of a request that says that a page of the dashboard is being used, or was left.
type presenceRequest struct {
	Page    string `json:"page"` // unique for the page
	AgentID string `json:"agent_id"`
	Topic   string `json:"session_topic"`
	Left    bool   `json:"left"`
}

// Presence notes that the person in front of a page of the dashboard uses it: POST /api/presence.
func (h *Handler) Presence(w http.ResponseWriter, r *http.Request) error {
	var in presenceRequest
	if err := readObject(w, r, maxPresenceBody, &in, "a JSON object with page, and optionally agent_id, session_topic and left"); err != nil {
		return err
	}
	if err := models.ValidateName("page", in.Page, true, maxPageID); err != nil {
		return err
	}
	for field, value := range map[string]string{"agent_id": in.AgentID, "session_topic": in.Topic} {
		if err := models.ValidateName(field, value, false, models.MaxSessionTopic); err != nil {
			return err
		}
	}
	owner := grantOf(w).Token()
	if in.Left {
		h.Notifier.Absent(owner, in.Page)
	} else {
		h.Notifier.Present(owner, notify.Page{ID: in.Page, AgentID: in.AgentID, Topic: in.Topic}, h.now().Add(presentFor))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
