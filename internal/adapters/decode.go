package adapters

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/models"
)

// field is something that an event may say, whatever its client calls it.
type field uint8

const (
	fieldEvent field = iota
	fieldSession
	fieldSession2 // and 3: other places where a session's ID may be
	fieldSession3
	fieldSubagent
	fieldFolder // that the agent works in
	fieldFolder2
	fieldTimestamp
	fieldTitle
	fieldPrompt
	fieldAnswer
	fieldMessage
	fieldKind
	fieldReason
	fieldError
	fieldErrorKind
	fieldTool
	fieldCommand // and the next ones: what a tool is called with
	fieldPath
	fieldPattern
	fieldQuery
	fieldURL
	fieldDescription
	fieldToolPrompt
	fieldQuestion
	fieldPlan
	fieldCount
)

// event is what is known of an event, by field; "" where it does not say.
type event [fieldCount]string

// node is a place in an event's JSON.
type node struct {
	field    field
	wanted   bool // what is here is the field, if it is no object
	children map[string]*node
	paths    map[field][]string // of a root: where each field may be
}

// paths makes a tree of fields by their places: names of members, separated by dots. An array stands for what is in it, of which
// the first that says something counts.
func paths(places map[string]field) *node {
	root := &node{paths: map[field][]string{}}
	for place, f := range places {
		at := root
		for name := range strings.SplitSeq(place, ".") {
			if at.children == nil {
				at.children = map[string]*node{}
			}
			next := at.children[name]
			if next == nil {
				next = &node{}
				at.children[name] = next
			}
			at = next
		}
		at.field, at.wanted = f, true
		root.paths[f] = append(root.paths[f], place)
		slices.Sort(root.paths[f])
	}
	return root
}

// names says where a field may be.
func (n *node) names(f field) string { return strings.Join(n.paths[f], " or ") }

// decoder decodes one event. Its memory is used again.
type decoder struct {
	source bytes.Buffer
	json   *jsontext.Decoder
	text   []byte
	event  *event
}

var decoders = sync.Pool{New: func() any { return &decoder{json: jsontext.NewDecoder(new(bytes.Buffer))} }}

// Everything passes that can be made sense of: nobody who waits for an agent can help what its tool sends.
var lenient = []jsontext.Options{jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)}

// byteOrderMark is what some systems' pipes put before JSON.
var byteOrderMark = []byte("\ufeff")

// decode fills in what body says.
func (e *event) decode(body []byte, root *node) error {
	d := decoders.Get().(*decoder)
	defer func() {
		d.source, d.event = bytes.Buffer{}, nil
		decoders.Put(d)
	}()
	d.event = e
	d.source = *bytes.NewBuffer(bytes.TrimPrefix(body, byteOrderMark))
	d.json.Reset(&d.source, lenient...)
	if d.json.PeekKind() != jsontext.KindBeginObject {
		if _, err := d.json.ReadToken(); errors.Is(err, io.EOF) {
			return models.BadRequest("", "the body must be a JSON object, and is empty")
		} else if err != nil {
			return malformed(err)
		}
		return models.BadRequest("", "the body must be a JSON object")
	}
	if err := d.object(root); err != nil {
		return malformed(err)
	}
	if _, err := d.json.ReadToken(); err == nil {
		return models.BadRequest("", "nothing may follow the JSON object")
	} else if !errors.Is(err, io.EOF) {
		return malformed(err)
	}
	return nil
}

func malformed(err error) error {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return models.BadRequest("", "the body must be a JSON object: malformed at byte "+strconv.FormatInt(syntactic.ByteOffset, 10))
	}
	return models.BadRequest("", "the body must be a JSON object, and ends early")
}

// object decodes the next value, an object, at a place.
func (d *decoder) object(at *node) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() == jsontext.KindString {
		name, err := d.json.ReadValue()
		if err != nil {
			return err
		}
		if err := d.value(at.child(name)); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// child returns the place of a member, nil where nothing is wanted of it.
func (n *node) child(name jsontext.Value) *node {
	var unquoted [64]byte
	if bytes.IndexByte(name, '\\') < 0 {
		return n.children[string(name[1:len(name)-1])]
	}
	plain, err := jsontext.AppendUnquote(unquoted[:0], name)
	if err != nil {
		return nil
	}
	return n.children[string(plain)]
}

// value decodes the next value, at a place; nil for one of which nothing is wanted.
func (d *decoder) value(at *node) error {
	if at == nil {
		return d.json.SkipValue()
	}
	switch d.json.PeekKind() {
	case jsontext.KindBeginObject:
		if at.children == nil {
			return d.json.SkipValue()
		}
		return d.object(at)
	case jsontext.KindBeginArray:
		return d.array(at)
	}
	value, err := d.json.ReadValue()
	if err != nil {
		return err
	}
	return d.scalar(at, value)
}

// array decodes the next value, an array: what is in it stands at the same place. The words of a command belong together.
func (d *decoder) array(at *node) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	words := at.wanted && at.field == fieldCommand
	var all []string
	for d.json.PeekKind() != jsontext.KindEndArray {
		if words && d.json.PeekKind() == jsontext.KindString && len(all) < 100 {
			value, err := d.json.ReadValue()
			if err != nil {
				return err
			}
			all = append(all, d.unquote(value, fieldCommand))
			continue
		}
		if err := d.value(at); err != nil {
			return err
		}
	}
	if len(all) > 0 && d.event[fieldCommand] == "" {
		d.event[fieldCommand] = strings.Join(all, " ")
	}
	_, err := d.json.ReadToken()
	return err
}

// scalar takes a value that is neither an object nor an array. A string where an object is wanted may hold that.
func (d *decoder) scalar(at *node, value jsontext.Value) error {
	if value.Kind() == jsontext.KindNull {
		return nil
	}
	if at.children != nil && value.Kind() == jsontext.KindString {
		if object, err := jsontext.AppendUnquote(nil, value); err == nil && bytes.HasPrefix(bytes.TrimSpace(object), []byte("{")) {
			var inner event
			if inner.decode(object, &node{children: at.children}) == nil {
				d.event.add(&inner)
				return nil
			}
		}
	}
	if !at.wanted || d.event[at.field] != "" {
		return nil
	}
	if value.Kind() == jsontext.KindString {
		d.event[at.field] = d.unquote(value, at.field)
		return nil
	}
	d.event[at.field] = string(value)
	return nil
}

// add takes over what another event says and this one does not.
func (e *event) add(other *event) {
	for f, value := range other {
		if e[f] == "" {
			e[f] = value
		}
	}
}

// maxShown is how many characters of any field but those with content can be shown.
const maxShown = 1000

// unquote returns what a JSON string stands for, or as much of its beginning as can be kept of that field.
func (d *decoder) unquote(value jsontext.Value, f field) string {
	const perCharacter = 12 // two escapes, for a character outside of the first plane
	limit := perCharacter * maxShown
	switch f {
	case fieldPrompt, fieldAnswer, fieldMessage, fieldError, fieldPlan, fieldQuestion:
		limit = perCharacter * maxContent
	}
	d.text = d.text[:0]
	if len(value) <= limit {
		d.text, _ = jsontext.AppendUnquote(d.text, value)
		return string(d.text)
	}
	d.text = append(append(d.text, value[:wholeEscapes(value, limit)]...), '"')
	unquoted, _ := jsontext.AppendUnquote(nil, d.text)
	return string(unquoted)
}

// wholeEscapes returns where a JSON string can be cut, at about limit, without cutting an escape.
func wholeEscapes(value jsontext.Value, limit int) int {
	i := 1
	for i < limit {
		switch {
		case value[i] != '\\':
			i++
		case value[i+1] == 'u':
			i += 6
		default:
			i += 2
		}
	}
	return i
}

// timestamp returns when the event happened, by its client's clock, where that can be right; else the zero time.
func (e *event) timestamp(now time.Time) time.Time {
	text := e[fieldTimestamp]
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || ms < 0 || ms > 1e15 {
			return time.Time{}
		}
		t = time.UnixMilli(int64(ms))
	}
	if d := t.Sub(now); d > models.MaxClockSkew || d < -models.MaxClockSkew {
		return time.Time{}
	}
	return t.UTC()
}
