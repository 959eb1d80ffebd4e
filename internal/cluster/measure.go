package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/metrics"
)

// measure returns what the metrics say about this server.
func (m *Member) measure() metrics.Cluster {
	state := m.shared.State()
	_, held := m.lease.Held()
	measured := metrics.Cluster{
		Position: state.Position.Sequence, Behind: state.Behind, Age: m.shared.progress.age(), Writable: state.Refuses == "",
		LeaseHeld: held, Servers: len(m.presence.Servers()),
	}
	kept := m.shared.progress.size()
	measured.StreamMessages, measured.StreamBytes = kept.messages, kept.bytes
	if newest := m.newest.Load(); newest != nil {
		measured.SnapshotPosition, measured.SnapshotWritten = newest.Position.Sequence, newest.Written
	}
	return measured
}

// streamSize is what a stream keeps.
type streamSize struct{ messages, bytes uint64 }

// keeps notes what the stream keeps.
func (p *progress) keeps(s streamSize) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = s
}

func (p *progress) size() streamSize {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept
}

// age returns how old what the server shows may be. Before it has caught up, that is about the age of the last message
// that it has applied.
func (p *progress) age() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.current.IsZero():
		return time.Since(p.current)
	case p.at.Time.IsZero():
		return time.Since(p.since)
	}
	return max(time.Since(p.at.Time), 0)
}

// countFailure counts a message that could not be published within ctx, unless the server is stopping or the message is
// no longer wanted.
func (l *Log) countFailure(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return
	}
	l.Metrics.CountPublishFailure(failureOf(err))
}

// failureOf returns the cause of a failed attempt to publish: see [causeOf].
func failureOf(err error) metrics.PublishFailure {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		return failureOfAPI(api)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return metrics.PublishNoLeader
	case errors.Is(err, nats.ErrMaxPayload):
		return metrics.PublishRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return metrics.PublishTimeout
	}
	return metrics.PublishUnreachable
}

func failureOfAPI(api *jetstream.APIError) metrics.PublishFailure {
	switch api.ErrorCode {
	case codeClusterNotAvailable, codeStreamNotFound:
		return metrics.PublishNoLeader
	case codeInsufficientResource, codeStreamStoreFailed:
		return metrics.PublishNoRoom
	}
	return metrics.PublishRefused
}
