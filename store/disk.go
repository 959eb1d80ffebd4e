package store

import "github.com/kubeagents/kubeagents/models"

// recordOverhead is the approximate size of a record on disk without its texts.
const recordOverhead = 64

// sizeOnDisk returns the approximate size of a record on disk in bytes, without compression.
func sizeOnDisk(r *models.Record) int64 {
	n := recordOverhead + len(r.AgentID) + len(r.AgentName) + len(r.AgentSource) + len(r.AgentHost) +
		len(r.SessionTopic) + len(r.SessionTitle) + len(r.Message) + len(r.Content) + len(r.ReportID)
	if r.Turn != nil {
		n += int(questionSize(r.Turn.Question))
	}
	return int64(n)
}

// admitDisk counts a record of an agent with these teams toward the use of the disk, if it fits or the store is
// replicated. It returns 0 if there is room, otherwise the refusal. The caller holds s.mu.
func (s *Store) admitDisk(r *models.Record, set *teamSet) Outcome {
	bound := s.opts.DataMaxBytes
	if bound == 0 {
		return 0
	}
	n := sizeOnDisk(r)
	if !s.opts.Replicated {
		if outcome := s.fitsDisk(n, set); outcome != 0 {
			return outcome
		}
	}
	for u := range s.usages(set) {
		u.disk += n
	}
	return 0
}

// fitsDisk returns 0 if n bytes of agents with these teams fit on the disk, otherwise the refusal. The caller holds
// s.mu.
func (s *Store) fitsDisk(n int64, set *teamSet) Outcome {
	bound := s.opts.DataMaxBytes
	for _, t := range set.list() {
		if t.used.diskWith(n) > t.share.Of(bound) && t.share.IsLimited() {
			return OutOfDiskShare
		}
	}
	if set == nil && s.everyone.diskWith(n) > s.share.Of(bound) && s.share.IsLimited() {
		return OutOfDiskShare
	}
	if s.used.diskWith(n) > bound {
		return OutOfDisk
	}
	return 0
}

// DiskUse is the number of bytes on disk that agents use.
type DiskUse struct {
	Total    int64
	Teams    map[*Team]int64
	Everyone int64 // by agents without a team
}

// SetDiskUse sets the current use of the disk. Records admitted later add to it, until the next call.
func (s *Store) SetDiskUse(use DiskUse) {
	s.lock()
	defer s.mu.Unlock()
	s.used.disk, s.everyone.disk = use.Total, use.Everyone
	for _, t := range s.teams.all {
		t.used.disk = use.Teams[t]
	}
}

// DiskShare is the number of bytes on disk that a team may use. A nil Team stands for the agents without a team.
type DiskShare struct {
	*Team
	MaxBytes    int64
	DropHistory bool
}

// Covers reports whether an agent counts toward the share. It is always false for a nil Team: the caller must find the
// agents without a team.
func (d *DiskShare) Covers(agentID string) bool { return d.Team != nil && d.covers(agentID) }

// DiskShares returns the shares of the disk, and the bound of the whole, 0 if there is none.
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
