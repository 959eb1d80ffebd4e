package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// againSize is about how many bytes of lost messages are published again at once.
const againSize = 512 << 10

// rejoin compares the state of the journal, which is that of a position, with the stream. If the server can go on from
// there, rejoin returns true. Otherwise, the server must start from another state, after it has published again what of
// its own the stream does not have, which rejoin returns. Its error says so if the journal no longer keeps all of that.
func (m *Member) rejoin(ctx context.Context, at journal.Position) (goOn bool, lost []journal.Applied, err error) {
	l := m.requester()
	info, err := l.info(ctx)
	if err != nil {
		return false, nil, err
	}
	stream, err := lineageOf(info)
	if err != nil {
		return false, nil, err
	}
	own, err := lineageIn(m.Journal)
	if err != nil {
		return false, nil, err
	}
	if first := info.Config.FirstSeq; stream.continues(own, at) && info.State.FirstSeq <= first {
		return true, nil, m.goOnIn(stream, first, at)
	}
	common, found := own.common(stream)
	switch {
	case own[0].stream == unknownStream && !found:
		common, found = stretch{stream[0].stream, endless}, true
	case !found:
		common.end = Position{}
	}
	if common.end == endless {
		if goOn, trimmed, err := m.goesOn(ctx, at, info); goOn || trimmed || err != nil {
			return goOn, nil, err
		}
		if info, err = l.info(ctx); err != nil {
			return false, nil, err
		}
	}
	lost, err = l.lostSince(ctx, common.end.Sequence, common.stream == stream[0].stream, info)
	return false, lost, err
}

// goesOn reports whether the stream, of which the journal's state is, has the last message that the server applied, and
// those after it. trimmed says that it has been trimmed beyond that. If neither is so, the stream has lost the message.
func (m *Member) goesOn(ctx context.Context, at journal.Position, info *jetstream.StreamInfo) (goOn, trimmed bool, err error) {
	l := m.requester()
	if nextAfter(at) < info.State.FirstSeq {
		m.Logger.Warn("this server starts from a snapshot: the stream no longer has the messages that it needs next",
			"applied", at.Sequence, "first", info.State.FirstSeq)
		return false, true, nil
	}
	if at.Sequence <= info.State.LastSeq {
		if same, err := l.has(ctx, at); same || err != nil {
			return same, false, err
		}
	}
	lost, err := l.lost(ctx, at)
	return err == nil && !lost, false, err
}

// lostSince returns what of this server's state the stream does not have. The stream has all messages up to the sequence
// common at most; which of these it still has, if it is the very stream that they are from, lostSince finds out.
func (l *Log) lostSince(ctx context.Context, common uint64, same bool, info *jetstream.StreamInfo) ([]journal.Applied, error) {
	var applied []journal.Applied
	err := l.Journal.EachApplied(0, func(a journal.Applied) error {
		parts, err := a.Split(againSize)
		applied = append(applied, parts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	lost := len(applied)
	for ; lost > 0; lost-- {
		p := applied[lost-1].Position
		if p.Sequence > common || same && (p.Sequence > info.State.LastSeq || p.Partial()) {
			continue
		}
		if !same {
			break
		}
		has, err := l.has(ctx, p)
		if err != nil {
			return nil, err
		}
		if has {
			break
		}
	}
	from := common
	switch {
	case lost > 0:
		from = applied[lost-1].Position.Sequence
	case same:
		from = 0
	}
	keeps, err := l.Journal.KeepsAfter(from)
	if err != nil {
		return nil, err
	}
	if !keeps {
		return nil, fmt.Errorf("the NATS stream %s does not have all that this server has, and the journal of the server no longer keeps all of "+
			"that as messages: to begin the stream anew with the state of this server, stop all servers, delete the stream, and start this server "+
			"first; to give up the state of this server, move its DATA_DIR away", l.Stream)
	}
	at, _ := l.Journal.Position()
	l.Logger.Error("the stream does not have messages that this server has applied: they are published again from its journal",
		"applied", at.Sequence, "last", info.State.LastSeq, "messages", len(applied)-lost)
	return applied[lost:], nil
}

// publishAgain publishes messages again, by what they came to. It returns where the last one is in the stream.
func (l *Log) publishAgain(ctx context.Context, lost []journal.Applied) (last journal.Position, err error) {
	for len(lost) > 0 {
		m, size := &journal.Message{Server: l.Server}, 0
		for len(lost) > 0 && (size == 0 || size+len(lost[0].Commit) <= againSize) {
			size += len(lost[0].Commit)
			m.Again = append(m.Again, lost[0])
			lost = lost[1:]
		}
		last.ID = newID()
		if last.Sequence, err = l.send(ctx, m.Encode(l.version()), last.ID); err != nil {
			return last, errors.Join(err, ctx.Err())
		}
	}
	return last, nil
}
