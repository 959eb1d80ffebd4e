package models

import "time"

// Event describes what the event of an agent's tool does to its session, beyond what every report does. The effect
// depends on the state of the session when the event arrives; once recorded, it depends on nothing.
type Event struct {
	Name string // the tool's name for the event

	// Acknowledge is set if the event does not come from a tool: a person acknowledges that the session needs
	// attention. Nothing else of the event counts then. Need and Sequence are set when it is recorded.
	Acknowledge *Acknowledgement

	// AsOf is the time up to which the person has seen the session: if something new happened to it later, it is not
	// acknowledged. The zero value means that it is acknowledged in any case.
	AsOf time.Time

	// Which session it belongs to.

	// Find selects the session with the report's source and topic that was updated last, whatever its agent; see
	// DESIGN, Identity.
	FindByToolID bool
	// Orphan says that without such a session, an event that does not begin one is a subagent's: it renews the running
	// session of its agent that was updated last.
	FallBackToRunning bool
	FirstName         bool // AgentName is used only if the agent has no name

	// What it does to the status.
	AppliesIn        States // states of the session in which the report's status is entered, or its question opened
	IgnoreOtherwise  bool   // in other states the event is ignored, instead of renewing the session
	InterruptMessage string // message with which a session at work becomes failed; "" if the event interrupts nothing
	FirstTitle       bool   // SessionTitle is used only if the session has no title

	// Which tool call it is about. A hash is 0 if the tool does not provide the value.
	Subagent   string // ID of the subagent that the event belongs to; "" for the agent itself
	CallIDHash uint64 // hash of the tool's ID of the call or request
	InputHash  uint64 // hash of subagent, tool and input
	ResultHash uint64 // hash shared by a question and the results that close it; InputHash unless results carry less
	Stage      CallStage

	// Which questions it opens and closes.
	Question         *Question // question that it opens; the question's ID and time come from the record
	HintOnly         bool      // the event only says that something is asked: it opens a question only if none is open
	AboutLastCall    bool      // the question is about the call in flight that started last
	Closes           Closes
	Outcome          QuestionOutcome // of the questions that it closes
	Answer           string          // answer that it carries; "" for none
	RunningSubagents []string        // subagents that keep running: their questions stay open
}

// States is a set of states that a session can be in when a report arrives.
type States uint8

// The states of a session.
const (
	Unknown  States = 1 << iota // not known yet: the report begins it
	Working                     // running
	Waiting                     // pending
	Finished                    // success or failed
	AtPrompt                    // idle

	AtWork   = Working | Waiting
	Anywhere = Unknown | Working | Waiting | Finished | AtPrompt
)

// StateOf returns the state of a known session with status s.
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

// CallStage is the stage of a tool call at an event.
type CallStage uint8

// The stages of a call. The zero value says nothing about the stage.
const (
	CallStarts CallStage = iota + 1
	CallEnds
)

// Closes says which questions of its session an event closes.
type Closes uint8

const (
	// ClosesNone closes no question.
	ClosesNone Closes = iota
	// ClosesOwn closes the question with the same CallIDHash. If the event or the question has no CallIDHash, it closes
	// the oldest question of the same ResultHash.
	ClosesOwn
	// ClosesHinted closes the questions opened by events with HintOnly set.
	ClosesHinted
	// ClosesAsker closes the questions of the event's subagent; for an event of the agent itself, the agent's own.
	ClosesAsker
	// ClosesAll closes all questions except those of subagents that keep running.
	ClosesAll
)

// Turn is what a session fed by events has under way after a record: its open questions, its tool calls in flight, and
// the status beneath the questions. If several records carry a Turn, the one with the greatest sequence counts. A
// record that was not made from an event ends everything that was under way before it.
type Turn struct {
	Question   *Question        // question that this record opens; its ID is that of the record
	Open       []OpenQuestion   // oldest first; the question that this record opens has sequence 0
	Closed     []ClosedQuestion // closed questions that no entry of the history mentions yet
	Calls      []Call           // oldest first
	Underlying UnderlyingStatus // zero if no question is open

	Acknowledged *Acknowledgement // nil if nobody has acknowledged the session's state
}

// OpenQuestion refers to an open question by the sequence of the record that asked it. Its hashes match events to it:
// see [Event].
type OpenQuestion struct {
	Sequence                          uint64
	CallIDHash, InputHash, ResultHash uint64
	FromHint                          bool // opened by an event with HintOnly set
}

// Call is a tool call in flight: see [Event].
type Call struct{ IDHash, InputHash uint64 }

// UnderlyingStatus is the status that a session would have if no question were open.
type UnderlyingStatus struct {
	Status  Status
	Message string
	Content string
}
