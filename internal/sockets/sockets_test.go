package sockets_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/sockets"
)

// lacking is an address that no machine has: it is for documentation (RFC 5737).
const lacking = "203.0.113.1"

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func closing(t *testing.T, listeners []net.Listener) {
	t.Cleanup(func() {
		for _, l := range listeners {
			require.NoError(t, l.Close())
		}
	})
}

// second listens at a second address of the loopback interface until the test ends, or skips it where there is none.
func second(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("needs 127.0.0.2: on macOS, ifconfig lo0 alias 127.0.0.2")
	}
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener
}

// TestOnePortForAll listens at two addresses of the loopback interface, at any port and at a given one.
func TestOnePortForAll(t *testing.T) {
	second(t)
	for range 20 {
		listeners, err := sockets.Listen([]string{"127.0.0.1:0", "127.0.0.2:0"})
		require.NoError(t, err)
		require.Len(t, listeners, 2)
		require.Equal(t, portOf(listeners[0]), portOf(listeners[1]))
		require.Equal(t, "127.0.0.2", listeners[1].Addr().(*net.TCPAddr).IP.String())
		closing(t, listeners)
	}
}

func TestAFamilyThatTheMachineLacksIsPassedOver(t *testing.T) {
	for _, addresses := range [][]string{{at("127.0.0.1", 0), at(lacking, 0)}, {at(lacking, 0), at("127.0.0.1", 0)}} {
		listeners, err := sockets.Listen(addresses)
		require.NoError(t, err)
		require.Len(t, listeners, 1)
		closing(t, listeners)
	}
	_, err := sockets.Listen([]string{at(lacking, 0), at("203.0.113.2", 0)})
	require.ErrorContains(t, err, "this machine has none of the addresses")
	require.ErrorContains(t, err, lacking)
	_, err = sockets.Listen([]string{at(lacking, 0)})
	require.ErrorContains(t, err, "listen tcp 203.0.113.1:0", "one that was asked for by itself is an error")
}

func TestATakenPortIsAnError(t *testing.T) {
	taken := second(t)
	port := portOf(taken)
	for _, addresses := range [][]string{{at("127.0.0.1", port), at("127.0.0.2", port)}, {at("127.0.0.2", port), at("127.0.0.1", port)}} {
		_, err := sockets.Listen(addresses)
		require.ErrorContains(t, err, "address already in use")
		require.ErrorContains(t, err, "127.0.0.2")
	}
	free, err := net.Listen("tcp", at("127.0.0.1", port))
	require.NoError(t, err, "nothing is left open")
	require.NoError(t, free.Close())
}
