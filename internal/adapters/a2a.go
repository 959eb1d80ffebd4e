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
	events: map[string]meaning{
		"submitted":      {models.Running, models.Repeats, says("Submitted", fieldMessage)},
		"working":        {models.Running, models.Repeats, says("Working", fieldMessage)},
		"input-required": {models.Pending, models.Sets, says("Input required", fieldMessage)},
		"auth-required":  {models.Pending, models.Sets, says("Authorization required", fieldMessage)},
		"completed":      {models.Success, models.Sets, says("Completed", fieldMessage)},
		"failed":         {models.Failed, models.Sets, says("Failed", fieldMessage)},
		"rejected":       {models.Failed, models.Sets, says("Rejected", fieldMessage)},
		"canceled":       {models.Failed, models.Sets, says("Canceled", fieldMessage)},
		"unknown":        renews,
		"unspecified":    renews,
		"":               renews, // an artifact or a message
	},
}

func a2aFields() map[string]field {
	fields := map[string]field{"id": fieldSession3}
	for _, at := range []string{"", "result.", "statusUpdate.", "task.", "result.statusUpdate.", "result.task.", "artifactUpdate.", "result.artifactUpdate."} {
		fields[at+"taskId"] = fieldSession
		if at != "" {
			fields[at+"id"] = fieldSession2 // of a task; without anything around it, it may be that of an answer
		}
		fields[at+"status.state"] = fieldKind
		fields[at+"status.timestamp"] = fieldTimestamp
		fields[at+"status.message.parts.text"] = fieldMessage
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
