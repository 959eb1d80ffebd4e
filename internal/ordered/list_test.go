package ordered_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

func TestListEqualsSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t.Repeat(rapid.StateMachineActions(newListModel(10)))
	})
}

func TestListAllocatesNothingForItsItems(t *testing.T) {
	list, items := ordered.NewList((*linked).position), make([]linked, 10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for i := range items {
			list.MoveToBack(&items[i])
		}
		list.Remove(list.Front())
	}))
}

// linked is an item of a list.
type linked struct{ links ordered.Links[linked] }

func (l *linked) position() *ordered.Links[linked] { return &l.links }

// listModel applies each action to a list and to a slice, and compares them.
type listModel struct {
	list  *ordered.List[linked]
	slice []*linked
	items []*linked // in the list or not
}

func newListModel(items int) *listModel {
	return &listModel{list: ordered.NewList((*linked).position), items: pointersTo(make([]linked, items))}
}

func (m *listModel) MoveToBack(t *rapid.T) {
	item := rapid.SampledFrom(m.items).Draw(t, "item")
	m.list.MoveToBack(item)
	m.removeFromSlice(item)
	m.slice = append(m.slice, item)
}

func (m *listModel) Remove(t *rapid.T) {
	item := rapid.SampledFrom(m.items).Draw(t, "item")
	m.list.Remove(item)
	m.removeFromSlice(item)
}

func (m *listModel) RemoveAll(t *rapid.T) {
	for _, item := range m.slice {
		require.Same(t, item, m.list.Front())
		m.list.Remove(item)
	}
	m.slice = nil
}

// Check compares the fronts, and requires that an item outside the list has no links.
func (m *listModel) Check(t *rapid.T) {
	if len(m.slice) == 0 {
		require.Nil(t, m.list.Front())
	} else {
		require.Same(t, m.slice[0], m.list.Front())
	}
	for _, item := range m.items {
		if !slices.Contains(m.slice, item) {
			require.Zero(t, *item)
		}
	}
}

func (m *listModel) removeFromSlice(item *linked) {
	m.slice = slices.DeleteFunc(m.slice, func(other *linked) bool { return other == item })
}
