package config

import (
	"errors"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NATSURLs are addresses of NATS servers. They may contain a user and a password, so they are never printed.
type NATSURLs []string

// String returns a placeholder, or "" if there are no addresses.
func (u NATSURLs) String() string {
	if len(u) == 0 {
		return ""
	}
	return "(secret)"
}

// GoString implements [fmt.GoStringer], so that %#v does not print the addresses either.
func (u NATSURLs) GoString() string { return u.String() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *NATSURLs) UnmarshalText(text []byte) (err error) {
	*u, err = parseNodes(string(text), func(node *url.URL) bool { return node.Scheme == "nats" || node.Scheme == "tls" })
	return err
}

// hasUser reports whether an address contains a user or a token.
func (u NATSURLs) hasUser() bool {
	return slices.ContainsFunc(u, func(text string) bool {
		node, err := url.Parse(text)
		return err == nil && node.User != nil
	})
}

// MonitorURLs are addresses of the monitoring of NATS servers.
type MonitorURLs []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *MonitorURLs) UnmarshalText(text []byte) (err error) {
	*u, err = parseNodes(string(text), func(node *url.URL) bool {
		return (node.Scheme == "http" || node.Scheme == "https") && node.User == nil
	})
	return err
}

// parseNodes returns the URLs in text, which is separated by commas. They must be allowed, and have no path. Its error
// contains none of text.
func parseNodes(text string, allowed func(*url.URL) bool) (nodes []string, err error) {
	for node := range strings.SplitSeq(text, ",") {
		node = strings.TrimSpace(node)
		u, err := url.Parse(node)
		if err != nil || u.Hostname() == "" || !validPort(u.Port()) || strings.Trim(u.Path, "/") != "" ||
			strings.ContainsAny(node, "?#") || !allowed(u) {
			return nil, errors.New("not the address of a NATS server")
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

func validPort(port string) bool {
	number, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && number > 0
}

var (
	streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`) // other names of streams and buckets begin with it
	serverName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// checkNATS calls report with each setting that is not allowed together with NATS_URL, or without it.
func (c *Config) checkNATS(environment map[string]string, report func(field string)) {
	if environment["NATS_URL"] != "" {
		if c.DataDir == "" {
			report("DataDir")
		}
		return
	}
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); strings.HasPrefix(name, "NATS_") && environment[name] != "" {
			report(field.Name)
		}
	}
}

// credentials returns the fields with credentials for NATS, of which one may be set.
func (c *Config) credentials() (fields []string) {
	if c.NATSURL.hasUser() {
		fields = append(fields, "NATSURL")
	}
	if c.NATSCredsFile != "" {
		fields = append(fields, "NATSCredsFile")
	}
	if c.NATSNKeyFile != "" {
		fields = append(fields, "NATSNKeyFile")
	}
	if c.NATSUser != "" {
		fields = append(fields, "NATSUser")
	}
	return fields
}
