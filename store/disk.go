package store

import "github.com/kubeagents/kubeagents/models"

// recordOverhead is about what a record takes on disk beside its texts.
const recordOverhead = 64

// sizeOnDisk returns how many bytes a record takes on disk, about, as long as nothing of it is compressed.
func sizeOnDisk(r *models.Record) int64 {
	n := recordOverhead + len(r.AgentID) + len(r.AgentName) + len(r.AgentSource) + len(r.AgentHost) +
		len(r.SessionTopic) + len(r.SessionTitle) + len(r.Message) + len(r.Content) + len(r.ReportID)
	if r.Turn != nil {
		n += int(questionSize(r.Turn.Asks))
	}
	return int64(n)
}

// admitDisk counts a record of an agent of these teams on the disk, if there is room for it there. It returns 0, or what is used up. The
// caller holds s.mu.
func (s *Store) admitDisk(r *models.Record, set *teamSet) Outcome {
	bound := s.opts.DataMaxBytes
	if bound == 0 {
		return 0
	}
	n := sizeOnDisk(r)
	for _, t := range set.list() {
		if t.used.disk+n > t.share.Of(bound) && t.share.Caps() {
			return OutOfDiskShare
		}
	}
	if set == nil && s.everyone.disk+n > s.share.Of(bound) && s.share.Caps() {
		return OutOfDiskShare
	}
	if s.used.disk+n > bound {
		return OutOfDisk
	}
	for u := range s.usages(set) {
		u.disk += n
	}
	return 0
}

// DiskUse is how many bytes on disk agents take.
type DiskUse struct {
	Total    int64
	Teams    map[*Team]int64
	Everyone int64 // of the agents of no team
}

// SetDiskUse says how much is taken on disk. What is admitted from then on adds to it, until it is said again.
func (s *Store) SetDiskUse(use DiskUse) {
	s.lock()
	defer s.mu.Unlock()
	s.used.disk, s.everyone.disk = use.Total, use.Everyone
	for _, t := range s.teams.all {
		t.used.disk = use.Teams[t]
	}
}

// DiskShare is how many bytes on disk a team may take, nil for the agents of no team.
type DiskShare struct {
	*Team
	Most        int64
	DropHistory bool
}

// Covers reports whether an agent counts for the share. Those of no team are left to the caller.
func (d *DiskShare) Covers(agentID string) bool { return d.Team != nil && d.covers(agentID) }

// DiskShares returns the shares of the disk, and the bound of the whole, 0 where there is none.
func (s *Store) DiskShares() (shares []DiskShare, bound int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	bound = s.opts.DataMaxBytes
	if bound == 0 {
		return nil, 0
	}
	shares = append(shares, DiskShare{nil, s.share.Of(bound), s.share.DropHistory})
	for _, t := range s.teams.all {
		shares = append(shares, DiskShare{t, t.share.Of(bound), t.share.DropHistory})
	}
	return shares, bound
}
