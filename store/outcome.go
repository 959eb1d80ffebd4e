package store

// Outcome is the result of a report.
type Outcome uint8

const (
	// Stored means that the report is part of the state.
	Stored Outcome = iota + 1
	// Duplicate means that the session already has the report; it changed nothing.
	Duplicate
	// Renewed means that the report renewed the session and left its status unchanged: see [models.Event].
	Renewed
	// Ignored means that the report had no effect.
	Ignored
	// OutsideTeam means that the report's agent is not in the team; it changed nothing.
	OutsideTeam

	// OutOfSessions means that the limit of sessions is reached, and that no session can be evicted for the one that
	// the report would begin; it changed nothing.
	OutOfSessions
	// OutOfSessionShare is OutOfSessions for the share of one of the agent's teams.
	OutOfSessionShare
	// OutOfMemory means that there is no memory left for the report; it changed nothing.
	OutOfMemory
	// OutOfMemoryShare is OutOfMemory for the share of one of the agent's teams.
	OutOfMemoryShare
	// OutOfDisk means that the journal has reached its limit on disk; the report changed nothing.
	OutOfDisk
	// OutOfDiskShare is OutOfDisk for the share of one of the agent's teams.
	OutOfDiskShare
)

// Refused reports whether the report was refused for lack of room.
func (o Outcome) Refused() bool { return o >= OutOfSessions }

// Acknowledged reports whether the report need not be sent again.
func (o Outcome) Acknowledged() bool { return !o.Refused() && o != OutsideTeam }

func (o Outcome) outOfMemory() bool { return o == OutOfMemory || o == OutOfMemoryShare }
