package adapters

// codex is OpenAI's Codex CLI, by its hooks, which have the form of Claude Code's, or by its older notify program, whose fields
// have names with dashes: https://developers.openai.com/codex/hooks and https://developers.openai.com/codex/config-advanced.
//
// It tells nothing of a turn that fails, nor of a call that is denied, nor of a request that is refused: the next event of the turn's
// end does.
var codex = &Client{
	Name: "codex",
	fields: paths(with(hookFields, map[string]field{
		"type":                   fieldEvent,
		"thread-id":              fieldSession2,
		"last-assistant-message": fieldAnswer,
		"input-messages":         fieldPrompt,
	})),
	call:   commandCall, // what is asked also says why
	detail: hookDetails,
	events: with(hookEvents, map[string]meaning{
		"SessionStart/fork":   begins,
		"Interrupt":           interrupted.with(interrupted.status, because("Interrupted", fieldReason)),
		"agent-turn-complete": answers,
		"PreModelRequest":     renews,
		"PostModelRequest":    renews,
	}),
}
