package adapters

import "github.com/kubeagents/kubeagents/models"

// copilot is GitHub's Copilot CLI and its cloud agent, whose events may not say their names: the address does. It also knows the
// names and fields of Claude Code's hooks, as VS Code uses them:
// https://docs.github.com/en/copilot/reference/copilot-cli-reference/cli-hooks-reference.
var copilot = &Client{
	Name: "copilot",
	fields: paths(with(hookFields, map[string]field{
		"hookEventName":        fieldEvent,
		"sessionId":            fieldSession,
		"session_id":           fieldSession2,
		"workingDirectory":     fieldFolder2,
		"recoverable":          fieldKind,
		"errorContext":         fieldErrorKind,
		"error":                fieldError,
		"error.message":        fieldError,
		"finalMessage":         fieldAnswer,
		"toolName":             fieldTool,
		"toolArgs":             fieldCommand,
		"toolArgs.command":     fieldCommand,
		"toolArgs.path":        fieldPath,
		"toolArgs.file_path":   fieldPath,
		"toolArgs.pattern":     fieldPattern,
		"toolArgs.query":       fieldQuery,
		"toolArgs.url":         fieldURL,
		"toolArgs.description": fieldDescription,
		"toolArgs.question":    fieldQuestion,
		"toolInput.command":    fieldCommand,
	})),
	detail: with(hookDetails, map[string]field{"sessionEnd": fieldReason, "errorOccurred": fieldKind}),
	events: with(hookEvents, map[string]meaning{
		"sessionStart":        starts,
		"userPromptSubmitted": prompts,
		"preToolUse":          works,
		"postToolUse":         works,
		"postToolUseFailure":  works,
		"permissionRequest":   asks,
		"agentStop":           {models.Success, models.Sets, says("Done", fieldAnswer)},
		"subagentStart":       renews,
		"subagentStop":        renews,
		"preCompact":          renews,
		"notification":        renews,

		"errorOccurred":       renews, // it goes on
		"errorOccurred/false": fails,

		"sessionEnd":          ends,
		"sessionEnd/complete": {models.Success, models.Concludes, says("Done", fieldAnswer)},
		"sessionEnd/error":    {models.Failed, models.Alters, failure},
		"sessionEnd/abort":    {models.Failed, models.Alters, fixed("Aborted")},
		"sessionEnd/timeout":  {models.Failed, models.Alters, fixed("Timed out")},
	}),
}
