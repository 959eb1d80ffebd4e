package adapters

import (
	"strings"

	"github.com/kubeagents/kubeagents/models"
)

// a2a is the Agent2Agent protocol, of the versions 0.3 and 1.0: status updates of tasks, tasks themselves, and either of them in
// an answer of JSON-RPC, which is what its push notifications hold: https://a2a-protocol.org/latest/specification/.
var a2a = &Client{
	Name:   "a2a",
	fields: paths(a2aFields()),
	name:   taskState,
	shared: true, // a task's ID is its server's
	events: map[string]meaning{
		"submitted":      a2aWorks.with(models.Running, says("Submitted", fieldMessage)),
		"working":        a2aWorks,
		"input-required": {status: models.Running, counts: a2aGoesOn, asks: models.Text, closes: models.ClosesAll, outcome: always(models.Withdrawn), says: says("Input required", fieldMessage), about: state},
		"auth-required":  {status: models.Running, counts: a2aGoesOn, asks: models.Permission, closes: models.ClosesAll, outcome: always(models.Withdrawn), says: says("Authorization required", fieldMessage), about: state},
		"completed":      a2aEnds.with(models.Success, a2aAnswer),
		"failed":         a2aEnds.with(models.Failed, says("Failed", fieldMessage)),
		"rejected":       a2aEnds.with(models.Failed, says("Rejected", fieldMessage)),
		"canceled":       a2aEnds.with(models.Failed, says("Canceled", fieldMessage)),
		"unknown":        renews,
		"unspecified":    renews,
		"":               renews, // an artifact or a message
	},
}

// a2aGoesOn are the states in which a task has not ended.
const a2aGoesOn = models.Unknown | models.AtWork | models.AtPrompt

var (
	// A task goes on: what it asked was answered.
	a2aWorks = meaning{status: models.Running, counts: a2aGoesOn, says: says("Working", fieldMessage), closes: models.ClosesAll, outcome: always(models.Answered)}
	// A task ended. It does not begin anew.
	a2aEnds = meaning{status: models.Success, counts: a2aGoesOn, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
)

// a2aAnswer says what a task came to: mostly its artifacts do.
func a2aAnswer(e *event) text {
	answer := e.first(fieldMessage, fieldAnswer)
	return text{label: "Completed", detail: answer, content: answer}
}

// state is about what a task asks in its state: it asks one thing at a time.
func state(e *event) about { return about{same: e[fieldKind] + "\x00" + e[fieldMessage]} }

func a2aFields() map[string]field {
	fields := map[string]field{"id": fieldSession3, "message.taskId": fieldSession2, "result.message.taskId": fieldSession2}
	for _, at := range []string{"", "result.", "statusUpdate.", "task.", "result.statusUpdate.", "result.task.", "artifactUpdate.", "result.artifactUpdate."} {
		fields[at+"taskId"] = fieldSession
		if at != "" {
			fields[at+"id"] = fieldSession2 // of a task; without anything around it, it may be that of an answer
		}
		fields[at+"status.state"] = fieldKind
		fields[at+"status.timestamp"] = fieldTimestamp
		fields[at+"status.message.parts.text"] = fieldMessage
		fields[at+"artifacts.parts.text"] = fieldAnswer
		fields[at+"history.parts.text"] = fieldPrompt
	}
	return fields
}

// taskState returns the state of a task as 0.3 writes it: input-required, which 1.0 writes TASK_STATE_INPUT_REQUIRED.
func taskState(e *event) string {
	state := strings.ToLower(strings.ReplaceAll(e[fieldKind], "_", "-"))
	state = strings.TrimPrefix(state, "task-state-")
	if state == "cancelled" {
		return "canceled"
	}
	return state
}
