package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// cursor is the Cursor editor and its CLI: https://cursor.com/docs/agent/hooks.
//
// It sends no event when a person is asked. Without a window, it sends no event for prompts, and one for the end of the
// session instead of the end of a turn. A subagent has its own conversation, and its events do not name the parent, so
// they start no session.
var cursor = &Client{
	Name: "cursor",
	fields: paths(with(hookFields, map[string]field{
		"conversation_id": fieldSession,
		"session_id":      fieldSession2,
		"workspace_roots": fieldFolder,
		"cwd":             fieldFolder2,
		"text":            fieldAnswer,
		"status":          fieldReason,
		"final_status":    fieldOutcome,
		"command":         fieldCommand,
		"file_path":       fieldPath,
		"error_message":   fieldError,
	})),
	name:   cursorEvent,
	orphan: true,
	detail: map[string][]field{"stop": {fieldReason}, "sessionEnd": {fieldReason, fieldOutcome}, "postToolUseFailure": {fieldInterrupt}},
	events: map[string]meaning{
		"sessionStart":         begins, // it may be late
		"beforeSubmitPrompt":   prompts,
		"preToolUse":           cursorCalls,
		"postToolUse":          called.known(),
		"postToolUseFailure":   called.known(),
		"beforeShellExecution": cursorWorks.with(models.Running, toolNamed("Shell")), // sent for every command; nobody is asked
		"afterShellExecution":  works.known().with(models.Running, toolNamed("Shell")),
		"beforeMCPExecution":   cursorWorks,
		"afterMCPExecution":    works.known(),
		"beforeReadFile":       works.known().with(models.Running, toolNamed("Read")),
		"afterFileEdit":        works.known().with(models.Running, toolNamed("Edit")),
		"afterAgentResponse":   works.known().with(models.Running, fieldText("Answer", fieldAnswer)),
		"afterAgentThought":    renews,
		"subagentStart":        renews,
		"subagentStop":         renews, // its fields are about the subagent
		"preCompact":           renews,
		"workspaceOpen":        renews,

		"postToolUseFailure/true": interrupted,

		"stop":           renews,
		"stop/completed": answers.with(models.Success, fixed("Done")),
		"stop/error":     fails,
		"stop/aborted":   interrupted.with(models.Failed, fixed("Aborted")),

		"sessionEnd":           ends,
		"sessionEnd/completed": {status: models.Success, counts: models.AtWork, silent: true, describe: fixed("Done"), closes: models.ClosesAll, outcome: always(models.Withdrawn)},
		"sessionEnd/error":     ends.with(models.Failed, failure),
		"sessionEnd/aborted":   ends.with(models.Failed, fixed("Aborted")),
	},
}

var (
	// Without a window, a call is the first event of a turn.
	cursorCalls = calls.known()
	cursorWorks = meaning{status: models.Running, counts: models.Anywhere &^ models.Unknown, describe: toolText}
)

// cursorEvent returns the event's name. It removes the command that started an MCP server, which is not the input of a
// tool.
func cursorEvent(e *event) string {
	if strings.HasSuffix(e[fieldEvent], "MCPExecution") {
		e[fieldCommand] = ""
	}
	return e[fieldEvent]
}
