// Package hookfile edits the text of a tool's settings file: it adds the hooks that report to KubeAgents, brings them up
// to date, and takes them out again.
//
// Everything else in the file stays as it is, byte for byte: other settings, other hooks, comments, whitespace and order.
// A hook is one of ours if it names the address /webhook/<client> of a server, any server. Connecting twice is the same
// as connecting once. Disconnecting undoes what connecting did, whatever else was edited in between.
//
// A text of nil stands for a file that does not exist.
package hookfile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// Editor edits the settings files of one tool.
type Editor struct {
	client string
	lines  string
	script bool
	ours   *regexp.Regexp // matches the address in our hooks; its groups are what comes before the query, and the query
}

// New returns an editor for a client's settings files. lines are the lines to paste into them, a complete file. script
// says that they are a script of their own, not JSON.
func New(client, lines string, script bool) Editor {
	return Editor{client, lines, script, regexp.MustCompile(`(https?://[^\s"'\\]+/webhook/` + regexp.QuoteMeta(client) + `)(\?[^\s"'\\]*|["'\\\s]|$)`)}
}

// SyntaxError says why a file can't be edited.
type SyntaxError struct {
	Line    int // the first one is 1
	Message string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// Change says what connecting changes, as the names of events. All are nil for a script.
type Change struct{ Added, Updated, Removed []string }

// Connect returns the text with our hooks, and what that changes. The error is a *[SyntaxError].
func (e Editor) Connect(text []byte) ([]byte, Change, error) {
	if e.script {
		return e.connectScript(text)
	}
	w, err := e.wanted()
	if err != nil {
		return nil, Change{}, err
	}
	if isBlank(text) {
		return []byte(e.lines), Change{Added: w.names()}, nil
	}
	d, err := parse(text)
	if err != nil {
		return nil, Change{}, err
	}
	change, err := e.merge(d, w)
	if err != nil {
		return nil, Change{}, err
	}
	return d.pack(), change, nil
}

// Disconnect returns the text without our hooks, nil if nothing is left of it. before is what the file held before our
// hooks came, nil if it did not exist or is not known. Where only whitespace differs, the result is before itself. The
// error is a *[SyntaxError].
func (e Editor) Disconnect(text, before []byte) ([]byte, error) {
	if before != nil {
		var err error
		if before, err = e.Disconnect(before, nil); err != nil {
			before = nil // a file that was broken can't be connected: this backup is not ours
		}
	}
	if e.script {
		return e.disconnectScript(text, before), nil
	}
	if isBlank(text) {
		return text, nil
	}
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	original := emptyDocument()
	if !isBlank(before) {
		if original, err = parse(before); err != nil {
			return nil, err
		}
	}
	found, err := e.strip(d, original, before != nil)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return text, nil
	case before != nil && d.signature() == original.signature():
		return before, nil
	case before == nil && d.signature() == emptyDocument().signature():
		return nil, nil
	}
	return d.pack(), nil
}

// Mentions reports whether the text names our address anywhere, even if it is not valid.
func (e Editor) Mentions(text []byte) bool { return e.ours.Match(text) }

// IsConnected reports whether the text has hooks of ours.
func (e Editor) IsConnected(text []byte) bool {
	if e.script {
		return e.ours.Match(text)
	}
	commands, err := e.Commands(text)
	return err == nil && len(commands) > 0
}

// Command is a command of ours in a settings file.
type Command struct {
	Event   string // that runs it
	Text    string // the command, or the address that an HTTP hook posts to
	Address string // that it posts to, without the query
}

// Commands returns our commands in the text, in its order. Those that differ only in the query of their address count
// as one. The error is a *[SyntaxError].
func (e Editor) Commands(text []byte) (commands []Command, err error) {
	if isBlank(text) {
		return nil, nil
	}
	if e.script {
		if found := e.ours.FindSubmatch(text); found != nil {
			commands = []Command{{Text: string(text), Address: string(found[1])}}
		}
		return commands, nil
	}
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	hooks, err := d.hooks()
	if err != nil || hooks == nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i := range hooks.Members {
		event := hooks.Members[i].Name.Value.(hujson.Literal).String()
		err := e.eachHook(d, &hooks.Members[i].Value, func(hook *hujson.Object) {
			text := e.commandOf(hook)
			found := e.ours.FindStringSubmatch(text)
			if same := e.ours.ReplaceAllString(text, "$1"); !seen[same] {
				seen[same] = true
				commands = append(commands, Command{event, text, found[1]})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return commands, nil
}

func (e Editor) connectScript(text []byte) ([]byte, Change, error) {
	if !isBlank(text) && !e.ours.Match(text) {
		return nil, Change{}, &SyntaxError{1, "this is not KubeAgents' script: move the file, or rename it"}
	}
	return []byte(e.lines), Change{}, nil
}

func (e Editor) disconnectScript(text, before []byte) []byte {
	if !e.ours.Match(text) {
		return text
	}
	return before
}

// isBlank reports whether a file holds nothing.
func isBlank(text []byte) bool {
	return len(bytes.TrimSpace(bytes.TrimPrefix(text, byteOrderMark))) == 0
}

// commandOf returns the text of a hook that names our address, "" if it is not ours.
func (e Editor) commandOf(hook *hujson.Object) string {
	for _, m := range hook.Members {
		if value, ok := m.Value.Value.(hujson.Literal); ok && value.Kind() == '"' && e.ours.MatchString(value.String()) {
			return value.String()
		}
	}
	return ""
}

// isCommand reports whether the tool runs the text of a hook of ours in a shell, as it does that of the wanted hook.
func (e Editor) isCommand(hook *hujson.Object, want hujson.Value) bool {
	wanted, text := want.Value.(*hujson.Object), e.commandOf(hook)
	if i, j := index(hook, "type"), index(wanted, "type"); i >= 0 && (j < 0 || !equal(hook.Members[i].Value, wanted.Members[j].Value)) {
		return false
	}
	return slices.ContainsFunc(hook.Members, func(m hujson.ObjectMember) bool {
		value, ok := m.Value.Value.(hujson.Literal)
		i := index(wanted, nameOf(m))
		return ok && value.Kind() == '"' && value.String() == text && i >= 0 && e.commandOf(&hujson.Object{Members: wanted.Members[i : i+1]}) != ""
	})
}

// wanted is what the lines ask for.
type wanted struct {
	others []hujson.ObjectMember // the members beside hooks, such as a version
	hooks  hujson.Value          // the object
	events []hujson.ObjectMember // its members: each is an array of one element
}

func (w wanted) names() (names []string) {
	for _, event := range w.events {
		names = append(names, nameOf(event))
	}
	return names
}

// wanted parses the lines.
func (e Editor) wanted() (w wanted, err error) {
	lines, err := parse([]byte(e.lines))
	if err != nil {
		return w, errors.New("the lines to paste are not JSON: " + err.Error()) // can't happen
	}
	for _, m := range lines.object().Members {
		if nameOf(m) != hooksName {
			w.others = append(w.others, m)
			continue
		}
		w.hooks, w.events = m.Value, m.Value.Value.(*hujson.Object).Members
	}
	return w, nil
}

const hooksName = "hooks"

func nameOf(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

// notExpanded replaces the characters of an address with which a shell's expansions begin by their percent-encodings.
var notExpanded = strings.NewReplacer("$", "%24", "`", "%60")

// carryQuery returns the wanted command with the parameters that the address in the old text has beyond it: people may
// name their agent there. What was not expanded in the old text is not in the new command either.
func (e Editor) carryQuery(old string, expanded bool, command string) string {
	if at := e.ours.FindStringIndex(old); !expanded || at == nil || strings.HasSuffix(old[:at[0]], "'") {
		old = notExpanded.Replace(old)
	}
	had, has := e.ours.FindStringSubmatch(old), e.ours.FindStringSubmatchIndex(command)
	if had == nil || has == nil || !strings.HasPrefix(had[2], "?") {
		return command
	}
	end, query := has[3], ""
	if command[has[4]:has[5]] != "" && command[has[4]] == '?' {
		end, query = has[5], command[has[4]:has[5]]
	}
	for parameter := range strings.SplitSeq(had[2][1:], "&") {
		name, _, _ := strings.Cut(parameter, "=")
		if parameter == "" || strings.Contains(query+"&", "?"+name+"=") || strings.Contains(query, "&"+name+"=") {
			continue
		}
		query += map[bool]string{true: "?", false: "&"}[query == ""] + parameter
	}
	return command[:has[3]] + query + command[end:]
}
