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

// Rejoin prepares a server that goes on with its journal: it checks that the stream has the last message that the server
// applied. If the stream has lost it, Rejoin finds the last message that both have, and publishes again what the server
// applied after that. It returns the position to go on from, or ErrTrimmed if the server must start from a snapshot.
//
// Call it before [NewLog], while nothing is applied.
func Rejoin(ctx context.Context, o LogOptions) (at journal.Position, err error) {
	l := &Log{LogOptions: o, waiting: map[string]*publication{}}
	at, ok := o.Journal.Position()
	if !ok {
		return at, nil
	}
	info, err := l.info(ctx)
	if err != nil {
		return at, err
	}
	if at.Sequence+1 < info.State.FirstSeq {
		return at, fmt.Errorf("%w: it begins at %d, and %d is needed", ErrTrimmed, info.State.FirstSeq, at.Sequence+1)
	}
	if at.Sequence <= info.State.LastSeq {
		if same, err := l.has(ctx, at); same || err != nil {
			return at, err
		}
	}
	return l.publishLost(ctx, at, info)
}

// publishLost publishes again what the server applied after the last message that it has in common with the stream, and
// returns the position of that message.
func (l *Log) publishLost(ctx context.Context, at journal.Position, info *jetstream.StreamInfo) (common journal.Position, err error) {
	var applied []journal.Applied
	err = l.Journal.EachApplied(0, func(a journal.Applied) error {
		applied = append(applied, a)
		return nil
	})
	if err != nil {
		return common, err
	}
	lost := len(applied)
	for ; lost > 0; lost-- {
		p := applied[lost-1].Position
		if p.Sequence > info.State.LastSeq || p.Partial() {
			continue
		}
		if same, err := l.has(ctx, p); err != nil {
			return common, err
		} else if same {
			common = p
			break
		}
	}
	if lost == 0 && len(applied) > 0 && info.State.FirstSeq > 1 {
		return common, fmt.Errorf("%w, and everything that this server still knows of: move DATA_DIR into a new stream", ErrDiverged)
	}
	l.Logger.Error("the stream has lost messages that were acknowledged: they are published again from this server's journal",
		"last_common", common.Sequence, "last_applied", at.Sequence, "messages", len(applied)-lost)
	if common.Sequence == 0 {
		common.Time = at.Time
	}
	return common, l.publishAgain(ctx, applied[lost:])
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
		err := l.send(ctx, m.Encode(nil), newID())
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}
