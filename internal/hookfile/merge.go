package hookfile

import (
	"fmt"
	"slices"

	"github.com/tailscale/hujson"
)

// merge puts the wanted hooks into d, and brings those of ours that are there up to date.
func (e Editor) merge(d *document, w wanted) (change Change, err error) {
	root := list{object: d.object()}
	for _, m := range w.others {
		if v, err := d.member(d.object(), nameOf(m)); err != nil {
			return change, err
		} else if v == nil {
			if err := root.add(d, nameOf(m), m.Value, ""); err != nil {
				return change, err
			}
		}
	}
	hooks, err := d.hooks()
	if err != nil {
		return change, err
	}
	if hooks == nil {
		return Change{Added: w.names()}, root.add(d, hooksName, w.hooks, "")
	}
	for _, event := range w.events {
		if err := e.mergeEvent(d, hooks, event, root.indent(d, ""), &change); err != nil {
			return change, err
		}
	}
	return change, e.removeOthers(d, hooks, w, &change)
}

// mergeEvent puts the wanted hook of an event into the hooks, which are at an indentation.
func (e Editor) mergeEvent(d *document, hooks *hujson.Object, event hujson.ObjectMember, outer string, change *Change) error {
	name := nameOf(event)
	v, err := d.member(hooks, name)
	if err != nil {
		return err
	}
	indent := list{object: hooks}.indent(d, outer)
	if v == nil {
		change.Added = append(change.Added, name)
		return list{object: hooks}.add(d, name, event.Value, outer)
	}
	present, ok := arrayOf(v)
	if !ok {
		return d.errorAt(v, fmt.Sprintf("the hooks of %q must be in an array: […]", name))
	}
	element := event.Value.Value.(*hujson.Array).Elements[0]
	updated, found, err := e.update(d, v, element, indent)
	switch {
	case err != nil:
		return err
	case !found:
		change.Added = append(change.Added, name)
		return present.add(d, "", element, indent)
	case updated:
		change.Updated = append(change.Updated, name)
	}
	return nil
}

// update makes the first of our hooks in an event's array the wanted one, and removes the others. It reports whether
// there was one, and whether anything changed. The array is at an indentation.
func (e Editor) update(d *document, v *hujson.Value, element hujson.Value, outer string) (updated, found bool, err error) {
	want := hookIn(element)
	removed, err := e.edit(d, v, func(l list, i int, grouped bool) (keep bool, err error) {
		if found || grouped != isGroup(element) { // a second one, or one in the shape of another version
			return false, nil
		}
		found = true
		hook := &l.array.Elements[i]
		new, err := e.withQuery(want, hook.Value.(*hujson.Object))
		if err != nil || equal(*hook, new) {
			return true, err
		}
		updated = true
		laidOut, err := d.value(new, l.indent(d, outer), l.spansLines())
		hook.Value = laidOut.Value
		return true, err
	})
	return updated || removed, found, err
}

// withQuery returns the wanted hook with the parameters that people added to the address in an old one.
func (e Editor) withQuery(want hujson.Value, old *hujson.Object) (hujson.Value, error) {
	expanded := e.isCommand(old, want)
	want = want.Clone()
	for i := range want.Value.(*hujson.Object).Members {
		m := &want.Value.(*hujson.Object).Members[i]
		if text, ok := m.Value.Value.(hujson.Literal); ok && text.Kind() == '"' && e.ours.MatchString(text.String()) {
			m.Value.Value = hujson.String(e.carryQuery(e.commandOf(old), expanded, text.String()))
		}
	}
	return want, nil
}

// removeOthers removes our hooks from events that are not wanted.
func (e Editor) removeOthers(d *document, hooks *hujson.Object, w wanted, change *Change) error {
	names := w.names()
	for i := len(hooks.Members) - 1; i >= 0; i-- {
		name := nameOf(hooks.Members[i])
		if slices.Contains(names, name) {
			continue
		}
		removed, err := e.empty(d, &hooks.Members[i].Value)
		if err != nil {
			return err
		}
		if !removed {
			continue
		}
		change.Removed = append(change.Removed, name)
		if left, _ := arrayOf(&hooks.Members[i].Value); left.len() == 0 {
			list{object: hooks}.remove(i)
		}
	}
	return nil
}
