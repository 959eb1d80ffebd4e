package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// PublicURL is the address that people and agents use, without a trailing slash. It includes a path if the server
// shares its host with other services. URL is nil if the setting is unset.
type PublicURL struct{ *url.URL }

// The characters allowed in the address are limited, because it becomes part of shell commands.
var (
	publicHost = regexp.MustCompile(`^([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$`)
	publicPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)
)

// ownPaths are the first segments of the server's own paths. The path of the address must not begin with one of them,
// since it would be ambiguous.
var ownPaths = []string{"api", "assets", "connect", "debug", "favicon.svg", "health", "mcp", "metrics", "openapi.yaml", "sign-in", "sign-out", "webhook"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PublicURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil {
		return err
	}
	u.Host = strings.ToLower(u.Host)
	if u.Scheme != "http" && u.Scheme != "https" || !publicHost.MatchString(u.Host) || u.User != nil || strings.ContainsAny(string(text), "?#") {
		return errors.New("not the URL of a server")
	}
	prefix, err := ParsePathPrefix(u.EscapedPath())
	if err != nil {
		return err
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme] // browsers leave it out
	p.URL = &url.URL{Scheme: u.Scheme, Host: strings.TrimSuffix(u.Host, standard), Path: prefix}
	return nil
}

// ParsePathPrefix returns the path under which a server shares its host with others, without a trailing slash; "" for
// the root. The error says that the text is not a path such as /kubeagents, or that it would be ambiguous.
func ParsePathPrefix(text string) (string, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	if !publicPath.MatchString(text) || slices.Contains(ownPaths, first) {
		return "", errors.New("not a path for a server")
	}
	return strings.TrimSuffix(text, "/"), nil
}
