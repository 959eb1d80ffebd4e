package push

import "net/netip"

var (
	// reserved4 are the IPv4 addresses that are not of the internet (IANA IPv4 Special-Purpose Address Registry), and
	// multicast.
	reserved4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4")

	// global6 are the IPv6 addresses that are assigned to the internet. reserved6 are those of them that have another
	// purpose (IANA IPv6 Special-Purpose Address Registry), such as Teredo and 6to4, which may lead anywhere.
	global6   = netip.MustParsePrefix("2000::/3")
	reserved6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

	// translated6 are IPv6 addresses that a gateway translates to the IPv4 address in their last four bytes (NAT64, RFC
	// 6052). Networks without IPv4 reach all of it that way.
	translated6 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// isPublic reports whether an address is one of the internet: not of this machine, its network or a private one, and
// not reserved.
func isPublic(address netip.Addr) bool {
	address = address.WithZone("").Unmap()
	if translated6.Contains(address) {
		bytes := address.As16()
		address = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if address.Is4() {
		return !anyContains(reserved4, address)
	}
	return global6.Contains(address) && !anyContains(reserved6, address)
}

func anyContains(all []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range all {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
