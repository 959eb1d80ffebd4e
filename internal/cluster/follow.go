package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/journal"
)

const (
	// Messages are read ahead of those that are applied.
	readAhead     = 256     // messages
	readAheadSize = 4 << 20 // bytes that are asked for at once

	missingAttempts = 20 // to read a message that a node does not have from another one

	heartbeat   = time.Second            // at which the stream says that it is there
	followPause = 100 * time.Millisecond // before a reader begins anew

	consumerTimeout = 2 * time.Second  // for making a consumer
	abandonedAfter  = 15 * time.Second // after which NATS removes a consumer that a reader has left

	confirmEvery = time.Second     // the stream is asked how far it is, if it says nothing
	freshFor     = 3 * time.Second // how long answers count as current without news
)

var (
	// ErrTrimmed means that the stream no longer has the messages that the server needs: it must start again from a
	// snapshot.
	ErrTrimmed = errors.New("the stream no longer has the messages that this server needs next")
	// ErrDiverged means that the stream does not have a message that the server has applied: it must start again, to
	// publish again what the stream has lost.
	ErrDiverged = errors.New("the stream has lost messages that this server has applied")
	// ErrGone means that there is no stream any more: the server must start again, to make it.
	ErrGone = errors.New("NATS has lost the stream")
)

// goneAfter is how often in a row NATS must say that there is no stream.
const goneAfter = 5

// incoming is a message of the stream that was read and decoded.
type incoming struct {
	at      journal.Position
	message *journal.Message
	pending uint64 // messages in the stream after it
	err     error  // why it can't be decoded
	foreign bool   // no server of the cluster has published it

	delivered uint64 // messages that the consumer has sent, with this one
}

// Run applies the messages of the stream, in their order, until ctx is done. Then it returns nil. It returns ErrTrimmed,
// ErrDiverged or ErrGone if the server must start again, and another error if the journal is closed. It must be called once.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.stopped)
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	messages := make(chan incoming, readAhead)
	running.Go(func() { l.read(ctx, stop, messages) })
	running.Go(func() { l.watch(ctx, stop) })
	for {
		select {
		case in := <-messages:
			if err := l.apply(ctx, in); err != nil {
				return ended(ctx, err)
			}
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		}
	}
}

// join makes l one that can be run, with what the options say about the stream.
func (l *Log) join(o LogOptions) {
	l.JetStream, l.StreamID = o.JetStream, o.StreamID
	l.progress.set(&l.progress.away, "")
}

// end is called in the place of Run if the server ends before it can apply anything.
func (l *Log) end() { close(l.stopped) }

// ended returns what Run returns once messages can't be applied any more because of err.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return nil
	}
	return cause
}

// apply applies a message, and gives its result to the call that published it.
func (l *Log) apply(ctx context.Context, in incoming) error {
	if in.err != nil {
		l.halt(ctx, in)
		return ctx.Err()
	}
	l.noteForeign(in)
	result, err := l.applier.Apply(ctx, in.message, in.at)
	if err != nil {
		return err
	}
	l.progress.advance(l.applier.At(), in.at.Sequence+in.pending)
	l.mu.Lock()
	p := l.waiting[in.at.ID]
	delete(l.waiting, in.at.ID) // a message ID that stands twice in the stream is answered once
	l.mu.Unlock()
	if p != nil && in.message.Server == l.Server {
		p.result, p.applied = result, time.Now()
		close(p.done)
	}
	return nil
}

// noteForeign logs the first of several messages in a row that no server of the cluster has published.
func (l *Log) noteForeign(in incoming) {
	if in.foreign && !l.foreign {
		l.Logger.Error("somebody else publishes to the stream, which has no effect: let only the servers publish to its subject",
			"subject", l.Subject, "message", in.at.Sequence)
	}
	l.foreign = in.foreign
}

// halt stops applying messages, because of one that can't be decoded. Reads go on.
func (l *Log) halt(ctx context.Context, in incoming) {
	cause := "a message of the stream can't be read; the log has the error"
	var version *journal.VersionError
	if errors.As(in.err, &version) {
		cause = "another server writes messages that this version of the program does not know: run the version that it runs"
	}
	l.progress.set(&l.progress.halted, cause)
	l.Logger.Error("no more messages are applied", "cause", cause, "message", in.at.Sequence, "error", in.err.Error())
	<-ctx.Done()
}

// read reads messages from the stream until ctx is done, again and again if the stream can't be read. If the stream no
// longer has the next message, or is another one, it calls stop.
func (l *Log) read(ctx context.Context, stop context.CancelCauseFunc, messages chan<- incoming) {
	next := nextAfter(l.applier.At())
	for ctx.Err() == nil {
		err := l.readFrom(ctx, &next, messages)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrTrimmed), errors.Is(err, ErrDiverged):
			stop(err)
		case err != nil:
			l.Logger.Debug("the stream can't be read", "error", err.Error())
		}
		sleep(ctx, followPause)
	}
}

// nextAfter returns the sequence of the message to read next: one that was applied in part is read again.
func nextAfter(at journal.Position) uint64 {
	if at.Partial() {
		return at.Sequence
	}
	return at.Sequence + 1
}

// readFrom reads messages beginning with *next, and keeps that up to date. It returns an error when the consumer is
// silent: its node may be down, and the next consumer is then on another one. The library's ordered consumer would make
// the next one by itself, but it waits up to 10 seconds for a node that will never answer.
func (l *Log) readFrom(ctx context.Context, next *uint64, messages chan<- incoming) error {
	asking, done := context.WithTimeout(ctx, consumerTimeout)
	defer done()
	consumer, err := l.JetStream.CreateConsumer(asking, l.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *next, AckPolicy: jetstream.AckNonePolicy,
		Replicas: 1, MemoryStorage: true, InactiveThreshold: abandonedAfter,
	})
	if err != nil {
		return err
	}
	if _, err := l.info(asking); err != nil { // a consumer stays with its stream
		return err
	}
	iterator, err := consumer.Messages(jetstream.PullMaxBytes(readAheadSize), jetstream.PullHeartbeat(heartbeat),
		jetstream.PullExpiry(30*time.Second), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer iterator.Stop()
	defer context.AfterFunc(ctx, iterator.Stop)()
	for received := uint64(0); ; received++ {
		msg, err := iterator.Next()
		if err != nil {
			return err
		}
		in, err := l.decode(msg)
		if err != nil {
			return err
		}
		switch {
		case in.at.Sequence < *next:
			continue
		case in.delivered > received+1: // messages before it were lost on the way
			return fmt.Errorf("message %d arrived instead of %d", in.at.Sequence, *next)
		}
		for first := *next; in.at.Sequence > *next; {
			missing, err := l.missing(ctx, *next)
			if err != nil {
				return err
			}
			if *next == first {
				l.Logger.Error("a NATS node does not have messages that others have: its store is damaged, see the manual",
					"node", nodeOf(consumer), "first", first, "last", in.at.Sequence-1)
			}
			missing.pending = in.pending + in.at.Sequence - *next
			if err := pass(ctx, missing, next, messages); err != nil {
				return err
			}
		}
		if err := pass(ctx, in, next, messages); err != nil {
			return err
		}
	}
}

// pass lets the next message be applied.
func pass(ctx context.Context, in incoming, next *uint64, messages chan<- incoming) error {
	select {
	case messages <- in:
		*next++
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// missing returns a message that the node of the consumer does not have. If its store is damaged, that node leaves the
// message out without a word, and other nodes may have it. Any node may answer a request, so missing asks repeatedly. If
// no node has the message, the server applies nothing more until one has. If it was trimmed, missing returns ErrTrimmed.
func (l *Log) missing(ctx context.Context, sequence uint64) (in incoming, err error) {
	info, err := l.info(ctx)
	if err != nil {
		return in, err
	}
	if first := info.State.FirstSeq; sequence < first {
		return in, fmt.Errorf("%w: it begins at %d, and %d is needed", ErrTrimmed, first, sequence)
	}
	for range missingAttempts {
		if in, err = l.get(ctx, sequence); err == nil || ctx.Err() != nil {
			return in, err
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		l.progress.set(&l.progress.lacks, fmt.Sprintf("no NATS node has message %d of the stream, which this server needs next", sequence))
	}
	return in, err
}

// nodeOf returns the node that a consumer reads from, "" if NATS is a single node.
func nodeOf(consumer jetstream.Consumer) string {
	if cluster := consumer.CachedInfo().Cluster; cluster != nil {
		return cluster.Leader
	}
	return ""
}

// get reads one message of the stream, from any of its nodes.
func (l *Log) get(ctx context.Context, sequence uint64) (incoming, error) {
	ctx, done := context.WithTimeout(ctx, attemptTimeout)
	defer done()
	stream, err := l.JetStream.Stream(ctx, l.Stream)
	if err != nil {
		return incoming{}, err
	}
	msg, err := stream.GetMsg(ctx, sequence)
	if err != nil {
		return incoming{}, err
	}
	return l.incoming(journal.Position{Sequence: msg.Sequence, ID: idOf(msg.Header), Time: msg.Time.UTC()}, msg.Data), nil
}

// decode decodes a message of the stream.
func (l *Log) decode(msg jetstream.Msg) (in incoming, err error) {
	meta, err := msg.Metadata()
	if err != nil {
		return in, err
	}
	in = l.incoming(journal.Position{Sequence: meta.Sequence.Stream, ID: idOf(msg.Headers()), Time: meta.Timestamp.UTC()}, msg.Data())
	in.pending, in.delivered = meta.NumPending, meta.Sequence.Consumer
	return in, nil
}

// incoming decodes the message at a position of the stream.
func (l *Log) incoming(at journal.Position, data []byte) (in incoming) {
	in.at = at
	if in.foreign = at.ID == noID; in.foreign {
		in.message = &journal.Message{} // which says only what time it is
		return in
	}
	in.message, in.err = journal.DecodeMessage(string(data), l.Encoding)
	return in
}

// noID is the ID in the position of a message without one. Servers publish none without.
const noID = "none"

// idOf returns the ID of a message with these headers.
func idOf(headers nats.Header) string { return cmp.Or(headers.Get(jetstream.MsgIDHeader), noID) }

// watch keeps finding out how far the stream is while no messages arrive, and that it still has the last one that was
// applied, until ctx is done. If it does not, or if there is no stream, watch calls stop.
func (l *Log) watch(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(confirmEvery)
	defer tick.Stop()
	var checked uint64 // sequence of the last message that the stream was found to have
	missing := 0       // how often in a row there was no stream
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := l.check(ctx, &checked)
		if missing++; !errors.Is(err, jetstream.ErrStreamNotFound) {
			missing = 0
		}
		switch {
		case errors.Is(err, ErrDiverged):
			stop(err)
			return
		case missing == goneAfter:
			stop(ErrGone)
			return
		case err != nil && ctx.Err() == nil:
			l.progress.set(&l.progress.away, failureOf(err).cause)
		}
	}
}

// check asks the stream how far it is, and whether it has the last message that was applied. If not, it returns
// ErrDiverged.
func (l *Log) check(ctx context.Context, checked *uint64) error {
	asked, at := time.Now(), l.progress.position() // before the stream answers, since messages are applied meanwhile
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	missing := at.Sequence > info.State.LastSeq
	if !missing && at.Sequence > *checked {
		same, err := l.has(ctx, at)
		switch {
		case err != nil: // it is asked again
		case same:
			*checked = at.Sequence
		default:
			missing = true
		}
	}
	if !missing {
		l.progress.confirm(info.State.LastSeq, asked, info.TimeStamp)
		return nil
	}
	lost, err := l.lost(ctx, at)
	if lost {
		return fmt.Errorf("%w: it does not have the message at %d", ErrDiverged, at.Sequence)
	}
	return err
}

// lost reports whether the stream has lost a message that the server has applied. What a leader says about the stream
// does not prove that: another one may have taken its place, which it learns later. So lost publishes a message, which
// most of the nodes must agree to.
func (l *Log) lost(ctx context.Context, at journal.Position) (bool, error) {
	ctx, done := context.WithTimeout(ctx, publishTimeout)
	defer done()
	last, err := l.send(ctx, (&journal.Message{Server: l.Server}).Encode(l.version()), newID())
	if err != nil || last <= at.Sequence {
		return err == nil, err
	}
	same, err := l.has(ctx, at)
	return err == nil && !same, err
}

// info asks the leader of the stream about it. If it is another stream of the same name, the error is ErrDiverged.
func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, done := context.WithTimeout(ctx, attemptTimeout)
	defer done()
	stream, err := l.JetStream.Stream(ctx, l.Stream)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if id := streamID(info.Created); l.StreamID != "" && id != l.StreamID {
		return nil, fmt.Errorf("%w: it is another one, which was made at %s", ErrDiverged, info.Created.UTC().Format(time.RFC3339))
	}
	l.progress.noteSize(info.State.Msgs, info.State.Bytes)
	return info, nil
}

// has reports whether the stream has a message at its position. It returns true for one that was trimmed.
func (l *Log) has(ctx context.Context, at journal.Position) (bool, error) {
	ctx, done := context.WithTimeout(ctx, attemptTimeout)
	defer done()
	stream, err := l.JetStream.Stream(ctx, l.Stream)
	if err != nil {
		return false, err
	}
	if at.Sequence < stream.CachedInfo().State.FirstSeq {
		return true, nil
	}
	msg, err := stream.GetMsg(ctx, at.Sequence)
	if err != nil {
		return false, err
	}
	return idOf(msg.Header) == at.ID, nil
}

// noteTrouble notes that the journal can't be used, or can again.
func (l *Log) noteTrouble(err error) {
	cause := ""
	if err != nil {
		cause = "the journal of this server is unavailable"
		var failure *journal.Failure
		if errors.As(err, &failure) {
			cause += ": " + failure.Cause
		}
	}
	l.progress.mu.Lock()
	before := l.progress.journal
	l.progress.journal = cause
	l.progress.mu.Unlock()
	switch {
	case cause == "":
		l.Logger.Info("the journal can be used again: messages are applied again")
	case cause != before:
		l.Logger.Error("messages can't be applied", "cause", cause, "error", err.Error())
	}
}

// Now implements [recorder.Log]: it returns the time of the stream.
func (l *Log) Now() time.Time { return l.progress.now() }

// State returns how far the server is with the stream. The caller adds what the log does not know.
func (l *Log) State() State {
	s := State{Server: l.Server}
	l.progress.state(&s, l.Stale)
	return s
}

// Await returns nil once the server has applied the stream up to a position; ErrOtherMessage if it has another message
// there; and the error of ctx.
func (l *Log) Await(ctx context.Context, p Position) error {
	at, err := l.await(ctx, p.Sequence)
	if at.Sequence == p.Sequence && at.ID != p.ID {
		return ErrOtherMessage
	}
	return err
}

// CatchUp returns nil once the server has applied what the stream has now. Another error than that of ctx means that the
// stream can't be asked.
func (l *Log) CatchUp(ctx context.Context) error {
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	_, err = l.await(ctx, info.State.LastSeq)
	return err
}

// await returns where the server is once it has applied the message with a sequence, or the error of ctx.
func (l *Log) await(ctx context.Context, sequence uint64) (journal.Position, error) {
	for {
		l.progress.mu.Lock()
		at, reached, changed := l.progress.at, l.progress.reached(sequence), l.progress.changed
		l.progress.mu.Unlock()
		if reached {
			return at, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}
