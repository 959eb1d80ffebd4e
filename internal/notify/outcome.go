package notify

import (
	"slices"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Outcome says how a change ended that a message told of. The zero value means that it is not known.
type Outcome string

// The values of Outcome. The first four are those of models.QuestionOutcome, by the same names.
const (
	OutcomeAnswered     Outcome = "answered"     // the question, whoever answered it
	OutcomeDenied       Outcome = "denied"       // the question
	OutcomeWithdrawn    Outcome = "withdrawn"    // the question needs no answer any more
	OutcomeExpired      Outcome = "expired"      // the session, with the question or the status in which it waited
	OutcomeAcknowledged Outcome = "acknowledged" // by a person
	OutcomeSnoozed      Outcome = "snoozed"      // by a person
	OutcomeContinued    Outcome = "continued"    // the session reported again, or went on
	OutcomeRemoved      Outcome = "removed"      // the session
)

// outcomeOf says how the cause of a note ended, and who ended it, if that was a person. session is nil if there is no
// such session any more.
func (n *Notifier) outcomeOf(x *note, session *models.FleetSession) (o Outcome, by string) {
	switch {
	case session == nil:
		return OutcomeRemoved, ""
	case session.Acknowledged != nil && !session.Acknowledged.Until.IsZero():
		return OutcomeSnoozed, session.Acknowledged.By
	case session.Acknowledged != nil:
		return OutcomeAcknowledged, session.Acknowledged.By
	case session.Expired && x.change != Lost:
		return OutcomeExpired, ""
	case x.change != Waits || beganWithStatus(x.change, x.cause):
		return OutcomeContinued, ""
	}
	closures := n.closuresOf(x.session)
	if i := slices.IndexFunc(closures, func(c store.Closure) bool { return c.ID == x.cause }); i >= 0 {
		return Outcome(closures[i].Outcome.String()), ""
	}
	return "", ""
}

// recentEntries is in how many entries of a session's history closed questions are looked for.
const recentEntries = 10

func (n *Notifier) closuresOf(key store.SessionKey) []store.Closure {
	return n.Store.Closures(key.AgentID, key.Topic, recentEntries)
}

// answersOf returns a cause for each question of a session that was answered, or denied, lately.
func (n *Notifier) answersOf(key store.SessionKey) (causes []cause) {
	for _, c := range n.closuresOf(key) {
		if c.Outcome == models.Answered || c.Outcome == models.Denied {
			causes = append(causes, cause{Answered, c.ID, c.At, c.At})
		}
	}
	return causes
}
