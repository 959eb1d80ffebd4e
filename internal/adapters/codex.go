package adapters

import "github.com/kubeagents/kubeagents/models"

// codex is OpenAI's Codex CLI, by its hooks, which have the form of Claude Code's, or by its older notify program, whose fields
// have names with dashes: https://developers.openai.com/codex/hooks and https://developers.openai.com/codex/config-advanced.
var codex = &Client{
	Name: "codex",
	fields: paths(with(hookFields, map[string]field{
		"type":                   fieldEvent,
		"thread-id":              fieldSession2,
		"last-assistant-message": fieldAnswer,
		"input-messages":         fieldPrompt,
	})),
	detail: hookDetails,
	events: with(hookEvents, map[string]meaning{
		"Interrupt":           {models.Failed, models.Sets, because("Interrupted", fieldReason)},
		"agent-turn-complete": answers,
		"approval-requested":  asks,
	}),
}
