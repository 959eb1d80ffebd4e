package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
)

// TestOwnHosts checks which names count as the server's own, and which an attacker's page could have.
func TestOwnHosts(t *testing.T) {
	hosts := access.Hosts{Names: []string{"hub.example.com", "xn--bcher-kva.example"}, Patterns: []string{"*.team.example"}}
	for _, own := range []string{
		"127.0.0.1", "127.0.0.1:8080", "10.1.2.3", "203.0.113.7:80", "127.0.0.1.", "[::1]", "[::1]:8080", "[2001:DB8::1]:443", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]:80", "[fe80::1%eth0]", "::1",
		"localhost", "LOCALHOST:8080", "localhost.", "localhost.:8080", "app.localhost", "hub", "Hub.:8080", "my_hub", "2130706433",
		"laptop.local", "LapTop.Local.:8080", "hub.internal", "ip-10-0-0-1.ec2.internal", "hub.home.arpa", "kubeagents.prod.svc", "kubeagents.prod.svc:80", "kubeagents.prod.svc.cluster.local",
		"hub.example.com", "HUB.example.COM:443", "hub.example.com.", "xn--bcher-kva.example", "a.team.example", "a.b.team.example:8443",
	} {
		require.True(t, hosts.Allowed(own), own)
	}
	for _, foreign := range []string{
		"", ".", ":8080", "evil.example", "evil.example:8080", "EVIL.example.", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io", "local.evil", "evillocal.com", "svc.com",
		"hub.example.com.evil.test", "xhub.example.com", "a.hub.example.com", "team.example", ".team.example", "evilteam.example", "bücher.example", "home.arpa.com", "1.evil",
		"[::1", "[::1].evil.example", "[evil.example]", "[]", "[hub]:80", "::1.evil", "user@evil.example", "evil.example,localhost", "hub.example.com@evil.example:80", "localhost:80.evil.example:80",
		"internal.example", "evil.internal.example", "evil.xn--local",
	} {
		require.False(t, hosts.Allowed(foreign), foreign)
	}
	var none access.Hosts
	require.False(t, none.Allowed("hub.example.com"))
	require.True(t, none.Allowed("localhost"))
}
