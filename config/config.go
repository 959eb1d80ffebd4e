// Package config reads the server's settings from the environment.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/dustin/go-humanize"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
)

// Config holds the server's settings. The env tag names the environment variable of each field, envDefault is the value
// used when the variable is unset or empty, and allowed describes the allowed values in error messages.
type Config struct {
	Port               int              `env:"PORT" envDefault:"8080" allowed:"a port from 0 to 65535; 0 takes any that is free"`
	Host               string           `env:"HOST" allowed:"an address or name of this machine, or 0.0.0.0 for all its interfaces; if unset, loopback only without TOKENS_FILE and all interfaces with it"`
	PublicURL          PublicURL        `env:"PUBLIC_URL" allowed:"a URL such as https://hub.example.com or https://example.com/kubeagents; if unset, the address of each request is used"`
	CORSAllowedOrigins Origins          `env:"CORS_ALLOWED_ORIGINS" envDefault:"*" allowed:"* for all, or origins such as https://example.com or https://*.example.com, separated by commas"`
	DefaultTTLMinutes  int              `env:"DEFAULT_TTL_MINUTES" envDefault:"30" allowed:"a whole number of minutes from 1 to 1440"`
	ExpiryInterval     time.Duration    `env:"EXPIRY_INTERVAL" envDefault:"1s" allowed:"a duration from 10ms to 1h"`
	DataDir            string           `env:"DATA_DIR" allowed:"a persistent directory, required with NATS_URL; if unset, state is kept in memory only"`
	SessionRetention   time.Duration    `env:"SESSION_RETENTION" envDefault:"168h" allowed:"a duration from 0s to 87600h"`
	HistoryRetention   time.Duration    `env:"HISTORY_RETENTION" allowed:"a duration from 1s to 87600h; if unset, SESSION_RETENTION, but at least one day"`
	HistoryLimit       int              `env:"HISTORY_LIMIT" envDefault:"100" allowed:"a whole number from 1 to 10000"`
	HistoryMaxBytes    Bytes            `env:"HISTORY_MAX_BYTES" envDefault:"2GiB" allowed:"a size from 1MiB to 1TiB, such as 512MiB"`
	DataMaxBytes       Bytes            `env:"DATA_MAX_BYTES" envDefault:"0" allowed:"a size from 256MiB to 1PiB, such as 100GiB; 0 for no limit"`
	MaxSessions        int              `env:"MAX_SESSIONS" envDefault:"1000000" allowed:"a whole number from 1 to 100000000"`
	EventWindow        int              `env:"EVENT_WINDOW" envDefault:"10000" allowed:"a whole number from 100 to 1000000"`
	MaxSubscribers     int              `env:"MAX_SUBSCRIBERS" envDefault:"10000" allowed:"a whole number from 0 to 1000000"`
	Capture            adapters.Capture `env:"CAPTURE" envDefault:"full" allowed:"full, titles or none"`
	TokensFile         string           `env:"TOKENS_FILE" allowed:"a tokens file; if unset, everyone has access"`
	MetricsPublic      bool             `env:"METRICS_PUBLIC" envDefault:"false" allowed:"true or false"`
	WebhookSecret      Secret           `env:"WEBHOOK_SECRET" allowed:"whsec_ followed by the base64 of 24 to 64 bytes; several, separated by commas, while secrets are rotated"`
	TeamShare          float64          `env:"TEAM_SHARE" envDefault:"0.5" allowed:"a fraction of each limit, from 0.001 to 1"`
	RateLimitReports   int              `env:"RATE_LIMIT_REPORTS" envDefault:"1000" allowed:"a whole number per second from 1 to 10000000; 0 for no limit"`
	RateLimitReads     int              `env:"RATE_LIMIT_READS" envDefault:"100" allowed:"a whole number per second from 1 to 10000000; 0 for no limit"`
	AnswersMaxBytes    Bytes            `env:"ANSWERS_MAX_BYTES" envDefault:"64MiB" allowed:"a size from 16MiB to 1TiB, such as 64MiB"`
	BodiesMaxBytes     Bytes            `env:"BODIES_MAX_BYTES" envDefault:"64MiB" allowed:"a size from 16MiB to 1TiB, such as 64MiB"`
	MaxInFlight        int              `env:"MAX_IN_FLIGHT" envDefault:"1000" allowed:"a whole number from 1 to 1000000; 0 for no limit"`
	TrustedProxies     Prefixes         `env:"TRUSTED_PROXIES" allowed:"addresses or networks such as 10.0.0.0/8, separated by commas; if unset, X-Forwarded-* headers are ignored"`
	TLSCertFile        string           `env:"TLS_CERT_FILE" allowed:"a file with a certificate in PEM, along with TLS_KEY_FILE; if both are unset, TLS is off"`
	TLSKeyFile         string           `env:"TLS_KEY_FILE" allowed:"a file with the certificate's key in PEM, along with TLS_CERT_FILE"`
	TLSClientCAFile    string           `env:"TLS_CLIENT_CA_FILE" allowed:"a file with the CA certificates that sign client certificates, in PEM, along with TLS_CERT_FILE; if unset, clients need no certificate"`
	NotifyFile         string           `env:"NOTIFY_FILE" allowed:"a file of notification rules; if unset, only devices are notified"`
	VAPIDPrivateKey    VAPIDKey         `env:"VAPID_PRIVATE_KEY" allowed:"a private key as npx web-push generate-vapid-keys prints it: 32 bytes as base64url; if unset, one is made and kept in DATA_DIR"`
	VAPIDSubject       VAPIDSubject     `env:"VAPID_SUBJECT" allowed:"a URL such as mailto:ops@example.com or https://example.com/contact; if unset, PUBLIC_URL if it begins with https://"`
	PushAllowPrivate   bool             `env:"PUSH_ALLOW_PRIVATE" envDefault:"false" allowed:"true or false"`
	NATSURL            NATSURLs         `env:"NATS_URL" allowed:"addresses of NATS servers such as nats://nats-1.example.com:4222 or tls://nats-1.example.com:4222, separated by commas, without a user if other credentials are set; if unset, the server is not part of a cluster"`
	NATSStream         string           `env:"NATS_STREAM" envDefault:"KUBEAGENTS" allowed:"1 to 32 letters, digits, - and _, along with NATS_URL"`
	NATSReplicas       int              `env:"NATS_REPLICAS" envDefault:"3" allowed:"1, 3 or 5, along with NATS_URL"`
	NATSCredsFile      string           `env:"NATS_CREDS_FILE" allowed:"a credentials file of NATS, along with NATS_URL and without other credentials"`
	NATSNKeyFile       string           `env:"NATS_NKEY_FILE" allowed:"a file with the seed of an NKey, along with NATS_URL and without other credentials"`
	NATSUser           string           `env:"NATS_USER" allowed:"a user's name, along with NATS_URL and NATS_PASSWORD_FILE and without other credentials"`
	NATSPasswordFile   string           `env:"NATS_PASSWORD_FILE" allowed:"a file with the user's password, along with NATS_USER"`
	NATSCAFile         string           `env:"NATS_CA_FILE" allowed:"a file with CA certificates in PEM, along with NATS_URL; if unset, those of the system are used"`
	NATSCertFile       string           `env:"NATS_CERT_FILE" allowed:"a file with a certificate in PEM, along with NATS_URL and NATS_KEY_FILE"`
	NATSKeyFile        string           `env:"NATS_KEY_FILE" allowed:"a file with the certificate's key in PEM, along with NATS_URL and NATS_CERT_FILE"`
	NATSMonitorURL     MonitorURLs      `env:"NATS_MONITOR_URL" allowed:"addresses of the monitoring of NATS servers such as http://nats-1.example.com:8222, separated by commas, without a user, along with NATS_URL"`
	NATSStaleAfter     time.Duration    `env:"NATS_STALE_AFTER" envDefault:"15s" allowed:"a duration from 5s to 10m, along with NATS_URL"`
	ServerName         string           `env:"SERVER_NAME" allowed:"1 to 64 letters, digits, dots, - and _; if unset, the machine's host name"`
	LogLevel           LogLevel         `env:"LOG_LEVEL" envDefault:"info" allowed:"debug, info, warn or error"`
	LogFormat          LogFormat        `env:"LOG_FORMAT" envDefault:"text" allowed:"text or json"`
	ShutdownTimeout    time.Duration    `env:"SHUTDOWN_TIMEOUT" envDefault:"10s" allowed:"a duration from 100ms to 10m"`
}

// Load reads the settings from environment, which maps each variable to its value. The error names every
// invalid variable, its value and what is allowed.
func Load(environment map[string]string) (Config, error) {
	var c Config
	faulty := map[string]bool{}
	if err := env.ParseWithOptions(&c, env.Options{Environment: environment}); err != nil {
		var all env.AggregateError
		if !errors.As(err, &all) {
			return c, err
		}
		for _, err := range all.Errors {
			var parse env.ParseError
			if !errors.As(err, &parse) {
				return c, err
			}
			faulty[parse.Name] = true
		}
	}
	if environment["HISTORY_RETENTION"] == "" {
		c.HistoryRetention = max(c.SessionRetention, models.MaxTTLMinutes*time.Minute)
	}
	if c.VAPIDSubject == "" && c.PublicURL.URL != nil && c.PublicURL.Scheme == "https" {
		c.VAPIDSubject = VAPIDSubject(c.PublicURL.String())
	}
	report := func(field string) { faulty[field] = true }
	c.outOfRange(report)
	c.checkNATS(environment, report)

	var faults []error
	for field := range reflect.TypeFor[Config]().Fields() {
		if faulty[field.Name] {
			name := field.Tag.Get("env")
			problem := "is " + strconv.Quote(environment[name]) + ", but"
			if mayBeSecret(field.Type) {
				problem = "(value not shown)"
			}
			faults = append(faults, fmt.Errorf("%s %s must be %s", name, problem, field.Tag.Get("allowed")))
		}
	}
	return c, errors.Join(faults...)
}

// mayBeSecret reports whether an invalid value of the type may contain a secret.
func mayBeSecret(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Secret](), reflect.TypeFor[VAPIDKey](), reflect.TypeFor[NATSURLs](), reflect.TypeFor[MonitorURLs]():
		return true
	}
	return false
}

// outOfRange calls report with each field whose value could be parsed but is not allowed.
func (c *Config) outOfRange(report func(field string)) {
	check := func(field string, ok bool) {
		if !ok {
			report(field)
		}
	}
	check("Port", 0 <= c.Port && c.Port <= 65535)
	check("DefaultTTLMinutes", models.MinTTLMinutes <= c.DefaultTTLMinutes && c.DefaultTTLMinutes <= models.MaxTTLMinutes)
	check("ExpiryInterval", 10*time.Millisecond <= c.ExpiryInterval && c.ExpiryInterval <= time.Hour)
	check("SessionRetention", 0 <= c.SessionRetention && c.SessionRetention <= 87600*time.Hour)
	check("HistoryRetention", time.Second <= c.HistoryRetention && c.HistoryRetention <= 87600*time.Hour)
	check("HistoryLimit", 1 <= c.HistoryLimit && c.HistoryLimit <= 10_000)
	check("HistoryMaxBytes", 1<<20 <= c.HistoryMaxBytes && c.HistoryMaxBytes <= 1<<40)
	check("DataMaxBytes", c.DataMaxBytes == 0 || 256<<20 <= c.DataMaxBytes && c.DataMaxBytes <= 1<<50)
	check("MaxSessions", 1 <= c.MaxSessions && c.MaxSessions <= 100_000_000)
	check("EventWindow", 100 <= c.EventWindow && c.EventWindow <= 1_000_000)
	check("MaxSubscribers", 0 <= c.MaxSubscribers && c.MaxSubscribers <= 1_000_000)
	check("TeamShare", 0.001 <= c.TeamShare && c.TeamShare <= 1)
	check("RateLimitReports", 0 <= c.RateLimitReports && c.RateLimitReports <= 10_000_000)
	check("RateLimitReads", 0 <= c.RateLimitReads && c.RateLimitReads <= 10_000_000)
	check("AnswersMaxBytes", budget.MinBytes <= c.AnswersMaxBytes && c.AnswersMaxBytes <= 1<<40)
	check("BodiesMaxBytes", budget.MinBytes <= c.BodiesMaxBytes && c.BodiesMaxBytes <= 1<<40)
	check("MaxInFlight", 0 <= c.MaxInFlight && c.MaxInFlight <= 1_000_000)
	check("TLSCertFile", c.TLSCertFile != "" || c.TLSKeyFile == "")
	check("TLSKeyFile", c.TLSKeyFile != "" || c.TLSCertFile == "")
	check("TLSClientCAFile", c.TLSClientCAFile == "" || c.TLSCertFile != "")
	check("NATSStream", streamName.MatchString(c.NATSStream))
	check("NATSReplicas", c.NATSReplicas == 1 || c.NATSReplicas == 3 || c.NATSReplicas == 5)
	check("NATSUser", c.NATSUser != "" || c.NATSPasswordFile == "")
	check("NATSPasswordFile", c.NATSPasswordFile != "" || c.NATSUser == "")
	check("NATSCertFile", c.NATSCertFile != "" || c.NATSKeyFile == "")
	check("NATSKeyFile", c.NATSKeyFile != "" || c.NATSCertFile == "")
	if fields := c.credentials(); len(fields) > 1 {
		for _, field := range fields {
			report(field)
		}
	}
	check("NATSStaleAfter", 5*time.Second <= c.NATSStaleAfter && c.NATSStaleAfter <= 10*time.Minute)
	check("ServerName", c.ServerName == "" || serverName.MatchString(c.ServerName))
	check("ShutdownTimeout", 100*time.Millisecond <= c.ShutdownTimeout && c.ShutdownTimeout <= 10*time.Minute)
}

// Addresses returns the addresses to listen on, in the form that [net.Listen] takes. Without HOST and TOKENS_FILE, the
// server listens on loopback only.
func (c *Config) Addresses() []string {
	hosts := []string{c.Host}
	if c.Host == "localhost" || c.Host == "" && c.TokensFile == "" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	for i, host := range hosts {
		hosts[i] = net.JoinHostPort(host, strconv.Itoa(c.Port))
	}
	return hosts
}

// ReachableFromNetwork reports whether the server can be reached from the network, not just from this machine.
func (c *Config) ReachableFromNetwork() bool {
	for _, address := range c.Addresses() {
		host, _, _ := net.SplitHostPort(address)
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return true
		}
	}
	return false
}

// Secret is a value that is never printed.
type Secret string

// String returns a placeholder, or "" if s is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString implements [fmt.GoStringer], so that %#v does not print the secret either.
func (s Secret) GoString() string { return s.String() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(text []byte) error {
	if _, err := access.NewSignatures(string(text), access.Limits{}); err != nil {
		return err
	}
	*s = Secret(text)
	return nil
}

// Prefixes is a list of networks.
type Prefixes []netip.Prefix

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Prefixes) UnmarshalText(text []byte) error {
	var prefixes Prefixes
	for value := range strings.SplitSeq(string(text), ",") {
		value = strings.TrimSpace(value)
		prefix, err := netip.ParsePrefix(value)
		if address, addressErr := netip.ParseAddr(value); addressErr == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return err
		}
		if address := prefix.Addr(); address.Is4In6() && prefix.Bits() >= 96 { // clients' addresses are compared as IPv4
			prefix = netip.PrefixFrom(address.Unmap(), prefix.Bits()-96)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	*p = prefixes
	return nil
}

// Bytes is a size in bytes, written as 512MiB or 1GB.
type Bytes int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = Bytes(min(n, 1<<62))
	return nil
}

// LogLevel is the lowest level that is logged.
type LogLevel struct{ slog.Level }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LogLevel) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "debug", "info", "warn", "error":
		return l.Level.UnmarshalText(text)
	}
	return errors.New("unknown log level")
}

// LogFormat is the format of log lines: text or json.
type LogFormat string

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch value := LogFormat(strings.ToLower(string(text))); value {
	case "text", "json":
		*f = value
		return nil
	}
	return errors.New("unknown log format")
}

// Origins are the web origins whose pages may read the server's responses (CORS).
type Origins []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Origins) UnmarshalText(text []byte) error {
	var origins Origins
	for origin := range strings.SplitSeq(string(text), ",") {
		origin = strings.TrimSpace(origin)
		if !validOrigin(origin) {
			return fmt.Errorf("%q is not an origin", origin)
		}
		origins = append(origins, origin)
	}
	*o = origins
	return nil
}

// All reports whether every origin is allowed.
func (o Origins) All() bool {
	for _, origin := range o {
		if origin == "*" {
			return true
		}
	}
	return false
}

// Lists reports whether an origin is allowed by name or by a pattern, and not just because all origins are allowed.
func (o Origins) Lists(origin string) bool {
	for _, pattern := range o {
		before, after, wild := strings.Cut(pattern, "*")
		switch {
		case pattern == "*":
		case !wild && strings.EqualFold(pattern, origin),
			wild && len(origin) > len(before)+len(after) && strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after):
			return true
		}
	}
	return false
}

// Hosts returns the hosts of the origins that are allowed by name, and the host patterns, both without ports. It leaves
// out patterns that end with *: anybody may own a name that matches one.
func (o Origins) Hosts() (names, patterns []string) {
	for _, origin := range o {
		_, host, _ := strings.Cut(strings.ToLower(origin), "://")
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host = host[:i]
		}
		switch i := strings.IndexByte(host, '*'); {
		case i < 0 && host != "":
			names = append(names, host)
		case i >= 0 && i < len(host)-1:
			patterns = append(patterns, host)
		}
	}
	return names, patterns
}

// validOrigin reports whether origin is "*", or a scheme, a host and an optional port with at most one "*" in the host.
func validOrigin(origin string) bool {
	if origin == "*" {
		return true
	}
	u, err := url.Parse(strings.Replace(origin, "*", "any", 1))
	return err == nil && u.Scheme != "" && u.Hostname() != "" &&
		u.Scheme+"://"+u.Host == strings.Replace(origin, "*", "any", 1) && !strings.Contains(u.Host, "*")
}
