package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/kubeagents/kubeagents/internal/control"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

var health = command{
	name:    "health",
	summary: "check whether a server is ready, as for a container's health check",
	help: "Without -server and " + serverVariable + ", it checks the server on this machine that has the same settings: HOST, PORT and\n" +
		"TLS_CERT_FILE. It then accepts any certificate, since it sends no secrets. If the server requires client certificates\n" +
		"(TLS_CLIENT_CA_FILE), it asks over the control socket in DATA_DIR instead.\n" +
		"The exit status is 0 if the server is ready, 1 if it is not, and 3 if it can't be reached. A server is not ready while it\n" +
		"starts, stops, or catches up with its cluster. With -live, the exit status is 0 in these cases, too.",
	define: func(flags *flag.FlagSet) action {
		address := flags.String("server", "", "the `URL` of the server (default the one with these settings)")
		live := flags.Bool("live", false, "check only whether the server runs, whether or not it is ready")
		return func(ctx context.Context, p Program, _ []string) error { return p.checkHealth(ctx, *address, *live) }
	},
}

func (p Program) checkHealth(ctx context.Context, address string, live bool) error {
	address = cmp.Or(address, p.Environment[serverVariable])
	newClient := func(address string) (*client.Client, error) { return client.New(address, "") }
	if address == "" {
		cfg, err := config.Load(p.Environment)
		if err != nil {
			return usageError{fmt.Errorf("invalid settings:\n%w", err)}
		}
		if cfg.TLSClientCAFile != "" && cfg.DataDir != "" {
			return p.checkOverSocket(ctx, cfg.DataDir, live)
		}
		if address, err = ownAddress(cfg); err != nil {
			return usageError{err}
		}
		newClient = newOwnClient
	}
	c, err := newClient(address)
	if err != nil {
		return usageError{err}
	}
	check, passed := c.Ready, "is ready"
	if live {
		check, passed = c.Live, "is running"
	}
	err = check(ctx)
	if refusal, ok := errors.AsType[*client.Refusal](err); ok && refusal.Status == http.StatusServiceUnavailable {
		return fmt.Errorf("%s is not ready: it is starting, stopping or catching up with its cluster", c.Server())
	}
	if err != nil {
		return statusError{ExitUnreachable, err}
	}
	_, err = fmt.Fprintf(p.Stdout, "%s %s\n", c.Server(), passed)
	return err
}

// checkOverSocket checks the server that uses a data directory, over its control socket. There is none while the server
// starts.
func (p Program) checkOverSocket(ctx context.Context, dataDir string, live bool) error {
	ctx, cancel := context.WithTimeout(ctx, client.Timeout)
	defer cancel()
	ready, err := control.Ready(ctx, datadir.Find(dataDir))
	if err != nil {
		return statusError{ExitUnreachable, err}
	}
	passed := "is ready"
	switch {
	case live:
		passed = "is running"
	case !ready:
		return fmt.Errorf("the server of DATA_DIR %s is not ready: it is stopping, or catching up with its cluster", dataDir)
	}
	_, err = fmt.Fprintf(p.Stdout, "the server of DATA_DIR %s %s\n", dataDir, passed)
	return err
}

// ownAddress returns the address at which this machine reaches the server with these settings.
func ownAddress(cfg config.Config) (string, error) {
	if cfg.Port == 0 {
		return "", errors.New("PORT is 0, which takes any port: name the server with -server")
	}
	scheme := "http"
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	host, _, err := net.SplitHostPort(cfg.Addresses()[0])
	if err != nil {
		return "", err
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "", err == nil && ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && ip == netip.IPv6Unspecified():
		host = "::1"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port)), nil
}

// newOwnClient returns a client of the server on this machine. The server's certificate is for the name that people
// use, so it is not checked. No proxy is used.
func newOwnClient(address string) (*client.Client, error) {
	return client.NewWith(address, "", &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing secret is sent
		DisableKeepAlives: true,
	})
}
