// Package connect knows the tools that agents run in: the lines in their settings that make them report to a server, and
// where those settings are.
package connect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
)

// The environment variables that the lines use on the agent's machine.
const (
	TokenVariable   = "KUBEAGENTS_TOKEN"    // the token, if the server requires one
	AgentIDVariable = "KUBEAGENTS_AGENT_ID" // the agent's ID, optional
)

// Program is the name of this program, by which the hooks on Windows run it.
const Program = "kubeagents"

// Server is the server to report to.
type Server struct {
	Address string // its URL, without a trailing slash and without characters that are special in a shell or in JSON
	Tokens  bool   // whether it requires a token
	Signed  bool   // whether it accepts only signed webhooks, since it has a secret but no tokens

	Windows bool // the lines are for tools on Windows
}

// Command returns the command that connects the tools on a machine to the server.
func (s Server) Command() string { return "kubeagents connect -server " + s.Address }

// Client is a tool that agents run in.
type Client struct {
	Name  string // as in URLs
	Title string
	Since string // the oldest version that understands the lines, "" for any
	Paths []Path // where the lines go
	Note  string // further advice, may be ""

	// Script is whether the lines are a script, a file of their own, and not settings among others.
	Script bool

	ownFile  bool     // whether the lines go into a file that the tool has only for them
	programs []string // names of its executables; none for a client that is not a tool with hooks
	moved    folder   // variable of the environment that moves its settings
	lines    func(Server) string
}

// Path is a settings file, and what it applies to.
type Path struct{ Of, Path string }

// Merge says how to add the lines to a settings file that is there already, "" if the file holds nothing but them.
func (c *Client) Merge() string {
	if c.ownFile {
		return ""
	}
	if c.Name == "mcp" {
		return "If the file is there already, add kubeagents to the servers that are there."
	}
	return "If the file is there already, add to the entries that are there: where it has hooks for an event, append to that event’s array."
}

// Lines returns the lines to paste. They form a complete file and end with a newline.
func (c *Client) Lines(s Server) string { return c.lines(s) }

// claudeCodeSince is the first version of Claude Code that knows all the events of the hooks.
const claudeCodeSince = "2.1.101"

// Clients are all supported clients, in the order in which they are shown.
var Clients = []Client{
	{
		Name: "claude-code", Title: "Claude Code", Since: claudeCodeSince,
		Paths: []Path{{"you", "~/.claude/settings.json"}, {"a project", ".claude/settings.json"}},
		Note: "Check the version with claude --version: one before " + claudeCodeSince + " ignores the whole settings file, because it does not know all of these events. " +
			"The commands print nothing, so they decide nothing: Claude Code asks for permission as it does without them.",
		programs: []string{"claude"}, moved: folder{"CLAUDE_CONFIG_DIR", "~/.claude"},
		lines: claudeCode,
	},
	{
		Name: "codex", Title: "Codex", Since: "0.141",
		Paths:    []Path{{"you", "~/.codex/hooks.json"}},
		Note:     "Codex asks once whether it may run these commands: open /hooks and trust them.",
		programs: []string{"codex"}, moved: folder{"CODEX_HOME", "~/.codex"},
		lines: codex,
	},
	{
		Name: "gemini-cli", Title: "Gemini CLI", Since: "0.27",
		Paths:    []Path{{"you", "~/.gemini/settings.json"}, {"a project", ".gemini/settings.json"}},
		programs: []string{"gemini"}, moved: folder{"GEMINI_CLI_HOME", "~"},
		lines: geminiCLI,
	},
	{
		Name: "cursor", Title: "Cursor", Since: "1.7",
		Paths:    []Path{{"you", "~/.cursor/hooks.json"}, {"a project", ".cursor/hooks.json"}},
		programs: []string{"cursor", "cursor-agent"},
		lines:    cursor,
	},
	{
		Name: "copilot", Title: "GitHub Copilot", Since: "1.0.50",
		Paths:    []Path{{"you", "~/.copilot/hooks/kubeagents.json"}, {"a project", ".github/hooks/kubeagents.json"}},
		Note:     "For Copilot CLI and for the cloud agent, which must be able to reach this server.",
		ownFile:  true,
		programs: []string{"copilot"}, moved: folder{"COPILOT_HOME", "~/.copilot"},
		lines: copilot,
	},
	{
		Name: "opencode", Title: "OpenCode", Since: openCodeSince,
		Paths:    []Path{{"you", "~/.config/opencode/plugins/kubeagents.js"}, {"a project", ".opencode/plugins/kubeagents.js"}},
		ownFile:  true,
		programs: []string{"opencode"}, moved: folder{"XDG_CONFIG_HOME", "~/.config"},
		Script: true, lines: openCode,
	},
	{
		Name: "mcp", Title: "MCP",
		Paths: []Path{{"Claude Code, in a project", ".mcp.json"}, {"Cursor", "~/.cursor/mcp.json"}},
		Note:  "For any agent that supports MCP. It gives the agent tools to report what it is doing, and to see which other agents need attention. Other clients need the same URL and header in their own settings.",
		lines: mcp,
	},
}

// Named returns the client with this name, nil if there is none.
func Named(name string) *Client {
	for i := range Clients {
		if Clients[i].Name == name {
			return &Clients[i]
		}
	}
	return nil
}

// Names returns the names of all clients.
func Names() []string {
	names := make([]string, len(Clients))
	for i := range Clients {
		names[i] = Clients[i].Name
	}
	return names
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", m.name)
		b.WriteString(encode(m.value, ""))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode returns v as readable JSON, without HTML escapes.
func encode(v any, indent string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		panic("encode settings: " + err.Error()) // can't happen: they are plain values
	}
	return b.String()
}

// list is a JSON array of one object.
func list(o object) []object { return []object{o} }

// claudeCode uses only command hooks: Claude Code silently drops what an http hook posts to a name with a private
// address. It leaves out WorktreeCreate, whose hook would have to create the worktree, and frequent events that say
// nothing about the status.
func claudeCode(s Server) string {
	return hooks([]string{"SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PermissionDenied", "PostToolUse",
		"PostToolUseFailure", "PostToolBatch", "Notification", "Elicitation", "ElicitationResult", "Stop", "StopFailure", "SubagentStart",
		"SubagentStop", "PreCompact", "PostCompact", "SessionEnd"},
		object{{"type", "command"}, {"command", command(s, "claude-code", "")}, {"timeout", 5}})
}

func codex(s Server) string {
	return hooks([]string{"SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "Stop", "Interrupt",
		"SubagentStart", "SubagentStop", "PreCompact", "PostCompact", "SessionEnd"},
		object{{"type", "command"}, {"command", command(s, "codex", "")}, {"timeout", 5}})
}

func geminiCLI(s Server) string {
	return hooks([]string{"SessionStart", "BeforeAgent", "BeforeTool", "AfterTool", "Notification", "AfterAgent", "PreCompress", "SessionEnd"},
		object{{"name", "kubeagents"}, {"type", "command"}, {"command", command(s, "gemini-cli", "")}, {"timeout", 5000}})
}

// hooks returns settings that run the same hook for each event, in the format that Claude Code, Codex and Gemini CLI
// share.
func hooks(names []string, hook object) string {
	events := object{}
	for _, name := range names {
		events = append(events, member{name, list(object{{"hooks", list(hook)}})})
	}
	return encode(object{{"hooks", events}}, "  ")
}

// command returns a command for a tool's hooks that posts an event from its standard input. It prints nothing and never
// fails, so that the agent continues with or without a server. It waits for the server for at most 3 seconds.
func command(s Server, client, query string) string {
	if s.Windows {
		return windowsCommand(s, client, query)
	}
	return posixCommand(s, client, query)
}

// posixCommand returns such a command for a POSIX shell.
//
// The headers reach curl through a pipe, since its arguments are visible to every user of the machine. The event stays
// on standard input: a socket can be read, but not opened by a name such as /dev/fd/4. The outer sh is for tools that
// run their hooks in the user's own shell.
func posixCommand(s Server, client, query string) string {
	format := `X-Agent-Id: %s\nX-Agent-Host: %s\n`
	values := `"$` + AgentIDVariable + `" "$(uname -n)"`
	if s.Tokens {
		format = `Authorization: Bearer %s\n` + format
		values = `"$` + TokenVariable + `" ` + values
	}
	return `sh -c '{ printf "` + format + `" ` + values +
		` | { curl -s -m 3 --connect-timeout 2 -o /dev/null -H @/dev/fd/3 --data-binary @- "` + s.Address + "/webhook/" + client + query +
		`" <&4; } 3<&0; } 2>/dev/null 4<&0 || true'`
}

// HookAddress returns the address that a command for Windows posts to, with its query. ok is false if the command is
// none.
func HookAddress(command string) (address string, ok bool) {
	_, rest, ok := strings.Cut(command, Program+` hook "`)
	if !ok {
		return "", false
	}
	address, _, ok = strings.Cut(rest, `"`)
	return address, ok
}

// windowsCommand returns a command that does the same on Windows, by this program's own command hook: see [Post]. The
// tools run it in Git Bash, PowerShell or cmd.exe, and it means the same in each of them. A path of the program would
// not: a quoted one is only a string in PowerShell, and an unquoted one can have neither spaces nor backslashes.
func windowsCommand(s Server, client, query string) string {
	return Program + ` hook "` + s.Address + "/webhook/" + client + query + `"`
}

func cursor(s Server) string {
	events := object{}
	for _, event := range []string{"sessionStart", "beforeSubmitPrompt", "preToolUse", "postToolUse", "postToolUseFailure", "beforeShellExecution",
		"afterShellExecution", "beforeMCPExecution", "afterMCPExecution", "afterFileEdit", "afterAgentResponse", "subagentStart", "subagentStop",
		"preCompact", "stop", "sessionEnd"} {
		events = append(events, member{event, list(object{{"command", command(s, "cursor", "")}})})
	}
	return encode(object{{"version", 1}, {"hooks", events}}, "  ")
}

// copilot puts the name of the event into the URL, because the event may not contain it. It leaves out
// permissionRequest, which Copilot sends for every call, before it decides whether to ask. When it does ask, it sends a
// notification.
//
// It denies a tool's call if a hook fails, so the command for PowerShell succeeds even without the program. The other
// command is for those who share the file.
func copilot(s Server) string {
	events := object{}
	for _, event := range []string{"sessionStart", "userPromptSubmitted", "preToolUse", "postToolUse", "postToolUseFailure", "notification",
		"agentStop", "subagentStart", "subagentStop", "preCompact", "errorOccurred", "sessionEnd"} {
		query := "?event=" + event
		hook := object{{"type", "command"}}
		if s.Windows {
			hook = append(hook, member{"powershell", "try { " + windowsCommand(s, "copilot", query) + " } catch { }; exit 0"})
		}
		hook = append(hook, member{"bash", posixCommand(s, "copilot", query)}, member{"timeoutSec", 5})
		events = append(events, member{event, list(hook)})
	}
	return encode(object{{"version", 1}, {"hooks", events}}, "  ")
}

func mcp(s Server) string {
	server := object{{"type", "http"}, {"url", s.Address + "/mcp"}}
	if s.Tokens {
		server = append(server, member{"headers", object{{"Authorization", "Bearer ${" + TokenVariable + "}"}}})
	}
	return encode(object{{"mcpServers", object{{"kubeagents", server}}}}, "  ")
}

// openCodeSince is the oldest version that waits for a plugin's last posts before it ends.
const openCodeSince = "1.17"

func openCode(s Server) string {
	var b strings.Builder
	if err := plugin.Execute(&b, struct {
		Server
		TokenVariable, AgentIDVariable, Since string
	}{s, TokenVariable, AgentIDVariable, openCodeSince}); err != nil {
		panic("write the plugin: " + err.Error()) // can't happen: the template is constant
	}
	return b.String()
}

// plugin posts events one after another. Events of a subagent's session become events of its parent's, except for its
// own end.
var plugin = template.Must(template.New("").Parse(`// Reports what OpenCode does to KubeAgents, at {{.Address}}. For OpenCode {{.Since}} or later.
import { hostname } from "node:os"

export const KubeAgents = async ({ directory }) => {
  // In the URL, since fetch refuses headers with characters beyond Latin-1.
  const agent = new URLSearchParams({ agent_id: process.env.{{.AgentIDVariable}} ?? "", agent_host: hostname() })
  const parents = new Map() // from a subagent's session to its parent's
  let sent = Promise.resolve()
  let waiting = 0
  const post = (type, sessionID, properties) => {
    if (waiting >= 100) return sent // the server is slow or down
    let root = sessionID
    while (parents.has(root)) root = parents.get(root)
    if (root !== sessionID) properties = { ...properties, sessionID: root, childSessionID: sessionID }
    const body = JSON.stringify({ type, directory, properties })
    waiting++
    const send = () =>
      fetch("{{.Address}}/webhook/opencode?" + agent, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
{{- if .Tokens}}
          Authorization: ` + "`Bearer ${process.env.{{.TokenVariable}}}`" + `,
{{- end}}
        },
        body,
        signal: AbortSignal.timeout(3000),
      })
    sent = sent.then(send).catch(() => {}).finally(() => waiting--) // OpenCode continues with or without a server
    return sent
  }
  const reported = /^(session\.(created|updated|status|idle|error|deleted|compacted)|permission\.|question\.)/
  return {
    event: async ({ event: { type, properties } }) => {
      if (!reported.test(type)) return
      const id = properties.sessionID ?? properties.info?.id
      if (properties.info?.parentID) parents.set(id, properties.info.parentID)
      if (!parents.has(id) || !type.startsWith("session.")) await post(type, id, properties)
    },
    "chat.message": async ({ sessionID }, { parts }) => {
      if (parents.has(sessionID)) return
      const prompt = parts.filter((part) => part.type === "text" && !part.synthetic).map((part) => part.text).join("\n")
      post("chat.message", sessionID, { sessionID, prompt })
    },
    "tool.execute.before": async ({ tool, sessionID, callID }, { args }) => {
      post("tool.execute.before", sessionID, { sessionID, callID, tool, args })
    },
    "tool.execute.after": async ({ tool, sessionID, callID, args }) => {
      post("tool.execute.after", sessionID, { sessionID, callID, tool, args })
    },
    dispose: () => Promise.race([sent, new Promise((done) => setTimeout(done, 3000))]),
  }
}
`))
