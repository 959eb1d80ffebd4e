package models

// Event is what a report that was made of a tool's event does to its session, beyond what every report does. What that is
// depends on the session as it is when the event arrives; what is recorded of it depends on nothing.
type Event struct {
	Name string // as its tool calls it

	// Which session it is of.
	Find      bool // the one of the report's source and topic that was updated last, whatever its agent; see DESIGN, Identity
	Orphan    bool // where that is not known, and the event does not begin it, it is a subagent's: it renews what its agent is at work on
	FirstName bool // AgentName counts only where the agent has no name

	// What it does to the status.
	Counts     States // the states of the session in which the report's status is entered, or its question opened
	Silent     bool   // where the status does not count, the event does nothing at all; else it renews
	Interrupts string // where the session is at work, it becomes failed, with this message; "" for no such thing
	FirstTitle bool   // SessionTitle counts only where the session has no title

	// Which tool call it is about. Hashes are 0 where the tool does not say.
	Subagent string // the ID of the subagent whose event it is; "" for the agent itself
	Call     uint64 // hash of the ID that the tool gave the call or the request
	Same     uint64 // hash that is the same for calls with the same subagent, tool and input
	Group    uint64 // hash that a question has in common with the results that close it; Same, but for tools that say less in a result
	Stage    CallStage

	// Which questions it opens and closes.
	Asks    *Question // what it asks; its ID, and when it is asked, follow from its record
	Hints   bool      // it says only that something is asked: it opens a question where none is open
	Binds   bool      // what it asks is about the call in flight that started last
	Closes  Closes
	Outcome QuestionOutcome // of what it closes
	Answer  string          // that it tells, "" where it tells none
	Going   []string        // subagents that go on, and whose questions stay open, after what it closes
}

// States is a set of states that a session can be in as a report arrives.
type States uint8

// The states.
const (
	Unknown  States = 1 << iota // the report begins it
	Working                     // running
	Waiting                     // pending
	Finished                    // success or failed
	AtPrompt                    // idle

	AtWork   = Working | Waiting
	Anywhere = Unknown | Working | Waiting | Finished | AtPrompt
)

// StateOf returns the state of a known session with this status.
func StateOf(s Status) States {
	switch s {
	case Running:
		return Working
	case Pending:
		return Waiting
	case Idle:
		return AtPrompt
	}
	return Finished
}

// CallStage says where a tool call stands at an event.
type CallStage uint8

// The stages of a call. At any other event, it may be anywhere.
const (
	CallStarts CallStage = iota + 1
	CallEnds
)

// Closes says which questions of its session an event closes.
type Closes uint8

const (
	// ClosesNone closes none.
	ClosesNone Closes = iota
	// ClosesOwn closes the one with the same Call; where the event or the question has none, the oldest of the same Group.
	ClosesOwn
	// ClosesHinted closes those that were opened by events that say only that something is asked.
	ClosesHinted
	// ClosesAsker closes those that the event's subagent asks, or, of an event of the agent itself, the agent's own.
	ClosesAsker
	// ClosesAll closes all, but for those of subagents that go on.
	ClosesAll
)

// Turn is what a session that is fed by events has under way after a record: the questions that are open, the tool calls
// in flight, and the status beneath the questions. Of several records, the Turn of the greatest sequence counts. A record
// that was made of no event ends everything that was under way before it.
type Turn struct {
	Asks    *Question        // the question that this record opens, whose ID is that of the record
	Open    []OpenQuestion   // oldest first; the sequence of the one that this record opens is 0
	Closed  []ClosedQuestion // those that no entry of the history tells of yet
	Calls   []Call           // oldest first
	Beneath Beneath          // zero where no question is open
}

// OpenQuestion is an open question by the record that asked it, with the hashes by which events are about it: see [Event].
type OpenQuestion struct {
	Sequence          uint64
	Call, Same, Group uint64
	Hinted            bool // it was opened by an event that says only that something is asked
}

// Call is a tool call in flight: see [Event].
type Call struct{ Call, Same uint64 }

// Beneath is the status that a session would have if no question were open.
type Beneath struct {
	Status  Status
	Message string
	Content string
}
