package access

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// pathPrefix limits the characters of a prefix, because it becomes part of shell commands.
var pathPrefix = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)

// ownPaths are the first segments of the server's own paths. The path of the address must not begin with one of them,
// since it would be ambiguous.
var ownPaths = []string{"api", "assets", "connect", "debug", "favicon.svg", "health", "icons",
	"manifest.webmanifest", "mcp", "metrics", "openapi.yaml", "sign-in", "sign-out", "sw.js", "webhook"}

// ParsePathPrefix returns the path under which a server shares its host with others, without a trailing slash; "" for
// the root. The error says that the text is not a path such as /kubeagents, or that it would be ambiguous.
func ParsePathPrefix(text string) (string, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	if !pathPrefix.MatchString(text) || slices.Contains(ownPaths, first) {
		return "", errors.New("not a path for a server")
	}
	return strings.TrimSuffix(text, "/"), nil
}
