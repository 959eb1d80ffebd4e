package cluster

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Settings say how to reach NATS and what to keep there. The comments name the environment variables.
type Settings struct {
	URLs     []string // NATS_URL: addresses of nodes, any of which will do; may contain a user and a password
	Stream   string   // NATS_STREAM: the stream's name, and the beginning of the buckets' names
	Replicas int      // NATS_REPLICAS: how many nodes keep the stream: 1, 3 or 5

	// At most one of these, or a user in URLs.
	CredsFile          string // NATS_CREDS_FILE: a user's JWT and seed
	NKeyFile           string // NATS_NKEY_FILE: a user's seed
	User, PasswordFile string // NATS_USER, NATS_PASSWORD_FILE

	CAFile            string // NATS_CA_FILE: the authorities that sign the nodes' certificates; the system's if empty
	CertFile, KeyFile string // NATS_CERT_FILE, NATS_KEY_FILE: this server's own certificate

	MonitorURLs []string // NATS_MONITOR_URL: addresses of the nodes' monitoring; see [Conn.CheckNodes]
}

// Subject returns the subject of the stream's messages.
func (s Settings) Subject() string { return s.Stream + ".log" }

// LeasesBucket returns the name of the key-value bucket of the lease.
func (s Settings) LeasesBucket() string { return s.Stream + "_LEASES" }

// ServersBucket returns the name of the key-value bucket of the servers that run.
func (s Settings) ServersBucket() string { return s.Stream + "_SERVERS" }

// SignInsBucket returns the name of the key-value bucket of people's sign-ins.
func (s Settings) SignInsBucket() string { return s.Stream + "_SIGN_INS" }

// SnapshotsBucket returns the name of the object store of snapshots.
func (s Settings) SnapshotsBucket() string { return s.Stream + "_SNAPSHOTS" }

// Check reports every setting that can't be used, without looking at files. Its error contains no secret.
func (s Settings) Check() error {
	var faults []error
	fault := func(format string, v ...any) { faults = append(faults, fmt.Errorf(format, v...)) }
	if len(s.URLs) == 0 {
		fault("NATS_URL: at least one address is needed, such as nats://nats-1.example.com:4222")
	}
	for i, text := range s.URLs {
		if _, err := parseAddress(text, "nats", "nats", "tls"); err != nil {
			fault("NATS_URL: address %d of %d %w, such as nats://nats-1.example.com:4222", i+1, len(s.URLs), err)
		}
	}
	for i, text := range s.MonitorURLs {
		if _, err := parseAddress(text, "http", "http", "https"); err != nil {
			fault("NATS_MONITOR_URL: address %d of %d %w, such as http://nats-1.example.com:8222",
				i+1, len(s.MonitorURLs), err)
		}
	}
	if !streamNames.MatchString(s.Stream) {
		fault("NATS_STREAM: %q must consist of 1 to 64 letters, digits, - and _", s.Stream)
	}
	if s.Replicas != 1 && s.Replicas != 3 && s.Replicas != 5 {
		fault("NATS_REPLICAS: %d must be 1, 3 or 5", s.Replicas)
	}
	if (s.User == "") != (s.PasswordFile == "") {
		fault("NATS_USER and NATS_PASSWORD_FILE: set both or neither")
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		fault("NATS_CERT_FILE and NATS_KEY_FILE: set both or neither")
	}
	if ways := s.credentials(); len(ways) > 1 {
		fault("%s: set only one of them", strings.Join(ways, ", "))
	}
	return errors.Join(faults...)
}

// streamNames are the names that streams and buckets can have.
var streamNames = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// credentials returns the settings that hold credentials, in words.
func (s Settings) credentials() (ways []string) {
	for _, text := range s.URLs {
		if u, err := parseAddress(text, "nats", "nats", "tls"); err == nil && u.User != nil {
			ways = append(ways, "the user in NATS_URL")
			break
		}
	}
	if s.CredsFile != "" {
		ways = append(ways, "NATS_CREDS_FILE")
	}
	if s.NKeyFile != "" {
		ways = append(ways, "NATS_NKEY_FILE")
	}
	if s.User != "" {
		ways = append(ways, "NATS_USER and NATS_PASSWORD_FILE")
	}
	return ways
}

// parseAddress parses a URL of a node. Its error does not contain the URL, which may hold a password.
func parseAddress(text, scheme string, allowed ...string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = scheme + "://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("is not the address of a node")
	}
	for _, scheme := range allowed {
		if u.Scheme == scheme {
			return u, nil
		}
	}
	return nil, fmt.Errorf("must begin with %s", strings.Join(allowed, ":// or ")+"://")
}

// hostOf returns the host and port of a node's URL, and nothing secret.
func hostOf(text string) string {
	u, err := parseAddress(text, "nats", "nats", "tls")
	if err != nil {
		return "a node"
	}
	return u.Host
}
