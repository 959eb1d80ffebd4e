package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// CheckNodes checks what a client can't see: that each node that keeps the stream syncs every write before it
// acknowledges it (sync_interval: always), and runs a version of NATS that is new enough. Only the monitoring of the
// nodes tells; a client would need credentials of NATS's system account.
//
// Without Settings.MonitorURLs, it warns that nothing was checked. With them, it fails if a node does not sync every
// write, if no node answers, or if every address answers but a node of the stream is not among them. It warns of
// addresses that don't answer, since a server must be able to start while one node is down.
func (c *Conn) CheckNodes(ctx context.Context, stream jetstream.Stream) error {
	if len(c.settings.MonitorURLs) == 0 {
		c.logger.Warn("nobody checked whether the NATS nodes sync every write before they acknowledge it: "+
			"if they don't, a power failure of several nodes can lose acknowledged reports",
			"to_do", "set sync_interval: always in the block jetstream of each node, then set NATS_MONITOR_URL",
			"to_check", "curl http://NODE:8222/varz and look for sync_always")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	seen, silent, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		return fmt.Errorf("NATS_MONITOR_URL: no node answers: %w", errors.Join(silent...))
	}
	missing := slices.DeleteFunc(keepers(stream), func(name string) bool { return slices.Contains(seen, name) })
	if len(silent) == 0 && len(missing) > 0 {
		return fmt.Errorf("NATS_MONITOR_URL: the stream %s is also kept by %s: add the address of each node",
			c.settings.Stream, strings.Join(missing, ", "))
	}
	for _, err := range silent {
		c.logger.Warn("could not check whether a NATS node syncs every write", "setting", "NATS_MONITOR_URL", "error", err)
	}
	return nil
}

// keepers returns the names of the nodes that keep a stream, none if NATS is a single node.
func keepers(stream jetstream.Stream) (names []string) {
	cluster := stream.CachedInfo().Cluster
	if cluster == nil {
		return nil
	}
	if cluster.Leader != "" {
		names = append(names, cluster.Leader)
	}
	for _, replica := range cluster.Replicas {
		names = append(names, replica.Name)
	}
	return names
}

// inspect asks each node for its settings. It returns the names of those that answered and are as they must be, and
// the errors of those that did not answer; err names every node that is not as it must be.
func (c *Conn) inspect(ctx context.Context) (seen []string, silent []error, err error) {
	trust, err := c.trust()
	if err != nil {
		return nil, nil, err
	}
	var wrong []error
	for _, text := range c.settings.MonitorURLs {
		page, err := url.Parse(text)
		if err != nil {
			return nil, nil, err
		}
		for _, address := range addressesOf(ctx, page) {
			node, err := readVarz(ctx, page, address, trust)
			if err != nil {
				silent = append(silent, err)
				continue
			}
			seen, wrong = append(seen, node.Name), append(wrong, node.check()...)
		}
	}
	return seen, silent, errors.Join(wrong...)
}

// trust returns the authorities that sign the nodes' certificates.
func (c *Conn) trust() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.settings.CAFile == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.settings.CAFile)
	if err != nil {
		return nil, fmt.Errorf("NATS_CA_FILE: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("NATS_CA_FILE: %s has no certificate", c.settings.CAFile)
	}
	return config, nil
}

// addressesOf returns every address of a URL's host, since one name can stand for all nodes.
func addressesOf(ctx context.Context, page *url.URL) []string {
	port := page.Port()
	if port == "" {
		port = page.Scheme
	}
	hosts, err := net.DefaultResolver.LookupHost(ctx, page.Hostname())
	if err != nil {
		return []string{net.JoinHostPort(page.Hostname(), port)} // dialing will say what is wrong
	}
	for i, host := range hosts {
		hosts[i] = net.JoinHostPort(host, port)
	}
	return hosts
}

// varz is what a node's monitoring says about it.
type varz struct {
	Name      string `json:"server_name"`
	Version   string `json:"version"`
	JetStream struct {
		Config *struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

func (v varz) check() (wrong []error) {
	if err := checkVersion(v.Version); err != nil {
		wrong = append(wrong, fmt.Errorf("NATS node %s: %w", v.Name, err))
	}
	if v.JetStream.Config != nil && !v.JetStream.Config.SyncAlways {
		wrong = append(wrong, fmt.Errorf("NATS node %s does not sync every write before it acknowledges it: "+
			"set sync_interval: always in the block jetstream of its configuration, and restart it", v.Name))
	}
	return wrong
}

// readVarz reads a node's page /varz from one address of its host.
func readVarz(ctx context.Context, page *url.URL, address string, trust *tls.Config) (v varz, err error) {
	transport := &http.Transport{
		TLSClientConfig:   trust,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page.JoinPath("varz").String(), nil)
	if err != nil {
		return v, errors.New("the address can't be used")
	}
	response, err := client.Do(request)
	if err != nil {
		return v, fmt.Errorf("%s: %w", address, errors.Unwrap(err))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s: GET /varz is answered by %s", address, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 4<<20)).Decode(&v); err != nil || v.Name == "" {
		return v, fmt.Errorf("%s: GET /varz is not answered by the monitoring of NATS", address)
	}
	return v, nil
}
