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
// An item of a timeline knows the leaf that it is in, so that it is taken out without a search, and a
// place at the end is found without one; among a million sessions a move takes a tenth of what it
// takes in a B-tree alone. Where there are several leaves, a B-tree of their first places finds the leaf
// of any other place.
//
// Leaves are never empty. The place of an item may change only while it is out of the timeline.
type timeline[T any] struct {
	last   *leaf[T]
	leaves *btree.BTreeG[fence[T]] // nil while there is one leaf at most
}

// leafSize is how many items a leaf holds at most.
const leafSize = 64

// leaf holds some items that follow one another.
type leaf[T any] struct {
	items      []*T
	prev, next *leaf[T]
}

// fence is where a leaf begins: no item of it comes before, but in the first leaf, and none of an earlier
// leaf after.
type fence[T any] struct {
	place place
	leaf  *leaf[T]
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
// their leaf.
type member[T any] struct {
	place func(*T) place
	leaf  func(*T) **leaf[T]
}

func (m *member[T]) search(l *leaf[T], p place) int {
	if n := len(l.items); m.place(l.items[n-1]).compare(p) < 0 {
		return n // as it mostly is
	}
	i, _ := slices.BinarySearchFunc(l.items, p, func(item *T, p place) int { return m.place(item).compare(p) })
	return i
}

func (t *timeline[T]) insert(m *member[T], item *T) {
	p := m.place(item)
	l := t.find(m, p)
	if l == nil {
		t.last = &leaf[T]{items: []*T{item}}
		*m.leaf(item) = t.last
		return
	}
	i := m.search(l, p)
	if len(l.items) == leafSize {
		l, i = t.split(m, l, i)
	}
	l.items = slices.Insert(l.items, i, item)
	*m.leaf(item) = l
}

// split makes room in a full leaf, for an item to be put at i. It returns the leaf and the place in it
// where the item belongs now.
func (t *timeline[T]) split(m *member[T], l *leaf[T], i int) (*leaf[T], int) {
	keep := leafSize / 2
	if l == t.last && i == leafSize {
		keep = leafSize - 1 // what comes in order leaves full leaves behind
	}
	right := &leaf[T]{items: append(make([]*T, 0, leafSize), l.items[keep:]...), prev: l, next: l.next}
	for _, item := range right.items {
		*m.leaf(item) = right
	}
	clear(l.items[keep:])
	l.items = l.items[:keep]
	if l.next != nil {
		l.next.prev = right
	} else {
		t.last = right
	}
	l.next = right
	if t.leaves == nil {
		t.leaves = btree.NewBTreeGOptions(func(a, b fence[T]) bool { return a.place.compare(b.place) < 0 },
			btree.Options{NoLocks: true, Degree: degree})
	}
	if l.prev == nil { // its fence may come after what it holds, and so after the new one
		t.leaves.PopMin()
		t.leaves.Set(fence[T]{m.place(l.items[0]), l})
	}
	t.leaves.Set(fence[T]{m.place(right.items[0]), right})
	if i > keep {
		return right, i - keep
	}
	return l, i
}

// remove takes item out, which must be in t.
func (t *timeline[T]) remove(m *member[T], item *T) {
	l := *m.leaf(item)
	*m.leaf(item) = nil
	if len(l.items) == 1 {
		t.unlink(m, l)
		return
	}
	i := slices.Index(l.items, item)
	l.items = slices.Delete(l.items, i, i+1)
	if prev := l.prev; prev != nil && len(l.items) < leafSize/4 && len(prev.items) < leafSize/2 {
		t.unlink(m, l)
		for _, item := range l.items {
			*m.leaf(item) = prev
		}
		prev.items = append(prev.items, l.items...)
	}
}

// unlink takes a leaf out.
func (t *timeline[T]) unlink(m *member[T], l *leaf[T]) {
	if t.leaves != nil {
		f, _ := t.fence(m.place(l.items[0]))
		t.leaves.Delete(f)
	}
	if l.prev != nil {
		l.prev.next = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		t.last = l.prev
	}
	if t.leaves != nil && t.leaves.Len() == 1 {
		t.leaves = nil
	}
}

// find returns the leaf in which p belongs, or nil where there is none.
func (t *timeline[T]) find(m *member[T], p place) *leaf[T] {
	if t.leaves == nil || m.place(t.last.items[0]).compare(p) <= 0 {
		return t.last
	}
	f, _ := t.fence(p)
	return f.leaf
}

// fence returns the fence of the leaf in which p belongs, where there are several.
func (t *timeline[T]) fence(p place) (f fence[T], found bool) {
	t.leaves.Descend(fence[T]{place: p}, func(at fence[T]) bool {
		f, found = at, true
		return false
	})
	if !found {
		return t.leaves.Min() // before the first fence belongs what is before all others
	}
	return f, true
}

// newest returns the last item, or nil where there is none.
func (t *timeline[T]) newest() *T {
	if t.last == nil {
		return nil
	}
	return t.last.items[len(t.last.items)-1]
}

// before returns a walk of the items before p, or of all where p is nil: the last ones first, then nil. It is
// valid while the timeline does not change.
func (t *timeline[T]) before(m *member[T], p *place) func() *T {
	l, end := t.last, 0
	switch {
	case l == nil:
	case p == nil:
		end = len(l.items)
	default:
		l = t.find(m, *p)
		end = m.search(l, *p)
	}
	return func() *T {
		for l != nil && end == 0 {
			if l = l.prev; l != nil {
				end = len(l.items)
			}
		}
		if l == nil {
			return nil
		}
		end--
		return l.items[end]
	}
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
