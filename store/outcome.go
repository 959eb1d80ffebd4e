package store

// Outcome is what became of a report.
type Outcome uint8

const (
	// Stored means that the report is part of the state.
	Stored Outcome = iota + 1
	// Duplicate means that its session holds it already; it changed nothing.
	Duplicate
	// Renewed means that the session was renewed, and its status stays: see [models.Event].
	Renewed
	// Ignored means that the report had nothing to change.
	Ignored
	// Foreign means that the report is of an agent that is not of the team; it changed nothing.
	Foreign

	// OutOfSessions means that there are as many sessions as there may be, and that none may be forgotten for the one that the report
	// would begin; it changed nothing.
	OutOfSessions
	// OutOfSessionShare means the same of the share of one of the teams of the agent.
	OutOfSessionShare
	// OutOfMemory means that there is no memory left for what the report brings; it changed nothing.
	OutOfMemory
	// OutOfMemoryShare means the same of the share of one of the teams of the agent.
	OutOfMemoryShare
	// OutOfDisk means that the journal takes as much of the disk as it may; it changed nothing.
	OutOfDisk
	// OutOfDiskShare means the same of the share of one of the teams of the agent.
	OutOfDiskShare
)

// Refused reports whether there was no room.
func (o Outcome) Refused() bool { return o >= OutOfSessions }

// Acknowledged reports whether nobody needs to send the report again.
func (o Outcome) Acknowledged() bool { return !o.Refused() && o != Foreign }

func (o Outcome) outOfMemory() bool { return o == OutOfMemory || o == OutOfMemoryShare }
