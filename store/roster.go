package store

import (
	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

func newRoster(agentIn *ordered.Member[agent], sessionIn *ordered.Member[session]) roster {
	return roster{byID: ordered.NewSet(classAndIDLess), needs: newNeeds(), agentIn: agentIn, sessionIn: sessionIn}
}

func (r *roster) addAgent(a *agent) {
	r.byID.Insert(a)
	r.seen[a.class].Insert(r.agentIn, a)
	r.countTool(a, 1)
}

func (r *roster) removeAgent(a *agent) {
	r.byID.Remove(a)
	r.seen[a.class].Remove(r.agentIn, a)
	r.countTool(a, -1)
}

func (r *roster) advanceAgent(a *agent) {
	r.seen[a.class].Advance(r.agentIn, a)
	r.countTool(a, 0)
}

func (r *roster) addSession(se *session) {
	r.updated[se.class].Insert(r.sessionIn, se)
	r.counts[se.class]++
	r.addNeed(se)
}

func (r *roster) removeSession(se *session) {
	r.updated[se.class].Remove(r.sessionIn, se)
	r.counts[se.class]--
	r.removeNeed(se)
}

func (r *roster) advanceSession(se *session) { r.updated[se.class].Advance(r.sessionIn, se) }

// summary returns the counts of the roster that do not depend on the time.
func (r *roster) summary() models.Summary {
	active, expired := r.byStatus(false), r.byStatus(true)
	counts := models.SessionCounts{
		Expired:  total(expired) + r.counts[classOf(models.Idle, true)],
		Lost:     expired.Running + expired.Pending,
		Idle:     r.counts[classOf(models.Idle, false)],
		ByStatus: active,
	}
	counts.Active = total(active) + counts.Idle
	counts.Total = counts.Active + counts.Expired
	return models.Summary{Agents: r.byID.Len(), Sessions: counts, Needs: r.needCounts()}
}

// needCounts counts the sessions of the roster that need attention.
func (r *roster) needCounts() models.NeedCounts {
	return models.NeedCounts{
		Waiting: r.needing(models.NeedWaiting).Len(),
		Lost:    r.needing(models.NeedLost).Len(),
		Failed:  r.needing(models.NeedFailed).Len(),
	}
}

// acknowledged counts the sessions of the roster that would need attention if nobody had acknowledged or snoozed them.
func (r *roster) acknowledged() (counts models.NeedCounts) {
	needs := r.needCounts()
	active, expired := r.byStatus(false), r.byStatus(true)
	counts.Waiting = active.Pending - needs.Waiting
	counts.Lost = expired.Running + expired.Pending - needs.Lost
	counts.Failed = active.Failed - needs.Failed
	return counts
}

func total(c models.StatusCounts) int { return c.Running + c.Pending + c.Success + c.Failed }

// byStatus counts the sessions that have expired, or those that have not, except those that have done nothing yet.
func (r *roster) byStatus(expired bool) models.StatusCounts {
	of := func(st models.Status) int { return r.counts[classOf(st, expired)] }
	return models.StatusCounts{
		Running: of(models.Running),
		Pending: of(models.Pending),
		Success: of(models.Success),
		Failed:  of(models.Failed),
	}
}
