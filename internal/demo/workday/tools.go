package workday

import (
	"maps"
	"time"

	"github.com/kubeagents/kubeagents/internal/adapters"
)

// tool is what an agent runs in. Its methods return what the tool posts at a moment of a session, in the tool's own
// format: see the captures in internal/adapters/testdata.
type tool interface {
	name() string
	start(s *script) []fields
	prompt(s *script, text string) []fields
	before(s *script, c call) []fields
	after(s *script, c call) []fields
	finish(s *script, answer string) []fields
	end(s *script) []fields
}

// asking is a tool that reports what it asks.
type asking interface {
	tool
	ask(s *script, c call, q *question) []fields
	answered(s *script, c call, q *question) []fields
}

// home is the directory of the folders that agents work in.
const home = "/home/dev/"

// claude is Claude Code.
type claude struct{}

func (claude) name() string { return adapters.Named("claude-code").Name }

func (claude) event(s *script, name string, more fields) fields {
	body := fields{"hook_event_name": name, "session_id": s.id, "cwd": home + s.folder, "permission_mode": "default",
		"transcript_path": home + ".claude/projects/-home-dev-" + s.folder + "/" + s.id + ".jsonl"}
	maps.Copy(body, more)
	return body
}

func (t claude) start(s *script) []fields {
	return []fields{t.event(s, "SessionStart", fields{"source": "startup"})}
}

func (t claude) prompt(s *script, text string) []fields {
	return []fields{t.event(s, "UserPromptSubmit", fields{"prompt": text})}
}

func (t claude) before(s *script, c call) []fields {
	return []fields{t.event(s, "PreToolUse", claudeCall(c, s))}
}

func (t claude) after(s *script, c call) []fields {
	return []fields{t.event(s, "PostToolUse", claudeCall(c, s))}
}

// claudeCall returns the fields of a call.
func claudeCall(c call, s *script) fields {
	path := home + s.folder + "/" + c.object
	named := map[string]fields{
		"read":   {"tool_name": "Read", "tool_input": fields{"file_path": path}},
		"edit":   {"tool_name": "Edit", "tool_input": fields{"file_path": path}},
		"search": {"tool_name": "Grep", "tool_input": fields{"pattern": c.object}},
		"run":    {"tool_name": "Bash", "tool_input": fields{"command": c.object}},
	}[c.verb]
	named["tool_use_id"] = c.id
	return named
}

// claudeQuestion returns the fields of the call that asks a question.
func claudeQuestion(c call, s *script, q *question) fields {
	switch {
	case q.plan != "":
		return fields{"tool_name": "ExitPlanMode", "tool_input": fields{"plan": q.plan}, "tool_use_id": c.id}
	case q.choices != nil:
		return fields{"tool_name": "AskUserQuestion", "tool_input": fields{"questions": choice(q)}, "tool_use_id": c.id}
	}
	return claudeCall(c, s)
}

// choice returns a question with its choices, in the format of Claude Code and OpenCode.
func choice(q *question) []fields {
	var options []fields
	for _, label := range q.choices {
		options = append(options, fields{"label": label})
	}
	return []fields{{"question": q.text, "header": q.header, "options": options, "multiSelect": false}}
}

func (t claude) ask(s *script, c call, q *question) []fields {
	asked := claudeQuestion(c, s, q)
	request := fields{"tool_name": asked["tool_name"], "tool_input": asked["tool_input"]} // it has no ID of the call
	return []fields{
		t.event(s, "PreToolUse", asked),
		t.event(s, "PermissionRequest", request),
		t.event(s, "Notification", fields{"message": "Claude needs your permission", "notification_type": "permission_prompt"}),
	}
}

func (t claude) answered(s *script, c call, q *question) []fields {
	return []fields{t.event(s, "PostToolUse", claudeQuestion(c, s, q))}
}

func (t claude) finish(s *script, answer string) []fields {
	return []fields{t.event(s, "Stop", fields{"stop_hook_active": false, "last_assistant_message": answer,
		"background_tasks": []fields{}})}
}

func (t claude) end(s *script) []fields {
	return []fields{t.event(s, "SessionEnd", fields{"reason": "prompt_input_exit"})}
}

// codex is Codex, whose hooks have the format of Claude Code's, and whose calls are commands and patches.
type codex struct{ claude }

func (codex) name() string { return adapters.Named("codex").Name }

func (t codex) before(s *script, c call) []fields {
	return []fields{t.event(s, "PreToolUse", codexCall(c))}
}

func (t codex) after(s *script, c call) []fields {
	return []fields{t.event(s, "PostToolUse", codexCall(c))}
}

func codexCall(c call) fields {
	tool, command := "Bash", c.object
	switch c.verb {
	case "read":
		command = "sed -n 1,200p " + c.object
	case "search":
		command = "rg -n " + c.object
	case "edit":
		tool, command = "apply_patch", "*** Begin Patch\n*** Update File: "+c.object+"\n"
	}
	return fields{"tool_name": tool, "tool_input": fields{"command": command}, "tool_use_id": c.id}
}

func (t codex) ask(s *script, c call, q *question) []fields {
	request := fields{"tool_name": "Bash", "tool_input": fields{"command": q.command, "description": q.text}}
	return []fields{t.event(s, "PreToolUse", codexCall(c)), t.event(s, "PermissionRequest", request)}
}

func (t codex) answered(s *script, c call, _ *question) []fields { return t.after(s, c) }

func (t codex) finish(s *script, answer string) []fields {
	return []fields{t.event(s, "Stop", fields{"stop_hook_active": false, "last_assistant_message": answer})}
}

func (t codex) end(s *script) []fields {
	return []fields{t.event(s, "SessionEnd", fields{"reason": "other"})}
}

// gemini is Gemini CLI.
type gemini struct{}

func (gemini) name() string { return adapters.Named("gemini-cli").Name }

func (gemini) event(s *script, name string, more fields) fields {
	body := fields{"hook_event_name": name, "session_id": s.id, "cwd": home + s.folder,
		"timestamp": s.at.Format(time.RFC3339Nano)}
	maps.Copy(body, more)
	return body
}

func (t gemini) start(s *script) []fields {
	return []fields{t.event(s, "SessionStart", fields{"source": "startup"})}
}

func (t gemini) prompt(s *script, text string) []fields {
	return []fields{t.event(s, "BeforeAgent", fields{"prompt": text})}
}

func (t gemini) before(s *script, c call) []fields {
	return []fields{t.event(s, "BeforeTool", geminiCall(c, s))}
}

func (t gemini) after(s *script, c call) []fields {
	return []fields{t.event(s, "AfterTool", geminiCall(c, s))}
}

func geminiCall(c call, s *script) fields {
	path := home + s.folder + "/" + c.object
	return map[string]fields{
		"read":   {"tool_name": "read_file", "tool_input": fields{"absolute_path": path}},
		"edit":   {"tool_name": "replace", "tool_input": fields{"file_path": path}},
		"search": {"tool_name": "search_file_content", "tool_input": fields{"pattern": c.object}},
		"run":    {"tool_name": "run_shell_command", "tool_input": fields{"command": c.object}},
	}[c.verb]
}

func (t gemini) finish(s *script, answer string) []fields {
	return []fields{t.event(s, "AfterAgent", fields{"prompt_response": answer, "stop_hook_active": false})}
}

func (t gemini) end(s *script) []fields {
	return []fields{t.event(s, "SessionEnd", fields{"reason": "exit"})}
}

// cursor is Cursor. It has no event for questions.
type cursor struct{}

func (cursor) name() string { return adapters.Named("cursor").Name }

func (cursor) event(s *script, name string, more fields) fields {
	body := fields{"hook_event_name": name, "conversation_id": s.id, "workspace_roots": []string{home + s.folder}}
	maps.Copy(body, more)
	return body
}

func (t cursor) start(s *script) []fields {
	return []fields{t.event(s, "sessionStart", fields{"session_id": s.id})}
}

func (t cursor) prompt(s *script, text string) []fields {
	return []fields{t.event(s, "beforeSubmitPrompt", fields{"prompt": text})}
}

func (t cursor) before(s *script, c call) []fields {
	return []fields{t.event(s, "preToolUse", cursorCall(c, s))}
}

func (t cursor) after(s *script, c call) []fields {
	return []fields{t.event(s, "postToolUse", cursorCall(c, s))}
}

func cursorCall(c call, s *script) fields {
	path := home + s.folder + "/" + c.object
	return map[string]fields{
		"read":   {"tool_name": "Read", "tool_input": fields{"file_path": path}},
		"edit":   {"tool_name": "Write", "tool_input": fields{"file_path": path}},
		"search": {"tool_name": "Grep", "tool_input": fields{"pattern": c.object}},
		"run":    {"tool_name": "Shell", "tool_input": fields{"command": c.object}},
	}[c.verb]
}

func (t cursor) finish(s *script, answer string) []fields {
	return []fields{t.event(s, "afterAgentResponse", fields{"text": answer}), t.event(s, "stop", fields{"status": "completed"})}
}

func (t cursor) end(s *script) []fields {
	return []fields{t.event(s, "sessionEnd", fields{"session_id": s.id, "reason": "window_close"})}
}

// openCode is OpenCode.
type openCode struct{}

func (openCode) name() string { return adapters.Named("opencode").Name }

func (openCode) event(s *script, name string, properties fields) fields {
	properties["sessionID"] = s.id
	return fields{"type": name, "directory": home + s.folder, "properties": properties}
}

func (t openCode) start(s *script) []fields {
	return []fields{t.event(s, "session.created", fields{"info": fields{"id": s.id, "directory": home + s.folder,
		"title": "New session - " + s.at.Format(time.RFC3339)}})}
}

func (t openCode) prompt(s *script, text string) []fields {
	return []fields{t.event(s, "chat.message", fields{"prompt": text})}
}

func (t openCode) before(s *script, c call) []fields {
	return []fields{t.event(s, "tool.execute.before", openCodeCall(c, s))}
}

func (t openCode) after(s *script, c call) []fields {
	return []fields{t.event(s, "tool.execute.after", openCodeCall(c, s))}
}

func openCodeCall(c call, s *script) fields {
	path := home + s.folder + "/" + c.object
	named := map[string]fields{
		"read":   {"tool": "read", "args": fields{"filePath": path}},
		"edit":   {"tool": "edit", "args": fields{"filePath": path}},
		"search": {"tool": "grep", "args": fields{"pattern": c.object}},
		"run":    {"tool": "bash", "args": fields{"command": c.object}},
	}[c.verb]
	named["callID"] = c.id
	return named
}

func (t openCode) ask(s *script, c call, q *question) []fields {
	return []fields{t.event(s, "question.asked", fields{"id": "que_" + c.id, "questions": choice(q)})}
}

func (t openCode) answered(s *script, c call, q *question) []fields {
	return []fields{t.event(s, "question.replied", fields{"requestID": "que_" + c.id, "answers": [][]string{{q.choices[0]}}})}
}

func (t openCode) finish(s *script, _ string) []fields {
	return []fields{t.event(s, "session.idle", fields{})}
}

func (openCode) end(*script) []fields { return nil }
