package store

import (
	"context"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// searched is how many times as many pending sessions as are wanted are looked at for those that have waited for longest: those
// that were renewed longest ago, which most of them are.
const searched = 10

// Needs returns the sessions of a team, nil for the whole fleet, that need somebody at the time now, at most limit of each kind.
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
	pending := read(SessionQuery{Status: models.Pending, Expired: new(false), Oldest: true}, searched*limit+1)
	slices.SortStableFunc(pending, func(a, b models.FleetSession) int { return waitsSince(&a).Compare(waitsSince(&b)) })
	failed := read(SessionQuery{Status: models.Failed}, limit+1)
	if old := slices.IndexFunc(failed, func(se models.FleetSession) bool { return now.Sub(se.LastUpdated) > time.Hour }); old >= 0 {
		failed = failed[:old]
	}
	n.Pending, n.Lost, n.Failed = first(pending), first(read(SessionQuery{Lost: new(true)}, limit+1)), first(failed)
	return n, err
}

// waitsSince returns since when a pending session waits: for the answer to its oldest question, where it asks one.
func waitsSince(se *models.FleetSession) time.Time {
	if se.Question != nil {
		return se.Question.AskedAt
	}
	return se.StatusSince
}
