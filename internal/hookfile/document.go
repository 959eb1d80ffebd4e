package hookfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/tailscale/hujson"
)

// byteOrderMark is what some editors on Windows begin a file with.
var byteOrderMark = []byte("\xef\xbb\xbf")

const blanks = " \t\r\n"

// document is the parsed text of a settings file: JSON, perhaps with comments and trailing commas.
type document struct {
	mark []byte // the byte order mark, if there is one
	root hujson.Value
	text []byte // that was parsed, for the numbers of lines
	eol  string // how its lines end
	unit string // one step of its indentation
}

// emptyDocument returns what a file that does not exist stands for.
func emptyDocument() *document {
	return &document{root: hujson.Value{Value: &hujson.Object{}}, eol: "\n", unit: "  "}
}

// parse parses the text of a settings file, which must be an object. The error is a *[SyntaxError].
func parse(text []byte) (*document, error) {
	d := &document{eol: "\n", unit: "  "}
	if rest, ok := bytes.CutPrefix(text, byteOrderMark); ok {
		d.mark, text = byteOrderMark, rest
	}
	if isTooDeep(text) {
		return nil, &SyntaxError{1, fmt.Sprintf("not valid settings: objects and arrays are nested more than %d deep", maxDepth)}
	}
	d.text = bytes.Clone(text)
	root, err := hujson.Parse(d.text)
	if err != nil {
		return nil, syntaxError(err)
	}
	d.root = root
	object, ok := root.Value.(*hujson.Object)
	if !ok {
		return nil, d.errorAt(&d.root, "must be an object: {…}")
	}
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		d.eol = "\r\n"
	}
	if len(object.Members) > 0 {
		if indent, ok := indentation(object.Members[0].Name.BeforeExtra); ok && indent != "" {
			d.unit = indent
		}
	}
	return d, nil
}

// maxDepth is how deep objects and arrays may be nested. The parser takes much memory for each level.
const maxDepth = 10_000

// isTooDeep reports whether objects and arrays in a text are nested more than maxDepth deep. It also counts brackets in
// strings and in comments, where so many are just as unlikely.
func isTooDeep(text []byte) bool {
	depth := 0
	for _, c := range text {
		switch c {
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// syntaxError returns the SyntaxError for an error of package hujson.
func syntaxError(err error) *SyntaxError {
	var line, column int
	message := strings.TrimPrefix(err.Error(), "hujson: ")
	if n, _ := fmt.Sscanf(message, "line %d, column %d:", &line, &column); n < 2 {
		return &SyntaxError{1, message}
	}
	_, message, _ = strings.Cut(message, ": ")
	return &SyntaxError{line, fmt.Sprintf("not valid JSON: %s (column %d)", message, column)}
}

func (d *document) errorAt(v *hujson.Value, message string) *SyntaxError {
	return &SyntaxError{1 + bytes.Count(d.text[:v.StartOffset], []byte("\n")), message}
}

func (d *document) object() *hujson.Object { return d.root.Value.(*hujson.Object) }

func (d *document) pack() []byte { return append(bytes.Clone(d.mark), d.root.Pack()...) }

// member returns the value of the member of an object with a name, nil if there is none.
func (d *document) member(o *hujson.Object, name string) (*hujson.Value, error) {
	var found *hujson.Value
	for i := range o.Members {
		switch m := &o.Members[i]; {
		case nameOf(*m) != name:
		case found != nil:
			return nil, d.errorAt(&m.Name, fmt.Sprintf("%q occurs twice: remove one", name))
		default:
			found = &m.Value
		}
	}
	return found, nil
}

// hooks returns the object of hooks, nil if there is none.
func (d *document) hooks() (*hujson.Object, error) {
	v, err := d.member(d.object(), hooksName)
	if err != nil || v == nil {
		return nil, err
	}
	o, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil, d.errorAt(v, `"hooks" must be an object: {…}`)
	}
	return o, nil
}

// value returns a new value that is equal to v, laid out for a place with an indentation, or on one line.
func (d *document) value(v hujson.Value, indent string, pretty bool) (hujson.Value, error) {
	v = v.Clone()
	v.Minimize()
	text := v.Pack()
	if pretty {
		var b bytes.Buffer
		if err := json.Indent(&b, text, indent, d.unit); err != nil {
			return v, err
		}
		text = bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte(d.eol))
	}
	return hujson.Parse(text)
}

// signature returns the document without whitespace and without optional commas. Documents with the same signature
// differ in their layout only.
func (d *document) signature() string {
	var b strings.Builder
	sign(&b, &d.root)
	return b.String()
}

func sign(b *strings.Builder, v *hujson.Value) {
	signExtra(b, v.BeforeExtra)
	switch t := v.Value.(type) {
	case hujson.Literal:
		b.Write(t)
	case *hujson.Object:
		b.WriteByte('{')
		for i := range t.Members {
			sign(b, &t.Members[i].Name)
			b.WriteByte(':')
			sign(b, &t.Members[i].Value)
			b.WriteByte(';')
		}
		signExtra(b, t.AfterExtra)
		b.WriteByte('}')
	case *hujson.Array:
		b.WriteByte('[')
		for i := range t.Elements {
			sign(b, &t.Elements[i])
			b.WriteByte(';')
		}
		signExtra(b, t.AfterExtra)
		b.WriteByte(']')
	}
	signExtra(b, v.AfterExtra)
}

func signExtra(b *strings.Builder, e hujson.Extra) {
	b.WriteString(strings.Join(strings.FieldsFunc(string(e), unicode.IsSpace), ""))
}

// indentation returns the blanks at the end of e if they begin a line.
func indentation(e hujson.Extra) (indent string, ok bool) {
	i := bytes.LastIndexByte(e, '\n')
	if i < 0 || len(bytes.Trim(e[i+1:], " \t")) > 0 {
		return "", false
	}
	return string(e[i+1:]), true
}
