package natstest

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// BubbleURL is an address for clients of a [Bubble]. No name, since looking up names leaves the bubble.
const BubbleURL = "nats://127.0.0.1:4222"

// Bubble is one NATS server in a bubble of testing/synctest, so that the time of its messages is the simulated one. It has
// no address: clients reach it through a [Line]. It does not sync what it writes, and it can't be restarted.
type Bubble struct {
	server *server.Server
}

// StartInBubble starts a NATS server in the bubble that t belongs to. Tests that call it must not run in parallel.
func StartInBubble(t testing.TB) *Bubble {
	t.Helper()
	// The client library keeps its timers in a pool of the process. Those of an earlier bubble can't be used in this one;
	// two runs of the garbage collector empty the pool.
	runtime.GC()
	runtime.GC()
	s, err := server.NewServer(&server.Options{
		ServerName: "bubble", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
	})
	require.NoError(t, err)
	log := &lines{}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
		if t.Failed() {
			t.Logf("the NATS server logged:\n%s", log)
		}
	})
	require.True(t, s.ReadyForConnections(patience), "%s", log)
	return &Bubble{s}
}

// Line is how one client reaches a [Bubble]: over pipes. Its methods are safe for concurrent use.
type Line struct {
	to *Bubble

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Line returns a line that is not cut.
func (b *Bubble) Line() *Line { return &Line{to: b} }

// Dial makes a connection. The address does not matter.
func (l *Line) Dial(context.Context, string, string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("the line is cut")
	}
	conn, err := l.to.server.InProcessConn()
	if err == nil {
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

// Cut ends every connection, and lets nobody make another one until the line is mended.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, conn := range slices.Backward(l.conns) {
		conn.Close() //nolint:errcheck // a pipe always closes
	}
	l.conns = nil
}

// Mend lets clients connect again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}
