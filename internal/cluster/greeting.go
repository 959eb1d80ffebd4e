package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds connecting to one node, and the exchange that follows. The client library holds its lock
// meanwhile, so publishing waits as long.
const dialTimeout = 2 * time.Second

// dialer connects to nodes. It reads each node's greeting before the client library does, so that nothing is ever sent
// to a node that is too old.
type dialer struct {
	ctx     context.Context // ends all connecting
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	before  func() // called before each connection

	mu      sync.Mutex
	failure error // of the last connection, nil if it succeeded
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.before()
	connection, err := d.dial(network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = err
	return connection, err
}

func (d *dialer) dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	connection, err := d.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = connection.SetReadDeadline(time.Unix(1, 0)) })()
	greeted, err := greet(connection)
	if err != nil {
		_ = connection.Close()
		return nil, err
	}
	return greeted, nil
}

func (d *dialer) lastFailure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// errNoGreeting says that whatever listens does not greet as NATS does.
var errNoGreeting = errors.New("what answers there does not speak the protocol of NATS clients")

// greet reads the line with which a node greets, and fails if the node is too old. The connection that it returns
// yields the line again.
func greet(connection net.Conn) (net.Conn, error) {
	reader := bufio.NewReaderSize(connection, 64<<10)
	line, err := reader.ReadSlice('\n')
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return nil, fmt.Errorf("no greeting within %s: %w", dialTimeout, err)
	}
	text, isInfo := bytes.CutPrefix(line, []byte("INFO "))
	var info struct {
		Name    string `json:"server_name"`
		Version string `json:"version"`
	}
	if err != nil || !isInfo || json.Unmarshal(text, &info) != nil {
		return nil, errNoGreeting
	}
	if err := checkVersion(info.Version); err != nil {
		return nil, err
	}
	return greetedConnection{connection, io.MultiReader(bytes.NewReader(bytes.Clone(line)), reader)}, nil
}

type greetedConnection struct {
	net.Conn
	reader io.Reader
}

func (c greetedConnection) Read(p []byte) (int, error) { return c.reader.Read(p) }
