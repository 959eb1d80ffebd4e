// Package sockets opens the addresses on which a server listens.
package sockets

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/kubeagents/kubeagents/config"
)

// attempts is how often Listen looks for a port that is free on every address.
const attempts = 20

// Listen listens on each TCP address, in the form that net.Listen takes. Of several addresses, it skips those that the
// machine doesn't have, for example for lack of IPv6, as long as one remains. If the first address has port 0, all
// listeners get the same free port.
//
// On error, no listener is left open. The error names the address at fault, and what to do about it in terms of the
// settings HOST and PORT. It is a *config.SettingError unless another attempt may succeed, because the port may become
// free or the name server respond.
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
			skipped = cmp.Or(skipped, explain(address, err))
		default:
			return nil, errors.Join(explain(withPort(address, port), err), closeAll(listeners))
		}
	}
	if len(listeners) == 0 {
		return nil, skipped
	}
	return listeners, nil
}

// listenError is an error with a message for people in place of its own.
type listenError struct {
	message string
	error
}

func (e listenError) Error() string { return e.message }
func (e listenError) Unwrap() error { return e.error }

// explain returns an error of listening on an address with a message that says what to do.
func explain(address string, err error) error {
	host, port, split := net.SplitHostPort(address)
	if split != nil {
		return err
	}
	message, passing := "", false
	var unknown *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		passing = true
		message = fmt.Sprintf("port %s%s is in use by another program (is a server running already?): "+
			"stop it, or set PORT to another port", port, on(host))
	case errors.Is(err, syscall.EACCES):
		message = fmt.Sprintf("this user may not listen on port %s%s: "+
			"set PORT to 1024 or above, or allow the program to use lower ports", port, on(host))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		message = fmt.Sprintf("%s is not an address of this machine: "+
			"set HOST to one that is, or to 0.0.0.0 for all of them", host)
	case isUnavailable(err):
		message = fmt.Sprintf("this machine does not support addresses such as %s: "+
			"set HOST to one of its addresses, or to 0.0.0.0 for all of them", host)
	case errors.As(err, &unknown):
		passing = !unknown.IsNotFound
		message = fmt.Sprintf("no address is known for %s (%s): "+
			"set HOST to an address of this machine, or to 0.0.0.0 for all of them", host, unknown.Err)
	default:
		return fmt.Errorf("listen on HOST and PORT: %w", err)
	}
	if passing {
		return listenError{message, err}
	}
	return &config.SettingError{Err: listenError{message, err}}
}

// on returns the words that name a host, "" for all hosts.
func on(host string) string {
	if host == "" {
		return ""
	}
	return " on " + host
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
