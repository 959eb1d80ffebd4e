package cluster_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// TestLease checks with a real NATS server that the lease passes to another server when the holder's connection is cut,
// that the holder has stopped by then, and that it can take the lease again later.
func TestLease(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	c := natstest.Start(t, 1)
	config := jetstream.KeyValueConfig{Bucket: "TEST_LEASES"}
	var line line
	a := cluster.NewLease(bucket(t, connect(t, c, nats.SetCustomDialer(&line)), config), "a", nobodyBegan, silent())
	b := cluster.NewLease(bucket(t, connect(t, c), config), "b", nobodyBegan, silent())

	var working atomic.Int32
	taken := make(chan uint64, 10)
	work := func(ctx context.Context, number uint64) {
		assert.Equal(t, int32(1), working.Add(1), "two at once")
		taken <- number
		<-ctx.Done()
		working.Add(-1)
	}
	stopA := start(t, func(ctx context.Context) { a.Run(ctx, work) })
	first := receive(t, taken)
	number, held := a.Held()
	assert.True(t, held)
	assert.Equal(t, first, number)
	stopB := start(t, func(ctx context.Context) { b.Run(ctx, work) })
	eventually(t, "b sees the holder", func() bool { return b.Holder() == "a" })

	line.cut()
	second := receive(t, taken)
	assert.Greater(t, second, first)
	_, held = a.Held()
	assert.False(t, held)

	line.heal()
	eventually(t, "a sees the new holder", func() bool { return a.Holder() == "b" })
	stopB()
	assert.Greater(t, receive(t, taken), second)
	stopA()
	assert.Zero(t, working.Load())
	_, held = a.Held()
	assert.False(t, held)
}

func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(soon):
		require.Fail(t, "nothing came")
	}
	return got
}

// line is a network connection to NATS that can be cut.
type line struct {
	mu          sync.Mutex
	isCut       bool
	connections []net.Conn
}

// Dial implements nats.CustomDialer.
func (l *line) Dial(network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		return nil, errors.New("the line is cut")
	}
	c, err := net.Dial(network, address)
	if err == nil {
		l.connections = append(l.connections, c)
	}
	return c, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for _, c := range l.connections {
		c.Close() //nolint:errcheck // it is cut
	}
}

func (l *line) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = false
}

func nobodyBegan() (uint64, error) { return 0, nil }
