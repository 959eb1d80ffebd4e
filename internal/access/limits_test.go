package access_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
)

// TestANetworkCountsAsOne checks that the addresses of an IPv6 /64, which mostly belong to one client, share a limit.
func TestANetworkCountsAsOne(t *testing.T) {
	for _, c := range []struct {
		a, b string
		one  bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.0", "192.0.2.1", false},
		{"2001:db8::1", "2001:db8::8000:0:0:1", true},
		{"2001:db8:0:0::1", "2001:db8:0:1::1", false},
	} {
		require.Equal(t, c.one, access.NetworkOf(netip.MustParseAddr(c.a)) == access.NetworkOf(netip.MustParseAddr(c.b)), "%s and %s", c.a, c.b)
	}
	require.Equal(t, netip.Prefix{}, access.NetworkOf(netip.Addr{}), "invalid addresses count as one network")
}

// TestEachAddressHasItsOwnLimits checks that reports and reads are limited separately for each address.
func TestEachAddressHasItsOwnLimits(t *testing.T) {
	now := time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	limited := access.NewRateLimiter(access.Limits{Reports: 5, Reads: 3})
	taken := func(of func(netip.Addr) *access.Excess, client netip.Addr) (n int) {
		for of(client) == nil {
			n++
			require.Less(t, n, 1000)
		}
		return n
	}
	reports := func(client netip.Addr) *access.Excess { return limited.Reports(nil, client, 1, now) }
	reads := func(client netip.Addr) *access.Excess { return limited.Reads(nil, client, now) }
	most := taken(reports, one)
	require.GreaterOrEqual(t, most, 5)
	require.Equal(t, most, taken(reports, other), "addresses don't share a limit")
	require.GreaterOrEqual(t, taken(reads, one), 3, "reports and reads don't share a limit")
	require.Equal(t, &access.Excess{Rate: 5, After: 200 * time.Millisecond}, reports(one))
	now = now.Add(time.Second)
	require.Equal(t, 5, taken(reports, one), "refilled after a second")

	free := access.NewRateLimiter(access.Limits{})
	for range 1000 {
		require.Nil(t, free.Reports(nil, one, 1000, now))
		require.Nil(t, free.Reads(nil, one, now))
	}
	require.Zero(t, free.Known())
}
