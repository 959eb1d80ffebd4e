package access

import (
	"net/netip"
	"slices"
	"strings"
)

// Hosts are the names under which a server answers that lets everybody in. A page can have its own name lead to any machine (DNS
// rebinding), and is then of the same origin as what answers there: it must not answer under a name that somebody can register.
type Hosts struct {
	Names    []string // in lower case, without a port
	Patterns []string // the same, with one * for any characters before what follows it
}

// unregistrable are the ends of names that nobody can register: RFC 6761 (localhost), RFC 6762 (local), RFC 8375 (home.arpa), a
// resolution of ICANN's of 2024 (internal), and what Kubernetes calls its services (svc).
var unregistrable = []string{".localhost", ".local", ".home.arpa", ".internal", ".svc"}

// Own reports whether host, as in the header Host, is the server's own: an address, a name that nobody can register, or one of hs.
//
// A name of one label is such a name: only a top-level domain could be reached by one, and ICANN forbids those to have addresses.
func (hs *Hosts) Own(host string) bool {
	name, isAddress := hostname(host)
	if isAddress || name == "" {
		return isAddress
	}
	return !strings.Contains(name, ".") || slices.Contains(hs.Names, name) ||
		slices.ContainsFunc(unregistrable, func(end string) bool { return strings.HasSuffix(name, end) }) ||
		slices.ContainsFunc(hs.Patterns, func(pattern string) bool { return fits(name, pattern) })
}

// fits reports whether a name is as a pattern says.
func fits(name, pattern string) bool {
	before, after, _ := strings.Cut(pattern, "*")
	return len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// hostname returns the name in host, in lower case, without a port and the dot of an absolute name; or, without brackets and a zone, the
// address that it is. It is "" where host is neither.
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
		return name, false // at no cost, as most names
	}
	_, err := netip.ParseAddr(name)
	return name, err == nil
}
