package access

import (
	"net/netip"
	"slices"
	"strings"
)

// Hosts are the host names that a server without tokens answers to. With DNS rebinding, a page can make its own name
// resolve to any address, and then has the same origin as the server there. So the server must not answer to a name
// that an attacker can register.
type Hosts struct {
	Names    []string // in lower case, without a port
	Patterns []string // like Names, each with one * that stands for any characters
}

// unregistrable are suffixes of names that nobody can register: RFC 6761 (localhost), RFC 6762 (local), RFC 8375
// (home.arpa), a 2024 resolution of ICANN (internal), and the names of Kubernetes services (svc).
var unregistrable = []string{".localhost", ".local", ".home.arpa", ".internal", ".svc"}

// Allowed reports whether host, in the form of the Host header, is the server's own: an address, a name that nobody can
// register, or one in hs.
//
// Nobody can register a name of a single label: it could only be a top-level domain, and ICANN does not allow those to
// have addresses.
func (hs *Hosts) Allowed(host string) bool {
	name, isAddress := hostname(host)
	if isAddress || name == "" {
		return isAddress
	}
	return !strings.Contains(name, ".") || slices.Contains(hs.Names, name) ||
		slices.ContainsFunc(unregistrable, func(end string) bool { return strings.HasSuffix(name, end) }) ||
		slices.ContainsFunc(hs.Patterns, func(pattern string) bool { return matchesPattern(name, pattern) })
}

// matchesPattern reports whether name matches pattern, which contains one *.
func matchesPattern(name, pattern string) bool {
	before, after, _ := strings.Cut(pattern, "*")
	return len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// hostname returns the name in host, in lower case, without a port or a trailing dot. If host is an address, it returns
// that, without brackets or a zone, and true. It returns "" if host is neither.
func hostname(host string) (name string, isAddress bool) {
	name = strings.ToLower(host)
	inBrackets, rest, ok := strings.Cut(strings.TrimPrefix(name, "["), "]")
	switch {
	case strings.HasPrefix(name, "["):
		if !ok || rest != "" && rest[0] != ':' {
			return "", false
		}
		address, _, _ := strings.Cut(inBrackets, "%")
		if _, err := netip.ParseAddr(address); err != nil {
			return "", false
		}
		return address, true
	case strings.Count(name, ":") == 1:
		name, _, _ = strings.Cut(name, ":")
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || !strings.Contains(name, ":") && (name[0] < '0' || name[0] > '9') {
		return name, false // skips ParseAddr for most names
	}
	_, err := netip.ParseAddr(name)
	return name, err == nil
}
