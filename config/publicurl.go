package config

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/kubeagents/kubeagents/internal/access"
)

// PublicURL is the address that people and agents use, without a trailing slash. It includes a path if the server
// shares its host with other services. URL is nil if the setting is unset.
type PublicURL struct{ *url.URL }

// publicHost matches the characters allowed in a host, because it becomes part of shell commands.
var publicHost = regexp.MustCompile(`^([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$`)

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
	prefix, err := access.ParsePathPrefix(u.EscapedPath())
	if err != nil {
		return err
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme] // browsers leave it out
	p.URL = &url.URL{Scheme: u.Scheme, Host: strings.TrimSuffix(u.Host, standard), Path: prefix}
	return nil
}
