package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// openCode is OpenCode, whose events a plugin posts: https://opencode.ai/docs/plugins/. The fields of each event are
// documented in the types of @opencode-ai/sdk.
var openCode = &Client{
	Name: "opencode",
	fields: paths(map[string]field{
		"type":                               fieldEvent,
		"directory":                          fieldFolder, // added by the plugin
		"properties.sessionID":               fieldSession,
		"properties.info.sessionID":          fieldSession2,
		"properties.part.sessionID":          fieldSession2,
		"properties.info.id":                 fieldSession3,
		"properties.info.directory":          fieldFolder2,
		"properties.info.title":              fieldTitle,
		"properties.prompt":                  fieldPrompt, // of chat.message
		"properties.status.type":             fieldKind,
		"properties.status.message":          fieldMessage,
		"properties.childSessionID":          fieldSubagent, // added by the plugin
		"properties.callID":                  fieldCallOfRequest,
		"properties.tool.callID":             fieldCallOfRequest,
		"properties.source.callID":           fieldCallOfRequest,
		"properties.id":                      fieldCall, // of a request
		"properties.requestID":               fieldCall,
		"properties.permissionID":            fieldCall,
		"properties.reply":                   fieldOutcome,
		"properties.response":                fieldOutcome,
		"properties.metadata.*":              fieldInput,
		"properties.questions.*":             fieldInput,
		"properties.tool":                    fieldTool,
		"properties.args.command":            fieldCommand,
		"properties.args.filePath":           fieldPath,
		"properties.args.path":               fieldPath,
		"properties.args.pattern":            fieldPattern,
		"properties.args.query":              fieldQuery,
		"properties.args.url":                fieldURL,
		"properties.args.description":        fieldDescription,
		"properties.title":                   fieldMessage, // of permission.updated
		"properties.type":                    fieldTool,
		"properties.permission":              fieldTool, // of permission.asked
		"properties.action":                  fieldTool, // of permission.v2.asked
		"properties.pattern":                 fieldCommand,
		"properties.patterns":                fieldCommand,
		"properties.resources":               fieldCommand,
		"properties.questions.question":      fieldQuestion,
		"properties.questions.header":        fieldHeader,
		"properties.questions.options.label": fieldChoice,
		"properties.error.name":              fieldErrorKind,
		"properties.error.data.message":      fieldError,
	}),
	name:   openCodeEvent,
	detail: map[string][]field{"session.status": {fieldKind}, "session.error": {fieldErrorKind}},
	events: map[string]meaning{
		"session.created": begins,
		"chat.message":    prompts,

		// A status contains less than the events around it. The status is busy once more just before a turn ends.
		"session.status":       renews,
		"session.status/busy":  {status: models.Running, counts: models.Unknown | models.AtPrompt, describe: fixed("Working")},
		"session.status/retry": {status: models.Running, counts: models.Unknown | models.AtPrompt | models.AtWork, describe: fieldText("Retrying", fieldMessage)},
		"session.status/idle":  openCodeIdle,
		"session.idle":         openCodeIdle,
		"session.error":        fails,
		"session.deleted":      ends.with(models.Failed, fixed("Session deleted")),

		"session.error/MessageAbortedError": interrupted,

		// Each request has its own ID, since a call can ask twice.
		"tool.execute.before":   {status: models.Running, counts: models.Anywhere, describe: toolText},
		"tool.execute.after":    {status: models.Running, counts: called.counts, describe: toolText, closes: models.ClosesOwn, outcome: always(models.Answered), about: callOfRequest},
		"permission.updated":    openCodeAsks,
		"permission.asked":      openCodeAsks,
		"permission.v2.asked":   openCodeAsks,
		"permission.replied":    openCodeReplied,
		"permission.v2.replied": openCodeReplied,
		"question.asked":        openCodeChooses,
		"question.v2.asked":     openCodeChooses,
		"question.replied":      openCodeReplied,
		"question.v2.replied":   openCodeReplied,
		"question.rejected":     {closes: models.ClosesOwn, outcome: always(models.Denied), about: request},
		"question.v2.rejected":  {closes: models.ClosesOwn, outcome: always(models.Denied), about: request},

		"session.updated":      renews,
		"session.compacted":    renews,
		"message.updated":      renews,
		"message.part.updated": renews,
		"todo.updated":         renews,
		"command.executed":     renews,
	},
}

var (
	openCodeIdle    = meaning{status: models.Success, counts: models.AtWork | models.Unknown, describe: fixed("Done"), closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	openCodeAsks    = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, describe: openCodePermission, about: request}
	openCodeChooses = meaning{status: models.Running, counts: models.Anywhere, asks: models.Choice, describe: question("Question"), about: request}
	openCodeReplied = meaning{closes: models.ClosesOwn, outcome: replied, about: request}
)

// request identifies a request, and the call that the request is about.
func request(e *event) about {
	a := callOfRequest(e)
	a.call = e[fieldCall]
	return a
}

// callOfRequest identifies a call that requests may be about.
func callOfRequest(e *event) about {
	if e[fieldCallOfRequest] == "" {
		return about{}
	}
	return about{group: "call\x00" + e[fieldCallOfRequest]}
}

func replied(e *event) models.QuestionOutcome {
	if e[fieldOutcome] == "reject" {
		return models.Denied
	}
	return models.Answered
}

// openCodeEvent returns the event's name. It removes OpenCode's placeholder titles from the event.
func openCodeEvent(e *event) string {
	name := e[fieldEvent]
	if name == "session.error" && e[fieldSession] == "" {
		return "" // an error of the server, not of a session
	}
	if !strings.HasPrefix(name, "session.") {
		e[fieldTitle] = ""
		if e[fieldSession2] == "" {
			e[fieldSession3] = "" // not a session's ID
		}
	}
	if strings.HasPrefix(e[fieldTitle], "New session - ") || strings.HasPrefix(e[fieldTitle], "Child session - ") {
		e[fieldTitle] = ""
	}
	return name
}

// openCodePermission describes a call that needs a person's permission.
func openCodePermission(e *event) text {
	t := text{label: line(e.first(fieldTool, fieldKind), 100), detail: e.first(fieldCommand, fieldMessage), named: true}
	if t.content = e[fieldInput]; t.content == "" || t.content == "{}" {
		t.content = t.detail
	}
	return t
}
