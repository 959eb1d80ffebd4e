package ordered_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/ordered"
)

func TestTimelineEqualsSortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := &timelineModel{}
		t.Repeat(rapid.StateMachineActions(model))
		for len(model.sorted) > 0 {
			model.remove(len(model.sorted) / 2)
		}
		require.Equal(t, ordered.Timeline[entry]{}, model.timeline, "an empty timeline keeps no leaf")
	})
}

func TestPlacesCompareByGroupTimeNanosAndSequence(t *testing.T) {
	places := []ordered.Place{
		{Group: 0, Time: 2, Nanos: 2, Sequence: 2},
		{Group: 1, Time: -1, Nanos: 2, Sequence: 2},
		{Group: 1, Time: 1, Nanos: 1, Sequence: 2},
		{Group: 1, Time: 1, Nanos: 2, Sequence: 1},
		{Group: 1, Time: 1, Nanos: 2, Sequence: 2},
	}
	for i, p := range places {
		for j, q := range places {
			assert.Equal(t, min(max(i-j, -1), 1), p.Compare(q), "%v and %v", p, q)
		}
	}
}

// entry is an item of a timeline.
type entry struct {
	place ordered.Place
	leaf  *ordered.Leaf[entry]
	slot  uint8
}

var entryMember = &ordered.Member[entry]{
	Place: func(e *entry) ordered.Place { return e.place },
	Slot:  func(e *entry) (**ordered.Leaf[entry], *uint8) { return &e.leaf, &e.slot },
}

func compareEntries(a, b *entry) int { return a.place.Compare(b.place) }

// timelineModel applies each action to a timeline and to a sorted slice, and compares them. Its actions are large
// enough for leaves to split and to merge.
type timelineModel struct {
	timeline    ordered.Timeline[entry]
	sorted      []*entry
	first, last int64 // the range of times
}

func (m *timelineModel) InsertLast(t *rapid.T) {
	for range rapid.IntRange(1, 300).Draw(t, "count") {
		m.last++
		m.insert(ordered.Place{Time: m.last})
	}
}

func (m *timelineModel) InsertFirst(t *rapid.T) {
	for range rapid.IntRange(1, 300).Draw(t, "count") {
		m.first--
		m.insert(ordered.Place{Time: m.first})
	}
}

func (m *timelineModel) InsertAnywhere(t *rapid.T) {
	for _, p := range rapid.SliceOfN(m.place(), 1, 100).Draw(t, "places") {
		m.insert(p)
	}
}

func (m *timelineModel) AdvanceToTheEnd(t *rapid.T) {
	m.notEmpty(t)
	for range rapid.IntRange(1, 200).Draw(t, "count") {
		e := m.sorted[m.index(t)]
		m.last += 11 // later than any place that InsertAnywhere draws
		m.advance(e, ordered.Place{Time: m.last, Group: e.place.Group})
	}
}

func (m *timelineModel) AdvanceAnywhere(t *rapid.T) {
	m.notEmpty(t)
	e, p := m.sorted[m.index(t)], m.place().Draw(t, "place")
	if _, taken := m.search(p); !taken && p.Compare(e.place) > 0 {
		m.advance(e, p)
	}
}

func (m *timelineModel) Remove(t *rapid.T) {
	m.notEmpty(t)
	i, step := m.index(t), rapid.IntRange(0, 2).Draw(t, "step")
	for count := rapid.IntRange(1, 200).Draw(t, "count"); count > 0 && i < len(m.sorted); count-- {
		m.remove(i)
		i += step
	}
}

// Check compares the timeline and the slice, and walks from no place, from the place of an item, and from any other
// place.
func (m *timelineModel) Check(t *rapid.T) {
	m.checkWalks(t, nil)
	p := m.place().Draw(t, "place")
	m.checkWalks(t, &p)
	if len(m.sorted) == 0 {
		require.Nil(t, m.timeline.Newest())
		return
	}
	require.Same(t, m.sorted[len(m.sorted)-1], m.timeline.Newest())
	p = m.sorted[m.index(t)].place
	m.checkWalks(t, &p)
}

func (m *timelineModel) checkWalks(t *rapid.T, p *ordered.Place) {
	before, after := m.sorted, m.sorted
	if p != nil {
		i, taken := m.search(*p)
		before, after = m.sorted[:i], m.sorted[i:]
		if taken {
			after = after[1:]
		}
	}
	requireSame(t, reversed(before), slices.Collect(m.timeline.Before(entryMember, p).All()))
	requireSame(t, after, slices.Collect(m.timeline.After(entryMember, p).All()))
}

// place draws any place in the range of times, or not far from it.
func (m *timelineModel) place() *rapid.Generator[ordered.Place] {
	return rapid.Custom(func(t *rapid.T) ordered.Place {
		return ordered.Place{
			Group:    uint8(rapid.IntRange(0, 1).Draw(t, "group")),
			Time:     rapid.Int64Range(m.first-10, m.last+10).Draw(t, "time"),
			Nanos:    int32(rapid.IntRange(0, 1).Draw(t, "nanos")),
			Sequence: uint64(rapid.IntRange(0, 1).Draw(t, "sequence")),
		}
	})
}

func (m *timelineModel) notEmpty(t *rapid.T) {
	if len(m.sorted) == 0 {
		t.Skip("empty")
	}
}

func (m *timelineModel) index(t *rapid.T) int {
	return rapid.IntRange(0, len(m.sorted)-1).Draw(t, "index")
}

func (m *timelineModel) search(p ordered.Place) (index int, taken bool) {
	return slices.BinarySearchFunc(m.sorted, &entry{place: p}, compareEntries)
}

func (m *timelineModel) insert(p ordered.Place) {
	i, taken := m.search(p)
	if taken {
		return
	}
	e := &entry{place: p}
	m.sorted = slices.Insert(m.sorted, i, e)
	m.timeline.Insert(entryMember, e)
}

func (m *timelineModel) advance(e *entry, p ordered.Place) {
	i, _ := m.search(e.place)
	m.sorted = slices.Delete(m.sorted, i, i+1)
	e.place = p
	m.timeline.Advance(entryMember, e)
	i, _ = m.search(p)
	m.sorted = slices.Insert(m.sorted, i, e)
}

func (m *timelineModel) remove(i int) {
	m.timeline.Remove(entryMember, m.sorted[i])
	m.sorted = slices.Delete(m.sorted, i, i+1)
}
