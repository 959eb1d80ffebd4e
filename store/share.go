package store

// Share is how much of each bound the agents of a team may use: sessions, memory, disk, subscribers and concurrent
// requests. The zero value is all of each.
type Share struct {
	Fraction    float64 // fraction of each bound, above 0 and up to 1; 0 for all of it
	DropHistory bool    // at the share of the disk, delete the team's oldest history instead of refusing reports
}

// Of returns the share of a bound, at least 1 if the bound is positive.
func (s Share) Of(bound int64) int64 {
	if s.Fraction <= 0 || s.Fraction >= 1 || bound <= 0 {
		return bound
	}
	return max(1, int64(s.Fraction*float64(bound)))
}

// ShareUse is how much of its share of each bound a team uses, where 1 is all of it. A nil Team stands for the agents
// without a team.
type ShareUse struct {
	*Team
	Sessions, Memory float64
	Disk             float64 // 0 if the disk has no bound
}

// ShareUses returns the use of each share that is less than the whole bound.
func (s *Store) ShareUses() (all []ShareUse) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	add := func(t *Team, share Share, u *usage) {
		if !share.IsLimited() {
			return
		}
		use := ShareUse{Team: t, Sessions: share.used(int64(u.sessions), int64(s.opts.MaxSessions)), Memory: share.used(u.bytes, s.opts.HistoryMaxBytes)}
		if s.opts.DataMaxBytes > 0 {
			use.Disk = share.used(u.disk, s.opts.DataMaxBytes)
		}
		all = append(all, use)
	}
	add(nil, s.share, &s.everyone)
	for _, t := range s.teams.all {
		add(t, t.share, &t.used)
	}
	return all
}

// used returns which part of the share of a bound n is.
func (s Share) used(n, bound int64) float64 { return float64(n) / float64(s.Of(bound)) }

// IsLimited reports whether the share is less than the whole.
func (s Share) IsLimited() bool { return s.Fraction > 0 && s.Fraction < 1 }
