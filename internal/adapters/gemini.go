package adapters

import (
	"github.com/kubeagents/kubeagents/models"
)

// geminiCLI is Google's Gemini CLI: https://geminicli.com/docs/hooks/reference/.
//
// It sends no event for a denied call, nor for the end of a turn in which all calls were denied. They become known with
// the next prompt.
var geminiCLI = &Client{
	Name: "gemini-cli",
	fields: paths(with(hookFields, map[string]field{
		"prompt_response":          fieldAnswer,
		"tool_input.dir_path":      fieldPath,
		"tool_input.absolute_path": fieldPath,
		"tool_input.plan_filename": fieldPlan,
		"details.*":                fieldInput,
		"details.type":             fieldOutcome,
		"details.command":          fieldCommand,
		"details.filePath":         fieldPath,
		"details.toolName":         fieldToolPrompt,
		"details.prompt":           fieldToolPrompt,
	})),
	call:   geminiCall,
	detail: map[string][]field{"SessionStart": {fieldSource}, "Notification": {fieldKind}, "BeforeTool": {fieldTool}},
	events: map[string]meaning{
		"SessionStart":         begins,
		"SessionStart/startup": starts,
		"SessionStart/resume":  starts,
		"SessionStart/clear":   starts,

		"BeforeAgent":         prompts,
		"BeforeTool":          calls,
		"AfterTool":           called,
		"AfterAgent":          geminiAnswers,
		"SessionEnd":          ends,
		"Notification":        renews,
		"BeforeModel":         renews,
		"AfterModel":          renews,
		"BeforeToolSelection": renews,
		"PreCompress":         renews, // sent before every call of the model

		"BeforeTool/ask_user":       chooses,
		"BeforeTool/exit_plan_mode": plans,
		// Sent when a dialog is shown. For commands and edits, the call is known. Otherwise it is the one that started
		// last.
		"Notification/ToolPermission": geminiAsks,
	},
}

var geminiAsks = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, binds: true, describe: geminiPermission, about: geminiDialog,
	adapt: func(e *event, m meaning) meaning {
		switch e[fieldOutcome] {
		case "ask_user", "exit_plan_mode": // the start of the call contains more
			m.hints = true
		}
		return m
	}}

// noResponse is the response at the end of a turn that was interrupted or failed.
const noResponse = "[no response text]"

var geminiAnswers = func() meaning {
	m := answers
	m.adapt = func(e *event, m meaning) meaning {
		if e[fieldAnswer] == noResponse {
			return fails.with(models.Failed, fixed("Interrupted or failed: no response"))
		}
		return m
	}
	return m
}()

// geminiDialogs are the tools for each kind of dialog.
var geminiDialogs = map[string]string{"exec": "Shell", "edit": "Edit", "mcp": "MCP", "info": "Information"}

// geminiPermission describes a call that needs a person's permission.
func geminiPermission(e *event) text {
	t := text{label: "Permission needed", detail: e[fieldMessage], content: e[fieldInput]}
	if tool := geminiDialogs[e[fieldOutcome]]; tool != "" {
		t.label, t.named, t.detail = tool, true, e.first(fieldCommand, fieldPath, fieldToolPrompt, fieldMessage)
	}
	if t.content == "" || t.content == "{}" {
		t.content = t.detail
	}
	return t
}

// geminiCall identifies a call by the command that it runs or the file that it edits, since a dialog about it contains
// nothing else.
func geminiCall(e *event) about {
	a := commandCall(e)
	if e[fieldTool] == "replace" || e[fieldTool] == "write_file" {
		a.same = editKey(e)
	}
	return a
}

// geminiDialog identifies the call that a dialog is about. It ignores the diff, which a person may edit in the dialog.
func geminiDialog(e *event) about {
	switch e[fieldOutcome] {
	case "exec":
		return commandCall(e)
	case "edit":
		return about{same: editKey(e)}
	}
	return notification(e)
}

// editKey returns a key that is the same for a call that edits a file and for the dialog about it. It contains only the
// file's name, since paths may be relative or absolute.
func editKey(e *event) string { return "edit\x00" + lastFolder(e[fieldPath]) }

// notification identifies the subject of a notification.
func notification(e *event) about {
	return about{same: "notification\x00" + e[fieldMessage] + "\x00" + e[fieldInput]}
}
