package store

// Share is how much of each bound the agents of a team may use up: of sessions, of memory, of disk, of subscribers and of
// requests at a time. Its zero value is all of each.
type Share struct {
	Part        float64 // of each bound, from above 0 to 1; 0 for all of it
	DropHistory bool    // at its share of the disk, the team's oldest history is deleted, instead of its reports being refused
}

// Of returns the share of a bound, at least 1 where the bound is.
func (s Share) Of(bound int64) int64 {
	if s.Part <= 0 || s.Part >= 1 || bound <= 0 {
		return bound
	}
	return max(1, int64(s.Part*float64(bound)))
}

// Caps reports whether the share is less than all.
func (s Share) Caps() bool { return s.Part > 0 && s.Part < 1 }
