package hookfile

import (
	"slices"

	"github.com/tailscale/hujson"
)

// strip removes our hooks from d, and whatever is empty without them and is not in the original. existed is whether
// there was an original. It reports whether there were hooks of ours.
func (e Editor) strip(d, original *document, existed bool) (found bool, err error) {
	hooks, err := d.hooks()
	if err != nil || hooks == nil {
		return false, err
	}
	had, err := original.hooks()
	if err != nil {
		return false, err
	}
	for i := len(hooks.Members) - 1; i >= 0; i-- {
		removed, err := e.empty(d, &hooks.Members[i].Value)
		if err != nil {
			return false, err
		}
		found = found || removed
		if left, ok := arrayOf(&hooks.Members[i].Value); removed && ok && left.len() == 0 && !has(had, nameOf(hooks.Members[i])) {
			list{object: hooks}.remove(i)
		}
	}
	if !found {
		return false, nil
	}
	if had == nil && len(hooks.Members) == 0 && len(hooks.AfterExtra) == 0 {
		list{object: d.object()}.remove(index(d.object(), hooksName))
	}
	return true, e.stripOthers(d, original, existed)
}

// stripOthers removes the members beside hooks that connecting added: those that the original lacks or, without an
// original, those that alone are left.
func (e Editor) stripOthers(d, original *document, existed bool) error {
	w, err := e.wanted()
	if err != nil {
		return err
	}
	if !existed && len(d.object().Members) > len(w.others) {
		return nil
	}
	for _, m := range w.others {
		i := index(d.object(), nameOf(m))
		if i >= 0 && !has(original.object(), nameOf(m)) && equal(d.object().Members[i].Value, m.Value) {
			list{object: d.object()}.remove(i)
		}
	}
	return nil
}

// index returns the index of the member of an object with a name, or -1.
func index(o *hujson.Object, name string) int {
	return slices.IndexFunc(o.Members, func(m hujson.ObjectMember) bool { return nameOf(m) == name })
}

// has reports whether an object, which may be nil, has a member with a name.
func has(o *hujson.Object, name string) bool { return o != nil && index(o, name) >= 0 }
