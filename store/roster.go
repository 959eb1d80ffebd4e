package store

import (
	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// roster keeps the agents and sessions of the fleet, or of a part of it, in the orders of the lists, and counts them. It is
// protected by the lock of its store.
type roster struct {
	byID    ordered.Set[agent]                 // by class and ID
	seen    [classes]ordered.Timeline[agent]   // by their newest report
	updated [classes]ordered.Timeline[session] // by their newest report
	counts  [classes]int                       // sessions by class

	agentIn   *ordered.Member[agent]
	sessionIn *ordered.Member[session]
}

func newRoster(agentIn *ordered.Member[agent], sessionIn *ordered.Member[session]) roster {
	return roster{byID: ordered.NewSet(classAndIDLess), agentIn: agentIn, sessionIn: sessionIn}
}

func (r *roster) addAgent(a *agent) {
	r.byID.Insert(a)
	r.seen[a.class].Insert(r.agentIn, a)
}

func (r *roster) removeAgent(a *agent) {
	r.byID.Remove(a)
	r.seen[a.class].Remove(r.agentIn, a)
}

func (r *roster) advanceAgent(a *agent) { r.seen[a.class].Advance(r.agentIn, a) }

func (r *roster) addSession(se *session) {
	r.updated[se.class].Insert(r.sessionIn, se)
	r.counts[se.class]++
}

func (r *roster) removeSession(se *session) {
	r.updated[se.class].Remove(r.sessionIn, se)
	r.counts[se.class]--
}

func (r *roster) advanceSession(se *session) { r.updated[se.class].Advance(r.sessionIn, se) }

// summary counts what the roster holds.
func (r *roster) summary() models.Summary {
	active, expired := r.byStatus(false), r.byStatus(true)
	counts := models.SessionCounts{
		Active:   active.Running + active.Pending + active.Success + active.Failed,
		Expired:  expired.Running + expired.Pending + expired.Success + expired.Failed,
		Lost:     expired.Running + expired.Pending,
		ByStatus: active,
	}
	counts.Total = counts.Active + counts.Expired
	return models.Summary{Agents: r.byID.Len(), Sessions: counts}
}

// byStatus counts the sessions that are expired, or those that are not.
func (r *roster) byStatus(expired bool) models.StatusCounts {
	of := func(st models.Status) int { return r.counts[classOf(st, expired)] }
	return models.StatusCounts{
		Running: of(models.Running),
		Pending: of(models.Pending),
		Success: of(models.Success),
		Failed:  of(models.Failed),
	}
}
