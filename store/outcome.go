package store

// Outcome is what became of a report.
type Outcome uint8

const (
	// Stored means that the report is part of the state.
	Stored Outcome = iota + 1
	// Duplicate means that its session holds it already; it changed nothing.
	Duplicate
	// Refused means that there is no room for what it would begin: a session, or a question; it changed nothing.
	Refused
	// Renewed means that the session was renewed, and its status stays: see [models.Event].
	Renewed
	// Ignored means that the report had nothing to change.
	Ignored
	// Foreign means that the report is of an agent that is not of the team; it changed nothing.
	Foreign
)

// Acknowledged reports whether nobody needs to send the report again.
func (o Outcome) Acknowledged() bool { return o != Refused && o != Foreign }
