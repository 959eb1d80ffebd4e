package adapters

// codex is OpenAI's Codex CLI. It sends events through its hooks, which have the format of Claude Code's, or its older
// notify program, whose field names contain dashes: https://developers.openai.com/codex/hooks and
// https://developers.openai.com/codex/config-advanced.
//
// It sends no event for a failed turn, a denied call or a refused request. They become known with the next event that
// ends the turn.
var codex = &Client{
	Name: "codex",
	fields: paths(with(hookFields, map[string]field{
		"type":                   fieldEvent,
		"thread-id":              fieldSession2,
		"last-assistant-message": fieldAnswer,
		"input-messages":         fieldPrompt,
	})),
	call:   commandCall, // a permission request also contains the reason
	detail: hookDetails,
	events: with(hookEvents, map[string]meaning{
		"SessionStart/fork":   begins,
		"Interrupt":           interrupted.with(interrupted.status, withReason("Interrupted", fieldReason)),
		"agent-turn-complete": answers,
		"PreModelRequest":     renews,
		"PostModelRequest":    renews,
	}),
}
