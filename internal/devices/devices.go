// Package devices keeps the browsers that people are notified on, with what each of them is notified of.
//
// # Invariants
//
//   - A device belongs to the token with which it was added. It is notified only of agents that the token covers and may
//     read of now, and it ends with the token.
//   - A change to the devices is durable before its method returns, if there is a box.
//   - The servers of a cluster have the same devices once they have applied the same entries of the box. If two of them add
//     a browser at once, the device that was added later is in use.
package devices

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
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
	Now      func() time.Time // the time of sessions; nil for time.Now

	// Replicated says that the box is that of a cluster. What any server writes is applied on all servers, in the same
	// order, and each is told of it by [Registry.Applied] before WriteNotes returns.
	Replicated bool

	// Grant returns what the holder of a token may do. ok is false if there is no such token any more. On a server
	// without tokens, it returns a nil grant for "".
	Grant func(token string) (grant *access.Grant, ok bool)
}

// Registry holds the devices. Its methods are safe for concurrent use.
type Registry struct {
	Options

	writing sync.Mutex // held while a person's change is made: from looking at the devices until the box has it

	mu      sync.Mutex                // not held while the box is read or written
	devices map[string]Device         // by ID
	handed  map[string]*notify.Device // what the notifier has of them, by ID
	removed []removal                 // the newest ones of all tokens, oldest first
	unknown map[string]time.Time      // by the ID of a device, since when this server has not known its token
	early   []journal.Note            // what was applied while Load reads the box
	loading bool                      // Load reads the box
}

// removal is a device that a person removed.
type removal struct {
	Token string `json:"token,omitzero"`
	ID    string `json:"id"`
}

// Keys of the box.
const (
	boxPrefix  = "device\x00"     // begins those of devices
	removedKey = "device-removed" // the last one that a person removed
)

// New returns a registry without devices, for [Registry.Load].
func New(o Options) *Registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{Options: o, devices: map[string]Device{}, handed: map[string]*notify.Device{}, unknown: map[string]time.Time{}}
}

// Open returns the registry with the devices that are in the box, and hands them to the notifier.
func Open(o Options) (*Registry, error) {
	r := New(o)
	if err := r.Load(); err != nil {
		return nil, err
	}
	return r, nil
}

// Load reads the devices that are in the box, and hands them to the notifier. In a cluster, it is called once the server
// has applied what was written before it started.
func (r *Registry) Load() error {
	if r.Box == nil || r.Push == nil {
		return nil
	}
	r.mu.Lock()
	r.loading = true
	r.mu.Unlock()
	notes, err := r.Box.Notes()
	r.takeAll(notes, err)
	if err != nil {
		return fmt.Errorf("read the devices: %w", err)
	}
	r.Refresh()
	return nil
}

// takeAll takes over all that the box holds, and what was applied while it was read.
func (r *Registry) takeAll(notes []journal.Note, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	early := r.early
	r.loading, r.early = false, nil
	if err != nil {
		return
	}
	for id := range r.devices {
		r.drop(id)
	}
	r.learn(notes)
	r.learn(early)
}

// Applied says that entries of the box were written or deleted, by any server, this one included. It must be called in
// the order in which they were. It does no I/O.
func (r *Registry) Applied(notes []journal.Note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Push == nil {
		return
	}
	if r.loading {
		r.early = append(r.early, notes...)
	}
	r.learn(notes)
}

// learn takes over entries of the box. The caller holds r.mu.
func (r *Registry) learn(notes []journal.Note) {
	concerned := map[string]bool{} // endpoints
	for _, note := range notes {
		id, isDevice := strings.CutPrefix(note.Key, boxPrefix)
		before := r.devices[id]
		switch {
		case note.Key == removedKey && note.Value != nil:
			var one removal
			if json.Unmarshal(note.Value, &one) == nil {
				r.noteRemoved(one)
			}
		case !isDevice:
		case note.Value == nil:
			concerned[before.Subscription.Endpoint] = true
			r.drop(id)
		default:
			var d Device
			if err := json.Unmarshal(note.Value, &d); err != nil || d.ID != id {
				r.Logger.Warn("a device can't be read: it is not notified", "device", id)
				continue
			}
			if reflect.DeepEqual(before, d) {
				continue
			}
			concerned[before.Subscription.Endpoint], concerned[d.Subscription.Endpoint] = true, true
			r.devices[id] = d
			delete(r.handed, id)
		}
	}
	for _, d := range r.devices {
		if concerned[d.Subscription.Endpoint] {
			r.handIfInUse(d)
		}
	}
}

// noteRemoved notes that a person removed a device. The same may be noted more than once. The caller holds r.mu.
func (r *Registry) noteRemoved(one removal) {
	if slices.Contains(r.removed, one) {
		return
	}
	if r.removed = append(r.removed, one); len(r.removed) > maxDevices {
		r.removed = r.removed[1:]
	}
}

// handIfInUse gives the notifier a device, or takes it back if its token is not known or another device is in use instead.
// It reports whether the token is known. The caller holds r.mu.
func (r *Registry) handIfInUse(d Device) (known bool) {
	_, known = r.Grant(d.Token)
	if known && !r.isReplaced(d) {
		r.hand(d)
		return known
	}
	delete(r.handed, d.ID)
	r.Notifier.RemoveDevice(d.ID)
	return known
}

// isReplaced reports whether another device is in use instead, because two servers added the same browser at once. The
// caller holds r.mu.
func (r *Registry) isReplaced(d Device) bool {
	for _, other := range r.devices {
		if other.ID != d.ID && replaces(other, d) && compare(other, d) > 0 {
			return true
		}
	}
	return false
}

// replaces reports whether a device takes the place of another one: it is the same browser, used with the same token, or
// by somebody who knows not only its endpoint.
func replaces(d, other Device) bool {
	return d.Subscription == other.Subscription || d.Subscription.Endpoint == other.Subscription.Endpoint && d.Token == other.Token
}

// compare orders devices by when they were added.
func compare(a, b Device) int { return cmp.Or(a.Added.Compare(b.Added), strings.Compare(a.ID, b.ID)) }

// endedAfter is how long the acting server of a cluster waits before it removes the devices of a token that it does not
// know. While tokens files are changed on one server after the other, another server may know the token already.
const endedAfter = 24 * time.Hour

// Refresh forgets the devices whose tokens have ended, and looks anew at what the others' tokens cover. It is called
// after the tokens have changed, and at intervals. In a cluster, a server does not notify devices of tokens that it does
// not know. Only the server that acts forgets them, after a day.
func (r *Registry) Refresh() {
	acts := !r.Replicated || r.Notifier.Acts()
	var ended []string
	now := r.Now()
	r.mu.Lock()
	for id, d := range r.devices {
		if r.handIfInUse(d) {
			delete(r.unknown, id)
			continue
		}
		if r.unknown[id].IsZero() {
			r.unknown[id] = now
		}
		if acts && (!r.Replicated || now.Sub(r.unknown[id]) >= endedAfter) {
			ended = append(ended, id)
		}
	}
	r.mu.Unlock()
	for _, id := range ended {
		r.Logger.Info("a device is not notified any more, because its token has ended", "device", id)
		r.writing.Lock()
		r.forget(id)
		r.writing.Unlock()
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
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	same := r.devices[d.ID].Subscription == d.Subscription
	r.mu.Unlock()
	if same {
		r.forget(d.ID)
	}
}

// forget drops a device. On a server alone, it does so even if the box keeps it: after the next start, it is dropped
// again. The caller holds r.writing.
func (r *Registry) forget(id string) {
	if !r.Replicated {
		r.mu.Lock()
		r.drop(id)
		r.mu.Unlock()
	}
	if err := r.write(journal.Note{Key: boxPrefix + id}); err != nil {
		r.Logger.Warn("a device can't be removed from DATA_DIR now", "device", id, "error", err.Error())
	}
}

// drop removes a device from memory. The caller holds r.mu.
func (r *Registry) drop(id string) {
	delete(r.devices, id)
	delete(r.handed, id)
	delete(r.unknown, id)
	r.Notifier.RemoveDevice(id)
}

// write writes to the box, and takes over what was written. In a cluster, that happens when it is applied. The caller
// holds r.writing, and not r.mu.
func (r *Registry) write(notes ...journal.Note) error {
	if r.Box != nil {
		if err := r.Box.WriteNotes(notes); err != nil {
			return err
		}
	}
	if !r.Replicated {
		r.Applied(notes)
	}
	return nil
}

// errOff is the error of [Registry.Add] and [Registry.Renew] if Web Push is off.
var errOff = errors.New("web push is off")

// Add adds a device, and returns it with its ID. One with the same subscription is replaced, and so is
// one of the same token with the same endpoint, which keeps its ID. The subscription must have passed [push.Service.Check].
func (r *Registry) Add(d Device) (Device, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	d.ID, d.Added = "dev_"+strings.ToLower(rand.Text()), r.Now().UTC().Round(0)
	return r.add(d)
}

// Renew gives the device of a token that has a subscription with this endpoint another one. ok is false if there is no
// such device.
func (r *Registry) Renew(token, endpoint string, subscription push.Subscription) (d Device, ok bool, err error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	for _, d := range r.Of(token) {
		if d.Subscription.Endpoint == endpoint {
			d.Subscription = subscription
			d, err = r.add(d)
			return d, true, err
		}
	}
	return Device{}, false, nil
}

// add adds or replaces a device. The caller holds r.writing.
func (r *Registry) add(d Device) (Device, error) {
	if r.Push == nil {
		return Device{}, errOff
	}
	d, replaced, err := r.admit(d)
	if err != nil {
		return Device{}, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return Device{}, err
	}
	if err := r.write(append(replaced, journal.Note{Key: boxPrefix + d.ID, Value: text})...); err != nil {
		return Device{}, err
	}
	return d, nil
}

// admit returns a device with its ID, and the deletions of those that it replaces. The error is [ErrTooMany] or [ErrFull].
func (r *Registry) admit(d Device) (admitted Device, replaced []journal.Note, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine, same := 0, Device{}
	for id, other := range r.devices {
		switch {
		case id == d.ID:
		case replaces(d, other) && other.Token == d.Token && (same.ID == "" || compare(other, same) > 0):
			if same.ID != "" {
				replaced = append(replaced, journal.Note{Key: boxPrefix + same.ID})
			}
			same = other
		case replaces(d, other):
			replaced = append(replaced, journal.Note{Key: boxPrefix + id})
		case other.Token == d.Token:
			mine++
		}
	}
	d.ID = cmp.Or(same.ID, d.ID)
	_, known := r.devices[d.ID]
	switch {
	case mine >= MaxPerToken:
		return d, nil, ErrTooMany
	case len(r.devices) >= maxDevices && !known && len(replaced) == 0:
		return d, nil, ErrFull
	}
	return d, replaced, nil
}

// Remove removes a device of a token. ok is false if the token has no device with this ID.
func (r *Registry) Remove(token, id string) (ok bool, err error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	text, err := json.Marshal(removal{token, id})
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	d, known := r.devices[id]
	notes := []journal.Note{{Key: boxPrefix + id}, {Key: removedKey, Value: text}}
	for _, other := range r.devices {
		if other.ID != id && other.Token == token && replaces(d, other) {
			notes = append(notes, journal.Note{Key: boxPrefix + other.ID})
		}
	}
	r.mu.Unlock()
	if !known || d.Token != token {
		return false, nil
	}
	return true, r.write(notes...)
}

// Removed returns the IDs of devices of a token that a person removed lately: their browsers must not add them again. A
// restart forgets all but the last one.
func (r *Registry) Removed(token string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.removed {
		if one.Token == token {
			ids = append(ids, one.ID)
		}
	}
	return ids
}

// Of returns the devices of a token, those that were added first before others.
func (r *Registry) Of(token string) (devices []Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		if d.Token == token && !r.isReplaced(d) {
			devices = append(devices, d)
		}
	}
	slices.SortFunc(devices, compare)
	return devices
}
