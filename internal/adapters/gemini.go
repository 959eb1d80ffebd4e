package adapters

import "github.com/kubeagents/kubeagents/models"

// geminiCLI is Google's Gemini CLI: https://geminicli.com/docs/hooks/reference/.
var geminiCLI = &Client{
	Name: "gemini-cli",
	fields: paths(with(hookFields, map[string]field{
		"prompt_response":          fieldAnswer,
		"tool_input.dir_path":      fieldPath,
		"tool_input.absolute_path": fieldPath,
	})),
	detail: map[string]field{"Notification": fieldKind},
	events: map[string]meaning{
		"SessionStart":        starts,
		"BeforeAgent":         prompts,
		"BeforeTool":          works,
		"AfterTool":           works,
		"AfterAgent":          answers,
		"SessionEnd":          ends,
		"Notification":        renews,
		"BeforeModel":         renews,
		"AfterModel":          renews,
		"BeforeToolSelection": renews,
		"PreCompress":         renews,

		"Notification/ToolPermission": {models.Pending, models.Sets, says("Permission needed", fieldMessage)},
	},
}
