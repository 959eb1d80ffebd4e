package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/store"
)

// inFlight is how many groups a server publishes at the same time.
const inFlight = 16

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
	Subject   string // of its messages
	Server    string // the name of this server
	Store     *store.Store
	Journal   *journal.Journal
	Metrics   *metrics.Metrics
	Logger    *slog.Logger
	Stale     time.Duration // without news from the stream for this long, the server is not ready

	Notes func([]journal.Note) // is called when notes were applied
}

// Log is the log that servers share. It publishes messages, and applies those of all servers in the order of the stream.
// Its methods are safe for concurrent use.
type Log struct {
	LogOptions
	applier *recorder.Applier
	lease   atomic.Uint64 // number of the lease that this server holds; 0 for none

	mu      sync.Mutex
	waiting map[string]*publication // own messages that are not applied yet, by ID
	teams   map[string]*store.Team  // by their patterns

	progress progress
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
	l := &Log{LogOptions: o, waiting: map[string]*publication{}, teams: map[string]*store.Team{}}
	at, _ := o.Journal.Position()
	l.applier = recorder.NewApplier(recorder.NewSettler(o.Store, o.Journal, o.Metrics), at, recorder.ApplierOptions{
		Teams: l.teamOf, Notes: o.Notes, Trouble: l.noteTrouble,
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
	m, rooms := l.messageOf(group)
	defer func() {
		for _, room := range rooms {
			room.Release()
		}
	}()
	p := &publication{}
	if m.IsEmpty() {
		p.result.Outcomes = make([][]store.Outcome, len(rooms))
	} else {
		var err error
		if p, err = l.publish(context.Background(), m); err != nil {
			for _, c := range group {
				c.Err = err
			}
			return group
		}
		recorder.NoteShared(group, p.durable, p.applied)
	}
	p.shareOut(group, rooms)
	return group
}

// messageOf returns the message of a group, without the reports for which there is no room.
func (l *Log) messageOf(group []*recorder.Call) (m *journal.Message, rooms []*room) {
	m = &journal.Message{Server: l.Server}
	for _, c := range group {
		switch {
		case c.Removal != nil:
			m.Removed = append(m.Removed, *c.Removal)
		case c.Over != nil:
			m.Over = append(m.Over, c.Over...)
		default:
			room := l.roomFor(c)
			rooms = append(rooms, room)
			m.Requests = append(m.Requests, journal.Request{Agents: c.Team.Patterns(), Reports: room.reports})
		}
	}
	return m, rooms
}

// Do implements [recorder.Log].
func (l *Log) Do(ctx context.Context, m *journal.Message) (deleted int, err error) {
	p, err := l.publish(ctx, m)
	if err != nil {
		return 0, err
	}
	return p.result.Deleted, nil
}

// WriteNotes publishes notes, and returns once they are applied on this server.
func (l *Log) WriteNotes(notes []journal.Note) error {
	_, err := l.publish(context.Background(), &journal.Message{Notes: notes})
	return err
}

// newID returns an ID for a message.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// publish publishes a message and returns once this server has applied it.
func (l *Log) publish(ctx context.Context, m *journal.Message) (*publication, error) {
	return l.publishAs(ctx, m, newID())
}

// publishAs is publish with a message ID. The error is an *[recorder.Unavailable].
func (l *Log) publishAs(ctx context.Context, m *journal.Message, id string) (*publication, error) {
	if err := l.Failure(); err != nil {
		return nil, err
	}
	m.Server, m.Lease = l.Server, l.lease.Load()
	p := &publication{done: make(chan struct{})}
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
	if err := l.send(ctx, m.Encode(nil), id); err != nil {
		return nil, err
	}
	p.durable = time.Now()
	select {
	case <-p.done:
		return p, nil
	case <-ctx.Done():
		return nil, &recorder.Unavailable{Cause: "the server has not got its own message from the stream in time", Unknown: true, Err: ctx.Err()}
	}
}

// send publishes a message until the stream says that it has it.
func (l *Log) send(ctx context.Context, data []byte, id string) error {
	unknown := false // an attempt may have succeeded
	for {
		err := l.attempt(ctx, data, id)
		if err == nil {
			return nil
		}
		cause, repeat, lost := causeOf(err)
		unknown = unknown || lost
		l.progress.notePublishError(cause, err)
		if !repeat {
			return &recorder.Unavailable{Cause: cause, Unknown: unknown, Err: err}
		}
		select {
		case <-time.After(attemptPause):
		case <-ctx.Done():
			return &recorder.Unavailable{Cause: cause, Unknown: unknown, Err: err}
		}
	}
}

// attempt publishes a message once.
func (l *Log) attempt(ctx context.Context, data []byte, id string) error {
	ctx, done := context.WithTimeout(ctx, attemptTimeout)
	defer done()
	msg := &nats.Msg{Subject: l.Subject, Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	_, err := l.JetStream.PublishMsg(ctx, msg, jetstream.WithExpectStream(l.Stream), jetstream.WithRetryAttempts(0))
	return err
}

// causeOf returns the cause of a failed attempt to publish, in words for clients; whether another attempt may succeed;
// and whether this one may have, all the same.
func causeOf(err error) (cause string, repeat, unknown bool) {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		return explainAPI(api)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return "the stream has no leader", true, false
	case errors.Is(err, nats.ErrMaxPayload):
		return "the message is larger than NATS allows (max_payload)", false, false
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return "the server is stopping", false, false
	case errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected):
		return "NATS can't be reached", true, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "the stream does not answer: NATS is slow, or most of its nodes are away", true, true
	}
	return "NATS can't be reached", true, true
}

// The codes of errors of JetStream that say why a stream does not take a message: see errors.json of nats-server.
const (
	codeClusterNotAvailable  = 10008
	codeInsufficientResource = 10023
	codeStreamNotFound       = 10059
	codeStreamStoreFailed    = 10077
	codeStreamSealed         = 10109
)

func explainAPI(api *jetstream.APIError) (cause string, repeat, unknown bool) {
	switch api.ErrorCode {
	case codeClusterNotAvailable:
		return "the stream has no leader", true, true
	case codeInsufficientResource:
		return "NATS has no room left for the stream", false, false
	case codeStreamNotFound:
		return "the stream does not exist", true, false
	case codeStreamStoreFailed:
		return "the stream can't store a message: it is full, or the disk of NATS is", false, false
	case codeStreamSealed:
		return "the stream is sealed", false, false
	}
	return "the stream does not take the message: " + api.Description, api.Code >= 500, api.Code >= 500
}
