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

// IsLimited reports whether the share is less than the whole.
func (s Share) IsLimited() bool { return s.Fraction > 0 && s.Fraction < 1 }
