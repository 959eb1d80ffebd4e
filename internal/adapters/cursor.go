package adapters

import "github.com/kubeagents/kubeagents/models"

// cursor is the Cursor editor and its CLI: https://cursor.com/docs/agent/hooks.
var cursor = &Client{
	Name: "cursor",
	fields: paths(with(hookFields, map[string]field{
		"conversation_id": fieldSession,
		"session_id":      fieldSession2,
		"workspace_roots": fieldFolder,
		"cwd":             fieldFolder2,
		"text":            fieldAnswer,
		"status":          fieldReason,
		"command":         fieldCommand,
		"file_path":       fieldPath,
		"error_message":   fieldError,
	})),
	detail: map[string]field{"stop": fieldReason},
	events: map[string]meaning{
		"sessionStart":         starts,
		"beforeSubmitPrompt":   prompts,
		"preToolUse":           works,
		"postToolUse":          works,
		"postToolUseFailure":   works,
		"beforeShellExecution": {models.Running, models.Repeats, toolNamed("Shell")},
		"afterShellExecution":  {models.Running, models.Repeats, toolNamed("Shell")},
		"beforeMCPExecution":   works,
		"afterMCPExecution":    works,
		"beforeReadFile":       {models.Running, models.Repeats, toolNamed("Read")},
		"afterFileEdit":        {models.Running, models.Repeats, toolNamed("Edit")},
		"afterAgentResponse":   {models.Running, models.Repeats, says("Answer", fieldAnswer)},
		"afterAgentThought":    renews,
		"subagentStart":        renews,
		"subagentStop":         renews,
		"preCompact":           renews,
		"sessionEnd":           ends,

		"stop":           renews,
		"stop/completed": {models.Success, models.Sets, fixed("Done")},
		"stop/error":     {models.Failed, models.Sets, failure},
		"stop/aborted":   {models.Failed, models.Sets, fixed("Aborted")},
	},
}
