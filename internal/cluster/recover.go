package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// againSize is about how many bytes of lost messages are published again at once.
const againSize = 512 << 10

// rejoin checks that the stream has the last message that the server applied. If the stream has lost it, rejoin publishes
// again what the server applied after the last message that both have. Then, or if the stream no longer has the next
// message, the server must start from another state, and rejoin returns false.
func (m *Member) rejoin(ctx context.Context, at journal.Position) (goOn bool, err error) {
	l := m.requester()
	info, err := l.info(ctx)
	if err != nil {
		return false, err
	}
	if nextAfter(at) < info.State.FirstSeq {
		m.Logger.Warn("this server starts from a snapshot: the stream no longer has the messages that it needs next",
			"applied", at.Sequence, "first", info.State.FirstSeq)
		return false, nil
	}
	if at.Sequence <= info.State.LastSeq {
		if same, err := l.has(ctx, at); same || err != nil {
			return same, err
		}
	}
	lost, err := l.lost(ctx, at)
	if err != nil || !lost {
		return err == nil, err
	}
	if info, err = l.info(ctx); err != nil {
		return false, err
	}
	return false, l.publishLost(ctx, at, info)
}

// publishLost publishes again what the server applied after the last message that it has in common with the stream.
func (l *Log) publishLost(ctx context.Context, at journal.Position, info *jetstream.StreamInfo) error {
	var applied []journal.Applied
	err := l.Journal.EachApplied(0, func(a journal.Applied) error {
		parts, err := a.Split(againSize)
		applied = append(applied, parts...)
		return err
	})
	if err != nil {
		return err
	}
	lost := len(applied)
	for ; lost > 0; lost-- {
		p := applied[lost-1].Position
		if p.Sequence > info.State.LastSeq || p.Partial() {
			continue
		}
		same, err := l.has(ctx, p)
		if err != nil {
			return err
		}
		if same {
			break
		}
	}
	if lost == 0 && info.State.FirstSeq > 1 {
		l.Logger.Error("the stream has nothing of what this server knows of: some of it may be lost for good", "applied", at.Sequence)
	}
	l.Logger.Error("the stream has lost messages that were acknowledged: they are published again from this server's journal",
		"applied", at.Sequence, "last", info.State.LastSeq, "messages", len(applied)-lost)
	return l.publishAgain(ctx, applied[lost:])
}

// publishAgain publishes messages again, by what they came to.
func (l *Log) publishAgain(ctx context.Context, lost []journal.Applied) error {
	for len(lost) > 0 {
		m, size := &journal.Message{Server: l.Server}, 0
		for len(lost) > 0 && (size == 0 || size+len(lost[0].Commit) <= againSize) {
			size += len(lost[0].Commit)
			m.Again = append(m.Again, lost[0])
			lost = lost[1:]
		}
		if _, err := l.send(ctx, m.Encode(l.version()), newID()); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}
