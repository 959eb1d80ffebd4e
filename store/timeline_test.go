package store

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A timeline's leaves split and merge out of sight of the store's exported surface, so they are tested here.
func TestTimelineEqualsSortedSlice(t *testing.T) {
	type item struct {
		at   place
		in   *leaf[item]
		slot uint8
	}
	m := &member[item]{func(i *item) place { return i.at },
		func(i *item) (**leaf[item], *uint8) { return &i.in, &i.slot }}
	compare := func(a, b *item) int { return a.at.compare(b.at) }

	rapid.Check(t, func(t *rapid.T) {
		var line timeline[item]
		var sorted []*item
		var clock, before int64
		insert := func(at place) {
			i := &item{at: at}
			place, taken := slices.BinarySearchFunc(sorted, i, compare)
			if taken {
				return
			}
			sorted = slices.Insert(sorted, place, i)
			line.insert(m, i)
		}
		remove := func(i int) {
			line.remove(m, sorted[i])
			sorted = slices.Delete(sorted, i, i+1)
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert at the end": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "items") {
					clock++
					insert(place{time: clock})
				}
			},
			"insert at the front": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "items") {
					before--
					insert(place{time: before})
				}
			},
			"insert anywhere": func(t *rapid.T) {
				class := class(rapid.IntRange(0, 1).Draw(t, "class"))
				for _, at := range rapid.SliceOfN(rapid.Int64Range(before-10, clock+10), 1, 100).Draw(t, "times") {
					insert(place{time: at, nanos: int32(at % 3), class: class})
				}
			},
			"advance": func(t *rapid.T) {
				if len(sorted) == 0 {
					return
				}
				for range rapid.IntRange(1, 200).Draw(t, "times") {
					i := rapid.IntRange(0, len(sorted)-1).Draw(t, "item")
					item := sorted[i]
					sorted = slices.Delete(sorted, i, i+1)
					clock += 11 // beyond what was inserted anywhere
					item.at = place{time: clock, class: item.at.class}
					line.advance(m, item)
					i, taken := slices.BinarySearchFunc(sorted, item, compare)
					require.False(t, taken)
					sorted = slices.Insert(sorted, i, item)
				}
			},
			"remove": func(t *rapid.T) {
				from := rapid.IntRange(0, len(sorted)).Draw(t, "from")
				step := rapid.IntRange(0, 2).Draw(t, "step")
				for range rapid.IntRange(0, 200).Draw(t, "items") {
					if from >= len(sorted) {
						break
					}
					remove(from)
					from += step
				}
			},
			"": func(t *rapid.T) {
				requireWalk(t, sorted, line.before(m, nil))
				requireWalk(t, reversed(sorted), line.after(m, nil))
				if len(sorted) == 0 {
					require.Nil(t, line.newest())
					return
				}
				require.Same(t, sorted[len(sorted)-1], line.newest())
				i := rapid.IntRange(0, len(sorted)-1).Draw(t, "pivot")
				at := sorted[i].at
				requireWalk(t, sorted[:i], line.before(m, &at))
				requireWalk(t, reversed(sorted[i+1:]), line.after(m, &at))
				at.sequence++ // between two items
				requireWalk(t, sorted[:i+1], line.before(m, &at))
			},
		})
		for len(sorted) > 0 {
			remove(len(sorted) / 2)
		}
		require.Equal(t, timeline[item]{}, line)
	})
}

func requireWalk[T any](t *rapid.T, want []*T, next func() *T) {
	for _, i := range slices.Backward(want) {
		require.Same(t, i, next())
	}
	require.Nil(t, next())
}

func reversed[T any](items []*T) []*T {
	items = slices.Clone(items)
	slices.Reverse(items)
	return items
}
