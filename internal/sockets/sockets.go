// Package sockets opens the addresses on which a server listens.
package sockets

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// attempts is how often Listen looks for a port that is free on every address.
const attempts = 20

// Listen listens on each TCP address, in the form that net.Listen takes. Of several addresses, it skips those that the
// machine doesn't have, for example for lack of IPv6, as long as one remains. If the first address has port 0, all
// listeners get the same free port.
//
// On error, which names the address at fault, no listener is left open.
func Listen(addresses []string) (listeners []net.Listener, err error) {
	for range attempts {
		if listeners, err = open(addresses); err == nil || !anyPort(addresses[0]) || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return listeners, err
}

func open(addresses []string) (listeners []net.Listener, err error) {
	var skipped error
	port := ""
	for _, address := range addresses {
		listener, err := net.Listen("tcp", withPort(address, port))
		switch {
		case err == nil:
			listeners = append(listeners, listener)
			port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
		case len(addresses) > 1 && isUnavailable(err):
			skipped = errors.Join(skipped, err)
		default:
			return nil, errors.Join(err, closeAll(listeners))
		}
	}
	if len(listeners) == 0 {
		return nil, fmt.Errorf("this machine has none of the addresses: %w", skipped)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) (err error) {
	for _, listener := range listeners {
		err = errors.Join(err, listener.Close())
	}
	return err
}

// withPort returns address with its port replaced by port, unless port is empty.
func withPort(address, port string) string {
	host, _, err := net.SplitHostPort(address)
	if port == "" || err != nil {
		return address
	}
	return net.JoinHostPort(host, port)
}

func anyPort(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	return port == "0"
}

// isUnavailable reports whether an error says that the machine doesn't have an address, or doesn't support its family
// at all.
func isUnavailable(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}
