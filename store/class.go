package store

import (
	"iter"

	"github.com/kubeagents/kubeagents/models"
)

// class is what the filters of a list tell apart: a status, and whether a flag is set. For a session these are
// its current status and whether it has expired; for an agent its latest status and whether it has no
// active session.
type class uint8

const classes = 8

func classOf(st models.Status, flag bool) class {
	c := class(st - 1)
	if flag {
		c += classes / 2
	}
	return c
}

func (c class) status() models.Status { return models.Status(c%(classes/2)) + 1 }
func (c class) flag() bool            { return c >= classes/2 }

// lost holds for the class of a session that expired while it was running or pending.
func (c class) lost() bool { return c.flag() && c.status().Unfinished() }

// classesWhere yields the classes for which every condition holds.
func classesWhere(conditions ...func(class) bool) iter.Seq[class] {
	return func(yield func(class) bool) {
	next:
		for c := range class(classes) {
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

// withStatus holds for the classes of st, or for all where st is 0.
func withStatus(st models.Status) func(class) bool {
	return func(c class) bool { return st == 0 || c.status() == st }
}

// where holds for the classes for which property is as want says, or for all where want is nil.
func where(property func(class) bool, want *bool) func(class) bool {
	return func(c class) bool { return want == nil || property(c) == *want }
}
