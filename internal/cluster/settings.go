package cluster

import (
	"context"
	"net"
	"net/url"
)

// Settings say how to reach NATS and what to keep there. The comments name the environment variables. Package config
// checks them; here, only the content of files is checked.
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

	Dial func(ctx context.Context, network, address string) (net.Conn, error) // connects to a node; nil for TCP
}

// Subject returns the subject of the stream's messages.
func (s Settings) Subject() string { return s.Stream + ".log" }

// BroadcastSubject returns the subject of what servers tell each other without storing it.
func (s Settings) BroadcastSubject() string { return s.Stream + ".tell" }

// LeasesBucket returns the name of the key-value bucket of the lease.
func (s Settings) LeasesBucket() string { return s.Stream + "_LEASES" }

// ServersBucket returns the name of the key-value bucket of the servers that run.
func (s Settings) ServersBucket() string { return s.Stream + "_SERVERS" }

// SignInsBucket returns the name of the key-value bucket of people's sign-ins.
func (s Settings) SignInsBucket() string { return s.Stream + "_SIGN_INS" }

// SnapshotsBucket returns the name of the object store of snapshots.
func (s Settings) SnapshotsBucket() string { return s.Stream + "_SNAPSHOTS" }

// credentials returns the name of the setting that holds credentials, "" if none does.
func (s Settings) credentials() string {
	switch {
	case s.CredsFile != "":
		return "NATS_CREDS_FILE"
	case s.NKeyFile != "":
		return "NATS_NKEY_FILE"
	case s.User != "":
		return "NATS_USER and NATS_PASSWORD_FILE"
	}
	for _, text := range s.URLs {
		if u, err := url.Parse(text); err == nil && u.User != nil {
			return "NATS_URL"
		}
	}
	return ""
}

// hostOf returns the host and port of a node's URL, and nothing secret.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a node"
	}
	return u.Host
}
