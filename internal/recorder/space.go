package recorder

import (
	"context"

	"github.com/kubeagents/kubeagents/store"
)

// How full a share of the disk is when history is dropped, and afterwards, where a team has its oldest history dropped.
const (
	dropFrom = 0.875
	dropTo   = 0.75
)

// MeasureSpace tells the store how much of the disk is taken, and drops the oldest history of teams that have that done at their share.
// It returns how many records it dropped. Where there is no bound it does nothing.
func (r *Recorder) MeasureSpace(ctx context.Context) (dropped int, err error) {
	shares, bound := r.store.DiskShares()
	if bound == 0 || r.journal == nil {
		return 0, nil
	}
	total, err := r.journal.Space()
	if err != nil {
		return 0, err
	}
	if total >= bound { // what was deleted may be about to be given back
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
		if !share.DropHistory || float64(taken) < dropFrom*float64(share.Most) {
			continue
		}
		n, err := r.dropOldest(agents[share.Team], 1-dropTo*float64(share.Most)/float64(taken))
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

// diskUse is how much of the disk is taken.
type diskUse struct{ store.DiskUse }

func (use *diskUse) of(share *store.DiskShare) int64 {
	if share.Team == nil {
		return use.Everyone
	}
	return use.Teams[share.Team]
}

// spaceOf measures what the journal and the agents of each share take, and returns these agents. Where all that there is would fit into
// half of the smallest share, it takes that for what each takes.
func (r *Recorder) spaceOf(ctx context.Context, shares []store.DiskShare, bound int64) (use diskUse, agents map[*store.Team][]string, err error) {
	use.Teams, agents = map[*store.Team]int64{}, map[*store.Team][]string{}
	if use.Total, err = r.journal.Space(); err != nil {
		return use, agents, err
	}
	smallest := bound
	for i := range shares {
		smallest = min(smallest, shares[i].Most)
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
		use.Total, err = r.journal.Space() // what waited to be filed is written more tightly now
	}
	return use, agents, err
}

// dropOldest deletes the oldest part of the histories of some agents.
func (r *Recorder) dropOldest(agents []string, part float64) (deleted int, err error) {
	before, err := r.journal.Oldest(agents, part)
	if err != nil {
		return 0, err
	}
	return r.journal.TrimAgents(agents, before, func(key store.SessionKey) { r.store.TrimHistory(key, before) })
}
