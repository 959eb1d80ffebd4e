// Package devices keeps the browsers that people are notified on, with what each of them is notified of.
//
// # Invariants
//
//   - A device belongs to the token with which it was added. It is notified only of agents that the token covers and may
//     read of now, and it ends with the token.
//   - A change to the devices is durable before its method returns, if there is a box.
package devices

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
)

// The bounds of devices.
const (
	MaxPerToken = 20
	maxDevices  = 1000
)

// The errors of [Registry.Add].
var (
	ErrTooMany = fmt.Errorf("there are %d devices of this token already: remove one", MaxPerToken)
	ErrFull    = fmt.Errorf("there are %d devices on this server already: nobody can add one", maxDevices)
)

// Device is a browser that takes notifications.
type Device struct {
	ID           string            `json:"id"`
	Token        string            `json:"token,omitzero"` // that it belongs to, as in [access.Grant.Token]; "" on a server without tokens
	Name         string            `json:"name,omitzero"`  // for people, such as "Chrome on Android"
	Subscription push.Subscription `json:"subscription"`
	Added        time.Time         `json:"added"` // UTC; it is not notified of what happened earlier

	// What it is notified of: what some rules of the file select, or these changes.
	Rules    []string        `json:"rules,omitempty"` // names
	Changes  []notify.Change `json:"on,omitempty"`
	AgentIDs []string        `json:"agent_ids,omitempty"` // none for every agent that the token covers
	Text     notify.Text     `json:"text,omitzero"`       // how much of a session's text it shows
}

// Pusher sends to browsers. *[push.Service] is one.
type Pusher interface {
	PublicKey() string
	Check(push.Subscription) error
	Sender(push.Subscription) notify.Sender
}

// Options are the options of [Open].
type Options struct {
	Notifier *notify.Notifier
	Push     Pusher     // nil if Web Push is off
	Reason   string     // why it is off, and what to do about it
	Box      notify.Box // nil to keep the devices in memory only
	Logger   *slog.Logger

	// Grant returns what the holder of a token may do. ok is false if there is no such token any more. On a server
	// without tokens, it returns a nil grant for "".
	Grant func(token string) (grant *access.Grant, ok bool)
}

// Registry holds the devices. Its methods are safe for concurrent use.
type Registry struct {
	Options

	mu      sync.Mutex
	devices map[string]Device         // by ID
	handed  map[string]*notify.Device // what the notifier has of them, by ID
	removed []removal                 // the newest ones of all tokens, oldest first
}

// removal is a device that a person removed.
type removal struct{ token, id string }

// boxPrefix begins the keys of devices in the box.
const boxPrefix = "device\x00"

// Open returns the registry with the devices that are in the box, and hands them to the notifier.
func Open(o Options) (*Registry, error) {
	r := &Registry{Options: o, devices: map[string]Device{}, handed: map[string]*notify.Device{}}
	if o.Box == nil || o.Push == nil {
		return r, nil
	}
	notes, err := o.Box.Notes()
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	for _, note := range notes {
		id, ok := strings.CutPrefix(note.Key, boxPrefix)
		if !ok {
			continue
		}
		var d Device
		if err := json.Unmarshal(note.Value, &d); err != nil || d.ID != id {
			o.Logger.Warn("a device can't be read: it is not notified", "device", id)
			continue
		}
		r.devices[id] = d
	}
	r.Refresh()
	return r, nil
}

// Refresh forgets the devices whose tokens have ended, and looks anew at what the others' tokens cover. It is called
// after the tokens have changed.
func (r *Registry) Refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, d := range r.devices {
		if _, ok := r.Grant(d.Token); ok {
			r.hand(d)
			continue
		}
		r.Logger.Info("a device is not notified any more, because its token has ended", "device", id)
		r.forget(id)
	}
}

// hand gives the notifier a device. One that it has already stays the same, so that messages which could not be sent to
// it are not tried again before their time. The caller holds r.mu.
func (r *Registry) hand(d Device) {
	if r.handed[d.ID] == nil {
		r.handed[d.ID] = r.deviceOf(d)
	}
	r.Notifier.AddDevice(r.handed[d.ID])
}

// deviceOf returns the notifier's view of a device.
func (r *Registry) deviceOf(d Device) *notify.Device {
	own := notify.Rule{Changes: d.Changes, Text: d.Text, Steps: []notify.Step{{Settle: notify.DefaultSettle}}}
	for _, id := range d.AgentIDs {
		own.Agents = append(own.Agents, access.Exactly(id))
	}
	return &notify.Device{
		ID: d.ID, Owner: d.Token, Sender: r.Push.Sender(d.Subscription), Added: d.Added, Follows: d.Rules, Rule: own,
		Covers: func(agentID string) bool {
			grant, ok := r.Grant(d.Token)
			return ok && grant.Allows(access.Read) && grant.Covers(agentID)
		},
		Gone: func() { r.ended(d) },
	}
}

// ended forgets a device whose subscription has ended, unless it has a new one.
func (r *Registry) ended(d Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[d.ID].Subscription == d.Subscription {
		r.forget(d.ID)
	}
}

// forget drops a device, even if the box keeps it: after the next start, it is dropped again. The caller holds r.mu.
func (r *Registry) forget(id string) {
	r.drop(id)
	if err := r.write(journal.Note{Key: boxPrefix + id}); err != nil {
		r.Logger.Warn("a device can't be removed from DATA_DIR now", "device", id, "error", err.Error())
	}
}

// drop removes a device from memory. The caller holds r.mu.
func (r *Registry) drop(id string) {
	delete(r.devices, id)
	delete(r.handed, id)
	r.Notifier.RemoveDevice(id)
}

func (r *Registry) write(notes ...journal.Note) error {
	if r.Box == nil {
		return nil
	}
	return r.Box.WriteNotes(notes)
}

// errOff is the error of [Registry.Add] and [Registry.Renew] if Web Push is off.
var errOff = errors.New("web push is off")

// Add adds a device, and returns it with its ID. One with the same subscription is replaced, and so is
// one of the same token with the same endpoint, which keeps its ID. The subscription must have passed [push.Service.Check].
func (r *Registry) Add(d Device) (Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.ID, d.Added = "dev_"+strings.ToLower(rand.Text()), time.Now().UTC()
	return r.add(d)
}

// Renew gives the device of a token that has a subscription with this endpoint another one. ok is false if there is no
// such device.
func (r *Registry) Renew(token, endpoint string, subscription push.Subscription) (d Device, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		if d.Token == token && d.Subscription.Endpoint == endpoint {
			d.Subscription = subscription
			d, err = r.add(d)
			return d, true, err
		}
	}
	return Device{}, false, nil
}

// add adds or replaces a device. The caller holds r.mu.
func (r *Registry) add(d Device) (Device, error) {
	if r.Push == nil {
		return Device{}, errOff
	}
	var notes []journal.Note
	mine, replaced := 0, ""
	for id, other := range r.devices {
		switch {
		case id == d.ID:
		case other.Subscription.Endpoint == d.Subscription.Endpoint && other.Token == d.Token:
			d.ID = id
		case other.Subscription == d.Subscription: // somebody else uses the browser now, and not only knows its endpoint
			replaced = id
			notes = append(notes, journal.Note{Key: boxPrefix + id})
		case other.Token == d.Token:
			mine++
		}
	}
	_, known := r.devices[d.ID]
	switch {
	case mine >= MaxPerToken:
		return Device{}, ErrTooMany
	case len(r.devices) >= maxDevices && !known && replaced == "":
		return Device{}, ErrFull
	}
	text, err := json.Marshal(d)
	if err != nil {
		return Device{}, err
	}
	if err := r.write(append(notes, journal.Note{Key: boxPrefix + d.ID, Value: text})...); err != nil {
		return Device{}, err
	}
	if replaced != "" {
		r.drop(replaced)
	}
	r.devices[d.ID] = d
	delete(r.handed, d.ID)
	r.hand(d)
	return d, nil
}

// Remove removes a device of a token. ok is false if the token has no device with this ID.
func (r *Registry) Remove(token, id string) (ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d, known := r.devices[id]; !known || d.Token != token {
		return false, nil
	}
	if err := r.write(journal.Note{Key: boxPrefix + id}); err != nil {
		return true, err
	}
	r.drop(id)
	if r.removed = append(r.removed, removal{token, id}); len(r.removed) > maxDevices {
		r.removed = r.removed[1:]
	}
	return true, nil
}

// Removed returns the IDs of devices of a token that were removed since the registry was opened, the newest of them: their
// browsers must not add them again.
func (r *Registry) Removed(token string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.removed {
		if one.token == token {
			ids = append(ids, one.id)
		}
	}
	return ids
}

// Of returns the devices of a token, those that were added first before others.
func (r *Registry) Of(token string) (devices []Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		if d.Token == token {
			devices = append(devices, d)
		}
	}
	slices.SortFunc(devices, func(a, b Device) int { return cmp.Or(a.Added.Compare(b.Added), strings.Compare(a.ID, b.ID)) })
	return devices
}
