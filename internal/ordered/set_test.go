package ordered_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

func TestSetEqualsSortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t.Repeat(rapid.StateMachineActions(&setModel{set: ordered.NewSet(func(a, b *int) bool { return *a < *b })}))
	})
}

// setModel applies each action to a set and to a sorted slice, and compares them.
type setModel struct {
	set    ordered.Set[int]
	sorted []*int
}

func (m *setModel) Insert(t *rapid.T) {
	for _, n := range rapid.SliceOfN(rapid.IntRange(-200, 200), 1, 100).Draw(t, "items") {
		m.set.Insert(&n)
		i, equal := m.search(n)
		if equal {
			m.sorted[i] = &n
		} else {
			m.sorted = slices.Insert(m.sorted, i, &n)
		}
	}
}

func (m *setModel) Remove(t *rapid.T) {
	for _, n := range rapid.SliceOfN(rapid.IntRange(-200, 200), 1, 100).Draw(t, "items") {
		m.set.Remove(&n)
		if i, equal := m.search(n); equal {
			m.sorted = slices.Delete(m.sorted, i, i+1)
		}
	}
}

func (m *setModel) Check(t *rapid.T) {
	require.Equal(t, len(m.sorted), m.set.Len())
	if len(m.sorted) == 0 {
		require.Nil(t, m.set.First())
	} else {
		require.Same(t, m.sorted[0], m.set.First())
	}
	pivot := rapid.IntRange(-201, 201).Draw(t, "pivot")
	i, _ := m.search(pivot)
	requireSame(t, m.sorted[i:], slices.Collect(m.set.From(&pivot).All()))
	require.Equal(t, i, m.set.Before(&pivot))
}

func (m *setModel) search(n int) (index int, equal bool) {
	return slices.BinarySearchFunc(m.sorted, n, func(item *int, n int) int { return *item - n })
}
