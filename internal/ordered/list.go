package ordered

// List is a doubly linked list that allocates nothing for its items: each stores its own [Links]. The zero value is not
// usable: see [NewList].
type List[T any] struct {
	links       func(*T) *Links[T]
	front, back *T
}

// Links is the position of an item in a [List]. Only the list writes it. The zero value is that of an item in no list.
type Links[T any] struct{ prev, next *T }

// Neighbours returns the items before and after the item with these links; nil for none.
func (l *Links[T]) Neighbours() [2]*T { return [2]*T{l.prev, l.next} }

// NewList returns an empty list. links returns the field in which an item stores its position.
func NewList[T any](links func(*T) *Links[T]) *List[T] { return &List[T]{links: links} }

// Front returns the first item, or nil if there is none.
func (l *List[T]) Front() *T { return l.front }

// MoveToBack makes item the last one. If item is not in the list, MoveToBack adds it.
func (l *List[T]) MoveToBack(item *T) {
	if l.back == item {
		return
	}
	l.Remove(item)
	if l.back == nil {
		l.front = item
	} else {
		l.links(item).prev, l.links(l.back).next = l.back, item
	}
	l.back = item
}

// Remove removes item. If item is not in the list, Remove does nothing.
func (l *List[T]) Remove(item *T) {
	links := l.links(item)
	if links.prev == nil && l.front != item {
		return
	}
	if links.prev == nil {
		l.front = links.next
	} else {
		l.links(links.prev).next = links.next
	}
	if links.next == nil {
		l.back = links.prev
	} else {
		l.links(links.next).prev = links.prev
	}
	*links = Links[T]{}
}
