package ordered

import "slices"

// leafSize is the maximum number of slots in a leaf.
const leafSize = 64

// Leaf is a run of consecutive items of a [Timeline]. Each item stores a pointer to its leaf, which only the
// timeline uses.
type Leaf[T any] struct {
	slots      []*T // in order; nil where an item was removed, but never at the end
	live       int  // items in slots
	prev, next *Leaf[T]

	// fence is where the leaf begins, nil if it is the only leaf. No item of this leaf comes before it, except in
	// the first leaf, and no item of an earlier leaf comes at or after it.
	fence *Place
}

// Live returns the number of items in l.
func (l *Leaf[T]) Live() int { return l.live }

// Holds reports whether item is in a slot of l.
func (l *Leaf[T]) Holds(slot uint8, item *T) bool { return l.slots[slot] == item }

// search returns the first slot at or after which every item is at p or later. It changes nothing.
func (l *Leaf[T]) search(m *Member[T], p Place) int {
	low, high := 0, len(l.slots)
	if high == 0 || m.Place(l.slots[high-1]).Compare(p) < 0 {
		return high // the usual case
	}
	for low < high {
		middle := (low + high) / 2
		i := middle
		for l.slots[i] == nil {
			i++
		}
		if m.Place(l.slots[i]).Compare(p) < 0 {
			low = i + 1
		} else {
			high = middle
		}
	}
	return low
}

// insert puts item at the slot i that search returned. The leaf must have room.
func (l *Leaf[T]) insert(m *Member[T], i int, item *T) {
	l.live++
	switch {
	case i == len(l.slots):
		l.slots = append(l.slots, item)
	case l.slots[i] == nil:
		l.slots[i] = item
	default:
		l.slots = slices.Insert(l.slots, i, item)
		for after, item := range l.slots[i+1:] {
			if item != nil {
				m.put(item, l, i+1+after)
			}
		}
	}
	m.put(item, l, i)
}

// remove empties slot i, and drops the empty slots at the end.
func (l *Leaf[T]) remove(i int) {
	l.slots[i] = nil
	l.live--
	end := len(l.slots)
	for end > 0 && l.slots[end-1] == nil {
		end--
	}
	l.slots = l.slots[:end]
}

// appendAll appends the items of other, which come after those of l. The leaf must have room for them.
func (l *Leaf[T]) appendAll(m *Member[T], other *Leaf[T]) {
	l.compact(m)
	for _, item := range other.slots {
		if item != nil {
			l.insert(m, len(l.slots), item)
		}
	}
}

// compact moves the items together, so that no slot is empty.
func (l *Leaf[T]) compact(m *Member[T]) {
	if l.live == len(l.slots) {
		return
	}
	n := 0
	for _, item := range l.slots {
		if item != nil {
			l.slots[n] = item
			m.put(item, l, n)
			n++
		}
	}
	clear(l.slots[n:])
	l.slots = l.slots[:n]
}

// cut moves the items from slot i on to a new leaf with that fence, which it links after l. No slot may be empty.
func (l *Leaf[T]) cut(m *Member[T], i int, fence Place) *Leaf[T] {
	right := &Leaf[T]{slots: make([]*T, 0, leafSize), prev: l, next: l.next, fence: &fence}
	for i, item := range l.slots[i:] {
		right.insert(m, i, item)
	}
	clear(l.slots[i:])
	l.slots, l.live = l.slots[:i], i
	if l.next != nil {
		l.next.prev = right
	}
	l.next = right
	return right
}
