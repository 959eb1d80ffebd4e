package notify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a rules file. They keep the time that it takes to parse one within a second.
const (
	maxFile   = 128 << 10 // in bytes
	maxNested = 10        // lists and mappings within each other, on one line
)

// value is a value in a YAML document: nothing, a text, a list or a mapping.
type value struct {
	line    int // where it begins, from 1; of a value in a mapping, where its key is
	kind    kind
	text    string  // as it is written, without quotes: numbers and booleans are texts as well
	items   []value // of a list
	entries []entry // of a mapping, in the order of the file; keys may be repeated
}

type kind uint8

const (
	nothing kind = iota
	text
	list
	mapping
	unresolved // a text with a reference that stands for nothing
)

// entry is a key of a mapping with its value.
type entry struct {
	line  int
	key   string
	value value
}

// parseYAML returns the only document in a file. Anchors, aliases, tags and directives are not allowed. An error never
// contains any of the file's text.
func parseYAML(file []byte) (value, error) {
	file = bytes.TrimPrefix(file, []byte("\ufeff"))
	switch {
	case len(file) > maxFile:
		return value{}, fmt.Errorf("the file must have at most %d KiB", maxFile>>10)
	case !utf8.Valid(file):
		return value{}, errors.New("the file must be UTF-8")
	}
	tokens := lexer.Tokenize(string(file))
	if err := checkTokens(tokens); err != nil {
		return value{}, err
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return value{}, malformed(err, file)
	}
	if len(parsed.Docs) != 1 {
		return value{}, errors.New("the file must have one YAML document, not several")
	}
	if parsed.Docs[0].Body == nil {
		return value{line: 1}, nil
	}
	return valueOf(parsed.Docs[0].Body), nil
}

// refused are the tokens of YAML that a rules file can't contain, with what to do instead. Without them, a file can't
// grow when it is parsed.
var refused = map[token.Type]string{
	token.AnchorType:     "anchors (&) are not allowed; put a value that begins with & in quotes",
	token.AliasType:      "aliases (*) are not allowed; put a value that begins with * in quotes",
	token.TagType:        "tags (!) are not allowed; put a value that begins with ! in quotes",
	token.DirectiveType:  "directives (%) are not allowed; put a value that begins with % in quotes",
	token.MappingKeyType: "keys that begin with ? are not allowed",
	token.MergeKeyType:   "merging mappings (<<) is not allowed",
}

// checkTokens returns an error if the file has tokens that are not allowed, or that are nested so deeply that parsing
// them would take too long.
func checkTokens(tokens token.Tokens) error {
	nested, onLine, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, onLine = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			nested++
		case token.SequenceEndType, token.MappingEndType:
			nested--
		case token.SequenceEntryType:
			onLine++
		}
		if why, ok := refused[tk.Type]; ok {
			return fmt.Errorf("line %d: %s", line, why)
		}
		if nested > maxNested || onLine > maxNested {
			return fmt.Errorf("line %d: lists and mappings are nested too deeply", line)
		}
	}
	return nil
}

// malformed returns the error for a file that the parser rejects. The parser's own error shows the text around it.
func malformed(err error, file []byte) error {
	var syntax interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		return errors.New("the file is not valid YAML")
	}
	line := syntax.GetToken().Position.Line
	problem := "not valid YAML"
	if message := syntax.GetMessage(); !strings.Contains(message, `"`) { // in quotes, it may contain text of the file
		problem += ": " + message
	}
	if lines := bytes.Split(file, []byte("\n")); line <= len(lines) && bytes.Contains(lines[line-1], []byte("${")) {
		problem += `; inside { } and [ ], references need quotes, as in "${NAME}"`
	}
	return fmt.Errorf("line %d: %s", line, problem)
}

// valueOf returns what a node of a document means.
func valueOf(node ast.Node) value {
	v := value{line: node.GetToken().Position.Line}
	switch node := node.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		v.kind = list
		for _, item := range node.Values {
			v.items = append(v.items, valueOf(item))
		}
	case *ast.MappingNode:
		v.kind = mapping
		for _, item := range node.Values {
			key := item.Key.GetToken()
			e := entry{key.Position.Line, key.Value, valueOf(item.Value)}
			e.value.line = e.line
			v.entries = append(v.entries, e)
		}
	case *ast.LiteralNode:
		v.kind, v.text = text, node.Value.Value
	default:
		v.kind, v.text = text, node.GetToken().Value
	}
	return v
}

// faults are what is wrong with a file.
type faults []fault

type fault struct {
	line    int
	problem string
}

// maxFaults is the maximum number of faults that an error lists.
const maxFaults = 20

func (f *faults) add(line int, format string, args ...any) {
	*f = append(*f, fault{line, fmt.Sprintf(format, args...)})
}

// err returns an error that lists the faults in the order of their lines, and nil if there are none.
func (f faults) err() error {
	slices.SortStableFunc(f, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, fault := range f[:min(len(f), maxFaults)] {
		errs = append(errs, fmt.Errorf("line %d: %s", fault.line, fault.problem))
	}
	if more := len(f) - maxFaults; more > 0 {
		errs = append(errs, fmt.Errorf("and %d more errors", more))
	}
	return errors.Join(errs...)
}
