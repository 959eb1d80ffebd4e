package store

import (
	"iter"

	"github.com/tidwall/btree"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// degree bounds a node of a B-tree to 2*degree-1 items. Of the degrees tried (8 to 64), this one moves an
// item soonest among 200,000 and 1,000,000.
const degree = 32

// index keeps agents by class and ID. What these follow from may change only while the agent is out of it.
type index struct{ tree *btree.BTreeG[*agent] }

func newIndex() index {
	return index{btree.NewBTreeGOptions(func(a, b *agent) bool {
		if a.class != b.class {
			return a.class < b.class
		}
		return a.id < b.id
	}, btree.Options{NoLocks: true, Degree: degree})}
}

func (ix index) insert(a *agent) { ix.tree.Set(a) }
func (ix index) remove(a *agent) { ix.tree.Delete(a) }

// queue keeps sessions by an instant.
type queue struct{ tree *btree.BTreeG[*session] }

func newQueue() queue {
	return queue{btree.NewBTreeGOptions(func(a, b *session) bool {
		if a.queuedAt != b.queuedAt {
			return a.queuedAt < b.queuedAt
		}
		if a.agent != b.agent { // these never change, and tell apart what falls together
			return a.agent.id < b.agent.id
		}
		return a.topic < b.topic
	}, btree.Options{NoLocks: true, Degree: degree})}
}

func (q queue) insert(se *session) { q.tree.Set(se) }
func (q queue) remove(se *session) { q.tree.Delete(se) }

// first returns the session with the least instant, or nil where there is none.
func (q queue) first() *session {
	se, _ := q.tree.Min()
	return se
}

// from returns a walk of the items from the first that is not less than pivot up to the last of its class.
func (ix index) from(pivot *agent) ordered.Walk[agent] {
	items := ix.tree.Iter()
	more := items.Seek(pivot)
	return func() *agent {
		if !more || items.Item().class != pivot.class {
			return nil
		}
		item := items.Item()
		more = items.Next()
		return item
	}
}

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
