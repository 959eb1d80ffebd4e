package natstest

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link forwards TCP connections from a fixed address on loopback to a target that can change, until it is cut.
type link struct {
	listener net.Listener
	ended    chan struct{}
	running  sync.WaitGroup

	mu          sync.Mutex
	target      string
	open        chan struct{} // closed while bytes may pass
	connections map[net.Conn]bool
}

// newLink returns a link that is cut and has no target yet. It ends with the test.
func newLink(t testing.TB) *link {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &link{listener: listener, ended: make(chan struct{}), open: make(chan struct{}), connections: map[net.Conn]bool{}}
	l.running.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		close(l.ended)
		l.reset()
		l.running.Wait()
	})
	return l
}

func (l *link) address() string {
	return l.listener.Addr().String()
}

func (l *link) connectTo(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
}

// cut holds back everything, also what is being forwarded, and the news that an end has closed.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		l.open = make(chan struct{})
	default:
	}
}

// heal lets everything pass again.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// reset closes every connection at both ends, even while the link is cut, and has no target from now on.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = ""
	for connection := range l.connections {
		_ = connection.Close()
	}
}

func (l *link) accept() {
	for {
		connection, err := l.listener.Accept()
		if err != nil {
			return
		}
		if l.keep(connection) {
			l.running.Go(func() { l.serve(connection) })
		}
	}
}

// serve forwards one connection, in both directions, until one end closes.
func (l *link) serve(near net.Conn) {
	defer l.drop(near)
	if !l.pass() {
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	if target == "" {
		return
	}
	far, err := net.Dial("tcp", target)
	if err != nil || !l.keep(far) {
		return
	}
	defer l.drop(far)
	var back sync.WaitGroup
	back.Go(func() { l.forward(near, far) })
	l.forward(far, near)
	back.Wait()
}

func (l *link) forward(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !l.pass() {
			break
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// pass waits until the link is not cut, and reports whether it goes on.
func (l *link) pass() bool {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	select {
	case <-open:
		return true
	case <-l.ended:
		return false
	}
}

// keep remembers a connection for reset, and reports whether the link goes on.
func (l *link) keep(connection net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ended:
		_ = connection.Close()
		return false
	default:
	}
	l.connections[connection] = true
	return true
}

func (l *link) drop(connection net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.connections, connection)
	_ = connection.Close()
}
