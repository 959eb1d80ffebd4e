package hookfile

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/tailscale/hujson"
)

// edit calls keep for each of our hooks in an event's array, in order, and removes those that it does not keep, with
// the groups that are empty without them. l and i are where the hook is, grouped is whether l is a group's array. It
// reports whether it removed any.
func (e Editor) edit(d *document, v *hujson.Value, keep func(l list, i int, grouped bool) (bool, error)) (removed bool, err error) {
	event, ok := arrayOf(v)
	if !ok {
		return false, nil
	}
	fromGroups := false
	removed, err = event.filter(func(i int) (bool, error) {
		object, ok := event.array.Elements[i].Value.(*hujson.Object)
		if !ok {
			return true, nil
		}
		inner, err := d.member(object, hooksName)
		switch {
		case err != nil:
			return true, err
		case inner == nil && e.commandOf(object) == "":
			return true, nil
		case inner == nil:
			return keep(event, i, false)
		}
		group, ok := arrayOf(inner)
		if !ok {
			return true, nil
		}
		some, err := group.filter(func(i int) (bool, error) {
			object, ok := group.array.Elements[i].Value.(*hujson.Object)
			if !ok || e.commandOf(object) == "" {
				return true, nil
			}
			return keep(group, i, true)
		})
		fromGroups = fromGroups || some
		return !some || group.len() > 0, err
	})
	return removed || fromGroups, err
}

// filter removes the items that keep does not keep, and reports whether there were any.
func (l list) filter(keep func(i int) (bool, error)) (removed bool, err error) {
	var gone []int
	for i := range l.len() {
		kept, err := keep(i)
		if err != nil {
			return false, err
		}
		if !kept {
			gone = append(gone, i)
		}
	}
	for _, i := range slices.Backward(gone) {
		l.remove(i)
	}
	return len(gone) > 0, nil
}

// arrayOf returns the array of hooks, or of groups of hooks, that v may be.
func arrayOf(v *hujson.Value) (l list, ok bool) {
	array, ok := v.Value.(*hujson.Array)
	return list{array: array}, ok
}

// empty removes our hooks from an event's array, and reports whether there were any.
func (e Editor) empty(d *document, v *hujson.Value) (removed bool, err error) {
	return e.edit(d, v, func(list, int, bool) (bool, error) { return false, nil })
}

// eachHook calls f for each of our hooks in an event's array.
func (e Editor) eachHook(d *document, v *hujson.Value, f func(*hujson.Object)) error {
	_, err := e.edit(d, v, func(l list, i int, _ bool) (bool, error) {
		f(l.array.Elements[i].Value.(*hujson.Object))
		return true, nil
	})
	return err
}

// isGroup reports whether an element of an event's array is a group of hooks.
func isGroup(element hujson.Value) bool {
	return slices.ContainsFunc(element.Value.(*hujson.Object).Members, func(m hujson.ObjectMember) bool { return nameOf(m) == hooksName })
}

// hookIn returns the hook in an element that has one: the element itself, or the hook in a group.
func hookIn(element hujson.Value) hujson.Value {
	for _, m := range element.Value.(*hujson.Object).Members {
		if nameOf(m) == hooksName {
			return m.Value.Value.(*hujson.Array).Elements[0]
		}
	}
	return element
}

// equal reports whether two values are the same, whatever their layout and the order of their members.
func equal(a, b hujson.Value) bool {
	var decoded [2]any
	for i, v := range []hujson.Value{a.Clone(), b.Clone()} {
		v.Minimize()
		if json.Unmarshal(v.Pack(), &decoded[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(decoded[0], decoded[1])
}
