package store

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// Options are the bounds of a store and the TTL of sessions that name none.
type Options struct {
	DefaultTTL       time.Duration // of a session whose reports carry no TTL; whole minutes
	SessionRetention time.Duration // how long an expired session is remembered
	HistoryLimit     int           // statuses kept for one session, at least 1
	HistoryMaxBytes  int64         // bytes of memory for all that is kept: see sizes.go for what counts
	MaxSessions      int           // sessions kept
	DataMaxBytes     int64         // bytes on disk; 0 for no bound
	EventWindow      int           // changes kept for those who follow them, at least 1

	// Journaled says that a journal holds what memory drops. The store then tells where a history goes on there,
	// and which sessions it forgot; see [Store.AgentStatus], [Store.Session] and [Store.TakeForgotten].
	Journaled bool
}

// Store is the state of the fleet. All its methods are safe for concurrent use.
type Store struct {
	opts Options

	// due is a lower bound of the instant at which something has to expire or to be forgotten, as in time. It is written under mu
	// and read without.
	due atomic.Int64

	mu sync.RWMutex // protects all that follows, and everything reachable from it

	agents   map[string]*agent
	sessions map[sessionID]*session
	sources  map[string]*source

	tools     ordered.Set[session] // those that events began, by what events find them by; see find
	ambiguous int                  // how many more there are of them than tools and IDs
	fleet     roster
	teams     teams
	deadlines ordered.Set[session] // active sessions, by a lower bound of their expiry

	used     usage   // by all that the store holds
	everyone usage   // by the agents that are of no team
	share    Share   // of each bound that these may use up
	rest     holding // of these
	work     int     // that was done since the lock was taken, in units of workPerLock

	prefetched int // a sum that keeps the compiler from leaving out the loads of prefetch

	statuses     int // in all histories
	bounds       Bounds
	expiredTotal uint64
	lostTotal    uint64

	changes   changes
	admitted  admitted
	forgotten []Forgotten // since the last TakeForgotten, where there is a journal
	cold      cold        // sessions that are in the journal alone
	loading   bool        // records of an earlier run are applied: what memory has no room for goes once all are

	sequence uint64 // the greatest one known
	received int64  // the latest receipt time given, in Unix nanoseconds; each is later than the one before
	now      int64  // the latest time known, as in time; never goes back

	// shift is what the clock was set back by since the store was made, in nanoseconds: expiry goes by a time that is ahead of
	// the clock by it, and so never goes back. It is written under mu.
	shift atomic.Int64
}

// lock takes the lock for changes, and begins to count the work that is done under it. The caller lets go of s.mu.
func (s *Store) lock() {
	s.mu.Lock()
	s.work = 0
}

// giveWay lets goroutines run that wait for the lock. Call it between two holds, or before long work after one: a waiting goroutine is
// woken on the same processor, and otherwise runs only once the scheduler preempts the caller, after up to 10 ms.
func giveWay() { runtime.Gosched() }

// agent is one that reports. It lives as long as it has a session.
type agent struct {
	id         string
	name       string
	host       string // the machine that it runs on
	nameSeq    uint64 // the sequence that name is of
	sourceSeq  uint64 // the sequence that source is of
	hostSeq    uint64 // the sequence that host is of
	registered int64
	sessions   ordered.Timeline[session] // by class and newest report
	statuses   ordered.Timeline[status]  // of all its sessions
	bytes      int64                     // of memory, with its sessions
	count      int32                     // sessions
	active     int32                     // sessions not expired
	waiting    int32                     // those of them that are pending
	lost       int32                     // sessions expired while running or pending
	dropped    uint64                    // the greatest sequence of a status that its sessions no longer hold; 0 for none
	filed      StatusPosition            // of the newest status that is filed in the journal; zero for none
	floor      ordered.Place             // the last place of such a status: above it, none is missing

	// What the indexes order by; see moveAgent.
	source   *source
	lastSeen int64
	seenSeq  uint64 // the sequence of the record that lastSeen is of
	teams    *membership[agent]
	class    agentClass

	slotInFleet, slotInSource uint8
	inFleet, inSource         *ordered.Leaf[agent]
}

// source is the tool that agents and sessions run in. It lives as long as it has one.
type source struct {
	name    string
	members int      // agents and sessions
	payer   *teamSet // in what it is counted: where the first of them was
	roster
}

// session is one task of an agent.
type session struct {
	agent   *agent
	topic   string
	title   string
	created int64
	renewed int64 // from when on the expiry counts, as in Store.time: see Store.renewedAt
	turn    *turn // what is under way; nil for nothing

	// The sequences of the records that told what is named.
	titleSeq, ttlSeq, sourceSeq, turnSeq uint64

	history  []historyRef // oldest first, none of the newest missing; never empty once the session is in the store
	dropped  uint64       // the greatest sequence of a status that the history no longer holds; 0 for none
	queuedAt int64        // see enqueue
	ttl      uint16       // minutes
	run      uint16       // so many of the newest statuses in the history are of the same kind
	queued   standing
	pinned   bool // a report of it is admitted, so that it is not forgotten; see Store.Admit
	byEvent  bool // an event of a tool began it
	inTools  bool // it is in Store.tools
	yieldsAs yield
	waits    bool  // a report of it is admitted and not settled
	kept     int32 // bytes of memory that are kept for admitted reports of it

	filedSec int64 // and the next one, and filedNanos: see filed
	filedSeq uint64

	yields ordered.Links[session] // in a list of its holding

	// What the indexes order by; see moveSession.
	source     *source // the agent's, but for a moment after that has changed
	updated    int64
	updatedSeq uint64               // the sequence of the record that updated is of
	teams      *membership[session] // in the agent's, but for a moment after those have changed
	filedNanos int32
	class      class

	slotInFleet, slotInSource, slotInAgent uint8
	inFleet, inSource, inAgent             *ordered.Leaf[session]
}

// sessionID finds a session.
type sessionID struct {
	agent *agent
	topic string
}

// standing says which of the store's queues a session stands in.
type standing uint8

const (
	inNone standing = iota
	inDeadlines
	inExpired
)

// historyRef is one place in a session's history. The report ID's hash spares a look at each status for
// every retry.
type historyRef struct {
	*status
	idHash uint32 // 0 where the report has no ID
}

// status is one entry of a session's history. It never changes, but for its places in lists, and that its content may be dropped.
type status struct {
	session  *session
	sequence uint64
	received int64
	sec      int64 // of the timestamp, since the Unix epoch: RFC 3339 can write years that nanoseconds cannot
	nsec     int32 // of the timestamp
	kind     models.Status
	slot     uint8 // in inAgent
	marks    marks
	text     string                // message, content, report ID and questions, see packText
	inAgent  *ordered.Leaf[status] // of the agent's statuses
}

// marks are what is true of a status.
type marks uint8

const (
	byEvent marks = 1 << iota // an event of a tool told it
	noted                     // it tells of questions
	cut                       // its content was dropped
)

// yield says what a session can give up, and so in which list of its holding it is.
type yield uint8

const (
	nothing  yield = iota
	aStatus        // one that is not the current one
	aContent       // that of its current status, which is the only one
)

// entry is what orders an entry of a history beside its timestamp.
type entry struct {
	sequence uint64
	received int64
}

// roster keeps the agents and sessions of the fleet, or of a part of it, in the orders of the lists, and counts them. It is
// protected by the lock of its store.
type roster struct {
	byID    ordered.Set[agent]                    // by class and ID
	seen    [agentClasses]ordered.Timeline[agent] // by their newest report
	updated [classes]ordered.Timeline[session]    // by their newest report
	counts  [classes]int                          // sessions by class

	agentIn   *ordered.Member[agent]
	sessionIn *ordered.Member[session]
}

// Team is a part of the fleet: the agents whose IDs it covers. Once it was added to a store, lists, counts and changes of a
// team cost what they would if there were no other agents. Teams may overlap.
type Team struct {
	covers  func(agentID string) bool
	share   Share
	used    usage         // by its agents; protected by the store's lock
	number  uint64        // among the teams of its store
	settled atomic.Uint64 // changes after the one with this number say that they are of the team, if they are

	roster // protected by the store's lock
}

// teamSet is the teams that an agent is of. Equal sets are one; nil is none.
type teamSet struct {
	all []*Team
	holding
}

// membership is where an item stands in the rosters of its teams; nil where it has none.
type membership[T any] struct {
	set *teamSet
	at  []slotIn[T] // as the teams of the set
}

// slotIn is where an item stands in a roster.
type slotIn[T any] struct {
	leaf *ordered.Leaf[T]
	slot uint8
}

// teams is what a store knows of teams.
type teams struct {
	all  []*Team
	sets map[string]*teamSet // by the numbers of their teams
	last uint64              // number given
}

// change is a Change as the store keeps it.
type change struct {
	agentID, agentName, agentHost, source, topic, title, message string

	at, created, updated, expiry int64 // Unix nanoseconds
	sec, sinceSec                int64 // of the timestamp, and of the first of the same status
	nsec, sinceNsec              int32
	ttl                          uint16
	kind                         ChangeKind
	previous                     models.Status
	class                        class
	teams                        *teamSet
	revived, lastOfAgent         bool

	question, asked *models.Question // the oldest that is open, and the one that the record opened
	open            int32            // questions
	closed          []models.ClosedQuestion
}

// changes is the newest changes, and who waits for the next one.
type changes struct {
	ring  []change // number n is at (n-1) % cap
	first uint64   // so many came before those that are kept
	sized uint64   // bytes counts those up to this number: the last one may yet be filled in
	bytes int64    // of the texts of those that are kept
	most  int64    // bytes
	count atomic.Uint64
	idle  atomic.Bool // somebody waits at wake
	wake  chan struct{}
}

// admitted is what the store notes of admitted reports until they are settled.
type admitted struct {
	pinned    []*session              // known sessions that they are of
	begun     map[SessionKey]struct{} // sessions that they begin
	found     map[SessionKey]struct{} // the same, by their sources instead of their agents
	events    bool                    // there is a report of an event among them
	withdrawn map[*session]struct{}   // whose open questions one of them withdraws
	refused   map[SessionKey]Outcome  // sessions that there was no room for to be recalled
	ids       map[reportKey]struct{}  // of theirs
}

type reportKey struct {
	SessionKey
	reportID string
}

// SessionKey names a session.
type SessionKey struct{ AgentID, Topic string }

// Forgotten is a session that the store forgot.
type Forgotten struct {
	SessionKey
	LastOfAgent bool // its agent was forgotten with it
}

// Bounds counts how often each bound of memory took effect since the store was made.
type Bounds struct {
	HistoryLimit     uint64 // statuses dropped because their session has newer ones enough
	HistoryMaxBytes  uint64 // statuses dropped, and expired sessions forgotten, to make room for newer ones
	Contents         uint64 // contents of current statuses dropped for the same reason
	MaxSessions      uint64 // expired sessions forgotten early to make room for new ones
	Refused          uint64 // reports refused because there was no room
	RefusedShare     uint64 // reports refused because their agents have used up their share
	SessionRetention uint64 // expired sessions forgotten in due time
}

// StatusPosition is a place in a status history.
type StatusPosition struct {
	Seconds     int64 // since the Unix epoch
	Nanoseconds int32
	Sequence    uint64
}

// AgentPosition is a place in a list of agents.
type AgentPosition struct {
	ID       string
	LastSeen int64 // Unix nanoseconds
	Sequence uint64
}

// SessionPosition is a place in a list of sessions.
type SessionPosition struct {
	Updated  int64 // Unix nanoseconds
	Sequence uint64
}

// ChangeKind says what a [Change] did.
type ChangeKind uint8

const (
	// Reported means that a record changed or renewed a session, or began it.
	Reported ChangeKind = iota + 1
	// Expired means that a session was not renewed within its TTL.
	Expired
	// Removed means that a session was forgotten: an expired one, or one that somebody had removed.
	Removed
)

// Change is what one record, one expiry or one removal did to the state.
type Change struct {
	Number    uint64 // its place among all changes, from 1 on
	Kind      ChangeKind
	At        time.Time           // the server's time then: of a record its receipt; UTC
	Session   models.FleetSession // as it is since; as it was, where it is removed
	Timestamp time.Time           // of its current status; UTC

	Previous    models.Status // its status before, where it is Reported; 0 for a session that this began
	Revived     bool          // it was expired before
	LastOfAgent bool          // its agent is removed with it

	Asked  *models.Question        // the question that the record opened, without its content and choices; nil for none
	Closed []models.ClosedQuestion // those that it closed

	Teams []*Team // of which its agent was; never changed. One that was set later may be missing: see [Team.Settled]
}

// turn is what a session that is fed by events has under way: see [models.Turn].
type turn struct {
	open    []openQuestion // oldest first
	closed  []models.ClosedQuestion
	calls   []models.Call
	beneath models.Beneath
}

// openQuestion is an open question, and what it asks; that is nil until the record that asked is applied.
type openQuestion struct {
	models.OpenQuestion
	full  *models.Question
	brief *models.Question // without its content and choices
}
