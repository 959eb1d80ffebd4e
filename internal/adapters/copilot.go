package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// copilot is GitHub's Copilot CLI and its cloud agent, whose events may not say their names: the address does. It also knows the
// names and fields of Claude Code's hooks, as VS Code uses them:
// https://docs.github.com/en/copilot/reference/copilot-cli-reference/cli-hooks-reference.
//
// It tells nothing of a turn that is interrupted, nor of a permission that is denied.
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
		"sessionStart":          begins, // of a new session it may come after the first prompt
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

		// It is sent for every call, before the rules decide whether somebody is asked.
		"permissionRequest": renews,
		"PermissionRequest": renews,
		// This one is sent where somebody is. Of which call is known for commands; else it is the one that started last.
		"notification/permission_prompt": copilotAsks,
		"Notification/permission_prompt": copilotAsks,
		// Of these the start of the call says more.
		"notification/elicitation_dialog": copilotHints,
		"Notification/elicitation_dialog": copilotHints,
		"preToolUse/ask_user":             chooses,
		"preToolUse/exit_plan_mode":       plans,

		"errorOccurred":       renews, // it may go on
		"errorOccurred/false": fails,

		"sessionEnd":          ends,
		"sessionEnd/complete": {status: models.Success, counts: models.AtWork, says: done, closes: models.ClosesAll, outcome: always(models.Withdrawn)},
		"sessionEnd/error":    ends.with(models.Failed, failure),
		"sessionEnd/abort":    ends.with(models.Failed, fixed("Aborted")),
		"sessionEnd/timeout":  ends.with(models.Failed, fixed("Timed out")),
	}),
}

var (
	copilotAsks  = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, binds: true, says: says("Permission needed", fieldMessage), about: copilotNotified}
	copilotHints = meaning{status: models.Running, counts: models.Anywhere, asks: models.Choice, hints: true, binds: true, says: says("Question", fieldMessage)}
)

// copilotNotified is about what somebody is notified of: a command is part of the message.
func copilotNotified(e *event) about {
	if command, ok := strings.CutPrefix(e[fieldMessage], "Run command: "); ok {
		return about{same: "command\x00" + command}
	}
	return notified(e)
}

// copilotEvent returns the event's name. One of a subagent, which has a session of its own, becomes one of its parent's.
func copilotEvent(e *event) string {
	if e[fieldSubagent] != "" && e[fieldParent] != "" {
		e[fieldSession] = e[fieldParent]
	}
	return e[fieldEvent]
}
