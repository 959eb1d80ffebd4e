package adapters

import "github.com/kubeagents/kubeagents/models"

// claudeCode is Anthropic's Claude Code. Its hooks are documented at https://code.claude.com/docs/en/hooks, and the
// fields of each event also in the types of @anthropic-ai/claude-agent-sdk.
var claudeCode = &Client{
	Name:   "claude-code",
	fields: paths(hookFields),
	detail: hookDetails,
	events: with(hookEvents, map[string]meaning{
		// A fork starts another session with its own ID, as clearing the conversation does.
		"SessionStart/fork": begins,

		"PermissionDenied": {closes: models.ClosesOwn, outcome: always(models.Denied), stage: models.CallEnds},
		// All calls of a model's response have ended: questions that are still open were denied.
		"PostToolBatch": {closes: models.ClosesAsker, outcome: always(models.Denied)},

		// An MCP server asks a question, which is open until its dialog closes.
		"Elicitation":       {status: models.Running, counts: models.Anywhere, asks: models.Text, describe: question("Question"), about: elicitation},
		"ElicitationResult": {closes: models.ClosesOwn, outcome: elicited, about: elicitationResult},

		// These are sent after the events that contain the question, if there are such events.
		"Notification/permission_prompt":        hints,
		"Notification/worker_permission_prompt": hints,
		"Notification/elicitation_dialog":       {status: models.Running, counts: models.Anywhere, asks: models.Text, hints: true, describe: question("Question")},
		"Notification/elicitation_url_dialog":   {status: models.Running, counts: models.Anywhere, asks: models.Text, hints: true, describe: question("Question")},
		"Notification/elicitation_response":     {closes: models.ClosesHinted, outcome: always(models.Answered)},
		"Notification/elicitation_complete":     {closes: models.ClosesHinted, outcome: always(models.Answered)},
		// The prompt is empty, and no dialog is open: a turn that counts as running was interrupted without an event.
		"Notification/idle_prompt": interrupted,

		"UserPromptExpansion":  renews,
		"PreSkillShellCommand": renews,
		"PreModelSwitch":       renews,
		"PostModelSwitch":      renews,
		"Setup":                renews,
		"TeammateIdle":         renews,
		"TaskCreated":          renews,
		"TaskCompleted":        renews,
		"ConfigChange":         renews,
		"CwdChanged":           renews,
		"DirectoryAdded":       renews,
		"FileChanged":          renews,
		"InstructionsLoaded":   renews,
		"MessageDisplay":       renews,
		"WorktreeCreate":       renews,
		"WorktreeRemove":       renews,
	}),
}

// hookFields are the fields of the events of Claude Code, and of tools that adopted the format of its hooks.
var hookFields = map[string]field{
	"hook_event_name":                    fieldEvent,
	"session_id":                         fieldSession,
	"agent_id":                           fieldSubagent,
	"cwd":                                fieldFolder,
	"timestamp":                          fieldTimestamp,
	"session_title":                      fieldTitle,
	"prompt":                             fieldPrompt,
	"last_assistant_message":             fieldAnswer,
	"message":                            fieldMessage,
	"notification_type":                  fieldKind,
	"reason":                             fieldReason,
	"source":                             fieldSource,
	"error":                              fieldErrorKind,
	"error_details":                      fieldError,
	"is_interrupt":                       fieldInterrupt,
	"background_tasks.id":                fieldBackgroundID,
	"background_tasks.status":            fieldBackgroundStatus,
	"mcp_server_name":                    fieldServer,
	"elicitation_id":                     fieldCall,
	"action":                             fieldOutcome,
	"requested_schema.*":                 fieldInput,
	"tool_name":                          fieldTool,
	"tool_use_id":                        fieldCall,
	"tool_input":                         fieldCommand,
	"tool_input.*":                       fieldInput,
	"tool_input.#":                       fieldInputHash,
	"tool_input.command":                 fieldCommand,
	"tool_input.file_path":               fieldPath,
	"tool_input.notebook_path":           fieldPath,
	"tool_input.path":                    fieldPath,
	"tool_input.pattern":                 fieldPattern,
	"tool_input.query":                   fieldQuery,
	"tool_input.url":                     fieldURL,
	"tool_input.description":             fieldDescription,
	"tool_input.prompt":                  fieldToolPrompt,
	"tool_input.skill":                   fieldToolPrompt,
	"tool_input.question":                fieldQuestion,
	"tool_input.questions.question":      fieldQuestion,
	"tool_input.questions.header":        fieldHeader,
	"tool_input.questions.options.label": fieldChoice,
	"tool_input.plan":                    fieldPlan,
}

// hookDetails are the fields that distinguish variants of these events.
var hookDetails = map[string][]field{
	"SessionStart":       {fieldSource},
	"Notification":       {fieldKind},
	"PreToolUse":         {fieldTool},
	"PostToolUseFailure": {fieldInterrupt},
	"PermissionRequest":  {fieldTool},
}

// hookEvents are the meanings of events that several tools send under the same names.
var hookEvents = map[string]meaning{
	"SessionStart":         begins,
	"SessionStart/startup": starts,
	"SessionStart/resume":  starts,
	"SessionStart/clear":   starts,
	"SessionStart/compact": renews, // sent in the middle of a turn
	"UserPromptSubmit":     prompts,
	"PreToolUse":           calls,
	"PostToolUse":          called,
	"PostToolUseFailure":   called,
	"PermissionRequest":    asks,
	"Stop":                 answers,
	"StopFailure":          fails,
	"SessionEnd":           ends,
	"Notification":         renews,
	"SubagentStart":        renews,
	"SubagentStop":         subagentEnds,
	"PreCompact":           renews,
	"PostCompact":          renews,

	"PostToolUseFailure/true": interrupted,

	"PreToolUse/AskUserQuestion":           chooses,
	"PreToolUse/request_user_input":        chooses,
	"PreToolUse/ExitPlanMode":              plans,
	"PermissionRequest/AskUserQuestion":    {status: models.Running, counts: models.Anywhere, asks: models.Choice, describe: question("Question")},
	"PermissionRequest/request_user_input": {status: models.Running, counts: models.Anywhere, asks: models.Choice, describe: question("Question")},
	"PermissionRequest/ExitPlanMode":       {status: models.Running, counts: models.Anywhere, asks: models.Plan, describe: question("Plan to approve")},
}

// elicitation identifies a question of an MCP server. Its result may contain nothing but the name of the server.
func elicitation(e *event) about {
	return about{call: e[fieldCall], same: "elicitation\x00" + e[fieldServer] + "\x00" + e[fieldMessage], group: "elicitation\x00" + e[fieldServer]}
}

func elicitationResult(e *event) about {
	return about{call: e[fieldCall], group: "elicitation\x00" + e[fieldServer]}
}

func elicited(e *event) models.QuestionOutcome {
	switch e[fieldOutcome] {
	case "accept":
		return models.Answered
	case "decline":
		return models.Denied
	}
	return models.Withdrawn
}
