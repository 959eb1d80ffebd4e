package ordered

import "cmp"

// Place is the key by which a [Timeline] orders its items: by Group, then by Time, Nanos and Sequence, least first.
// Their meaning is up to the caller.
type Place struct {
	Time     int64
	Sequence uint64
	Nanos    int32
	Group    uint8
}

// Compare returns -1 if p comes before q, 0 if they are equal, and 1 if p comes after q.
func (p Place) Compare(q Place) int {
	if c := cmp.Compare(p.Group, q.Group); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Time, q.Time); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Nanos, q.Nanos); c != 0 {
		return c
	}
	return cmp.Compare(p.Sequence, q.Sequence)
}
