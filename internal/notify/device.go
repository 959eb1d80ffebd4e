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
func (goneError) Error() string { return "the device is gone" }

// Unwrap returns [ErrRefused].
func (goneError) Unwrap() error { return ErrRefused }

// Device is a destination that a person added, such as a browser that takes pushes, with what it is notified of.
type Device struct {
	ID     string
	Owner  string                    // whose it is: what the owner's pages show is not sent to the owner's devices
	Covers func(agentID string) bool // whether the owner may read of an agent; nil for every agent
	Sender Sender
	Gone   func() // is called after the sender fails with ErrGone

	// What the device is notified of: what the rule with the name Follows of the file selects, at the times of that
	// rule's first step, or what Rule selects if Follows is "". The steps of Rule name no destinations.
	Follows string
	Rule    Rule

	Added time.Time // it is not notified of what happened earlier
}

// deviceDestination is what all devices are called in metrics.
const deviceDestination = "devices"

// devicePrefix begins the names of devices as destinations, and of their rules. Those of a file can't begin with it.
const devicePrefix = "device:"

func (d *Device) destination() *Destination {
	return &Destination{Name: devicePrefix + d.ID, Sender: d.Sender, Limit: defaultLimit, device: d}
}

// rule returns the device's rule. It is nil if the device follows a rule that is not among those of the file.
func (d *Device) rule(file map[string]*Rule) *Rule {
	r := d.Rule
	if d.Follows != "" {
		if file[d.Follows] == nil {
			return nil
		}
		r = *file[d.Follows]
	}
	step := r.Steps[0]
	step.To = []string{devicePrefix + d.ID}
	r.Name, r.followed, r.Steps, r.within, r.since = devicePrefix+d.ID, d.Follows, []Step{step}, d.Covers, d.Added
	return &r
}

// isGone reports whether an error says that a device can't be reached any more for good.
func isGone(err error) bool { return errors.Is(err, ErrGone) }
