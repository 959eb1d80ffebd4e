package cluster

import (
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// room is what a server has decided about the reports of a call before it publishes them.
type room struct {
	*store.Reservation
	refused []store.Outcome       // by report; 0 for one that is published
	reports []models.StatusReport // those that are published
}

// roomFor decides for which reports of a call there is room.
func (l *Log) roomFor(c *recorder.Call) *room {
	r := &room{reports: c.Reports}
	r.refused, r.Reservation = l.Store.Room(c.Team, c.Reports, nil)
	for i, outcome := range r.refused {
		if outcome == 0 {
			continue
		}
		r.reports = make([]models.StatusReport, 0, len(c.Reports))
		for n := range c.Reports {
			if n < i || r.refused[n] == 0 {
				r.reports = append(r.reports, c.Reports[n])
			}
		}
		break
	}
	return r
}

// shareOut gives each call of a group what became of it.
func (p *publication) shareOut(group []*recorder.Call, rooms []*room) {
	requests, removals := p.result.Outcomes, p.result.Removed
	for _, c := range group {
		c.Err = nil
		switch {
		case c.Removal != nil:
			c.Removed, removals = removals[0], removals[1:]
		case c.Over != nil:
		default:
			c.Outcomes = rooms[0].merge(c.Outcomes, requests[0])
			rooms, requests = rooms[1:], requests[1:]
		}
	}
}

// merge appends the outcome of each report of a call, of which those in published were published.
func (r *room) merge(outcomes, published []store.Outcome) []store.Outcome {
	for _, refusal := range r.refused {
		if refusal == 0 {
			refusal, published = published[0], published[1:]
		}
		outcomes = append(outcomes, refusal)
	}
	return outcomes
}
