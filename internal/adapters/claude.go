package adapters

import "github.com/kubeagents/kubeagents/models"

// claudeCode is Anthropic's Claude Code. Its hooks: https://code.claude.com/docs/en/hooks; the fields of each event also stand in
// the types of @anthropic-ai/claude-agent-sdk.
var claudeCode = &Client{
	Name:   "claude-code",
	fields: paths(hookFields),
	detail: hookDetails,
	events: hookEvents,
}

// hookFields are where Claude Code has what, and those who took over the form of its hooks.
var hookFields = map[string]field{
	"hook_event_name":               fieldEvent,
	"session_id":                    fieldSession,
	"agent_id":                      fieldSubagent,
	"cwd":                           fieldFolder,
	"timestamp":                     fieldTimestamp,
	"session_title":                 fieldTitle,
	"prompt":                        fieldPrompt,
	"last_assistant_message":        fieldAnswer,
	"message":                       fieldMessage,
	"notification_type":             fieldKind,
	"reason":                        fieldReason,
	"error":                         fieldErrorKind,
	"error_details":                 fieldError,
	"tool_name":                     fieldTool,
	"tool_input":                    fieldCommand,
	"tool_input.command":            fieldCommand,
	"tool_input.file_path":          fieldPath,
	"tool_input.notebook_path":      fieldPath,
	"tool_input.path":               fieldPath,
	"tool_input.pattern":            fieldPattern,
	"tool_input.query":              fieldQuery,
	"tool_input.url":                fieldURL,
	"tool_input.description":        fieldDescription,
	"tool_input.prompt":             fieldToolPrompt,
	"tool_input.skill":              fieldToolPrompt,
	"tool_input.question":           fieldQuestion,
	"tool_input.questions.question": fieldQuestion,
	"tool_input.plan":               fieldPlan,
}

var hookDetails = map[string]field{
	"Notification": fieldKind,
	"PreToolUse":   fieldTool,
}

var hookEvents = map[string]meaning{
	"SessionStart":       starts,
	"UserPromptSubmit":   prompts,
	"PreToolUse":         works,
	"PostToolUse":        works,
	"PostToolUseFailure": works,
	"PermissionRequest":  asks,
	"Stop":               answers,
	"StopFailure":        fails,
	"SessionEnd":         ends,
	"Notification":       renews,
	"SubagentStart":      renews,
	"SubagentStop":       renews,
	"PreCompact":         renews,
	"PostCompact":        renews,

	"PreToolUse/AskUserQuestion":    {models.Pending, models.Sets, question("Question")},
	"PreToolUse/ExitPlanMode":       {models.Pending, models.Sets, question("Plan to approve")},
	"PreToolUse/request_user_input": {models.Pending, models.Sets, question("Question")},

	// These come after the events that say what is asked: what those said stays.
	"Notification/permission_prompt":        notifies,
	"Notification/worker_permission_prompt": notifies,
	"Notification/elicitation_dialog":       {models.Pending, models.Alters, question("Question")},
	"Notification/elicitation_url_dialog":   {models.Pending, models.Alters, question("Question")},
}
