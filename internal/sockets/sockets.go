// Package sockets opens the addresses at which a server is reached.
package sockets

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// tries is how often a port is looked for that is free at every address.
const tries = 20

// Listen listens at each address, as net.Listen takes it. Of several, those of a family that the machine lacks are passed over, as long as
// one is left. Where the first has the port 0, all of them get the same one, which is free.
//
// The error names the address at fault; nothing is left open then.
func Listen(addresses []string) (listeners []net.Listener, err error) {
	for range tries {
		if listeners, err = open(addresses); err == nil || !anyPort(addresses[0]) || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return listeners, err
}

func open(addresses []string) (listeners []net.Listener, err error) {
	var lacking error
	port := ""
	for _, address := range addresses {
		listener, err := net.Listen("tcp", withPort(address, port))
		switch {
		case err == nil:
			listeners = append(listeners, listener)
			port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
		case len(addresses) > 1 && lacksFamily(err):
			lacking = errors.Join(lacking, err)
		default:
			return nil, errors.Join(err, closeAll(listeners))
		}
	}
	if len(listeners) == 0 {
		return nil, fmt.Errorf("this machine has none of the addresses: %w", lacking)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) (err error) {
	for _, listener := range listeners {
		err = errors.Join(err, listener.Close())
	}
	return err
}

// withPort returns address, with that port if one is given.
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

// lacksFamily reports whether an error says that the machine has no such address, or that it does not know the family at all.
func lacksFamily(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}
