package ordered

import "iter"

// Walk returns the next item of a container with each call, and nil after the last one. Do not call it again after
// nil, nor after the container has changed.
type Walk[T any] func() *T

// While returns a walk that ends before the first item for which holds returns false.
func (w Walk[T]) While(holds func(*T) bool) Walk[T] {
	return func() *T {
		if item := w(); item != nil && holds(item) {
			return item
		}
		return nil
	}
}

// All returns the items of the walk. It can be ranged over once.
func (w Walk[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for item := w(); item != nil && yield(item); item = w() {
		}
	}
}

// Merge returns the items of several walks in one order. Each walk must be in that order already: an item comes
// before another one if less returns true. It can be ranged over once.
func Merge[T any](walks []Walk[T], less func(a, b *T) bool) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		heads := make([]*T, len(walks))
		for i, next := range walks {
			heads[i] = next()
		}
		for {
			first := least(heads, less)
			if first < 0 || !yield(heads[first]) {
				return
			}
			heads[first] = walks[first]()
		}
	}
}

// least returns the index of the first head in order, or -1 if all are nil.
func least[T any](heads []*T, less func(a, b *T) bool) int {
	first := -1
	for i, head := range heads {
		if head != nil && (first < 0 || less(head, heads[first])) {
			first = i
		}
	}
	return first
}
