package store

import (
	"context"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// scanFactor times as many pending sessions as wanted are scanned for those that have waited the longest. The scan
// starts with those renewed longest ago, which are usually the same.
const scanFactor = 10

// Needs returns the sessions of a team that need attention at the time now, at most limit of each kind. A nil team is
// the whole fleet. The error is that of ctx.
func (s *Store) Needs(ctx context.Context, team *Team, now time.Time, limit int) (n models.Needs, err error) {
	read := func(q SessionQuery, limit int) []models.FleetSession {
		if err != nil {
			return nil
		}
		var page Page[models.FleetSession, SessionPosition]
		q.Team = team
		page, err = s.Sessions(ctx, q, nil, limit)
		return page.Items
	}
	first := func(list []models.FleetSession) []models.FleetSession {
		n.More = n.More || len(list) > limit
		return list[:min(len(list), limit)]
	}
	pending := read(SessionQuery{Status: models.Pending, Expired: new(false), Oldest: true}, scanFactor*limit+1)
	slices.SortStableFunc(pending, func(a, b models.FleetSession) int { return waitsSince(&a).Compare(waitsSince(&b)) })
	failed := read(SessionQuery{Status: models.Failed}, limit+1)
	if old := slices.IndexFunc(failed, func(se models.FleetSession) bool { return now.Sub(se.LastUpdated) > time.Hour }); old >= 0 {
		failed = failed[:old]
	}
	n.Pending, n.Lost, n.Failed = first(pending), first(read(SessionQuery{Lost: new(true)}, limit+1)), first(failed)
	return n, err
}

// waitsSince returns when a pending session began to wait: for the answer to its oldest question, if it has one.
func waitsSince(se *models.FleetSession) time.Time {
	if se.Question != nil {
		return se.Question.AskedAt
	}
	return se.StatusSince
}
