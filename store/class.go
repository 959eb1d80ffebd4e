package store

import (
	"iter"

	"github.com/kubeagents/kubeagents/models"
)

// class is what the filters of a list of sessions distinguish: the current status, and whether the session has expired.
type class uint8

// kinds is the number of statuses that a session can have.
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

// group returns the position of the class among the sessions of an agent. Running sessions come last, so that a report
// to one, as most are, moves it to the end.
func (c class) group() uint8 { return uint8(classes) - uint8(c) }

// waiting reports whether a session of the class is active and waits for a person or a resource.
func (c class) waiting() bool { return c == classOf(models.Pending, false) }

// need returns why a session of the class needs attention, 0 if it does not.
func (c class) need() models.Need {
	switch {
	case c.waiting():
		return models.NeedWaiting
	case c.lost():
		return models.NeedLost
	case c == classOf(models.Failed, false):
		return models.NeedFailed
	}
	return 0
}

func (c class) idle() bool { return c.status() == models.Idle }

// lost reports whether a session of the class expired while it was running or pending.
func (c class) lost() bool { return c.expired() && c.status().Unfinished() }

// agentClass is what the filters of a list of agents distinguish: the latest status, whether the agent has an active
// session, and whether it has one that waits.
type agentClass uint8

const (
	inactive     agentClass = agentClass(len(models.Statuses)) << iota // added to the status
	hasWaiting                                                         // likewise
	agentClasses = 4 * len(models.Statuses)
)

func agentClassOf(latest models.Status, active, waiting int32) agentClass {
	c := agentClass(latest.OnWire() - 1)
	if active == 0 {
		c += inactive
	}
	if waiting > 0 {
		c += hasWaiting
	}
	return c
}

func (c agentClass) status() models.Status { return models.Status(int(c)%len(models.Statuses)) + 1 }
func (c agentClass) active() bool          { return c&inactive == 0 }
func (c agentClass) waiting() bool         { return c&hasWaiting != 0 }

// classesWhere yields the classes below the given number that meet every condition.
func classesWhere[C ~uint8](classes int, conditions ...func(C) bool) iter.Seq[C] {
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

// withStatus returns a condition that a class meets if its status is st on the wire. If st is 0, every class meets it.
func withStatus[C interface{ status() models.Status }](st models.Status) func(C) bool {
	return func(c C) bool { return st == 0 || c.status().OnWire() == st }
}

// withProperty returns a condition that a class meets if the property equals *want. If want is nil, every class meets
// it.
func withProperty[C any](property func(C) bool, want *bool) func(C) bool {
	return func(c C) bool { return want == nil || property(c) == *want }
}
