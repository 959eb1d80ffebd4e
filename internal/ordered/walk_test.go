package ordered_test

import (
	"cmp"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

func TestMergedWalksAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var walks []ordered.Walk[int]
		var all []*int
		for _, items := range rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(-20, 20), 0, 20), 0, 5).Draw(t, "walks") {
			slices.Sort(items)
			pointers := pointersTo(items)
			walks, all = append(walks, walkOf(pointers)), append(all, pointers...)
		}
		slices.SortStableFunc(all, func(a, b *int) int { return cmp.Compare(*a, *b) }) // the first walk's first
		n := rapid.IntRange(0, len(all)).Draw(t, "read")
		requireSame(t, all[:n], take(n, ordered.Merge(walks, func(a, b *int) bool { return *a < *b })))
	})
}

func TestWalkIsReadToItsEnd(t *testing.T) {
	items := pointersTo([]int{1, 2, 3})
	requireSame(t, items, slices.Collect(walkOf(items).All()))
	requireSame(t, items[:2], take(2, walkOf(items).All()))
}

func TestWalkEndsBeforeTheFirstItemWithoutTheProperty(t *testing.T) {
	items := pointersTo([]int{1, 3, 4, 5})
	odd := func(i *int) bool { return *i%2 == 1 }
	requireSame(t, items[:2], slices.Collect(walkOf(items).While(odd).All()))
	requireSame(t, items[:2], slices.Collect(walkOf(items[:2]).While(odd).All()))
}

func walkOf[T any](items []*T) ordered.Walk[T] {
	return func() *T {
		if len(items) == 0 {
			return nil
		}
		item := items[0]
		items = items[1:]
		return item
	}
}

func pointersTo[T any](items []T) []*T {
	pointers := []*T{}
	for i := range items {
		pointers = append(pointers, &items[i])
	}
	return pointers
}

// take returns the first n items.
func take[T any](n int, items iter.Seq[T]) []T {
	taken := make([]T, 0, n)
	for item := range items {
		if len(taken) == n {
			break
		}
		taken = append(taken, item)
	}
	return taken
}

// requireSame requires that got contains the same pointers as want.
func requireSame[T any](t require.TestingT, want, got []*T) {
	require.Len(t, got, len(want))
	require.True(t, slices.Equal(want, got), "different items")
}

func reversed[T any](items []T) []T {
	items = slices.Clone(items)
	slices.Reverse(items)
	return items
}
