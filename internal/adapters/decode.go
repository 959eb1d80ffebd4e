package adapters

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/models"
)

// field is a piece of information that an event may contain, whatever its client calls it.
type field uint8

const (
	fieldEvent field = iota
	fieldSession
	fieldSession2 // and 3: other places that may contain the session's ID
	fieldSession3
	fieldSubagent
	fieldParent // the session to which a subagent's session belongs
	fieldFolder // the agent's working directory
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
	fieldCommand // this and the next ones: the input of a tool
	fieldPath
	fieldPattern
	fieldQuery
	fieldURL
	fieldDescription
	fieldToolPrompt
	fieldQuestion
	fieldPlan
	fieldInput         // the whole input of a tool, as JSON
	fieldInputHash     // a hash of the input
	fieldCall          // the ID of a tool call, or of a request
	fieldCallOfRequest // the ID of the tool call that a request is about
	fieldInterrupt     // whether a person interrupted the call
	fieldSource        // why a session starts
	fieldOutcome       // the answer, or how something ended
	fieldServer        // the MCP server that asks
	fieldChoice        // this and the next ones are lists; see listFrom
	fieldBackgroundID  // of tasks that continue after the end of a turn
	fieldBackgroundStatus
	fieldHeader // of each of several questions asked at once
	fieldCount
)

// event holds the fields of an event, "" for those that it lacks.
type event [fieldCount]string

// node is a place in an event's JSON.
type node struct {
	field    field
	wanted   bool    // the value here is field, unless it is an object
	whole    []field // fields that get the value here as compact JSON; see wholeName
	hash     []field // fields that get the hash of the value; see hashName
	children map[string]*node
	paths    map[field][]string // of a root: the places of each field
}

// A place that ends with one of these names stands for the whole value there, of any type but null. The value, or a
// member of it, may be another field as well. See valueCapture.
const (
	wholeName = "*" // its compact JSON, cut to maxWhole bytes
	hashName  = "#" // the hash of its compact JSON, however long, as 16 hexadecimal digits
)

// maxWhole is a little more than a question may contain, so that a question can tell whether it was truncated.
const maxWhole = models.MaxQuestionContent + utf8.UTFMax

// paths returns a tree of fields from their places. A place is the names of members, separated by dots. The elements of
// an array are at the place of the array, and the first with a value counts. For example, "tool_input.command" is one
// argument of a tool, "tool_input.*" all of them as JSON, and "tool_input.#" their hash.
func paths(places map[string]field) *node {
	root := &node{paths: map[field][]string{}}
	for place, f := range places {
		root.add(strings.Split(place, "."), f)
		root.paths[f] = append(root.paths[f], place)
		slices.Sort(root.paths[f])
	}
	return root
}

// add adds the field f at the place that names specify, relative to n.
func (n *node) add(names []string, f field) {
	switch {
	case len(names) == 0:
		n.field, n.wanted = f, true
	case names[0] == wholeName:
		n.whole = append(n.whole, f)
	case names[0] == hashName:
		n.hash = append(n.hash, f)
	default:
		if n.children == nil {
			n.children = map[string]*node{}
		}
		if n.children[names[0]] == nil {
			n.children[names[0]] = &node{}
		}
		n.children[names[0]].add(names[1:], f)
	}
}

// names returns the places of a field, for error messages.
func (n *node) names(f field) string { return strings.Join(n.paths[f], " or ") }

// decoder decodes one event. Its memory is reused.
type decoder struct {
	scanner
	event *event
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// maxPooled is the maximum size of a text buffer that is kept for other events.
const maxPooled = 64 << 10

func (d *decoder) release() {
	d.event = nil
	d.resetBytes(nil)
	if cap(d.text) <= maxPooled {
		decoders.Put(d)
	}
}

// byteOrderMark is put before JSON by the pipes of some systems.
const byteOrderMark = "\ufeff"

// decode fills in the event from body. The error is a *models.Error, or one of body.
func (e *event) decode(body io.Reader, root *node) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.reset(body)
	return d.decode(e, root)
}

// decodeText fills in the event from a text.
func (e *event) decodeText(text []byte, root *node) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.resetBytes(text)
	return d.decode(e, root)
}

func (d *decoder) decode(e *event, root *node) error {
	d.event = e
	if c, err := d.peek(); err == nil && c == byteOrderMark[0] {
		if err := d.literal(byteOrderMark); err != nil {
			return d.fault(err)
		}
	}
	switch c, err := d.token(); {
	case errors.Is(err, io.EOF):
		return models.BadRequest("", "the body is empty; it must be a JSON object")
	case err != nil:
		return d.fault(err)
	case c != '{':
		return models.BadRequest("", "the body must be a JSON object")
	}
	if err := d.object(root); err != nil {
		return d.fault(err)
	}
	return d.expectEnd()
}

// expectEnd returns an error unless the stream has ended.
func (d *decoder) expectEnd() error {
	switch _, err := d.token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, errMalformed):
		return d.fault(err)
	}
	return models.BadRequest("", fmt.Sprintf("nothing may follow the JSON object: unexpected data at byte %d", d.offset()))
}

// fault turns an error of the scanner into one for the client that states its position.
func (d *decoder) fault(err error) error {
	problem := ""
	switch {
	case errors.Is(err, errMalformed):
		problem = "malformed"
	case errors.Is(err, errTooDeep):
		problem = "nested too deeply"
	case errors.Is(err, io.EOF):
		problem = "unexpected end"
	default:
		return err
	}
	return models.BadRequest("", fmt.Sprintf("the body must be a JSON object: %s at byte %d", problem, d.offset()))
}

// object decodes the next value, an object, at the place at.
func (d *decoder) object(at *node) error {
	return d.list('}', func() error { return d.member(at) })
}

// maxName is the maximum length of a wanted member's name, in bytes.
const maxName = 64

// member decodes the next member of an object at the place at.
func (d *decoder) member(at *node) error {
	name, whole, err := d.name(maxName)
	if err != nil {
		return err
	}
	var child *node // nil if the member is not wanted
	if whole {
		child = at.children[string(name)]
	}
	if err := d.colon(); err != nil {
		return err
	}
	switch {
	case child == nil:
		return d.skip()
	case child.whole != nil || child.hash != nil:
		return d.whole(child)
	}
	return d.value(child)
}

// whole decodes the next value at a place where the whole value or its hash is wanted.
func (d *decoder) whole(at *node) error {
	if _, err := d.token(); err != nil {
		return err
	}
	limit := 0
	if at.whole != nil {
		limit = maxWhole
	}
	d.beginCapture(max(limit, len("null")))
	if err := d.value(at); err != nil {
		return err
	}
	captured := d.endCapture()
	text, _ := captured.end()
	if string(text) == "null" {
		return nil
	}
	for _, f := range at.whole {
		d.event.set(f, text)
	}
	for _, f := range at.hash {
		d.event.set(f, hex.AppendEncode(nil, captured.digest.Sum(nil)))
	}
	return nil
}

// maxArrayDepth is the depth up to which arrays are searched for fields. In deeper ones, only the syntax is checked.
const maxArrayDepth = 100

// value decodes the next value at the place at.
func (d *decoder) value(at *node) error {
	c, err := d.token()
	switch {
	case err != nil:
		return err
	case c == '"':
		return d.str(at)
	case c == '[' && d.depth < maxArrayDepth:
		return d.array(at)
	case c == '{' && at.children != nil:
		return d.object(at)
	case c == '{' || c == '[':
		return d.skip()
	}
	value, err := d.scalar(c, d.limit(at))
	if c != 'n' {
		d.set(at, value)
	}
	return err
}

// array decodes the next value, an array. Its elements are at the same place. The words of a command are joined.
func (d *decoder) array(at *node) error {
	if at.wanted && at.field == fieldCommand {
		return d.command(at)
	}
	return d.list(']', func() error { return d.value(at) })
}

// maxNested is the maximum size, in bytes, of a string that is parsed as JSON where an object is wanted.
const maxNested = 1 << 20

// str decodes the next value, a string. Where an object is wanted, the string may contain its JSON.
func (d *decoder) str(at *node) error {
	limit := d.limit(at)
	if at.children == nil {
		value, _, err := d.string(limit)
		d.set(at, value)
		return err
	}
	value, whole, err := d.string(maxNested)
	if err != nil || whole && d.nested(at, value) {
		return err
	}
	if len(value) > limit {
		value = wholeRunes(value[:limit])
	}
	d.set(at, value)
	return nil
}

// nested decodes the content of a string as an object at the place at. It returns false if the string is not an object.
func (d *decoder) nested(at *node, text []byte) bool {
	var inner event
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) || inner.decodeText(text, &node{children: at.children}) != nil {
		return false
	}
	d.event.add(&inner)
	return true
}

// maxWords is the maximum number of words of a command that are kept.
const maxWords = 100

// command decodes the next value, an array of a command's words.
func (d *decoder) command(at *node) error {
	var all []byte
	n, limit := 0, d.limit(at)
	err := d.list(']', func() error {
		if c, err := d.token(); err != nil || c != '"' {
			return d.value(at)
		}
		word, _, err := d.string(max(0, limit-len(all)))
		if n++; n > maxWords || err != nil || len(all) >= limit {
			return err
		}
		if n > 1 {
			all = append(all, ' ')
		}
		all = append(all, word...)
		return nil
	})
	d.set(at, all)
	return err
}

// add copies the fields of other that e lacks.
func (e *event) add(other *event) {
	for f, value := range other {
		if e[f] == "" {
			e[f] = value
		}
	}
}

// maxShown is how many characters of a field can be displayed, except for fields with content.
const maxShown = 1000

// limit returns how many bytes of the value at a place are kept.
func (d *decoder) limit(at *node) int {
	if !at.wanted || d.event[at.field] != "" && !at.field.isList() {
		return 0
	}
	return at.field.limit()
}

// limit returns how many bytes of a field are kept.
func (f field) limit() int {
	const perCharacter = 12 // three times the maximum, because white space and the like are dropped later
	switch f {
	case fieldPrompt, fieldAnswer, fieldMessage, fieldError, fieldPlan, fieldQuestion:
		return perCharacter * maxContent
	}
	return perCharacter * maxShown
}

// set sets the field at a place, unless it has a value.
func (d *decoder) set(at *node, value []byte) {
	if at.wanted {
		d.event.set(at.field, value)
	}
}

// set sets a field unless it has a value, or appends to it if it is a list.
func (e *event) set(f field, value []byte) {
	if e[f] != "" && !f.isList() {
		return
	}
	if !utf8.Valid(value) {
		value = []byte(string([]rune(string(value)))) // U+FFFD for each invalid byte
	}
	if f.isList() {
		e.addTo(f, string(value))
		return
	}
	e[f] = string(value)
}

// timestamp returns when the event happened according to the client's clock, or the zero time if that is missing or
// implausible.
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
