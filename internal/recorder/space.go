package recorder

import (
	"context"
	"slices"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// For teams that drop their oldest history when their share of the disk is full: the fraction of the share at which
// history is dropped, and the fraction that remains.
const (
	dropFrom = 0.875
	dropTo   = 0.75
)

// MeasureSpace tells the store how much disk space is taken. It first drops the oldest history of teams that have
// reached their share and chose to drop history. It returns the number of dropped records. Without a bound, it does
// nothing.
func (r *Recorder) MeasureSpace(ctx context.Context) (dropped int, err error) {
	shares, bound := r.store.DiskShares()
	if bound == 0 || r.journal == nil {
		return 0, nil
	}
	total, err := r.journal.Space()
	if err != nil {
		return 0, err
	}
	if total >= bound { // the space of deleted records may not have been freed yet
		if err := r.journal.Reclaim(); err != nil {
			return 0, err
		}
	}
	use, agents, err := r.spaceOf(ctx, shares, bound)
	if err != nil {
		return 0, err
	}
	for i := range shares {
		share := &shares[i]
		taken := use.of(share)
		if !share.DropHistory || !r.log.Leads() || float64(taken) < dropFrom*float64(share.MaxBytes) {
			continue
		}
		n, err := r.dropOldest(ctx, agents[share.Team], 1-dropTo*float64(share.MaxBytes)/float64(taken))
		dropped += n
		if err != nil {
			return dropped, err
		}
	}
	if dropped > 0 {
		use, _, err = r.spaceOf(ctx, shares, bound)
	}
	if err == nil {
		r.store.SetDiskUse(use.DiskUse)
	}
	return dropped, err
}

// diskUse is the disk space taken in total and by team.
type diskUse struct{ store.DiskUse }

func (use *diskUse) of(share *store.DiskShare) int64 {
	if share.Team == nil {
		return use.Everyone
	}
	return use.Teams[share.Team]
}

// spaceOf measures the disk space that the journal and the agents of each team take, and returns the agents of each
// team. If the whole journal fits into half of the smallest share, spaceOf saves the work: it counts the whole journal
// for each team, and returns no agents.
func (r *Recorder) spaceOf(ctx context.Context, shares []store.DiskShare, bound int64) (use diskUse, agents map[*store.Team][]string, err error) {
	use.Teams, agents = map[*store.Team]int64{}, map[*store.Team][]string{}
	if use.Total, err = r.journal.Space(); err != nil {
		return use, agents, err
	}
	smallest := bound
	for i := range shares {
		smallest = min(smallest, shares[i].MaxBytes)
	}
	if use.Total <= smallest/2 {
		for i := range shares {
			use.Teams[shares[i].Team] = use.Total
		}
		use.Everyone = use.Total
		return use, agents, nil
	}
	err = r.journal.EachAgentSpace(ctx, func(id string, bytes int64) error {
		ofTeam := false
		for i := range shares {
			if team := shares[i].Team; team != nil && shares[i].Covers(id) {
				ofTeam = true
				use.Teams[team] += bytes
				agents[team] = append(agents[team], id)
			}
		}
		if !ofTeam {
			use.Everyone += bytes
			agents[nil] = append(agents[nil], id)
		}
		return nil
	})
	if err == nil {
		use.Total, err = r.journal.Space() // again, because filing has made the journal smaller
	}
	return use, agents, err
}

// dropOldest deletes about the given part, from 0 to 1, of the histories of some agents, oldest first.
func (r *Recorder) dropOldest(ctx context.Context, agents []string, part float64) (deleted int, err error) {
	before, err := r.journal.OldestCutoff(agents, part)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(agents, pageSize) {
		n, err := r.trim(ctx, &journal.Trim{Before: before, Agents: some})
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}
