package handlers

import (
	"net/http"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
)

// dryRunHeader is the header with which an event is checked like any other, but not stored.
const dryRunHeader = "X-Dry-Run"

// dryRun is the response to an event that was not stored.
type dryRun struct {
	DryRun       bool   `json:"dry_run"`
	Effect       string `json:"effect"`
	AgentID      string `json:"agent_id,omitzero"`
	SessionTopic string `json:"session_topic,omitzero"`
}

// isDryRun reports whether a request asks for a dry run. The error is a *models.Error.
func isDryRun(r *http.Request) (bool, error) {
	switch r.Header.Get(dryRunHeader) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, models.BadRequest(dryRunHeader, "must be true or false")
}

// answerDryRun responds with what the report of an event would change, or with the error with which it would be
// refused. It changes and counts nothing.
func (h *Handler) answerDryRun(w http.ResponseWriter, report models.StatusReport, effect adapters.Effect) error {
	answer := dryRun{DryRun: true, Effect: adapters.EffectNames[effect]}
	if effect != adapters.Ignored {
		if err := report.Validate(h.now()); err != nil {
			return err
		}
		agentID, covered := h.Store.AgentOf(grantOf(w).Team(), report)
		if !covered {
			return notCovered(&report)
		}
		answer.AgentID, answer.SessionTopic = agentID, report.SessionTopic
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}
