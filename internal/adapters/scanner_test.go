package adapters

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// everywhere has fields of every kind.
var everywhere = paths(map[string]field{
	"session_id":         fieldSession,
	"prompt":             fieldPrompt,
	"tool_name":          fieldTool,
	"tool_input":         fieldCommand,
	"tool_input.command": fieldCommand,
	"tool_input.a.b":     fieldPath,
	"tool_input.*":       fieldURL,
	"tool_input.#":       fieldQuery,
	"tool_input.a.#":     fieldPattern,
	"parts.text":         fieldMessage,
	"parts.*":            fieldPlan,
	"only.#":             fieldReason,
	"":                   fieldTitle,
})

// chunks is a reader of text that returns size bytes at a time.
type chunks struct {
	text []byte
	size int
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.text[:min(len(c.text), c.size)])
	c.text = c.text[n:]
	return n, nil
}

// decoded returns the event decoded from body, read in pieces of size bytes.
func decoded(body string, size int) (e event, err error) {
	err = e.decode(&chunks{[]byte(body), size}, everywhere)
	return e, err
}

func TestDecodedFields(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want map[field]string
	}{
		"a whole object is captured without white space, along with its members": {
			`{"tool_input" : { "command" : "go  test" , "a" : { "b" : [ 1 , "x" ] } } }`,
			map[field]string{fieldCommand: "go  test", fieldPath: "1", fieldURL: `{"command":"go  test","a":{"b":[1,"x"]}}`,
				fieldQuery: digest(`{"command":"go  test","a":{"b":[1,"x"]}}`), fieldPattern: digest(`{"b":[1,"x"]}`)},
		},
		"a whole string is captured as written": {
			`{"tool_input":"\u0041 é"}`,
			map[field]string{fieldCommand: "A é", fieldURL: `"\u0041 é"`, fieldQuery: digest(`"\u0041 é"`)},
		},
		"a whole array is captured, not just its first element": {
			`{"parts":[ {"text":"a"}, {"text":"b"} ]}`,
			map[field]string{fieldMessage: "a", fieldPlan: `[{"text":"a"},{"text":"b"}]`},
		},
		"whole numbers and booleans are captured": {
			`{"tool_input": -1.50e+3 , "only": true}`,
			map[field]string{fieldCommand: "-1.50e+3", fieldURL: "-1.50e+3", fieldQuery: digest("-1.50e+3"), fieldReason: digest("true")},
		},
		"null counts as absent":          {`{"tool_input":null,"only":null,"prompt":null}`, nil},
		"a name of more than 64 bytes":   {`{"` + strings.Repeat("prompt", 20) + `":"x"}`, nil},
		"the first of two values counts": {`{"prompt":"","prompt":"a","prompt":"b","only":1,"only":2}`, map[field]string{fieldPrompt: "a", fieldReason: digest("1")}},
		"invalid Unicode is replaced":    {"{\"prompt\":\"\\ud83d\\ud83e\\udd16 \\udd16\xff\xfe\"}", map[field]string{fieldPrompt: "\ufffd🤖 \ufffd\ufffd\ufffd"}},
		"an object in a string": {
			`{"tool_input":" {\"command\":\"ls\",\"a\":{\"b\":2}}"}`,
			map[field]string{fieldCommand: "ls", fieldPath: "2", fieldURL: `" {\"command\":\"ls\",\"a\":{\"b\":2}}"`,
				fieldQuery: digest(`" {\"command\":\"ls\",\"a\":{\"b\":2}}"`), fieldPattern: digest(`{"b":2}`)},
		},
		"words of a command are joined": {`{"parts":0,"tool_input":["a","b c",null,"d"]}`,
			map[field]string{fieldCommand: "a b c d", fieldURL: `["a","b c",null,"d"]`, fieldQuery: digest(`["a","b c",null,"d"]`), fieldPlan: "0"}},
		"words beyond the hundredth are dropped": {`{"tool_input":[` + strings.Repeat(`"a",`, 200) + `"b"]}`,
			map[field]string{fieldCommand: strings.TrimSpace(strings.Repeat("a ", 100)), fieldURL: `[` + strings.Repeat(`"a",`, 200) + `"b"]`,
				fieldQuery: digest(`[` + strings.Repeat(`"a",`, 200) + `"b"]`)}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				e, err := decoded(test.body, size)
				require.NoError(t, err)
				var want event
				for f, text := range test.want {
					want[f] = text
				}
				require.Equal(t, want, e, size)
			}
		})
	}
}

// digest returns the hash of a text.
func digest(text string) string { return fmt.Sprintf("%016x", xxhash.Sum64String(text)) }

func TestLongValuesAreCut(t *testing.T) {
	const long = 3 << 20
	robots := strings.Repeat("🤖", long/4)
	for name, test := range map[string]struct {
		body string
		f    field
		want string
	}{
		"a text, at a character boundary":    {`{"prompt":"a` + robots + `"}`, fieldPrompt, "a" + robots[:120_000-4]},
		"a text of escapes":                  {`{"prompt":"` + strings.Repeat(`\ud83e\udd16`, long/12) + `"}`, fieldPrompt, robots[:120_000]},
		"another field, at a lower limit":    {`{"tool_name":"` + robots + `"}`, fieldTool, robots[:12_000]},
		"a number":                           {`{"tool_name":1` + strings.Repeat("0", long) + `}`, fieldTool, "1" + strings.Repeat("0", 11_999)},
		"words of a command":                 {`{"tool_input":["` + strings.Repeat("x", 7_000) + `","` + robots + `","y"]}`, fieldCommand, strings.Repeat("x", 7_000) + " " + robots[:5_000]},
		"a whole object":                     {`{"tool_input": {"x": "` + robots + `"} }`, fieldURL, `{"x":"` + robots[:maxWhole-8]},
		"a string that might hold an object": {`{"tool_input":"{` + robots + `}"}`, fieldCommand, "{" + robots[:12_000-4]},
		"a string with an object too large":  {`{"tool_input":"{\"command\":\"ls\",\"x\":\"` + robots + `\"}"}`, fieldCommand, `{"command":"ls","x":"` + robots[:11_976]},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := decoded(test.body, 5000)
			require.NoError(t, err)
			require.True(t, test.want == e[test.f], "%d bytes, not %d", len(e[test.f]), len(test.want))
		})
	}
	a, err := decoded(`{"only":"`+robots+`a"}`, 1000)
	require.NoError(t, err)
	b, err := decoded(` { "only" : "`+robots+`b" } `, 5000)
	require.NoError(t, err)
	require.Equal(t, digest(`"`+robots+`a"`), a[fieldReason], "the hash covers the whole value")
	require.Equal(t, digest(`"`+robots+`b"`), b[fieldReason])
}

func TestErrorsStateThePosition(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":01}`:                               "malformed at byte 6",
		`{"a":1.}`:                               "malformed at byte 7",
		`{"a":-}`:                                "malformed at byte 6",
		`{"a":1e+}`:                              "malformed at byte 8",
		`{"a":trues}`:                            "malformed at byte 9",
		`{"a":tru`:                               "unexpected end at byte 8",
		`{"a":"\x"}`:                             "malformed at byte 7",
		`{"a":"\u12g4"}`:                         "malformed at byte 10",
		"{\"a\":\"\n\"}":                         "malformed at byte 6",
		"{\"a\":\x001}":                          "malformed at byte 5",
		`{"a":1,}`:                               "malformed at byte 7",
		`{,}`:                                    "malformed at byte 1",
		`{"a" 1}`:                                "malformed at byte 5",
		`{"a":[1 2]}`:                            "malformed at byte 8",
		`{"a":[1}}`:                              "malformed at byte 7",
		`{"parts":[1}}`:                          "malformed at byte 11",
		`{"x":{"a":1,}}`:                         "malformed at byte 12",
		"\ufeff{a}":                              "malformed at byte 4",
		"\xef{}":                                 "malformed at byte 1",
		`{"prompt":"abc`:                         "unexpected end at byte 14",
		`{"x":` + strings.Repeat("[", 10_000):    "nested too deeply at byte 10004",
		`{"parts":` + strings.Repeat("[", 1<<20): "nested too deeply at byte 10008",
		strings.Repeat(`{"tool_input":`, 1<<20):  "nested too deeply at byte 140000",
	} {
		for _, size := range []int{1, 1 << 20} {
			_, err := decoded(body, size)
			require.EqualError(t, err, "the body must be a JSON object: "+want, body[:min(len(body), 100)])
		}
	}
	for body, at := range map[string]string{`{} x`: "3", `{}{}`: "2", `{},`: "2", "{}\x00": "2"} {
		_, err := decoded(body, 1)
		require.EqualError(t, err, "nothing may follow the JSON object: unexpected data at byte "+at)
	}
	var e event
	broken := errors.New("broken")
	require.ErrorIs(t, e.decode(io.MultiReader(strings.NewReader(`{"a":"`), iotest.ErrReader(broken)), everywhere), broken)
	require.ErrorIs(t, e.decode(io.MultiReader(strings.NewReader(`{}`), iotest.ErrReader(broken)), everywhere), broken)
	require.ErrorIs(t, e.decode(iotest.ErrReader(broken), everywhere), broken)
	require.ErrorIs(t, e.decode(lazy{}, everywhere), io.ErrNoProgress)
}

// lazy never reads anything.
type lazy struct{}

func (lazy) Read([]byte) (int, error) { return 0, nil }

// letters is a reader of that many letters.
type letters int

func (l *letters) Read(b []byte) (int, error) {
	if *l == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), int(*l))], alphabet)
	*l -= letters(n)
	return n, nil
}

var alphabet = strings.Repeat("abcdefghijklmnopqrstuvwxyz", 1000)

// TestMemoryDoesNotGrowWithTheEvent reads events of 32 MiB.
func TestMemoryDoesNotGrowWithTheEvent(t *testing.T) {
	for name, around := range map[string][2]string{
		"an unwanted string":                 {`{"session_id":"s","x":"`, `"}`},
		"a string within an unwanted value":  {`{"session_id":"s","x":[{"y":"`, `"}]}`},
		"a name":                             {`{"session_id":"s","`, `":1}`},
		"a wanted text":                      {`{"session_id":"s","prompt":"`, `"}`},
		"a string where an object is wanted": {`{"session_id":"s","tool_input":"{`, `"}`},
		"a string in a captured value":       {`{"session_id":"s","tool_input":{"x":"`, `"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var e event
			rest := letters(32 << 20)
			require.NoError(t, e.decode(io.MultiReader(strings.NewReader(around[0]), &rest, strings.NewReader(around[1])), everywhere))
			runtime.ReadMemStats(&after)
			require.Equal(t, "s", e[fieldSession])
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "total allocations")
		})
	}
}

// FuzzScanner checks that any event, read in pieces of any size, decodes as it does with jsontext, and is refused if
// jsontext refuses it.
func FuzzScanner(f *testing.F) {
	files, err := filepath.Glob("testdata/captures/*.ndjson")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		for line := range bytes.Lines(text) {
			f.Add(line, uint8(7))
		}
	}
	for _, body := range []string{
		`{"tool_input" : {"a":{"b":[1,{"c":"d"}]} , "command":["x",["y"],7]},"parts":[{"text":null},{"text":"\ud83e\udd16"}]}`,
		"\ufeff{\"prompt\":\"\\ud83d\\u0041\xff\xc3\\\"\\/\\b\\f\\n\\r\\t\",\"only\":[1.5e-7,-0,true,false,null,{}]}",
		`{"tool_input":"{\"command\":\"{}\",\"a\":{\"b\":\"\\ud800\"}} "}`, `{"":1,"\u0070rompt":"\ud83d\ud83d\udd16"}`, `{"a":01}`, `[]`, `{"a":[}`, `{}{}`, `{"a":"` + "\x1f" + `"}`,
		`{"parts":` + strings.Repeat("[", 120) + `{"text":"deep"}` + strings.Repeat("]", 120) + `}`, `{"tool_input":["a",{"command":"b"},"{\"a\":1}"],"only":1e5}`,
	} {
		f.Add([]byte(body), uint8(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		if len(body) > 10_000 { // larger values may be truncated
			return
		}
		want, valid := byJSONText(body, everywhere)
		got, err := decoded(string(body), int(size)+1)
		if !valid {
			var known *models.Error
			require.ErrorAs(t, err, &known)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// lenient makes jsontext accept what scanner accepts.
var lenient = []jsontext.Options{jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)}

// byJSONText returns an event decoded with jsontext, and whether it is valid.
func byJSONText(body []byte, root *node) (e event, valid bool) {
	v := jsontext.Value(bytes.TrimPrefix(body, []byte(byteOrderMark)))
	if !v.IsValid(lenient...) || v.Kind() != jsontext.KindBeginObject {
		return e, false
	}
	r := reference{&e}
	r.object(root, v, 0)
	return e, true
}

// reference decodes an event in the simple way, with every value completely in memory.
type reference struct{ *event }

// each calls do for each element of an array, or for each name and value of an object.
func (r reference) each(list jsontext.Value, do func(jsontext.Value)) {
	d := jsontext.NewDecoder(bytes.NewReader(list), lenient...)
	for _, err := d.ReadToken(); err == nil && d.PeekKind() != jsontext.KindEndArray && d.PeekKind() != jsontext.KindEndObject; {
		var v jsontext.Value
		if v, err = d.ReadValue(); err == nil {
			do(v)
		}
	}
}

func (r reference) object(at *node, v jsontext.Value, depth int) {
	var child *node
	named := false
	r.each(v, func(v jsontext.Value) {
		if named = !named; named {
			name, _ := jsontext.AppendUnquote(nil, v)
			child = at.children[string(name)]
			return
		}
		if child != nil {
			r.value(child, v, depth+1)
			r.whole(child, v)
		}
	})
}

func (r reference) whole(at *node, v jsontext.Value) {
	if v = v.Clone(); v.Kind() == jsontext.KindNull || v.Compact() != nil {
		return
	}
	for _, f := range at.whole {
		r.set(f, v)
	}
	for _, f := range at.hash {
		r.set(f, []byte(digest(string(v))))
	}
}

func (r reference) value(at *node, v jsontext.Value, depth int) {
	switch v.Kind() {
	case jsontext.KindNull:
	case jsontext.KindBeginObject:
		if at.children != nil {
			r.object(at, v, depth)
		}
	case jsontext.KindBeginArray:
		if depth < maxArrayDepth {
			r.array(at, v, depth)
		}
	case jsontext.KindString:
		text, _ := jsontext.AppendUnquote(nil, v)
		if at.children != nil && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
			if inner, valid := byJSONText(text, &node{children: at.children}); valid {
				r.add(&inner)
				return
			}
		}
		v = text
		fallthrough
	default:
		if at.wanted {
			r.set(at.field, v)
		}
	}
}

func (r reference) array(at *node, v jsontext.Value, depth int) {
	var words []string
	r.each(v, func(v jsontext.Value) {
		if at.field != fieldCommand || v.Kind() != jsontext.KindString {
			r.value(at, v, depth+1)
			return
		}
		word, _ := jsontext.AppendUnquote(nil, v)
		words = append(words, string(word))
	})
	r.set(at.field, []byte(strings.Join(words[:min(len(words), maxWords)], " ")))
}
