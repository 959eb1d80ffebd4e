package store

import (
	"iter"

	"github.com/kubeagents/kubeagents/models"
)

// class is what the filters of a list of sessions tell apart: the current status, and whether the session has expired.
type class uint8

// kinds is how many statuses a session can have.
const (
	kinds   = int(models.Idle)
	classes = 2 * kinds
)

func classOf(st models.Status, expired bool) class {
	c := class(st - 1)
	if expired {
		c += class(kinds)
	}
	return c
}

func (c class) status() models.Status { return models.Status(int(c)%kinds) + 1 }
func (c class) expired() bool         { return int(c) >= kinds }

// group returns where sessions of the class stand among those of their agent: running ones last, so that a report to one, as most
// are, moves it to the end.
func (c class) group() uint8 { return uint8(classes) - uint8(c) }

// waiting holds for the class of an active session that waits for a person or a resource.
func (c class) waiting() bool { return c == classOf(models.Pending, false) }

func (c class) idle() bool { return c.status() == models.Idle }

// lost holds for the class of a session that expired while it was running or pending.
func (c class) lost() bool { return c.expired() && c.status().Unfinished() }

// agentClass is what the filters of a list of agents tell apart: the latest status, and whether the agent has a session that is
// active, and one that waits.
type agentClass uint8

const (
	inactive     agentClass = agentClass(len(models.Statuses)) << iota // beside the status
	waits                                                              // see above
	agentClasses = 4 * len(models.Statuses)
)

func agentClassOf(latest models.Status, active, waiting int32) agentClass {
	c := agentClass(latest.OnWire() - 1)
	if active == 0 {
		c += inactive
	}
	if waiting > 0 {
		c += waits
	}
	return c
}

func (c agentClass) status() models.Status { return models.Status(int(c)%len(models.Statuses)) + 1 }
func (c agentClass) active() bool          { return c&inactive == 0 }
func (c agentClass) waiting() bool         { return c&waits != 0 }

// where yields the classes, of so many, for which every condition holds.
func where[C ~uint8](classes int, conditions ...func(C) bool) iter.Seq[C] {
	return func(yield func(C) bool) {
	next:
		for c := range C(classes) {
			for _, holds := range conditions {
				if !holds(c) {
					continue next
				}
			}
			if !yield(c) {
				return
			}
		}
	}
}

// withStatus holds for the classes whose status is st on the wire, or for all where st is 0.
func withStatus[C interface{ status() models.Status }](st models.Status) func(C) bool {
	return func(c C) bool { return st == 0 || c.status().OnWire() == st }
}

// with holds for the classes for which property is as want says, or for all where want is nil.
func with[C any](property func(C) bool, want *bool) func(C) bool {
	return func(c C) bool { return want == nil || property(c) == *want }
}
