package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/metrics"
)

// The codes of errors of JetStream for which the client library has no names: see errors.json of nats-server.
const (
	codeClusterNoPeers       = 10005
	codeClusterNotAvailable  = 10008
	codeClusterNotLeader     = 10009
	codeInsufficientResource = 10023
	codeReplicasNotSupported = 10074
	codeStreamStoreFailed    = 10077
	codeStreamSealed         = 10109
)

// failure is why an attempt to publish a message failed.
type failure struct {
	cause   string                 // in words for clients
	counted metrics.PublishFailure // as which it is counted
	repeat  bool                   // another attempt may succeed
	unknown bool                   // the stream may have the message, all the same
}

// failureOf returns what the error of an attempt to publish means.
func failureOf(err error) failure {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return failureOfAPI(api)
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return failure{"the stream has no leader", metrics.PublishNoLeader, true, false}
	case errors.Is(err, nats.ErrMaxPayload):
		return failure{"the message is larger than NATS allows (max_payload)", metrics.PublishRefused, false, false}
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		// The connection may have been closed before the answer came.
		return failure{"the server is stopping", metrics.PublishUnreachable, false, true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return failure{"the stream does not answer: NATS is slow, or most of its nodes are away",
			metrics.PublishTimeout, true, true}
	}
	return failure{"NATS can't be reached", metrics.PublishUnreachable, true, true}
}

func failureOfAPI(api *jetstream.APIError) failure {
	switch api.ErrorCode {
	case codeClusterNotAvailable:
		return failure{"the stream has no leader", metrics.PublishNoLeader, true, true}
	case codeInsufficientResource:
		return failure{"NATS has no room left for the stream", metrics.PublishNoRoom, false, false}
	case jetstream.JSErrCodeStreamNotFound:
		return failure{"the stream does not exist", metrics.PublishNoLeader, true, false}
	case codeStreamStoreFailed:
		return failure{"the stream can't store a message: it is full, or the disk of NATS is",
			metrics.PublishNoRoom, false, false}
	case codeStreamSealed:
		return failure{"the stream is sealed", metrics.PublishRefused, false, false}
	}
	internal := api.Code >= 500
	return failure{"the stream does not take the message: " + api.Description, metrics.PublishRefused, internal, internal}
}

// countFailure counts a message that could not be published within ctx, unless the server is stopping or the message is
// no longer wanted.
func (l *Log) countFailure(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return
	}
	l.Metrics.CountPublishFailure(failureOf(err).counted)
}
