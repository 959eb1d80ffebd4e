package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/store"
)

// inFlight is how many groups a server publishes at the same time. Each takes the nodes and all servers about the same
// time, however few reports it has. While both are on their way, the next one collects what arrives.
const inFlight = 2

// The times for publishing a message. An attempt that gets no answer is repeated with the same message ID, so that the
// stream keeps one of them at most.
const (
	publishTimeout = 10 * time.Second
	attemptTimeout = 3 * time.Second
	attemptPause   = 100 * time.Millisecond
)

// LogOptions are the options of [NewLog].
type LogOptions struct {
	JetStream jetstream.JetStream
	Stream    string // its name
	StreamID  string // identifies it among those that ever had its name
	Subject   string // of its messages
	Server    string // the name of this server
	Store     *store.Store
	Journal   *journal.Journal
	Metrics   *metrics.Metrics
	Logger    *slog.Logger
	Stale     time.Duration // without news from the stream for this long, the server is not ready
	Leads     func() bool   // reports whether this server holds the lease; nil for never

	Encoding int        // the highest version of messages that this server reads
	Writes   func() int // the version of messages that it writes; nil for Encoding

	Notes    func([]journal.Note) // is called when notes were applied
	Settings func(value []byte)   // is called when other settings took effect
}

// Log is the log that servers share. It publishes messages, and applies those of all servers in the order of the stream.
// Its methods are safe for concurrent use.
type Log struct {
	LogOptions
	applier *recorder.Applier

	mu      sync.Mutex
	waiting map[string]*publication // own messages that are not applied yet, by ID
	teams   map[string]*store.Team  // by their patterns

	stopped  chan struct{} // closed when Run has ended
	progress progress
	foreign  bool // the last message was not published by a server of the cluster; used by Run only
}

// publication is a message of this server that is to be applied.
type publication struct {
	done    chan struct{} // closed when it was applied
	durable time.Time
	applied time.Time
	result  recorder.Result
}

// NewLog returns a log for a store and its journal, which has been read into the store. It applies nothing until
// [Log.Run] is called.
func NewLog(o LogOptions) *Log {
	if o.Notes == nil {
		o.Notes = func([]journal.Note) {}
	}
	if o.Settings == nil {
		o.Settings = func([]byte) {}
	}
	if o.Leads == nil {
		o.Leads = func() bool { return false }
	}
	l := &Log{LogOptions: o, waiting: map[string]*publication{}, teams: map[string]*store.Team{}, stopped: make(chan struct{})}
	at, _ := o.Journal.Position()
	l.applier = recorder.NewApplier(recorder.NewSettler(o.Store, o.Journal, o.Metrics), at, recorder.ApplierOptions{
		Teams: l.teamOf, Notes: o.Notes, Settings: o.Settings, Trouble: l.noteTrouble,
	})
	l.progress.init(at)
	return l
}

// maxTeams is how many teams are kept for their patterns.
const maxTeams = 10_000

// teamOf returns the team of the agents that match patterns. Only Run calls it.
func (l *Log) teamOf(patterns []string) *store.Team {
	if patterns == nil {
		return nil
	}
	key := strings.Join(patterns, "\x00")
	team := l.teams[key]
	if team == nil {
		if len(l.teams) >= maxTeams {
			clear(l.teams)
		}
		team = store.NewTeam(store.Share{}, func(agentID string) bool { return access.Matches(patterns, agentID) })
		l.teams[key] = team
	}
	return team
}

// ErrFenced is returned for a message of a holder of the lease that took effect after another one had begun: it changed
// nothing.
var ErrFenced = errors.New("another server has taken over")

// Leads implements [recorder.Log].
func (l *Log) Leads() bool { return l.LogOptions.Leads() }

// Parallel implements [recorder.Log].
func (l *Log) Parallel() int { return inFlight }

// Failure implements [recorder.Log].
func (l *Log) Failure() error {
	if cause := l.progress.refuses(); cause != "" {
		return &recorder.Unavailable{Cause: cause}
	}
	return nil
}

// Record implements [recorder.Log].
func (l *Log) Record(group []*recorder.Call) []*recorder.Call {
	rooms := make([]*room, len(group))
	defer func() {
		for _, room := range rooms {
			room.release()
		}
	}()
	for i, c := range group {
		rooms[i] = &room{call: c}
		if c.Removal == nil && c.Over == nil {
			rooms[i] = l.roomFor(c)
		}
	}
	for _, s := range split(rooms) {
		l.record(s)
	}
	for _, room := range rooms {
		room.finish()
	}
	return group
}

// record publishes a shipment and gives what became of it to its calls.
func (l *Log) record(s *shipment) {
	p, err := l.publish(context.Background(), &s.message)
	if err == nil {
		recorder.NoteShared(s.calls(), p.durable, p.applied)
		s.shareOut(p.result)
		return
	}
	for _, load := range s.loads {
		load.room.err = err
	}
}

// Do implements [recorder.Log].
func (l *Log) Do(ctx context.Context, m *journal.Message) (deleted int, err error) {
	p, err := l.publish(ctx, m)
	if err != nil {
		return 0, err
	}
	return p.result.Deleted, nil
}

// Box keeps notes for all servers. It implements [notify.Box].
type Box struct {
	log   *Log
	lease uint64 // number of the lease under which the notes are written; 0 for none
}

// Box returns a box for all servers. With the number of a lease, what is written to it is rejected once another holder
// has begun.
func (l *Log) Box(lease uint64) *Box { return &Box{l, lease} }

// WriteNotes stores and deletes notes, and returns once that is applied on this server.
func (b *Box) WriteNotes(notes []journal.Note) error {
	_, err := b.log.publish(context.Background(), &journal.Message{Lease: b.lease, Notes: notes})
	return err
}

// Notes returns all notes that are applied on this server.
func (b *Box) Notes() ([]journal.Note, error) { return b.log.Journal.Notes() }

// version returns the version of messages that this server writes now.
func (l *Log) version() int {
	if l.Writes == nil {
		return l.Encoding
	}
	return l.Writes()
}

// newID returns an ID for a message.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// publish publishes a message and returns once this server has applied it. The error is [ErrFenced] or a
// *[recorder.Unavailable].
func (l *Log) publish(ctx context.Context, m *journal.Message) (*publication, error) {
	if err := l.Failure(); err != nil {
		return nil, err
	}
	return l.publishAnyway(ctx, m)
}

// publishAnyway is publish for what must get through while the server refuses reports.
func (l *Log) publishAnyway(ctx context.Context, m *journal.Message) (*publication, error) {
	m.Server = l.Server
	id, p := newID(), &publication{done: make(chan struct{})}
	l.mu.Lock()
	l.waiting[id] = p
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, id)
		l.mu.Unlock()
	}()
	ctx, done := context.WithTimeout(ctx, publishTimeout)
	defer done()
	started := time.Now()
	if _, err := l.send(ctx, m.Encode(l.version()), id); err != nil {
		l.countFailure(ctx, err)
		return nil, err
	}
	p.durable = time.Now()
	l.Metrics.ObservePublished(p.durable.Sub(started))
	select {
	case <-p.done:
		if p.result.Fenced {
			return nil, ErrFenced
		}
		return p, nil
	case <-l.stopped:
		return nil, &recorder.Unavailable{Cause: "the server is stopping", Unknown: true}
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			l.Metrics.CountPublishFailure(metrics.PublishNotApplied)
		}
		return nil, &recorder.Unavailable{
			Cause: "the server has not received its own message from the stream in time", Unknown: true, Err: ctx.Err(),
		}
	}
}

// send publishes a message until the stream says that it has it, and returns its sequence.
func (l *Log) send(ctx context.Context, data []byte, id string) (sequence uint64, err error) {
	unknown := false // an attempt may have succeeded
	for {
		sequence, err := l.attempt(ctx, data, id)
		if err == nil {
			l.progress.notePublished("")
			return sequence, nil
		}
		failed := failureOf(err)
		unknown = unknown || failed.unknown
		l.progress.notePublished(failed.cause)
		if failed.repeat {
			sleep(ctx, attemptPause)
		}
		if !failed.repeat || ctx.Err() != nil {
			return 0, &recorder.Unavailable{Cause: failed.cause, Unknown: unknown, Err: err}
		}
	}
}

// attempt publishes a message once, and returns its sequence.
func (l *Log) attempt(ctx context.Context, data []byte, id string, more ...jetstream.PublishOpt) (sequence uint64, err error) {
	ctx, done := context.WithTimeout(ctx, attemptTimeout)
	defer done()
	msg := &nats.Msg{Subject: l.Subject, Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	options := append(more, jetstream.WithExpectStream(l.Stream), jetstream.WithRetryAttempts(0))
	ack, err := l.JetStream.PublishMsg(ctx, msg, options...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
