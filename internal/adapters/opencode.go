package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// openCode is OpenCode, by a plugin that passes its events on: https://opencode.ai/docs/plugins/; the fields of each event stand
// in the types of @opencode-ai/sdk.
var openCode = &Client{
	Name: "opencode",
	fields: paths(map[string]field{
		"type":                          fieldEvent,
		"directory":                     fieldFolder, // which the plugin adds
		"properties.sessionID":          fieldSession,
		"properties.info.sessionID":     fieldSession2,
		"properties.part.sessionID":     fieldSession2,
		"properties.info.id":            fieldSession3,
		"properties.info.directory":     fieldFolder2,
		"properties.info.title":         fieldTitle,
		"properties.prompt":             fieldPrompt, // of chat.message
		"properties.status.type":        fieldKind,
		"properties.status.message":     fieldMessage,
		"properties.tool":               fieldTool,
		"properties.args.command":       fieldCommand,
		"properties.args.filePath":      fieldPath,
		"properties.args.path":          fieldPath,
		"properties.args.pattern":       fieldPattern,
		"properties.args.query":         fieldQuery,
		"properties.args.url":           fieldURL,
		"properties.args.description":   fieldDescription,
		"properties.title":              fieldMessage, // of permission.updated
		"properties.type":               fieldTool,
		"properties.permission":         fieldTool, // of permission.asked
		"properties.action":             fieldTool, // of permission.v2.asked
		"properties.pattern":            fieldCommand,
		"properties.patterns":           fieldCommand,
		"properties.resources":          fieldCommand,
		"properties.questions.question": fieldQuestion,
		"properties.error.name":         fieldErrorKind,
		"properties.error.data.message": fieldError,
	}),
	name:   openCodeEvent,
	detail: map[string]field{"session.status": fieldKind},
	events: map[string]meaning{
		"session.created":       starts,
		"chat.message":          prompts,
		"session.status":        renews,
		"session.status/busy":   {models.Running, models.Alters, fixed("Working")},
		"session.status/retry":  {models.Running, models.Repeats, says("Retrying", fieldMessage)},
		"tool.execute.before":   works,
		"tool.execute.after":    works,
		"permission.updated":    {models.Pending, models.Sets, permission},
		"permission.asked":      {models.Pending, models.Sets, permission},
		"permission.v2.asked":   {models.Pending, models.Sets, permission},
		"permission.replied":    {models.Running, models.Alters, fixed("Working")},
		"permission.v2.replied": {models.Running, models.Alters, fixed("Working")},
		"question.asked":        {models.Pending, models.Sets, question("Question")},
		"question.replied":      {models.Running, models.Alters, fixed("Working")},
		"question.rejected":     renews,
		"session.idle":          {models.Success, models.Concludes, fixed("Done")}, // it comes after an error, too
		"session.error":         fails,
		"session.deleted":       {models.Failed, models.Ends, fixed("Session deleted")},
		"session.updated":       renews,
		"session.compacted":     renews,
		"message.updated":       renews,
		"message.part.updated":  renews,
	},
}

// openCodeEvent returns the event's name. A title that OpenCode gave before it knew better is taken out of the event.
func openCodeEvent(e *event) string {
	name := e[fieldEvent]
	if !strings.HasPrefix(name, "session.") {
		e[fieldTitle] = ""
		if e[fieldSession2] == "" {
			e[fieldSession3] = "" // the ID of something else
		}
	}
	if strings.HasPrefix(e[fieldTitle], "New session - ") || strings.HasPrefix(e[fieldTitle], "Child session - ") {
		e[fieldTitle] = ""
	}
	return name
}

// permission says what may be done only if somebody says so.
func permission(e *event) text {
	return text{label: line(e.first(fieldTool, fieldKind), 100), detail: e.first(fieldCommand, fieldMessage), named: true}
}
