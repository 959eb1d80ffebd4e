package store

import (
	"cmp"
	"iter"
	"slices"

	"github.com/tidwall/btree"
)

// timeline keeps items in the order of their places, most of which come at the end. The zero value is
// empty.
//
// It exists beside [index] because a report moves its session and its agent to the end of several lists.
// An item of a timeline knows its leaf and its slot there, so that it is taken out without a search, and a
// place at the end is found without one; among a million sessions a move takes a tenth of what it
// takes in a B-tree alone. Where there are several leaves, a B-tree of their fences finds the leaf of any
// other place.
//
// Leaves are never empty. The place of an item may change only while it is out of the timeline, but for what
// [timeline.advance] allows.
type timeline[T any] struct {
	last   *leaf[T]
	leaves *btree.BTreeG[*leaf[T]] // by their fences; nil while there is one leaf at most
}

// leafSize is how many slots a leaf has at most.
const leafSize = 64

// leaf holds some items that follow one another.
type leaf[T any] struct {
	slots      []*T // in order; nil where an item was taken out, but never at the end
	live       int  // items in it
	prev, next *leaf[T]

	// fence is where the leaf begins, if there are several: no item of it comes before, but in the first
	// leaf, and none of an earlier leaf after.
	fence *place
}

// place orders items, least first. What time and sequence mean is up to the timeline.
type place struct {
	time     int64
	sequence uint64
	nanos    int32
	class    class
}

// compare returns -1, 0 or 1 where p comes before q, is q, or comes after.
func (p place) compare(q place) int {
	if c := cmp.Compare(p.class, q.class); c != 0 {
		return c
	}
	if c := cmp.Compare(p.time, q.time); c != 0 {
		return c
	}
	if c := cmp.Compare(p.nanos, q.nanos); c != 0 {
		return c
	}
	return cmp.Compare(p.sequence, q.sequence)
}

// member says how items of T are kept in timelines of one kind: by which place, and where they remember
// their leaf and their slot.
type member[T any] struct {
	place func(*T) place
	slot  func(*T) (leaf **leaf[T], slot *uint8)
}

// put notes that item is in slot i of l, which is its caller's to fill.
func (m *member[T]) put(item *T, l *leaf[T], i int) {
	leaf, slot := m.slot(item)
	*leaf, *slot = l, uint8(i)
}

func (t *timeline[T]) insert(m *member[T], item *T) {
	p := m.place(item)
	l := t.find(p)
	switch {
	case l == nil:
		l = &leaf[T]{}
		t.last = l
	case len(l.slots) == leafSize:
		l = t.makeRoom(m, l, p)
	}
	l.insert(m, l.search(m, p), item)
}

// remove takes item out, which must be in t.
func (t *timeline[T]) remove(m *member[T], item *T) {
	at, slot := m.slot(item)
	l := *at
	*at = nil
	l.slots[*slot] = nil
	l.live--
	if l.live == 0 {
		t.unlink(l)
		return
	}
	for end := len(l.slots) - 1; l.slots[end] == nil; end-- {
		l.slots = l.slots[:end]
	}
	if prev := l.prev; prev != nil && l.live < leafSize/4 && prev.live < leafSize/2 {
		t.unlink(l)
		prev.compact(m)
		for _, item := range l.slots {
			if item != nil {
				prev.insert(m, len(prev.slots), item)
			}
		}
	}
}

// advance moves item, which is in t, to its place after that has become a later one.
func (t *timeline[T]) advance(m *member[T], item *T) {
	at, slot := m.slot(item)
	if l := *at; l == t.last && int(*slot) == len(l.slots)-1 {
		return
	}
	t.remove(m, item)
	t.insert(m, item)
}

// search returns the slot before which every item comes before p, and from which on none does. It
// changes nothing.
func (l *leaf[T]) search(m *member[T], p place) int {
	low, high := 0, len(l.slots)
	if high == 0 || m.place(l.slots[high-1]).compare(p) < 0 {
		return high // as it mostly is
	}
	for low < high {
		middle := (low + high) / 2
		i := middle
		for l.slots[i] == nil {
			i++
		}
		if m.place(l.slots[i]).compare(p) < 0 {
			low = i + 1
		} else {
			high = middle
		}
	}
	return low
}

// insert puts item where search says that it belongs. The leaf must have room.
func (l *leaf[T]) insert(m *member[T], i int, item *T) {
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

// compact moves the items of l together.
func (l *leaf[T]) compact(m *member[T]) {
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

// makeRoom makes room for an item at p in a leaf that has none, and returns the leaf where the item belongs
// then. If that is a new one, it may be empty.
func (t *timeline[T]) makeRoom(m *member[T], l *leaf[T], p place) *leaf[T] {
	l.compact(m)
	if len(l.slots) <= leafSize*3/4 {
		return l
	}
	if l == t.last && l.search(m, p) == len(l.slots) {
		return t.addAfter(m, l, len(l.slots), p) // what comes in order leaves full leaves behind
	}
	half := len(l.slots) / 2
	right := t.addAfter(m, l, half, m.place(l.slots[half]))
	if right.fence.compare(p) > 0 {
		return l
	}
	return right
}

// addAfter adds a leaf after l, which has no free slots, with that fence, and moves the items of l from slot
// keep on to it.
func (t *timeline[T]) addAfter(m *member[T], l *leaf[T], keep int, fence place) *leaf[T] {
	right := &leaf[T]{slots: make([]*T, 0, leafSize), prev: l, next: l.next, fence: &fence}
	for i, item := range l.slots[keep:] {
		right.insert(m, i, item)
	}
	clear(l.slots[keep:])
	l.slots, l.live = l.slots[:keep], keep
	if l.next != nil {
		l.next.prev = right
	} else {
		t.last = right
	}
	l.next = right

	if t.leaves == nil {
		t.leaves = btree.NewBTreeGOptions(func(a, b *leaf[T]) bool { return a.fence.compare(*b.fence) < 0 },
			btree.Options{NoLocks: true, Degree: degree})
	}
	if l.prev == nil { // its fence may come after what it holds, and so after the new one
		if l.fence != nil {
			t.leaves.Delete(l)
		}
		first := m.place(l.slots[0])
		l.fence = &first
		t.leaves.Set(l)
	}
	t.leaves.Set(right)
	return right
}

// unlink takes a leaf out.
func (t *timeline[T]) unlink(l *leaf[T]) {
	if l.prev != nil {
		l.prev.next = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		t.last = l.prev
	}
	if t.leaves == nil {
		return
	}
	t.leaves.Delete(l)
	if t.leaves.Len() == 1 {
		t.last.fence, t.leaves = nil, nil
	}
}

// find returns the leaf in which p belongs, or nil where there is none.
func (t *timeline[T]) find(p place) *leaf[T] {
	if t.leaves == nil || t.last.fence.compare(p) <= 0 {
		return t.last
	}
	return t.findEarlier(p)
}

// findEarlier is find for a place that is not in the last leaf. It stands apart because it allocates.
func (t *timeline[T]) findEarlier(p place) (found *leaf[T]) {
	t.leaves.Descend(&leaf[T]{fence: &p}, func(l *leaf[T]) bool {
		found = l
		return false
	})
	if found == nil {
		found, _ = t.leaves.Min() // before the first fence belongs what is before all others
	}
	return found
}

// newest returns the last item, or nil where there is none.
func (t *timeline[T]) newest() *T {
	if t.last == nil {
		return nil
	}
	return t.last.slots[len(t.last.slots)-1]
}

// before returns a walk of the items before p, or of all where p is nil: the last ones first, then nil. It is
// valid while the timeline does not change.
func (t *timeline[T]) before(m *member[T], p *place) func() *T {
	l, end := t.last, 0
	switch {
	case l == nil:
	case p == nil:
		end = len(l.slots)
	default:
		l = t.find(*p)
		end = l.search(m, *p)
	}
	return func() *T {
		for l != nil {
			for end > 0 {
				end--
				if item := l.slots[end]; item != nil {
					return item
				}
			}
			if l = l.prev; l != nil {
				end = len(l.slots)
			}
		}
		return nil
	}
}

// after returns a walk of the items after p, or of all where p is nil: the first ones first, then nil. It is valid while
// the timeline does not change.
func (t *timeline[T]) after(m *member[T], p *place) func() *T {
	l, i := t.first(), 0
	if l != nil && p != nil {
		l = t.find(*p)
		i = l.search(m, *p)
	}
	return func() *T {
		for l != nil {
			for ; i < len(l.slots); i++ {
				if item := l.slots[i]; item != nil && (p == nil || m.place(item).compare(*p) > 0) {
					i++
					return item
				}
			}
			l, i = l.next, 0
		}
		return nil
	}
}

// first returns the first leaf, or nil where there is none.
func (t *timeline[T]) first() *leaf[T] {
	if t.leaves == nil {
		return t.last
	}
	l, _ := t.leaves.Min()
	return l
}

// merge walks several walks, each in order, as one. before orders their items; each walk ends with nil.
func merge[T any](walks []func() *T, before func(a, b *T) bool) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		heads := make([]*T, len(walks))
		for i, next := range walks {
			heads[i] = next()
		}
		for {
			first := -1
			for i, head := range heads {
				if head != nil && (first < 0 || before(head, heads[first])) {
					first = i
				}
			}
			if first < 0 || !yield(heads[first]) {
				return
			}
			heads[first] = walks[first]()
		}
	}
}
