package hookfile

import (
	"bytes"
	"slices"

	"github.com/tailscale/hujson"
)

// list is a JSON object or array, as a list of members or elements. add and remove keep the comments and the layout of
// the others, so that a remove undoes an add.
type list struct {
	object *hujson.Object // nil for an array
	array  *hujson.Array
}

func (l list) len() int {
	switch {
	case l.object != nil:
		return len(l.object.Members)
	case l.array != nil:
		return len(l.array.Elements)
	}
	return 0
}

// before returns what comes before item i, after the comma or the bracket.
func (l list) before(i int) *hujson.Extra {
	if l.object != nil {
		return &l.object.Members[i].Name.BeforeExtra
	}
	return &l.array.Elements[i].BeforeExtra
}

// after returns what comes between item i and its comma. Of the last item it is nil unless it has a comma.
func (l list) after(i int) *hujson.Extra {
	if l.object != nil {
		return &l.object.Members[i].Value.AfterExtra
	}
	return &l.array.Elements[i].AfterExtra
}

// end returns what comes before the closing bracket.
func (l list) end() *hujson.Extra {
	if l.object != nil {
		return &l.object.AfterExtra
	}
	return &l.array.AfterExtra
}

// spansLines reports whether the items are on several lines.
func (l list) spansLines() bool {
	for i := range l.len() {
		if bytes.ContainsRune(*l.before(i), '\n') {
			return true
		}
	}
	return bytes.ContainsRune(*l.end(), '\n')
}

// indent returns the indentation of the items of a list that is at an indentation itself.
func (l list) indent(d *document, outer string) string {
	for i := range l.len() {
		if indent, ok := indentation(*l.before(i)); ok {
			return indent
		}
	}
	return outer + d.unit
}

// add appends an item, a member of an object or, without a name, an element of an array. outer is the indentation of
// the list itself.
func (l list) add(d *document, name string, value hujson.Value, outer string) error {
	pretty, indent := l.len() == 0 || l.spansLines(), l.indent(d, outer)
	kept := bytes.TrimRight(*l.end(), blanks)
	tail := slices.Clone((*l.end())[len(kept):])
	separator := l.gap()
	if pretty {
		separator = d.eol + indent
		if l.len() == 0 && !bytes.ContainsRune(tail, '\n') {
			tail = hujson.Extra(d.eol + outer)
		}
	}
	value, err := d.value(value, indent, pretty)
	if err != nil {
		return err
	}
	if n := l.len(); n > 0 && *l.after(n - 1) != nil {
		value.AfterExtra = hujson.Extra{} // it has a comma as well
	}
	before := hujson.Extra(string(kept) + separator)
	if l.object != nil {
		if pretty {
			value.BeforeExtra = hujson.Extra(" ")
		}
		l.object.Members = append(l.object.Members, hujson.ObjectMember{Name: hujson.Value{BeforeExtra: before, Value: hujson.String(name)}, Value: value})
	} else {
		value.BeforeExtra = before
		l.array.Elements = append(l.array.Elements, value)
	}
	*l.end() = tail
	return nil
}

// gap returns what separates the items of a list on one line.
func (l list) gap() string {
	for i := range l.len() {
		if bytes.HasPrefix(*l.before(i), []byte(" ")) {
			return " "
		}
	}
	return ""
}

// remove removes an item and the whitespace that add put before it. Comments before and after it stay.
func (l list) remove(i int) {
	kept, after, last := *l.before(i), *l.after(i), i == l.len()-1
	if len(bytes.Trim(after, blanks)) > 0 {
		kept = join(kept, after)
	}
	if l.object != nil {
		l.object.Members = slices.Delete(l.object.Members, i, i+1)
	} else {
		l.array.Elements = slices.Delete(l.array.Elements, i, i+1)
	}
	next := l.end()
	if !last {
		next = l.before(i)
	}
	*next = join(kept, *next)
	switch {
	case last && l.len() > 0:
		l.endWithComma(after != nil)
	case l.len() == 0 && len(bytes.Trim(*l.end(), blanks)) == 0:
		*l.end() = nil
	}
}

// join returns a without the blanks at its end, and b. A comment that ends with a line stays one.
func join(a, b hujson.Extra) hujson.Extra {
	kept := bytes.TrimRight(a, blanks)
	joined := slices.Clone(kept)
	if len(kept) > 0 && bytes.ContainsRune(a[len(kept):], '\n') && !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r"), []byte("\n")) {
		joined = append(joined, '\n')
	}
	return append(joined, b...)
}

// endWithComma makes the last item have a comma, or none.
func (l list) endWithComma(comma bool) {
	after := l.after(l.len() - 1)
	switch {
	case comma && *after == nil:
		*after = hujson.Extra{}
	case !comma && *after != nil:
		*l.end() = append(slices.Clone(*after), *l.end()...)
		*after = nil
	}
}
