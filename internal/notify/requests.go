package notify

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"
)

// requests are what others want of Act, which takes it over at its next step. Nobody waits for that.
type requests struct {
	mu        sync.Mutex
	wanted    wanted
	interrupt context.CancelFunc // ends the pause of Act; nil while it is not running
}

// wanted is the configuration that Act is to use.
type wanted struct {
	config     *Config
	configured time.Time // when config was set, or the server caught up with the others; zero without a file
	devices    map[string]*Device

	newConfig, newDevices bool            // since it was last taken over
	released              map[reason]bool // what was held back for these reasons may be due now
}

// add changes what is wanted.
func (r *requests) add(change func(*wanted)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.wanted)
	if r.interrupt != nil {
		r.interrupt()
	}
}

// take returns what is wanted. From now on, new requests call interrupt.
func (r *requests) take(interrupt context.CancelFunc) wanted {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.wanted
	w.devices = maps.Clone(w.devices)
	r.wanted.newConfig, r.wanted.newDevices, r.wanted.released = false, false, nil
	r.interrupt = interrupt
	return w
}

// beginTerm makes the next step take over all that is configured, because none of it is in use.
func (r *requests) beginTerm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.wanted
	w.newConfig, w.newDevices = w.newConfig || !w.configured.IsZero(), w.newDevices || len(w.devices) > 0
}

// endTerm says that nothing is taken over any more.
func (r *requests) endTerm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.interrupt = nil
}

// caughtUp sets the time at which the configuration was set, if there is one: before, the time of the cluster was not
// known.
func (r *requests) caughtUp(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wanted.configured.IsZero() {
		r.wanted.configured = now
	}
}

// current returns what is wanted, without taking it over.
func (r *requests) current() (config *Config, devices map[string]*Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted.config, maps.Clone(r.wanted.devices)
}

// sender returns the sender of a destination, nil if there is none with this name.
func (r *requests) sender(destination string) Sender {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, isDevice := strings.CutPrefix(destination, devicePrefix); isDevice {
		if d := r.wanted.devices[id]; d != nil {
			return d.Sender
		}
		return nil
	}
	if d := r.wanted.config.Destinations[destination]; d != nil {
		return d.Sender
	}
	return nil
}

// SetConfig replaces the rules and destinations of the file. What was sent stays known; what is due is planned anew.
func (n *Notifier) SetConfig(config *Config) {
	now := n.Now()
	n.requests.add(func(w *wanted) { w.config, w.configured, w.newConfig = config, now, true })
}

// AddDevice adds a device, or replaces the one with the same ID. What could not be sent to that one is tried again at
// once, unless d is the same: then only what it covers is looked at anew.
func (n *Notifier) AddDevice(d *Device) {
	n.requests.add(func(w *wanted) { w.devices[d.ID], w.newDevices = d, true })
}

// RemoveDevice removes a device. What was to be sent to it is dropped.
func (n *Notifier) RemoveDevice(id string) {
	n.requests.add(func(w *wanted) {
		delete(w.devices, id)
		w.newDevices = true
	})
}

// release lets what was held back for a reason be looked at again.
func (n *Notifier) release(why reason) {
	n.requests.add(func(w *wanted) {
		if w.released == nil {
			w.released = map[reason]bool{}
		}
		w.released[why] = true
	})
}

// wakeUp lets Act make its next step now.
func (n *Notifier) wakeUp() { n.requests.add(func(*wanted) {}) }
