package cluster

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestWhatMayHaveBeenPublished checks which errors leave open whether the stream has the message.
func TestWhatMayHaveBeenPublished(t *testing.T) {
	for err, want := range map[error]bool{
		nats.ErrConnectionClosed: true, nats.ErrConnectionReconnecting: true, nats.ErrTimeout: true, context.DeadlineExceeded: true, context.Canceled: true,
		nats.ErrNoResponders: false, jetstream.ErrNoStreamResponse: false, nats.ErrMaxPayload: false,
	} {
		require.Equal(t, want, failureOf(err).unknown, "%v", err)
	}
}
