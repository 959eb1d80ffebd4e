package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// a2a is the Agent2Agent protocol, versions 0.3 and 1.0. Its events are status updates of tasks, tasks themselves, and
// either of them in a JSON-RPC response, as in its push notifications: https://a2a-protocol.org/latest/specification/.
var a2a = &Client{
	Name:   "a2a",
	fields: paths(a2aFields()),
	name:   taskState,
	shared: true, // a task's ID is unique only within its server
	events: map[string]meaning{
		"submitted":      a2aWorks.with(models.Running, fieldText("Submitted", fieldMessage)),
		"working":        a2aWorks,
		"input-required": {status: models.Running, counts: a2aNotEnded, asks: models.Text, closes: models.ClosesAll, outcome: always(models.Withdrawn), describe: fieldText("Input required", fieldMessage), about: aboutState},
		"auth-required":  {status: models.Running, counts: a2aNotEnded, asks: models.Permission, closes: models.ClosesAll, outcome: always(models.Withdrawn), describe: fieldText("Authorization required", fieldMessage), about: aboutState},
		"completed":      a2aEnds.with(models.Success, a2aAnswer),
		"failed":         a2aEnds.with(models.Failed, fieldText("Failed", fieldMessage)),
		"rejected":       a2aEnds.with(models.Failed, fieldText("Rejected", fieldMessage)),
		"canceled":       a2aEnds.with(models.Failed, fieldText("Canceled", fieldMessage)),
		"unknown":        renews,
		"unspecified":    renews,
		"":               renews, // an artifact or a message
	},
}

// a2aNotEnded are the states in which a task has not ended.
const a2aNotEnded = models.Unknown | models.AtWork | models.AtPrompt

var (
	// A task continues: its questions were answered.
	a2aWorks = meaning{status: models.Running, counts: a2aNotEnded, describe: fieldText("Working", fieldMessage), closes: models.ClosesAll, outcome: always(models.Answered)}
	// A task ended. It does not start again.
	a2aEnds = meaning{status: models.Success, counts: a2aNotEnded, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
)

// a2aAnswer returns the result of a task, which is usually in its artifacts.
func a2aAnswer(e *event) text {
	answer := e.first(fieldMessage, fieldAnswer)
	return text{label: "Completed", detail: answer, content: answer}
}

// aboutState is about the question that a task's state asks. A task asks one question at a time.
func aboutState(e *event) about { return about{same: e[fieldKind] + "\x00" + e[fieldMessage]} }

func a2aFields() map[string]field {
	fields := map[string]field{"id": fieldSession3, "message.taskId": fieldSession2, "result.message.taskId": fieldSession2}
	for _, at := range []string{"", "result.", "statusUpdate.", "task.", "result.statusUpdate.", "result.task.", "artifactUpdate.", "result.artifactUpdate."} {
		fields[at+"taskId"] = fieldSession
		if at != "" {
			fields[at+"id"] = fieldSession2 // of a task; at the top level, it may be that of a response
		}
		fields[at+"status.state"] = fieldKind
		fields[at+"status.timestamp"] = fieldTimestamp
		fields[at+"status.message.parts.text"] = fieldMessage
		fields[at+"artifacts.parts.text"] = fieldAnswer
		fields[at+"history.parts.text"] = fieldPrompt
	}
	return fields
}

// taskState returns the state of a task in the notation of version 0.3: input-required, which is
// TASK_STATE_INPUT_REQUIRED in 1.0.
func taskState(e *event) string {
	state := strings.ToLower(strings.ReplaceAll(e[fieldKind], "_", "-"))
	state = strings.TrimPrefix(state, "task-state-")
	if state == "cancelled" {
		return "canceled"
	}
	return state
}
