package sockets_test

import (
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/sockets"
)

// unavailable is an address that no machine has: it is reserved for documentation (RFC 5737).
const unavailable = "203.0.113.1"

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// closeAtEnd closes listeners when the test ends.
func closeAtEnd(t *testing.T, listeners []net.Listener) {
	t.Cleanup(func() {
		for _, l := range listeners {
			require.NoError(t, l.Close())
		}
	})
}

// listenOnSecondLoopback listens on a second address of the loopback interface until the test ends. It skips the test
// if there is none.
func listenOnSecondLoopback(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("needs 127.0.0.2: on macOS, ifconfig lo0 alias 127.0.0.2")
	}
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener
}

// TestAllListenersShareAPort listens on two addresses of the loopback interface, on any free port.
func TestAllListenersShareAPort(t *testing.T) {
	listenOnSecondLoopback(t)
	for range 20 {
		listeners, err := sockets.Listen([]string{"127.0.0.1:0", "127.0.0.2:0"})
		require.NoError(t, err)
		require.Len(t, listeners, 2)
		require.Equal(t, portOf(listeners[0]), portOf(listeners[1]))
		require.Equal(t, "127.0.0.2", listeners[1].Addr().(*net.TCPAddr).IP.String())
		closeAtEnd(t, listeners)
	}
}

func TestUnavailableAddressesAreSkipped(t *testing.T) {
	for _, addresses := range [][]string{{hostPort("127.0.0.1", 0), hostPort(unavailable, 0)}, {hostPort(unavailable, 0), hostPort("127.0.0.1", 0)}} {
		listeners, err := sockets.Listen(addresses)
		require.NoError(t, err)
		require.Len(t, listeners, 1)
		closeAtEnd(t, listeners)
	}
	_, err := sockets.Listen([]string{hostPort(unavailable, 0), hostPort("203.0.113.2", 0)})
	require.EqualError(t, err, "203.0.113.1 is not an address of this machine: set HOST to one that is, or to 0.0.0.0 for all of them")
	_, err = sockets.Listen([]string{hostPort(unavailable, 0)})
	require.ErrorContains(t, err, "203.0.113.1 is not an address of this machine", "the only address is never skipped")
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
}

func TestATakenPortIsAnError(t *testing.T) {
	taken := listenOnSecondLoopback(t)
	port := portOf(taken)
	for _, addresses := range [][]string{
		{hostPort("127.0.0.1", port), hostPort("127.0.0.2", port)},
		{hostPort("127.0.0.2", port), hostPort("127.0.0.1", port)},
	} {
		_, err := sockets.Listen(addresses)
		require.EqualError(t, err, fmt.Sprintf("port %d on 127.0.0.2 is in use by another program (is a server running already?): "+
			"stop it, or set PORT to another port", port))
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
	free, err := net.Listen("tcp", hostPort("127.0.0.1", port))
	require.NoError(t, err, "no listener is left open")
	require.NoError(t, free.Close())
}

// TestErrorsSayWhatToDo checks the errors for hosts that can't be listened on.
func TestErrorsSayWhatToDo(t *testing.T) {
	for host, want := range map[string]string{
		"nowhere.invalid": "no address is known for nowhere.invalid (",
		"203.0.113.1":     "203.0.113.1 is not an address of this machine: set HOST to one that is, or to 0.0.0.0 for all of them",
	} {
		_, err := sockets.Listen([]string{hostPort(host, 0)})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "set HOST to ")
	}
	taken, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test is over
	_, err = sockets.Listen([]string{hostPort("", portOf(taken))})
	require.EqualError(t, err, fmt.Sprintf("port %d is in use by another program (is a server running already?): stop it, or set PORT to another port", portOf(taken)))
}
