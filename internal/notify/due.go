package notify

import "container/heap"

// scheduled is something that is due at a time, in nanoseconds since some moment. Its place in a schedule is -1 if it isn't in one.
type scheduled interface {
	dueAt() int64
	placeInSchedule() *int32
}

// schedule holds items in the order in which they are due.
type schedule[T scheduled] struct{ items items[T] }

// first returns the item that is due first. ok is false if there is none.
func (s *schedule[T]) first() (item T, ok bool) {
	if len(s.items) == 0 {
		return item, false
	}
	return s.items[0], true
}

// set adds an item, or moves it to its new time.
func (s *schedule[T]) set(item T) {
	if place := *item.placeInSchedule(); place >= 0 {
		heap.Fix(&s.items, int(place))
	} else {
		heap.Push(&s.items, item)
	}
}

// remove removes an item, if the schedule has it.
func (s *schedule[T]) remove(item T) {
	if place := *item.placeInSchedule(); place >= 0 {
		heap.Remove(&s.items, int(place))
	}
}

// items implements heap.Interface.
type items[T scheduled] []T

func (s items[T]) Len() int           { return len(s) }
func (s items[T]) Less(i, j int) bool { return s[i].dueAt() < s[j].dueAt() }
func (s items[T]) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	*s[i].placeInSchedule(), *s[j].placeInSchedule() = int32(i), int32(j)
}

// Push implements heap.Interface.
func (s *items[T]) Push(x any) {
	item := x.(T)
	*item.placeInSchedule() = int32(len(*s))
	*s = append(*s, item)
}

// Pop implements heap.Interface.
func (s *items[T]) Pop() any {
	old := *s
	last := len(old) - 1
	item := old[last]
	var none T
	old[last] = none
	*s = old[:last]
	*item.placeInSchedule() = -1
	return item
}
