package ordered

import (
	"sort"

	"github.com/tidwall/btree"
)

// Set keeps items in the order of a function, in a B-tree. Two items are equal if neither is less than the other; the
// set keeps only one of them. A copy of a Set is the same set. The zero value is not usable: see [NewSet].
type Set[T any] struct{ tree *btree.BTreeG[*T] }

// NewSet returns an empty set in the order of less.
func NewSet[T any](less func(a, b *T) bool) Set[T] { return Set[T]{newTree(less)} }

// Insert adds item. It replaces an equal item.
func (s Set[T]) Insert(item *T) { s.tree.Set(item) }

// Remove removes the item that is equal to item, if there is one.
func (s Set[T]) Remove(item *T) { s.tree.Delete(item) }

// Len returns the number of items.
func (s Set[T]) Len() int { return s.tree.Len() }

// Before returns the number of items that are less than pivot, in logarithmic time.
func (s Set[T]) Before(pivot *T) int {
	return sort.Search(s.tree.Len(), func(i int) bool {
		item, _ := s.tree.GetAt(i)
		return !s.tree.Less(item, pivot)
	})
}

// First returns the first item, or nil if there is none.
func (s Set[T]) First() *T {
	item, _ := s.tree.Min()
	return item
}

// From walks the items that are not less than pivot, first one first.
func (s Set[T]) From(pivot *T) Walk[T] {
	items := s.tree.Iter()
	more := items.Seek(pivot)
	return func() *T {
		if !more {
			return nil
		}
		item := items.Item()
		more = items.Next()
		return item
	}
}

// degree limits a node of a B-tree to 2*degree-1 items. Of the degrees tried (8 to 64), this one moves an item fastest
// among 200,000 and 1,000,000.
const degree = 32

// newTree returns an empty B-tree without a lock.
func newTree[T any](less func(a, b *T) bool) *btree.BTreeG[*T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: degree})
}
