package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// copilot is GitHub's Copilot CLI and its cloud agent. Its events may not contain their name, so it is in the URL. It
// also uses the names and fields of Claude Code's hooks, as VS Code does:
// https://docs.github.com/en/copilot/reference/copilot-cli-reference/cli-hooks-reference.
//
// It sends no event for an interrupted turn or a denied permission.
var copilot = &Client{
	Name: "copilot",
	fields: paths(with(hookFields, map[string]field{
		"hookEventName":        fieldEvent,
		"sessionId":            fieldSession,
		"session_id":           fieldSession2,
		"agentId":              fieldSubagent,
		"parentAgentId":        fieldParent,
		"workingDirectory":     fieldFolder2,
		"recoverable":          fieldKind,
		"errorContext":         fieldErrorKind,
		"error":                fieldError,
		"error.message":        fieldError,
		"finalMessage":         fieldAnswer,
		"toolName":             fieldTool,
		"toolArgs":             fieldCommand,
		"toolArgs.*":           fieldInput,
		"toolArgs.#":           fieldInputHash,
		"toolArgs.command":     fieldCommand,
		"toolArgs.path":        fieldPath,
		"toolArgs.file_path":   fieldPath,
		"toolArgs.pattern":     fieldPattern,
		"toolArgs.query":       fieldQuery,
		"toolArgs.url":         fieldURL,
		"toolArgs.description": fieldDescription,
		"toolArgs.question":    fieldQuestion,
		"toolArgs.message":     fieldQuestion,
		"toolArgs.choices":     fieldChoice,
		"toolArgs.summary":     fieldPlan,
		"toolInput.command":    fieldCommand,
	})),
	name: copilotEvent,
	call: commandCall,
	detail: map[string][]field{"SessionStart": {fieldSource}, "Notification": {fieldKind}, "PreToolUse": {fieldTool}, "PostToolUseFailure": {fieldInterrupt},
		"sessionStart": {fieldSource}, "notification": {fieldKind}, "preToolUse": {fieldTool}, "sessionEnd": {fieldReason}, "errorOccurred": {fieldKind}},
	events: with(hookEvents, map[string]meaning{
		"sessionStart":          begins, // for a new session, it may be sent after the first prompt
		"sessionStart/resume":   starts,
		"userPromptSubmitted":   prompts,
		"userPromptTransformed": renews,
		"preToolUse":            calls,
		"postToolUse":           called,
		"postToolUseFailure":    called,
		"agentStop":             answers,
		"subagentStart":         renews,
		"subagentStop":          subagentEnds,
		"preCompact":            renews,
		"notification":          renews,

		// These are sent for every call, before the rules decide whether a person is asked.
		"permissionRequest": renews,
		"PermissionRequest": renews,
		// These are sent when a person is asked. For commands, the call is known. Otherwise it is the one that started
		// last.
		"notification/permission_prompt": copilotAsks,
		"Notification/permission_prompt": copilotAsks,
		// For these, the start of the call contains more.
		"notification/elicitation_dialog": copilotHints,
		"Notification/elicitation_dialog": copilotHints,
		"preToolUse/ask_user":             chooses,
		"preToolUse/exit_plan_mode":       plans,

		"errorOccurred":       renews, // the turn may continue
		"errorOccurred/false": fails,

		"sessionEnd":          ends,
		"sessionEnd/complete": {status: models.Success, counts: models.AtWork, describe: doneText, closes: models.ClosesAll, outcome: always(models.Withdrawn)},
		"sessionEnd/error":    ends.with(models.Failed, failure),
		"sessionEnd/abort":    ends.with(models.Failed, fixed("Aborted")),
		"sessionEnd/timeout":  ends.with(models.Failed, fixed("Timed out")),
	}),
}

var (
	copilotAsks  = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, binds: true, describe: fieldText("Permission needed", fieldMessage), about: copilotNotification}
	copilotHints = meaning{status: models.Running, counts: models.Anywhere, asks: models.Choice, hints: true, binds: true, describe: fieldText("Question", fieldMessage)}
)

// copilotNotification identifies the subject of a notification. If it is a command, the message contains it.
func copilotNotification(e *event) about {
	if command, ok := strings.CutPrefix(e[fieldMessage], "Run command: "); ok {
		return about{same: "command\x00" + command}
	}
	return notification(e)
}

// copilotEvent returns the event's name. A subagent has its own session, so its events are moved to the parent's
// session.
func copilotEvent(e *event) string {
	if e[fieldSubagent] != "" && e[fieldParent] != "" {
		e[fieldSession] = e[fieldParent]
	}
	return e[fieldEvent]
}
