package hookfile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tailscale/hujson"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/hookfile"
)

var (
	server  = connect.Server{Address: "http://localhost:8080"}
	guarded = connect.Server{Address: "https://hub.example.com/agents", Tokens: true}
)

func editor(tool string, s connect.Server) hookfile.Editor {
	c := connect.Named(tool)
	return hookfile.New(tool, c.Lines(s), c.Script)
}

// connected connects a text, and checks that connecting it again changes nothing.
func connected(t require.TestingT, e hookfile.Editor, text []byte) []byte {
	out, _, err := e.Connect(text)
	require.NoError(t, err)
	again, change, err := e.Connect(out)
	require.NoError(t, err)
	require.Equal(t, string(out), string(again))
	require.Zero(t, change)
	require.True(t, e.IsConnected(out))
	return out
}

func disconnected(t require.TestingT, e hookfile.Editor, text, before []byte) []byte {
	out, err := e.Disconnect(text, before)
	require.NoError(t, err)
	require.False(t, e.IsConnected(out))
	return out
}

// hooksOf returns the hooks in a text, by event.
func hooksOf(t require.TestingT, text []byte) map[string][]any {
	plain, err := hujson.Standardize(bytes.Clone(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	require.NoError(t, err, "%s", text)
	var settings struct{ Hooks map[string]any }
	require.NoError(t, json.Unmarshal(plain, &settings))
	hooks := map[string][]any{}
	for event, v := range settings.Hooks {
		if elements, ok := v.([]any); ok {
			hooks[event] = elements
		}
	}
	return hooks
}

// requireHooks fails the test unless a connected text has each wanted hook once.
func requireHooks(t require.TestingT, tool string, s connect.Server, text []byte) {
	got := hooksOf(t, text)
	for event, elements := range hooksOf(t, []byte(connect.Named(tool).Lines(s))) {
		n := 0
		for _, element := range got[event] {
			if fmt.Sprint(element) == fmt.Sprint(elements[0]) {
				n++
			}
		}
		require.Equal(t, 1, n, "%s: %s", event, text)
	}
}

// realFiles returns settings files as people have them, for each tool.
func realFiles(t testing.TB) map[string][]byte {
	paths, err := filepath.Glob("testdata/*/*")
	require.NoError(t, err)
	require.Greater(t, len(paths), 8)
	files := map[string][]byte{}
	for _, path := range paths {
		text, err := os.ReadFile(path) //nolint:gosec // a test file
		require.NoError(t, err)
		files[path] = text
		files[path+" with CRLF"] = []byte(strings.ReplaceAll(string(text), "\n", "\r\n"))
		files[path+" with a byte order mark"] = append([]byte("\xef\xbb\xbf"), text...)
	}
	return files
}

// TestRealFiles connects and disconnects real settings files. Without knowing what the file was before, the result is
// the same, as none of them is empty.
func TestRealFiles(t *testing.T) {
	for path, text := range realFiles(t) {
		tool := filepath.Base(filepath.Dir(path))
		e, later := editor(tool, server), editor(tool, guarded)
		out := connected(t, e, text)
		requireHooks(t, tool, server, out)
		if strings.Contains(path, "CRLF") {
			require.Equal(t, strings.Count(string(out), "\n"), strings.Count(string(out), "\r\n"), path)
		} else {
			require.NotContains(t, string(out), "\r", path)
		}
		require.Equal(t, string(text), string(disconnected(t, e, out, text)), path)
		require.Equal(t, string(text), string(disconnected(t, e, out, nil)), path)

		onWindows := editor(tool, connect.Server{Address: server.Address, Windows: true})
		requireHooks(t, tool, connect.Server{Address: server.Address, Windows: true}, connected(t, onWindows, out))
		require.Equal(t, string(out), string(connected(t, e, connected(t, onWindows, out))), path)
		require.Equal(t, string(text), string(disconnected(t, e, connected(t, onWindows, out), nil)), path)

		upgraded := connected(t, later, out)
		requireHooks(t, tool, guarded, upgraded)
		require.NotContains(t, string(upgraded), server.Address, path)
		require.Equal(t, string(text), string(disconnected(t, e, upgraded, nil)), path)
	}
}

// TestNothingBefore connects files that don't exist or hold nothing, and disconnects them.
func TestNothingBefore(t *testing.T) {
	for _, c := range connect.Tools() {
		e := editor(c.Name, server)
		out := connected(t, e, nil)
		require.Equal(t, c.Lines(server), string(out), c.Name)
		require.Nil(t, disconnected(t, e, out, nil), c.Name)
		require.Nil(t, disconnected(t, e, connected(t, editor(c.Name, guarded), out), out), "%s: the backup of an upgrade has our hooks", c.Name)
		empties := []string{"", "\n", "\xef\xbb\xbf"}
		if !c.Script {
			empties = append(empties, "{}", "{}\n", "{ }", "{\n}", "{\n\n\n}\n", "{ /* nothing */ }", "{\n  // nothing\n}\n", `{"hooks":{}}`, "{\n\t\"hooks\": {\n\t}\n}\n")
		}
		for _, before := range empties {
			out := connected(t, e, []byte(before))
			if !c.Script {
				requireHooks(t, c.Name, server, out)
			}
			require.Equal(t, before, string(disconnected(t, e, out, []byte(before))), c.Name)
			require.NotNil(t, disconnected(t, e, out, []byte(before)), c.Name)
		}
	}
}

// TestLayout checks that the hooks are laid out like the rest of the file.
func TestLayout(t *testing.T) {
	lines := `{"version": 1, "hooks": {"stop": [{"command": "curl http://h/webhook/cursor"}]}}`
	e := hookfile.New("cursor", lines, false)
	for before, want := range map[string]string{
		`{}`: "{\n  \"version\": 1,\n  \"hooks\": {\n    \"stop\": [\n      {\n        \"command\": \"curl http://h/webhook/cursor\"\n      }\n    ]\n  }\n}",
		`{"version":1,"hooks":{"stop":[{"command":"a"}],"x":[]}}`:                  `{"version":1,"hooks":{"stop":[{"command":"a"},{"command":"curl http://h/webhook/cursor"}],"x":[]}}`,
		`{ "version": 1, "hooks": { "stop": [ {"command":"a"}, ], } }`:             `{ "version": 1, "hooks": { "stop": [ {"command":"a"}, {"command":"curl http://h/webhook/cursor"}, ], } }`,
		"{\n\t\"version\": 1, // one\n\t\"hooks\": {\"x\": []} // two\n}":          "{\n\t\"version\": 1, // one\n\t\"hooks\": {\"x\": [],\"stop\":[{\"command\":\"curl http://h/webhook/cursor\"}]} // two\n}",
		"{\n    \"version\": 1 // one\n}":                                          "{\n    \"version\": 1, // one\n    \"hooks\": {\n        \"stop\": [\n            {\n                \"command\": \"curl http://h/webhook/cursor\"\n            }\n        ]\n    }\n}",
		"{\"version\": 1, \"hooks\": {\n\n  \"stop\": [\n    // mine\n  ]\n\n}}\n": "{\"version\": 1, \"hooks\": {\n\n  \"stop\": [\n    // mine\n    {\n      \"command\": \"curl http://h/webhook/cursor\"\n    }\n  ]\n\n}}\n",
	} {
		out := connected(t, e, []byte(before))
		require.Equal(t, want, string(out))
		require.Equal(t, before, string(disconnected(t, e, out, []byte(before))))
	}
}

// TestUpgrade checks that hooks of an earlier version become those of this version in their place, whatever shape they
// had, and that others next to them stay.
func TestUpgrade(t *testing.T) {
	lines := `{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "new http://h/webhook/codex"}]}]}}`
	e := hookfile.New("codex", lines, false)
	for name, test := range map[string]struct{ before, want, without string }{
		"another server": {`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"old https://x:1/a/webhook/codex"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex"}]}]}}`, `{}`},
		"an http hook": {`{"hooks":{"Stop":[{"hooks":[{"type":"http","url":"http://x/webhook/codex"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex"}]}]}}`, `{}`},
		"in a group with others": {`{"hooks":{"Stop":[{"matcher":"*","hooks":[{"command":"a"}, {"command":"old http://x/webhook/codex"}, {"command":"b"}]}]}}`,
			`{"hooks":{"Stop":[{"matcher":"*","hooks":[{"command":"a"}, {"type":"command","command":"new http://h/webhook/codex"}, {"command":"b"}]}]}}`,
			`{"hooks":{"Stop":[{"matcher":"*","hooks":[{"command":"a"}, {"command":"b"}]}]}}`},
		"twice": {`{"hooks":{"Stop":[{"hooks":[{"command":"1 http://x/webhook/codex"}]},{"hooks":[{"command":"2 http://x/webhook/codex"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex"}]}]}}`, `{}`},
		"an event that is no longer needed": {`{"hooks":{"Old":[{"hooks":[{"command":"http://x/webhook/codex"}]}],"Stop":[{"hooks":[{"command":"a"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"a"}]},{"hooks":[{"type":"command","command":"new http://h/webhook/codex"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"a"}]}]}}`},
		"outside a group": {`{"hooks":{"Stop":[{"command":"http://x/webhook/codex"}]}}`,
			`{"hooks":{"Stop":[` + "\n      {\n        \"hooks\": [\n          {\n            \"type\": \"command\",\n            \"command\": \"new http://h/webhook/codex\"\n          }\n        ]\n      }\n    " + `]}}`, `{}`},
		"parameters that the shell expanded": {`{"hooks":{"Stop":[{"hooks":[{"command":"old \"http://x/webhook/codex?agent_id=$USER\""}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?agent_id=$USER"}]}]}}`, `{}`},
		"parameters in single quotes": {`{"hooks":{"Stop":[{"hooks":[{"command":"old 'http://x/webhook/codex?agent_id=$USER'"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?agent_id=%24USER"}]}]}}`, `{}`},
		"parameters of an address that no shell saw": {`{"hooks":{"Stop":[{"hooks":[{"type":"http","url":"http://x/webhook/codex?agent_id=$(id)` + "`id`" + `"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?agent_id=%24(id)%60id%60"}]}]}}`, `{}`},
		"a command that the tool did not run": {`{"hooks":{"Stop":[{"hooks":[{"type":"prompt","command":"\"http://x/webhook/codex?a=$(id)\""}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?a=%24(id)"}]}]}}`, `{}`},
		"a text beside the command": {`{"hooks":{"Stop":[{"hooks":[{"note":"\"http://x/webhook/codex?a=$(id)\"","command":"true"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?a=%24(id)"}]}]}}`, `{}`},
		"parameters in the address": {`{"hooks":{"Stop":[{"hooks":[{"command":"old 'http://x/webhook/codex?agent_id=ci&ttl_minutes=5'"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"new http://h/webhook/codex?agent_id=ci&ttl_minutes=5"}]}]}}`, `{}`},
		"the same with another layout": {`{"hooks":{"Stop":[{"hooks":[{"command":"new http://h/webhook/codex","type":"command"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"new http://h/webhook/codex","type":"command"}]}]}}`, `{}`},
		"similar addresses of others": {`{"hooks":{"Stop":[{"hooks":[{"command":"http://x/webhook/codex-2"},{"command":"/webhook/codex"},{"command":"http://x/webhook/claude-code"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"http://x/webhook/codex-2"},{"command":"/webhook/codex"},{"command":"http://x/webhook/claude-code"}]},{"hooks":[{"type":"command","command":"new http://h/webhook/codex"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"http://x/webhook/codex-2"},{"command":"/webhook/codex"},{"command":"http://x/webhook/claude-code"}]}]}}`},
	} {
		out := connected(t, e, []byte(test.before))
		require.Equal(t, test.want, string(out), name)
		want := []byte(test.without)
		if test.without == "{}" {
			want = nil
		}
		require.Equal(t, string(want), string(disconnected(t, e, out, nil)), name)
		require.Equal(t, want, disconnected(t, e, []byte(test.before), nil), name)
	}
}

// TestCopilotKeepsItsEvents checks that a command keeps the name of its event in the address when it is upgraded.
func TestCopilotKeepsItsEvents(t *testing.T) {
	text := connected(t, editor("copilot", server), nil)
	text = []byte(strings.ReplaceAll(string(text), "?event=agentStop", "?agent_host=ci&event=agentStop"))
	out := string(connected(t, editor("copilot", guarded), text))
	require.Contains(t, out, guarded.Address+"/webhook/copilot?event=agentStop&agent_host=ci")
	require.Equal(t, 12, strings.Count(out, "?event="))
}

// TestEditsInBetween checks that disconnecting leaves what people and tools wrote into the file meanwhile.
func TestEditsInBetween(t *testing.T) {
	e := editor("claude-code", server)
	const before = "{\n  \"model\": \"opus\" // mine\n}\n"
	out := string(connected(t, e, []byte(before)))
	for name, test := range map[string]struct{ old, new, want string }{
		"a setting before": {`"model": "opus"`, `"model": "sonnet"`, "{\n  \"model\": \"sonnet\" // mine\n}\n"},
		"a setting after":  {"  }\n}\n", "  },\n  \"theme\": \"dark\"\n}\n", "{\n  \"model\": \"opus\", // mine\n  \"theme\": \"dark\"\n}\n"},
		"a hook in our group": {"\"Stop\": [\n      {\n        \"hooks\": [\n          {", "\"Stop\": [\n      {\n        \"hooks\": [\n          {\"type\": \"command\", \"command\": \"say done\"},\n          {",
			"{\n  \"model\": \"opus\", // mine\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n          {\"type\": \"command\", \"command\": \"say done\"}\n        ]\n      }\n    ]\n  }\n}\n"},
		"a comment": {"  \"hooks\": {\n", "  // keep me\n  \"hooks\": {\n", "{\n  \"model\": \"opus\" // mine\n  // keep me\n}\n"},
	} {
		edited := strings.Replace(out, test.old, test.new, 1)
		require.NotEqual(t, out, edited, name)
		require.Equal(t, test.want, string(disconnected(t, e, []byte(edited), []byte(before))), name)
	}
	minified, err := hujson.Minimize([]byte(out))
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"opus"}`, string(disconnected(t, e, minified, []byte(before))), "a tool rewrote the file, without the comment")
	minified, err = hujson.Minimize(connected(t, e, []byte(`{ "model": "opus" }`)))
	require.NoError(t, err)
	require.Equal(t, `{ "model": "opus" }`, string(disconnected(t, e, minified, []byte(`{ "model": "opus" }`))), "only the layout was changed")
}

// TestBroken checks that a file that can't be edited is refused with the line at fault.
func TestBroken(t *testing.T) {
	e := editor("claude-code", server)
	for text, want := range map[string]string{
		"{\n  \"a\": 1\n  \"b\": 2\n}":               "line 3: not valid JSON: ",
		"{\n  \"a\": 1,":                             "line 2: not valid JSON: ",
		`{"a": ` + strings.Repeat("[{\"b\":", 5_001): "line 1: not valid settings: objects and arrays are nested more than 10000 deep",
		"[]":                                "line 1: must be an object: {…}",
		"{\n\"hooks\": []}":                 `line 2: "hooks" must be an object: {…}`,
		"{\"hooks\": {},\n\n\"hooks\": {}}": `line 3: "hooks" occurs twice: remove one`,
		"{\"hooks\": {\n\"Stop\": {}}}":     `line 2: the hooks of "Stop" must be in an array: […]`,
		"{\"hooks\": {\"Stop\": [],\n\"Stop\": []}}": `line 2: "Stop" occurs twice: remove one`,
		"# Settings\n{}": "line 1: not valid JSON: ",
		"{\"hooks\": {\n\"Stop\": [{\n\"hooks\": 1}, ]}}}": "line 3: not valid JSON: ",
	} {
		out, _, err := e.Connect([]byte(text))
		var at *hookfile.SyntaxError
		require.ErrorAs(t, err, &at, text)
		require.Nil(t, out)
		require.Contains(t, err.Error(), want, text)
	}
	_, _, err := editor("opencode", server).Connect([]byte("export const Mine = 1\n"))
	require.EqualError(t, err, "line 1: this is not KubeAgents' script: move the file, or rename it")
	mine := []byte("export const Mine = 1\n")
	require.Equal(t, mine, disconnected(t, editor("opencode", server), mine, nil))
	odd := []byte(`{"hooks": {"enabled": true, "disabled": ["a"], "Stop": [1, {"hooks": 2}]}}`)
	require.Equal(t, string(odd), string(disconnected(t, e, connected(t, e, odd), nil)), "what is not a hook stays")
}

// TestNesting checks that nesting as deep as allowed can be edited.
func TestNesting(t *testing.T) {
	e := editor("claude-code", server)
	deep := []byte(`{"a": ` + strings.Repeat("[", 9_990) + strings.Repeat("]", 9_990) + "}")
	require.Equal(t, string(deep), string(disconnected(t, e, connected(t, e, deep), deep)))
}

// TestCommands checks that our commands are found in settings, each once.
func TestCommands(t *testing.T) {
	for _, c := range connect.Tools() {
		e := editor(c.Name, guarded)
		commands, err := e.Commands(connected(t, e, nil))
		require.NoError(t, err)
		require.Len(t, commands, 1, c.Name)
		require.Equal(t, guarded.Address+"/webhook/"+c.Name, commands[0].Address)
		require.Contains(t, commands[0].Text, commands[0].Address)
	}
	e := editor("cursor", server)
	commands, err := e.Commands([]byte(`{"hooks":{"stop":[{"command":"x"},{"command":"a http://1/webhook/cursor"}],"b":[{"command":"a http://1/webhook/cursor?agent_id=1"},{"command":"a http://2/webhook/cursor"}]}}`))
	require.NoError(t, err)
	require.Equal(t, []hookfile.Command{{"stop", "a http://1/webhook/cursor", "http://1/webhook/cursor"}, {"b", "a http://2/webhook/cursor", "http://2/webhook/cursor"}}, commands)
}

// aSettingsFile draws a settings file with hooks of others, comments, and any layout.
func aSettingsFile(t *rapid.T) []byte {
	gap := func() string {
		return rapid.SampledFrom([]string{"", "", " ", "\n", "\n  ", "\n\n\t", " /* a */ ", " // b\n", "\n// c\n  "}).Draw(t, "gap")
	}
	var value func(depth int) string
	composite := func(left, right string, items []string) string {
		var b strings.Builder
		b.WriteString(left)
		for i, item := range items {
			b.WriteString(gap() + item + gap())
			if i < len(items)-1 || rapid.Bool().Draw(t, "comma") {
				b.WriteString(",")
			}
		}
		return b.String() + gap() + right
	}
	member := func(name, value string) string { return `"` + name + `"` + gap() + ":" + gap() + value }
	value = func(depth int) string {
		switch n := rapid.IntRange(0, 5).Draw(t, "kind"); {
		case n == 0 && depth < 2:
			return composite("{", "}", []string{member("x", value(depth+1)), member("y", value(depth+1))})
		case n == 1 && depth < 2:
			return composite("[", "]", []string{value(depth + 1), value(depth + 1)})
		}
		return rapid.SampledFrom([]string{"1", "true", "null", `"a // b"`, `"\u00e9"`}).Draw(t, "literal")
	}
	hook := func() string {
		return composite("{", "}", []string{member("type", `"command"`), member("command", `"mine"`)})
	}
	group := func() string {
		return composite("{", "}", []string{member("matcher", `"Bash"`), member("hooks", composite("[", "]", []string{hook()}))})
	}
	members := []string{}
	for _, name := range []string{"model", "env"} {
		if rapid.Bool().Draw(t, name) {
			members = append(members, member(name, value(0)))
		}
	}
	if rapid.Bool().Draw(t, "hooks") {
		events := []string{}
		for _, name := range []string{"Stop", "PreToolUse", "Mine"} {
			if rapid.Bool().Draw(t, name) {
				events = append(events, member(name, composite("[", "]", []string{group(), group()}[:rapid.IntRange(0, 2).Draw(t, "groups")])))
			}
		}
		at := rapid.IntRange(0, len(members)).Draw(t, "at")
		members = append(members[:at:at], append([]string{member("hooks", composite("{", "}", events))}, members[at:]...)...)
	}
	return []byte(gap() + composite("{", "}", members) + gap())
}

// TestAnyFile checks, for any settings file, that connecting adds each hook once, that it changes nothing else, that
// connecting again changes nothing, and that disconnecting gives back the file.
func TestAnyFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := aSettingsFile(t)
		e, later := editor("claude-code", server), editor("claude-code", guarded)
		out := connected(t, e, before)
		requireHooks(t, "claude-code", server, out)
		if rapid.Bool().Draw(t, "upgraded") {
			out = connected(t, later, out)
			requireHooks(t, "claude-code", guarded, out)
		}
		require.Equal(t, string(before), string(disconnected(t, e, out, before)))
		without := disconnected(t, e, out, nil)
		if without == nil {
			without = []byte("{}")
		}
		require.Equal(t, values(t, before), values(t, without), "%s", without)
	})
}

// values returns the settings in a text, without empty hooks, and its comments.
func values(t *rapid.T, text []byte) string {
	plain, err := hujson.Standardize(bytes.Clone(text))
	require.NoError(t, err)
	var settings map[string]any
	require.NoError(t, json.Unmarshal(plain, &settings))
	if hooks, ok := settings["hooks"].(map[string]any); ok {
		for event, elements := range hooks {
			if len(elements.([]any)) == 0 {
				delete(hooks, event)
			}
		}
		if len(hooks) == 0 {
			delete(settings, "hooks")
		}
	}
	out, err := json.Marshal(settings)
	require.NoError(t, err)
	return string(out)
}
