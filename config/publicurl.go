package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// PublicURL is the address that people and agents use, without a trailing slash. It includes a path if the server shares its host with
// other services. URL is nil if the setting is unset.
type PublicURL struct{ *url.URL }

// The characters allowed in the address are limited, because it becomes part of shell commands.
var (
	publicHost = regexp.MustCompile(`^([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$`)
	publicPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)
)

// ownPaths are the first segments of the server's own paths. The path of the address must not begin with one of them, since it would be
// ambiguous.
var ownPaths = []string{"api", "assets", "connect", "debug", "favicon.svg", "health", "mcp", "metrics", "openapi.yaml", "sign-in", "sign-out", "webhook"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PublicURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	u.Host = strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https", !publicHost.MatchString(u.Host), u.User != nil, strings.ContainsAny(string(text), "?#"):
		return errors.New("not the URL of a server")
	case !publicPath.MatchString(u.EscapedPath()), slices.Contains(ownPaths, first):
		return errors.New("not a path for a server")
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme] // browsers leave it out
	p.URL = &url.URL{Scheme: u.Scheme, Host: strings.TrimSuffix(u.Host, standard), Path: strings.TrimSuffix(u.Path, "/")}
	return nil
}
