package notify

import (
	"errors"
	"time"
)

// ErrGone is wrapped by the error of a device's sender once the device can't be reached any more for good. It wraps
// [ErrRefused].
var ErrGone = goneError{}

type goneError struct{}

// Error implements error.
func (goneError) Error() string { return "the browser has ended the subscription" }

// Unwrap returns [ErrRefused].
func (goneError) Unwrap() error { return ErrRefused }

// Device is a destination that a person added, such as a browser that takes pushes, with what it is notified of.
type Device struct {
	ID     string
	Owner  string                    // whose it is: what the owner's pages show is not sent to the owner's devices
	Covers func(agentID string) bool // whether the owner may read of an agent; nil for every agent
	Sender Sender
	Gone   func() // is called after the sender fails with ErrGone

	// What the device is notified of: what the rules of the file with these names select, each at the time of its first
	// step, or what Rule selects if there are no names. The steps of Rule name no destinations.
	Follows []string
	Rule    Rule

	Added time.Time // it is not notified of what happened earlier, or before a rule that it follows was in the file
}

// deviceDestination is what all devices are called in metrics.
const deviceDestination = "devices"

// devicePrefix begins the names of devices as destinations, and of their rules. Those of a file can't begin with it.
const devicePrefix = "device:"

// DeviceDestination returns the name of a device as a destination.
func DeviceDestination(id string) string { return devicePrefix + id }

func (d *Device) destination() *Destination {
	return &Destination{Name: DeviceDestination(d.ID), Sender: d.Sender, Limit: defaultLimit, device: d}
}

// rules returns the device's rules. Those of the file that it follows are left out if they are not there.
func (d *Device) rules(file map[string]*Rule) (rules []*Rule) {
	name := DeviceDestination(d.ID)
	if len(d.Follows) == 0 {
		return []*Rule{d.own(d.Rule, name)}
	}
	for _, followed := range d.Follows {
		if r := file[followed]; r != nil {
			own := d.own(*r, name+"/"+followed)
			own.followed = followed
			rules = append(rules, own)
		}
	}
	return rules
}

// own makes a rule one of the device.
func (d *Device) own(r Rule, name string) *Rule {
	step := r.Steps[0]
	step.To = []string{DeviceDestination(d.ID)}
	r.Name, r.Steps, r.within, r.since = name, []Step{step}, d.Covers, latest(d.Added, r.since)
	return &r
}

// isGone reports whether an error says that a device can't be reached any more for good.
func isGone(err error) bool { return errors.Is(err, ErrGone) }
