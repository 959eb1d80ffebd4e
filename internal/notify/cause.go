package notify

import (
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// cause is one change of one session, which leads to at most one notification per destination. As long as the change
// holds, it has the same ID.
type cause struct {
	change Change
	id     string    // tells it apart from the same change of the session at another time; never empty
	since  time.Time // when it happened, on the server's clock
	dated  time.Time // when it happened, on the agent's clock if the server's does not tell
}

// clockTolerance is how wrong the clocks of agents may be.
const clockTolerance = 5 * time.Minute

// isBefore reports whether the change happened before t.
func (k *cause) isBefore(t time.Time) bool {
	return k.since.Before(t) || k.dated.Before(t.Add(-clockTolerance))
}

// statusPrefix begins the IDs of causes that began with a status.
const statusPrefix = "status "

// beganWithStatus reports whether the cause with an ID began with a status, and not with a question.
func beganWithStatus(change Change, id string) bool {
	return change != Lost && strings.HasPrefix(id, statusPrefix)
}

// causesOf returns the changes of a session that hold. questions are its open questions.
//
// Questions and losses are dated by the server. For everything else, since is when the server last heard of the session.
func causesOf(session *models.FleetSession, questions []models.Question) []cause {
	begun := statusPrefix + strconv.FormatInt(session.StatusSince.UnixNano(), 36)
	switch {
	case session.Acknowledged != nil:
	case session.Lost:
		// ExpiresAt changes if the clock is set back, or if the default TTL changes.
		return []cause{{Lost, strconv.FormatInt(session.LastUpdated.UnixNano(), 36), session.ExpiresAt, session.ExpiresAt}}
	case session.Expired:
	case session.CurrentStatus == models.Pending && len(questions) > 0:
		causes := make([]cause, len(questions))
		for i, q := range questions {
			causes[i] = cause{Waits, q.ID, q.AskedAt, q.AskedAt}
		}
		return causes
	case session.CurrentStatus == models.Pending:
		return []cause{{Waits, begun, session.LastUpdated, session.StatusSince}}
	case session.CurrentStatus == models.Failed:
		return []cause{{Failed, begun, session.LastUpdated, session.StatusSince}}
	case session.CurrentStatus == models.Success && !session.Idle:
		return []cause{{Finished, begun, session.LastUpdated, session.StatusSince}}
	}
	return nil
}
