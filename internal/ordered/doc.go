// Package ordered keeps items in order: a [Timeline] for items that move to its end again and again, a [Set] for any
// other order, and a [List] in the order of arrival. [Merge] reads several of these as one.
//
// # Invariants
//
// A container holds pointers to its caller's items, never copies, and no item twice. What an item is ordered by must
// not change while a container holds the item; [Timeline.Advance] names the one exception.
//
// Timelines and lists are intrusive: each item stores its own position, in fields that the caller provides and only the
// container writes. Removing an item therefore takes no search. An item needs one such field for each timeline or list
// that can hold it at the same time.
//
// No container has a lock. Any number of goroutines may read one at the same time, but not while another one changes
// it.
package ordered
