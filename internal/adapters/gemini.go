package adapters

import (
	"github.com/kubeagents/kubeagents/models"
)

// geminiCLI is Google's Gemini CLI: https://geminicli.com/docs/hooks/reference/.
//
// It tells nothing of a call that is denied, nor of the end of a turn in which all calls were: the next prompt does.
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
		"PreCompress":         renews, // before every call of the model

		"BeforeTool/ask_user":       chooses,
		"BeforeTool/exit_plan_mode": plans,
		// It is sent where a dialog is shown. Of which call is known for commands and edits; else it is the one that started last.
		"Notification/ToolPermission": geminiAsks,
	},
}

var geminiAsks = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, binds: true, says: geminiPermission, about: geminiDialog,
	adapt: func(e *event, m meaning) meaning {
		switch e[fieldOutcome] {
		case "ask_user", "exit_plan_mode": // of which the start of the call says more
			m.hints = true
		}
		return m
	}}

// noResponse is the answer at the end of a turn that was interrupted or that failed.
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

// geminiDialogs are the tools behind the kinds of dialogs.
var geminiDialogs = map[string]string{"exec": "Shell", "edit": "Edit", "mcp": "MCP", "info": "Information"}

// geminiPermission says what may be done only if somebody allows it.
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

// geminiCall is about a call by the command that it runs or the file that it edits, which is what is told of it where it is asked about.
func geminiCall(e *event) about {
	a := commandCall(e)
	if e[fieldTool] == "replace" || e[fieldTool] == "write_file" {
		a.same = edited(e)
	}
	return a
}

// geminiDialog is about what a dialog asks. The diff in it changes when a person edits that.
func geminiDialog(e *event) about {
	switch e[fieldOutcome] {
	case "exec":
		return commandCall(e)
	case "edit":
		return about{same: edited(e)}
	}
	return notified(e)
}

// edited is the same for a call that edits a file, and for the dialog about it: paths may be relative or absolute.
func edited(e *event) string { return "edit\x00" + lastFolder(e[fieldPath]) }

// notified is about what somebody is notified of.
func notified(e *event) about {
	return about{same: "notification\x00" + e[fieldMessage] + "\x00" + e[fieldInput]}
}
