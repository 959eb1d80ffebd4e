package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// PublicURL is the address that people and agents use, with a path where the server has one of its own on a host that others share, and
// without a slash at the end. Its URL is nil where none is set.
type PublicURL struct{ *url.URL }

// What the address may be made of: it goes into commands.
var (
	publicHost = regexp.MustCompile(`^([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$`)
	publicPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)
)

// ownPaths are the beginnings of the server's own paths, with which that of the address must not begin: it would not be known which of
// both is meant.
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
		return errors.New("no address of a server")
	case !publicPath.MatchString(u.EscapedPath()), slices.Contains(ownPaths, first):
		return errors.New("no path for a server")
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme] // which browsers leave out
	p.URL = &url.URL{Scheme: u.Scheme, Host: strings.TrimSuffix(u.Host, standard), Path: strings.TrimSuffix(u.Path, "/")}
	return nil
}
