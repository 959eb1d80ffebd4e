package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/store"
)

const (
	joinPause = 2 * time.Second // between two attempts to join

	// An empty message is published if none was applied for tickEvery, so that sessions expire though nobody reports. It is
	// also how often the holder of the lease looks for sessions to evict.
	tickEvery  = time.Second
	evictLimit = 1000 // sessions evicted by one message

	unableFor = 10 * time.Second // how long the holder of the lease may be unable to publish until it lets another server act

	// A snapshot is written once snapshotEvery messages were applied since the last one, or about snapshotBytes of them, or
	// a hundredth of snapshotEvery and snapshotAfter has passed.
	snapshotEvery = 100_000
	snapshotBytes = 1 << 30
	snapshotAfter = time.Hour
	snapshotPause = time.Minute      // between two looks
	firstSnapshot = 30 * time.Second // until the first look
	seedTimeout   = 10 * time.Minute // for writing a snapshot while the server joins

	bucketsPause = 5 * time.Second // between two looks whether NATS still has the buckets
)

// MemberOptions are the options of [Join].
type MemberOptions struct {
	Settings Settings
	Server   string // the name of this server, which no other one may have
	Address  string // of this server, for the log of another one that has the same name
	Version  string // of the program
	Encoding int    // the highest version of messages that the program reads and writes
	DataDir  string
	Open     func() (*journal.Journal, error) // opens the journal in DataDir
	Stale    time.Duration                    // see [LogOptions]
	Logger   *slog.Logger

	SharedSettings SharedSettings // of this server
}

// Member is what makes a server one of several. Its methods are safe for concurrent use.
type Member struct {
	MemberOptions
	Journal *journal.Journal // open; the caller closes it

	started   time.Time     // when this server began to join
	published published     // used by Join only
	joined    chan struct{} // closed when it has joined; the next five fields are set by then
	conn      *Conn
	stream    jetstream.Stream
	lease     *Lease
	presence  *Presence
	snapshots *Snapshots
	signIns   *SignIns
	id        string                   // see [Member.StreamID]
	shared    *Log                     // see [Member.Log]
	writing   sync.Mutex               // held while a snapshot is written
	newest    atomic.Pointer[Snapshot] // the newest snapshot, as the holder of the lease knows; nil if it does not
}

// published is what publishAgain has published last.
type published struct {
	of   string           // the stream, and the state
	last journal.Position // in the stream
}

// Join connects to NATS, makes the stream if there is none, and opens the journal. If the stream no longer has what the
// journal needs next, it replaces the journal's state with the newest snapshot. It tries again until it succeeds, unless
// the error can't go away by itself.
//
// If the server can't join at once, but has state of the stream, Join returns with that: [Member.Run] joins later. It does
// not if that state must be replaced, which only Join can do.
func Join(ctx context.Context, o MemberOptions) (*Member, error) {
	m := &Member{MemberOptions: o, started: time.Now(), joined: make(chan struct{}), signIns: NewSignIns(nil, o.Logger)}
	for logged := ""; ; {
		err := m.join(ctx)
		if err == nil {
			close(m.joined)
			return m, nil
		}
		m.leave()
		var fatal *fatalError
		if errors.As(err, &fatal) || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		if text := err.Error(); text != logged {
			logged = text
			o.Logger.Warn(cannotJoin, "error", text)
		}
		if _, replacing := errors.AsType[*replaceError](err); !replacing {
			if served, err := m.openState(); served || err != nil {
				return m, err
			}
		}
		sleep(ctx, joinPause)
	}
}

const cannotJoin = "the server can't join its cluster yet: it tries again"

// openState opens the journal, and reports whether it has state of a stream, which the server can serve until it joins.
func (m *Member) openState() (bool, error) {
	var err error
	if m.Journal, err = m.Open(); err != nil {
		return false, err
	}
	_, known := m.Journal.Position()
	own, err := lineageIn(m.Journal)
	if m.id = own.newest(); err == nil && known && m.id != unknownStream {
		return true, nil
	}
	m.leave()
	return false, nil
}

// isJoined reports whether the server has joined.
func (m *Member) isJoined() bool {
	select {
	case <-m.joined:
		return true
	default:
		return false
	}
}

// joinLater joins while the server serves the state that it has. It returns nil if the server goes on with that state, or if
// ctx is done. Otherwise the server must start again.
func (m *Member) joinLater(ctx context.Context) error {
	for logged := ""; !m.isJoined() && ctx.Err() == nil; sleep(ctx, joinPause) {
		err := m.joinAs(ctx)
		var again *startAgainError
		if errors.As(err, &again) {
			return err
		}
		if err == nil {
			m.shared.join(m.logOptions(nil, nil, nil))
			close(m.joined)
			m.Logger.Info("joined the cluster", "stream", m.Settings.Stream, "messages", m.stream.CachedInfo().State.Msgs)
			return nil
		}
		if m.conn != nil {
			m.conn.Close()
			m.conn = nil
		}
		if text := err.Error(); text != logged && ctx.Err() == nil {
			logged = text
			m.Logger.Warn(cannotJoin, "error", text)
		}
	}
	return nil
}

// startAgainError means that the server can't go on with the state that it serves.
type startAgainError struct{ error }

// joinAs is one attempt to join with the state that the server serves.
func (m *Member) joinAs(ctx context.Context) error {
	at, _ := m.Journal.Position()
	if _, err := m.connect(ctx, at, true); err != nil {
		return err
	}
	goOn, _, err := m.rejoin(ctx, at)
	if err != nil {
		return err
	}
	if !goOn { // only a start replaces the state; it must be able to
		if _, _, err := m.startable(ctx); err != nil {
			return err
		}
	}
	if id := streamID(m.stream.CachedInfo().Created); !goOn || id != m.id {
		return &startAgainError{fmt.Errorf("%w: the stream is %s, and the state of this server is of %s", ErrDiverged, id, m.id)}
	}
	return m.writeMissingSnapshot(ctx)
}

// replaceError means that the state of the server must be replaced, and could not be.
type replaceError struct{ error }

// Unwrap returns the underlying error.
func (e *replaceError) Unwrap() error { return e.error }

// fatalError is an error that does not go away by itself.
type fatalError struct{ error }

// Unwrap returns the underlying error.
func (e *fatalError) Unwrap() error { return e.error }

// leave undoes an attempt to join.
func (m *Member) leave() {
	if m.Journal != nil {
		m.Journal.Close() //nolint:errcheck // nothing was written that is not in the stream
		m.Journal = nil
	}
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// join is one attempt to join.
func (m *Member) join(ctx context.Context) (err error) {
	if m.Journal, err = m.Open(); err != nil {
		return &fatalError{err}
	}
	at, known := m.Journal.Position()
	alone := !known && m.Journal.LastSequence() > 0
	beginning, err := m.connect(ctx, at, known)
	if err != nil {
		return err
	}
	m.id = streamID(m.stream.CachedInfo().Created)
	switch {
	case alone:
		err = m.seed(ctx, beginning.First)
	case known:
		err = m.resume(ctx, at)
	case m.stream.CachedInfo().State.FirstSeq > 1:
		err = m.startAnew(ctx, nil)
	}
	if err == nil {
		err = m.adopt(ctx)
	}
	if err == nil {
		m.Logger.Info("joined the cluster", "stream", m.Settings.Stream, "messages", m.stream.CachedInfo().State.Msgs)
	}
	return err
}

// connect connects to NATS, makes what is missing there, and opens it. It returns how the stream begins if it has made it.
func (m *Member) connect(ctx context.Context, at journal.Position, known bool) (b Beginning, err error) {
	if m.conn, err = Connect(ctx, m.Settings, m.Logger); err != nil {
		return b, err
	}
	if b, err = m.beginning(at, known); err != nil {
		return b, err
	}
	if m.stream, err = m.conn.Ensure(ctx, b); err != nil {
		return b, err
	}
	if err := m.conn.CheckNodes(ctx, m.stream); err != nil {
		return b, err
	}
	return b, m.openBuckets(ctx)
}

// beginning returns how the stream begins if this server makes it. If the server has state of a former stream, the new one
// continues that: it begins beyond all that the server has applied.
func (m *Member) beginning(at journal.Position, known bool) (Beginning, error) {
	last := m.Journal.LastSequence()
	switch {
	case known:
		own, err := lineageIn(m.Journal)
		return Beginning{First: firstAfter(m.Journal, at), State: own.endingAt(at).String()}, err
	case last > 0:
		return Beginning{First: journal.FirstMessageAfter(last)}, nil
	}
	return Beginning{First: 1}, nil
}

// resume goes on with the state of the journal, which is that of a position, or starts from another one.
func (m *Member) resume(ctx context.Context, at journal.Position) error {
	goOn, lost, err := m.rejoin(ctx, at)
	switch {
	case err != nil:
		return err
	case goOn:
		return m.writeMissingSnapshot(ctx)
	}
	return m.startAnew(ctx, lost)
}

// openBuckets opens the buckets beside the stream.
func (m *Member) openBuckets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	js := m.conn.JetStream()
	leases, err := js.KeyValue(ctx, m.Settings.LeasesBucket())
	if err != nil {
		return err
	}
	servers, err := js.KeyValue(ctx, m.Settings.ServersBucket())
	if err != nil {
		return err
	}
	signIns, err := js.KeyValue(ctx, m.Settings.SignInsBucket())
	if err != nil {
		return err
	}
	snapshots, err := js.ObjectStore(ctx, m.Settings.SnapshotsBucket())
	if err != nil {
		return err
	}
	chunks, err := js.Stream(ctx, "OBJ_"+m.Settings.SnapshotsBucket())
	if err != nil {
		return err
	}
	m.lease = NewLease(leases, m.Server, m.term, m.Logger)
	m.presence = NewPresence(servers, m.self, m.Logger)
	m.snapshots = NewSnapshots(snapshots, chunks, m.Logger)
	m.signIns.open(signIns)
	m.conn.OnReconnect(func() {
		m.presence.Reconnected()
		m.signIns.Reconnected()
	})
	return nil
}

// term returns the number of the lease whose holder began last, as far as this server has applied the stream.
func (m *Member) term() (uint64, error) {
	value, err := m.Journal.Note(journal.TermKey)
	if value == nil || err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(value), 10, 64)
}

// seed makes the state of a server that was alone the beginning of an empty stream, whose first message has the given
// sequence.
func (m *Member) seed(ctx context.Context, first uint64) error {
	other := &fatalError{fmt.Errorf("DATA_DIR %s holds state that the NATS stream %s does not have: move the directory away to join, "+
		"or set NATS_STREAM to a new name to begin a cluster with this state", m.DataDir, m.Settings.Stream)}
	begun, err := m.hasBegun(ctx, first)
	if err != nil {
		return err
	}
	if !begun {
		if err := m.publishFirst(ctx, first, other); err != nil {
			return err
		}
	}
	info, err := m.requester().info(ctx)
	if err != nil {
		return err
	}
	stream, err := lineageOf(info)
	if err != nil {
		return err
	}
	begin, err := m.requester().get(ctx, first)
	if err != nil {
		return err
	}
	if err := m.beginAt(journal.Position{Sequence: first - 1, ID: newID(), Time: begin.at.Time}, stream); err != nil {
		return err
	}
	m.Logger.Info("the state of this server is the beginning of the stream", "stream", m.Settings.Stream, "first_message", first)
	return m.writeMissingSnapshot(ctx)
}

// writeMissingSnapshot writes a snapshot if new servers need one, and there is none.
func (m *Member) writeMissingSnapshot(ctx context.Context) error {
	usable, info, err := m.usable(ctx)
	if err != nil || len(usable) > 0 || info.State.FirstSeq <= 1 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	_, err = m.writeSnapshot(ctx)
	return err
}

// hasBegun reports whether the stream has nothing but the message with which this server has begun to make its state the
// beginning of the stream, before it was stopped, or did not get the answer.
func (m *Member) hasBegun(ctx context.Context, first uint64) (bool, error) {
	info, err := m.requester().info(ctx)
	if err != nil || info.State.Msgs != 1 || info.State.LastSeq != first {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	msg, err := m.stream.GetMsg(ctx, first)
	if err != nil {
		return false, err
	}
	message, err := journal.DecodeMessage(string(msg.Data), m.Encoding)
	return err == nil && message.Server == m.Server && message.Lease == 0 && message.IsEmpty(), nil
}

// publishFirst publishes the first message of a stream, which must get the given sequence. If the stream has others, the
// error is other.
func (m *Member) publishFirst(ctx context.Context, first uint64, other error) error {
	state := m.stream.CachedInfo().State
	if state.LastSeq != 0 && state.LastSeq != first-1 || state.Msgs > 0 {
		return other
	}
	text := (&journal.Message{Server: m.Server}).Encode(m.version())
	sequence, err := m.requester().attempt(ctx, text, newID(), jetstream.WithExpectLastSequence(state.LastSeq))
	if err != nil {
		return err // if another server was faster, the next attempt to join finds its message
	}
	if sequence != first {
		return &fatalError{fmt.Errorf("the NATS stream %s begins at %d, and this server needs one that begins at %d: "+
			"set NATS_STREAM to a new name", m.Settings.Stream, sequence, first)}
	}
	return nil
}

// startAnew replaces the journal's state with the newest snapshot from which the stream goes on or, if there is none and
// the stream still has all messages, with nothing. Before that, it publishes again what only this server has.
func (m *Member) startAnew(ctx context.Context, lost []journal.Applied) error {
	snapshots, info, err := m.startable(ctx)
	if err != nil {
		return err
	}
	if err := m.publishAgain(ctx, lost); err != nil {
		return &replaceError{err}
	}
	if err := m.replaceState(ctx, snapshots, info); err != nil {
		return &replaceError{err}
	}
	return nil
}

// publishAgain publishes messages again that only this server has, unless an earlier attempt to join has, and the stream
// still has the last of them.
func (m *Member) publishAgain(ctx context.Context, lost []journal.Applied) error {
	at, _ := m.Journal.Position()
	of := fmt.Sprint(m.id, " ", at.Sequence, " ", at.ID)
	if of == m.published.of {
		if has, err := m.requester().has(ctx, m.published.last); has || err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
	}
	last, err := m.requester().publishAgain(ctx, lost)
	if err == nil && len(lost) > 0 {
		m.published = published{of, last}
	}
	return err
}

// replaceState is startAnew once what only this server has is in the stream.
func (m *Member) replaceState(ctx context.Context, snapshots []Snapshot, info *jetstream.StreamInfo) (err error) {
	if err := m.Journal.Close(); err != nil {
		return err
	}
	m.Journal = nil
	for _, snapshot := range snapshots {
		m.Logger.Info("starting from a snapshot", "position", snapshot.Position.String(), "bytes", snapshot.Size)
		if err := m.snapshots.Restore(ctx, snapshot, m.DataDir); err != nil {
			return err
		}
		if m.Journal, err = m.Open(); err != nil {
			return &fatalError{err}
		}
		at, _ := m.Journal.Position() // it may be later than what the snapshot is named for
		same, err := m.goesOnFrom(ctx, Position{at.Sequence, at.ID}, info)
		if same || err != nil {
			return err
		}
		if err := m.Journal.Close(); err != nil {
			return err
		}
		m.Journal = nil
	}
	if info.State.FirstSeq > 1 {
		return m.errNoSnapshot(info)
	}
	if err := datadir.Replace(m.DataDir, journal.Lock, func(string) error { return nil }); err != nil {
		return err
	}
	if m.Journal, err = m.Open(); err != nil {
		return &fatalError{err}
	}
	return nil
}

// startable returns the snapshots from which a server can start, with what the stream says of itself. The error says that
// there must be one, and is none.
func (m *Member) startable(ctx context.Context) ([]Snapshot, *jetstream.StreamInfo, error) {
	snapshots, info, err := m.usable(ctx)
	if err == nil && len(snapshots) == 0 && info.State.FirstSeq > 1 {
		err = m.errNoSnapshot(info)
	}
	return snapshots, info, err
}

func (m *Member) errNoSnapshot(info *jetstream.StreamInfo) error {
	return fmt.Errorf("the NATS stream %s begins at %d, and there is no snapshot of what was before: another server must write one",
		m.Settings.Stream, info.State.FirstSeq)
}

// usable returns the snapshots from which the stream goes on, the one with the highest position first. After the stream
// has lost messages, there may be others.
func (m *Member) usable(ctx context.Context) ([]Snapshot, *jetstream.StreamInfo, error) {
	all, err := m.snapshots.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	info, err := m.requester().info(ctx)
	if err != nil {
		return nil, nil, err
	}
	var usable []Snapshot
	for _, snapshot := range all {
		same, err := m.goesOnFrom(ctx, snapshot.Position, info)
		if err != nil {
			return nil, nil, err
		}
		if same {
			usable = append(usable, snapshot)
		}
	}
	return usable, info, nil
}

// goesOnFrom reports whether the stream has the message at a position, and those after it.
func (m *Member) goesOnFrom(ctx context.Context, at Position, info *jetstream.StreamInfo) (bool, error) {
	if at.Sequence+1 < info.State.FirstSeq || at.Sequence > info.State.LastSeq {
		return false, nil
	}
	return m.requester().has(ctx, journal.Position{Sequence: at.Sequence, ID: at.ID})
}

// writeSnapshot writes a snapshot of the journal.
func (m *Member) writeSnapshot(ctx context.Context) (Snapshot, error) {
	at, _ := m.Journal.Position()
	return m.snapshots.Write(ctx, Position{at.Sequence, at.ID}, func(w io.Writer) error {
		return m.Journal.SendBackup(func() io.Writer { return w })
	})
}

// StreamID identifies the stream, among all that ever had its name, of which the journal's state is.
func (m *Member) StreamID() string { return m.id }

// SignIns returns where the servers share sign-ins.
func (m *Member) SignIns() *SignIns { return m.signIns }

// Log returns the log that the servers share, for the store into which the journal has been or will be read. notes is
// called when notes were applied. It must be called once.
func (m *Member) Log(st *store.Store, registry *metrics.Metrics, notes func([]journal.Note)) *Log {
	m.shared = NewLog(m.logOptions(st, registry, notes))
	m.shared.progress.set(&m.shared.progress.settings, comparing)
	if value, err := m.Journal.Note(journal.SettingsKey); err == nil { // else the journal can't be read into the store either
		m.putIntoEffect(st, value)
	}
	if !m.isJoined() {
		m.shared.progress.set(&m.shared.progress.away, notJoined)
	}
	registry.AddCluster(m.measure)
	return m.shared
}

// notJoined is why a server that has not joined is not ready.
const notJoined = "the server can't join its cluster yet: NATS can't be reached, or its log says what else is in the way"

func (m *Member) logOptions(st *store.Store, registry *metrics.Metrics, notes func([]journal.Note)) LogOptions {
	var js jetstream.JetStream
	if m.conn != nil {
		js = m.conn.JetStream()
	}
	return LogOptions{
		JetStream: js, Stream: m.Settings.Stream, StreamID: m.id, Subject: m.Settings.Subject(), Server: m.Server,
		Encoding: m.Encoding, Writes: m.version,
		Store: st, Journal: m.Journal, Metrics: registry, Logger: m.Logger, Stale: m.Stale, Notes: notes,
		Settings: func(value []byte) { m.putIntoEffect(st, value) },
		Leads:    m.holdsLease,
	}
}

func (m *Member) holdsLease() bool {
	if !m.isJoined() {
		return false
	}
	_, held := m.lease.Held()
	return held
}

// requester returns a log that only makes requests to the stream. It can be used before [Member.Log] is called.
func (m *Member) requester() *Log {
	o := m.logOptions(nil, nil, nil)
	o.StreamID = streamID(m.stream.CachedInfo().Created)
	return &Log{LogOptions: o}
}

// version returns the version of messages that this server writes: one that all servers read, or the lowest one as long
// as it does not know the others.
func (m *Member) version() int {
	if version, known := m.presence.LowestEncoding(); known {
		return max(version, journal.FirstMessageVersion)
	}
	return journal.FirstMessageVersion
}

// Broadcast sends all servers something that soon no longer matters, such as that a person looks at a page. It is not
// stored, and is lost if NATS can't be reached. Broadcast does not wait.
func (m *Member) Broadcast(text []byte) {
	if !m.isJoined() {
		return
	}
	m.conn.NATS().Publish(m.Settings.BroadcastSubject(), text) //nolint:errcheck // see above
}

// OnBroadcast calls receive with what other servers, and this one, broadcast from now on. The server must have caught up.
func (m *Member) OnBroadcast(receive func(text []byte)) error {
	_, err := m.conn.NATS().Subscribe(m.Settings.BroadcastSubject(), func(msg *nats.Msg) { receive(msg.Data) })
	return err
}

// Run joins if the server has not, applies the messages of the stream, and does what the holder of the lease does while this server holds it, until
// ctx is done. Then it returns nil. Another error means that the server must be started again. lead is called when this
// server begins to hold the lease; its context ends with that.
func (m *Member) Run(ctx context.Context, known *access.SignIns, lead func(ctx context.Context, box *Box)) error {
	if err := m.joinLater(ctx); err != nil || !m.isJoined() {
		m.shared.end()
		if m.conn != nil {
			m.conn.Close()
		}
		return err
	}
	var running sync.WaitGroup
	defer m.conn.Close()
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() { m.presence.Run(ctx) })
	running.Go(func() { m.keepBuckets(ctx) })
	if known != nil {
		running.Go(func() { m.signIns.Run(ctx, known) })
	}
	applying, stopApplying := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() {
		defer stopApplying() // only now: what the holder of the lease writes at its end is applied, too
		for ctx.Err() == nil && !m.shared.progress.caughtUp() {
			sleep(ctx, 10*time.Millisecond)
		}
		if m.agree(ctx); ctx.Err() == nil {
			m.lease.Run(ctx, func(ctx context.Context, number uint64) { m.lead(ctx, number, lead) })
		}
	})
	return m.shared.Run(applying)
}

// keepBuckets makes buckets again that NATS has lost, until ctx is done.
func (m *Member) keepBuckets(ctx context.Context) {
	known := ""
	for ; ctx.Err() == nil; sleep(ctx, bucketsPause) {
		asking, cancel := context.WithTimeout(ctx, setupTimeout)
		ids, err := m.conn.EnsureBuckets(asking)
		cancel()
		if err != nil {
			continue // if NATS is away, others say so
		}
		if known != "" && known != ids {
			m.Logger.Error("NATS has lost buckets, which were made again: people may have to sign in again")
			m.presence.Reconnected()
			m.signIns.Reconnected()
		}
		known = ids
	}
}

// AwaitCaughtUp returns nil once this server has caught up with the stream, or the error of ctx.
func (m *Member) AwaitCaughtUp(ctx context.Context) error {
	for ctx.Err() == nil && !m.shared.State().Caught {
		sleep(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

// lead does what the holder of the lease does.
func (m *Member) lead(ctx context.Context, number uint64, lead func(ctx context.Context, box *Box)) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() {
		defer stop()
		m.awaitUnable(ctx)
	})
	// From here on, what former holders publish has no effect, and everything that had one is applied here.
	for {
		_, err := m.shared.publish(ctx, &journal.Message{Lease: number})
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, ErrFenced) {
			return
		}
		sleep(ctx, attemptPause)
	}
	m.Logger.Info("this server acts for its cluster", "lease", number)
	running.Go(func() { m.tick(ctx, number) })
	running.Go(func() {
		m.keepSnapshots(ctx)
		m.newest.Store(nil)
	})
	lead(ctx, m.shared.Box(number))
}

// awaitUnable returns once this server has been unable to publish for a while, for example because its journal can't be
// written, or when ctx is done.
func (m *Member) awaitUnable(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for able := time.Now(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := m.shared.Failure()
		switch {
		case err == nil:
			able = time.Now()
		case time.Since(able) >= unableFor:
			m.Logger.Warn("this server lets another one act for its cluster", "cause", err.Error())
			return
		}
	}
}

// tick publishes the time in quiet, and which sessions to evict.
func (m *Member) tick(ctx context.Context, number uint64) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		message := &journal.Message{Lease: number, Evicted: fitting(m.shared.Store.Overflow(evictLimit))}
		if len(message.Evicted) == 0 && m.shared.progress.quiet() < tickEvery {
			continue
		}
		if _, err := m.shared.publish(ctx, message); errors.Is(err, ErrFenced) {
			return
		}
	}
}

// keepSnapshots writes snapshots when enough is new, and trims the stream up to the oldest one.
func (m *Member) keepSnapshots(ctx context.Context) {
	for pause := firstSnapshot; ctx.Err() == nil; pause = snapshotPause {
		sleep(ctx, pause)
		if err := m.keepSnapshot(ctx); err != nil && ctx.Err() == nil {
			m.shared.Metrics.CountSnapshotFailure()
			m.Logger.Warn("no snapshot could be written, or the stream could not be trimmed", "error", err.Error())
		}
	}
}

func (m *Member) keepSnapshot(ctx context.Context) error {
	usable, info, err := m.usable(ctx)
	if err != nil {
		return err
	}
	missing := len(usable) == 0 && info.State.FirstSeq > 1
	var newest Snapshot
	if len(usable) > 0 {
		newest = usable[0]
	}
	at, _ := m.Journal.Position()
	m.newest.Store(&newest)
	behind := at.Sequence - min(at.Sequence, newest.Position.Sequence)
	if !missing && !needsSnapshot(behind, info.State.Bytes/max(1, info.State.Msgs), m.Now().Sub(newest.Written)) {
		return nil
	}
	if _, err = m.Snapshot(ctx); errors.Is(err, ErrSnapshotUnderWay) {
		return nil
	}
	return err
}

// needsSnapshot reports whether a snapshot is to be written: with this many messages since the last one, of a size in
// bytes, and after this time.
func needsSnapshot(messages, size uint64, since time.Duration) bool {
	return messages >= snapshotEvery || messages*size >= snapshotBytes || messages >= snapshotEvery/100 && since >= snapshotAfter
}

// ErrSnapshotUnderWay means that the server is writing a snapshot already.
var ErrSnapshotUnderWay = errors.New("the server is writing a snapshot already")

// Snapshot writes a snapshot of this server's state, and trims the stream up to the oldest one that is kept. The error is
// ErrSnapshotUnderWay, a *[journal.Failure] or a *[recorder.Unavailable].
func (m *Member) Snapshot(ctx context.Context) (Snapshot, error) {
	if !m.writing.TryLock() {
		return Snapshot{}, ErrSnapshotUnderWay
	}
	defer m.writing.Unlock()
	if err := m.shared.Failure(); err != nil {
		return Snapshot{}, err
	}
	written, err := m.writeAndTrim(ctx)
	if failure, ok := errors.AsType[*journal.Failure](err); ok {
		return Snapshot{}, failure
	}
	if err != nil {
		return Snapshot{}, &recorder.Unavailable{Cause: "no snapshot could be written, or the stream could not be trimmed: " + failureOf(err).cause, Err: err}
	}
	return written, nil
}

func (m *Member) writeAndTrim(ctx context.Context) (Snapshot, error) {
	written, err := m.writeSnapshot(ctx)
	if err != nil {
		return written, err
	}
	usable, _, err := m.usable(ctx)
	if err != nil || len(usable) == 0 {
		return written, err
	}
	m.newest.Store(&usable[0])
	return written, m.stream.Purge(ctx, jetstream.WithPurgeSequence(usable[len(usable)-1].Position.Sequence))
}

// self returns what the other servers learn of this one.
func (m *Member) self() Server {
	s := Server{Name: m.Server, Version: m.Version, Encoding: m.Encoding, Address: m.Address, Started: m.started}
	if m.shared != nil {
		s.Position = m.shared.State().Position.String()
	}
	return s
}

// Box returns a box for all servers.
func (m *Member) Box() *Box { return m.shared.Box(0) }

// State returns how far this server is with the stream.
func (m *Member) State() State {
	s := m.shared.State()
	if !m.isJoined() {
		s.Servers = []string{m.Server}
		return s
	}
	s.LeaseHolder = m.lease.Holder()
	for _, server := range m.presence.Servers() {
		s.Servers = append(s.Servers, server.Name)
	}
	return s
}

// Await is [Log.Await].
func (m *Member) Await(ctx context.Context, p Position) error { return m.shared.Await(ctx, p) }

// CatchUp is [Log.CatchUp]. Before the server has joined, the stream can't be asked.
func (m *Member) CatchUp(ctx context.Context) error {
	if !m.isJoined() {
		return errors.New(notJoined)
	}
	return m.shared.CatchUp(ctx)
}

// Now returns the time of the stream.
func (m *Member) Now() time.Time { return m.shared.Now() }

// LeaseHolder returns the name of the server that acts for the cluster, "" if it is not known.
func (m *Member) LeaseHolder() string { return m.State().LeaseHolder }
