package store

import (
	"cmp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// Options are the bounds of a store, and the TTL of sessions whose reports don't set one.
type Options struct {
	DefaultTTL       time.Duration // for sessions whose reports carry no TTL; whole minutes
	SessionRetention time.Duration // how long an expired session is remembered
	HistoryLimit     int           // statuses kept for one session, at least 1
	HistoryMaxBytes  int64         // bytes of memory for everything: see sizes.go for what counts
	MaxSessions      int           // sessions kept
	DataMaxBytes     int64         // bytes on disk; 0 for no limit
	EventWindow      int           // changes kept for subscribers, at least 1

	// Journaled says that a journal holds what memory drops. The store then reports where a history continues in the
	// journal, and which sessions it forgot; see [Store.AgentStatus], [Store.Session] and [Store.TakeForgotten].
	Journaled bool

	// Replicated says that the store is one of several that apply the same messages: see replicated.go. It needs
	// Journaled.
	Replicated bool
}

// Store is the state of the fleet. All its methods are safe for concurrent use.
type Store struct {
	opts Options

	// due is a lower bound of the next instant at which something expires or is forgotten, on the expiry clock. It is
	// written under mu and read without it.
	due atomic.Int64

	mu sync.RWMutex // protects the fields below, and everything reachable from them

	lifetimes Lifetimes

	agents   map[string]*agent
	sessions map[sessionID]*session
	sources  map[string]*source

	tools     ordered.Set[session] // sessions begun by events, in the order in which events find them; see find
	ambiguous int                  // number of sessions in tools minus the number of different (tool, ID) pairs
	fleet     roster
	teams     teams
	deadlines ordered.Set[session] // active sessions, by a lower bound of their expiry

	used     usage   // by everything in the store
	everyone usage   // by agents without a team
	share    Share   // of each bound, for agents without a team
	unteamed holding // of agents without a team
	work     int     // done since the lock was taken, in units of workPerLock

	prefetched int // sum that keeps the compiler from removing the loads of prefetch

	statuses     int // in all histories
	bounds       Bounds
	expiredTotal uint64
	lostTotal    uint64

	acknowledgements Acknowledgements // since the store was created

	changes   changes
	admitted  admitted
	forgotten []Forgotten // since the last TakeForgotten; only with a journal
	cold      cold        // sessions that only the journal holds
	cutoff    time.Time   // see SetCutoff; zero for none
	loading   bool        // an earlier run's records are being applied; what does not fit is dropped afterwards

	sequence uint64 // the greatest one known
	received int64  // the latest receipt time assigned, in Unix nanoseconds; strictly increasing
	now      int64  // the latest time known, on the expiry clock; never goes back

	// Only a replicated store uses these.
	message   uint64                  // the last one begun
	beginning map[SessionKey]int      // reports with a reservation that begin each session: see Room
	evicted   map[SessionKey]struct{} // evicted while loading, and not renewed since: see Evict
	pauses    []pause                 // in order, at most maxPauses

	// shift is how far the clock was set back since the store was created, in nanoseconds. The expiry clock is ahead of
	// the wall clock by this much, so it never goes back. It is written under mu.
	shift atomic.Int64
}

// lock takes the lock for writing and resets the count of work done under it. The caller unlocks s.mu.
func (s *Store) lock() {
	s.mu.Lock()
	s.work = 0
}

// yieldToWaiters lets goroutines run that wait for the lock. Call it between two holds, or before long work after one:
// a waiting goroutine is woken on the same processor, and otherwise runs only once the scheduler preempts the caller,
// after up to 10 ms.
func yieldToWaiters() { runtime.Gosched() }

// agent is an agent that reports. It exists as long as it has a session.
type agent struct {
	id         string
	name       string
	host       string // machine that it runs on
	nameSeq    uint64 // sequence of the record that set name
	sourceSeq  uint64 // sequence of the record that set source
	hostSeq    uint64 // sequence of the record that set host
	registered int64
	sessions   ordered.Timeline[session] // by class and newest report
	statuses   ordered.Timeline[status]  // of all its sessions
	bytes      int64                     // of memory, including its sessions
	count      int32                     // sessions
	active     int32                     // sessions that have not expired
	waiting    int32                     // active sessions that are pending
	lost       int32                     // sessions expired while running or pending
	dropped    uint64                    // greatest sequence of a status that its sessions have dropped; 0 for none
	filed      StatusPosition            // of the newest status filed in the journal; zero for none
	floor      ordered.Place             // greatest place of a dropped status: no status above it is missing

	// The indexes order by these fields; see moveAgent.
	source   *source
	lastSeen int64
	seenSeq  uint64 // sequence of the record that set lastSeen
	teams    *membership[agent]
	class    agentClass

	slotInFleet, slotInSource uint8
	inFleet, inSource         *ordered.Leaf[agent]
}

// source is a tool that agents and sessions run in. It exists as long as it has a member.
type source struct {
	name      string
	members   int      // agents and sessions
	chargedTo *teamSet // teams whose usage it counts toward: those of its first member
	roster
}

// session is one task of an agent.
type session struct {
	agent   *agent
	topic   string
	title   string
	created int64
	renewed int64 // start of its TTL, on the expiry clock: see Store.renewedAt
	turn    *turn // what is under way; nil for nothing

	// Sequences of the records that set the fields of these names.
	titleSeq, ttlSeq, sourceSeq, turnSeq uint64

	history   []historyRef // oldest first, without gaps; never empty once the session is in the store
	dropped   uint64       // greatest sequence of a status that the history has dropped; 0 for none
	queuedAt  int64        // see enqueue
	ttl       uint16       // minutes
	runLength uint16       // number of newest statuses in the history that are of the same kind
	queued    queue
	pinned    bool // has an admitted report, so it must not be forgotten; see Store.Admit
	byEvent   bool // begun by an event of a tool
	inTools   bool // is in Store.tools
	droppable droppable
	unsettled bool  // has an admitted report that is not settled
	reserved  int32 // bytes of memory reserved for its admitted reports

	filedSec int64 // filedSec, filedNanos and filedSeq: see filed
	filedSeq uint64

	dropLinks ordered.Links[session] // in a list of its holding

	sinceSec   int64 // sinceSec and sinceNanos: see Store.since; only in a replicated store
	sinceNanos int32

	attention *attention // why it needs attention; nil if it does not: see Store.updateAttention

	// The indexes order by these fields; see moveSession.
	source     *source // that of the agent, except for a moment after the agent's changed
	updated    int64
	updatedSeq uint64               // sequence of the record that set updated
	teams      *membership[session] // those of the agent, except for a moment after the agent's changed
	filedNanos int32
	class      class

	slotInFleet, slotInSource, slotInAgent uint8
	inFleet, inSource, inAgent             *ordered.Leaf[session]
}

// sessionID identifies a session.
type sessionID struct {
	agent *agent
	topic string
}

// queue names the store's queue that a session is in.
type queue uint8

const (
	inNone queue = iota
	inDeadlines
	inExpired
)

// historyRef is an entry in a session's history. The hash of the report ID saves a look at each status for every retry.
type historyRef struct {
	*status
	idHash uint32 // 0 if the report has no ID
}

// status is one entry of a session's history. It is immutable, except for its places in lists and that its content may
// be dropped.
type status struct {
	session  *session
	sequence uint64
	received int64
	sec      int64 // of the timestamp, since the Unix epoch: RFC 3339 covers years that nanoseconds can't
	nsec     int32 // of the timestamp
	kind     models.Status
	slot     uint8 // in inAgent
	marks    marks
	text     string                // message, content, report ID and questions: see packText
	inAgent  *ordered.Leaf[status] // of the agent's statuses
}

// marks are the properties of a status.
type marks uint8

const (
	byEvent        marks = 1 << iota // reported by an event of a tool
	hasNotes                         // mentions questions
	contentDropped                   // its content was dropped
)

// droppable says what can be dropped from a session, and so which list of its holding it is in.
type droppable uint8

const (
	nothingDroppable droppable = iota
	statusDroppable            // a status that is not the current one
	contentDroppable           // the content of the current status, which is the only one
)

// entry orders a history together with the timestamp.
type entry struct {
	sequence uint64
	received int64
}

// roster keeps the agents and sessions of the fleet, or of a part of it, in the orders of the lists, and counts them.
// It is protected by the lock of its store.
type roster struct {
	byID    ordered.Set[agent]                    // by class and ID
	seen    [agentClasses]ordered.Timeline[agent] // by newest report
	updated [classes]ordered.Timeline[session]    // by newest report
	counts  [classes]int                          // sessions by class
	needs   [len(models.NeedNames)]ordered.Set[session]
	tools   map[*source]*toolUse // of the agents; nil unless it is that of a team

	agentIn   *ordered.Member[agent]
	sessionIn *ordered.Member[session]
}

// Team is a part of the fleet: the agents whose IDs it covers. Once it is added to a store, its lists, counts and
// changes cost what they would if there were no other agents. Teams may overlap.
type Team struct {
	covers   func(agentID string) bool
	patterns []string // see Patterns
	share    Share
	used     usage         // by its agents; protected by the store's lock
	number   uint64        // unique among the teams of its store
	settled  atomic.Uint64 // changes with a greater number name this team if they belong to it

	roster // protected by the store's lock
}

// teamSet is the set of teams of an agent. Equal sets are the same pointer; nil is the empty set.
type teamSet struct {
	all []*Team
	holding
}

// membership is the position of an item in the rosters of its teams; nil if it has no team.
type membership[T any] struct {
	set *teamSet
	at  []slotIn[T] // in the order of set.all
}

// slotIn is the position of an item in a roster.
type slotIn[T any] struct {
	leaf *ordered.Leaf[T]
	slot uint8
}

// teams is the set of teams that a store knows.
type teams struct {
	all  []*Team
	sets map[string]*teamSet // by the numbers of their teams
	last uint64              // last number assigned
}

// change is a Change as stored.
type change struct {
	agentID, agentName, agentHost, source, topic, title, message string

	at, created, updated, expiry int64 // Unix nanoseconds
	sec, sinceSec                int64 // of the current timestamp, and of the one with which the status began
	nsec, sinceNsec              int32
	ttl                          uint16
	kind                         ChangeKind
	previous                     models.Status
	class                        class
	teams                        *teamSet
	revived, lastOfAgent         bool
	index                        uint32 // among the changes of that message
	messageSeq                   uint64 // of the message that it belongs to; 0 for none

	question, asked *models.Question // the oldest open one, and the one that the record opened
	open            int32            // questions
	acknowledged    *models.Acknowledgement
	closed          []models.ClosedQuestion
}

// changes holds the newest changes, and wakes the callers that wait for the next one.
type changes struct {
	ring     []change // number n is at (n-1) % cap
	first    uint64   // number of changes before those that are kept
	sized    uint64   // bytes counts the changes up to this number: the last one may still be filled in
	bytes    int64    // of the texts of the changes that are kept
	maxBytes int64    // limit of bytes
	next     uint32   // index of the next change among those of the message
	whole    changeAt // every change after this point is kept
	count    atomic.Uint64
	awaited  atomic.Bool                   // a caller may wait for wake
	wake     atomic.Pointer[chan struct{}] // closed with the next change if it is awaited
}

// admitted is what the store keeps about admitted reports until they are settled.
type admitted struct {
	pinned    []*session              // known sessions that have admitted reports
	begun     map[SessionKey]struct{} // sessions that admitted reports begin
	found     map[SessionKey]struct{} // the same sessions, by source instead of agent
	events    bool                    // whether there is an event among the reports
	withdrawn map[*session]struct{}   // sessions whose open questions an admitted report withdraws
	refused   map[SessionKey]Outcome  // sessions that could not be recalled for lack of room
	ids       map[reportKey]struct{}  // IDs of admitted reports
	answers   answers                 // to lookups
	recalled  map[*session]struct{}   // cold sessions that were recalled, and to which no record was applied
}

type reportKey struct {
	SessionKey
	reportID string
}

// SessionKey identifies a session.
type SessionKey struct{ AgentID, Topic string }

// Compare orders keys by agent, then by topic.
func (k SessionKey) Compare(other SessionKey) int {
	return cmp.Or(strings.Compare(k.AgentID, other.AgentID), strings.Compare(k.Topic, other.Topic))
}

// Forgotten is a session that the store forgot.
type Forgotten struct {
	SessionKey
	LastOfAgent bool // its agent was forgotten with it
}

// Bounds counts how often each bound of memory took effect since the store was created.
type Bounds struct {
	HistoryLimit     uint64 // statuses dropped because their session has enough newer ones
	HistoryMaxBytes  uint64 // statuses dropped, and expired sessions forgotten, to free memory
	Contents         uint64 // contents of current statuses dropped to free memory
	MaxSessions      uint64 // expired sessions forgotten early to make room for new ones
	Refused          uint64 // reports refused for lack of room
	RefusedShare     uint64 // reports refused because their agents have used up their share
	SessionRetention uint64 // expired sessions forgotten at the end of their retention
}

// StatusPosition is a position in a status history.
type StatusPosition struct {
	Seconds     int64 // since the Unix epoch
	Nanoseconds int32
	Sequence    uint64
}

// AgentPosition is a position in a list of agents.
type AgentPosition struct {
	ID       string
	LastSeen int64 // Unix nanoseconds
	Sequence uint64
}

// SessionPosition is a position in a list of sessions.
type SessionPosition struct {
	Updated  int64 // Unix nanoseconds
	Sequence uint64
}

// ChangeKind is the kind of a [Change].
type ChangeKind uint8

const (
	// Reported means that a record changed or renewed a session, or began it.
	Reported ChangeKind = iota + 1
	// Expired means that a session was not renewed within its TTL.
	Expired
	// Acknowledged means that a person acknowledged that a session needs attention, or that a snooze ended.
	Acknowledged
	// Removed means that a session was forgotten: because its retention ended, to make room, or on request.
	Removed
)

// Change is what one record, one expiry or one removal did to the state.
type Change struct {
	Number    uint64 // position among all changes, starting at 1
	Message   uint64 // that the change belongs to: see [Store.Begin]; 0 for none
	Index     uint32 // position among the changes of the message, starting at 0
	Kind      ChangeKind
	At        time.Time           // server time; for a record, its receipt; UTC
	Session   models.FleetSession // after the change; for Removed, before it
	Timestamp time.Time           // of its current status; UTC

	Previous    models.Status // status before, if Kind is Reported; 0 for a new session
	Revived     bool          // the session was expired before
	LastOfAgent bool          // its agent was removed with it

	Asked  *models.Question        // question that the record opened, without its content and choices; nil for none
	Closed []models.ClosedQuestion // questions that the record closed

	Teams []*Team // teams of its agent; never modified. A team that was set later may be missing: see [Team.CompleteAfter]
}

// turn is what a session fed by events has under way: see [models.Turn].
type turn struct {
	open    []openQuestion // oldest first
	closed  []models.ClosedQuestion
	calls   []models.Call
	beneath models.UnderlyingStatus

	acknowledged *models.Acknowledgement // nil if there is none; never modified
	snoozedUntil int64                   // end of acknowledged on the expiry clock; 0 for none
	snoozeOver   bool                    // the end of the snooze has been dealt with
}

// openQuestion is an open question. full and brief are nil until the record that asked it is applied.
type openQuestion struct {
	models.OpenQuestion
	full  *models.Question
	brief *models.Question // without its content and choices
}
