package push_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

// TestKeys checks a pair of keys that npx web-push generate-vapid-keys made.
func TestKeys(t *testing.T) {
	const private, public = "8LN5azNlkwX_F33Z0CeErpr9iFjMW9CSkvM3sNFE9_M", "BKR8q9lacTxbiUH2AFJcoeAt9Gd7i6kSUeq_6Sbl7ArKNOqFYLnHJ1431eBe5ywwjXDp9de9uDym1ZGOm7-2V3c"
	keys, err := push.ParseKeys(private)
	require.NoError(t, err)
	assert.Equal(t, public, keys.Public())
	padded, err := push.ParseKeys(private + "=")
	require.NoError(t, err)
	assert.Equal(t, public, padded.Public())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(verb, keys), private)
		assert.Equal(t, "(secret)", fmt.Sprintf(verb, keys))
	}

	one, err := push.NewKeys()
	require.NoError(t, err)
	other, err := push.NewKeys()
	require.NoError(t, err)
	assert.NotEqual(t, one.Public(), other.Public())
}

func TestInvalidKeys(t *testing.T) {
	const length = "must be the base64url of a private key of 32 bytes"
	for text, want := range map[string]string{
		"":        length,
		"s3cret":  length,
		"s3cret!": length,
		"cl91VhfJSMgaPHS9bBtKx4bYAHwRG4xcu/sLCaAObGg":                            length, // base64
		base64.RawURLEncoding.EncodeToString(make([]byte, 32)):                   "must be a private key of the curve P-256",
		base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 32))): "must be a private key of the curve P-256",
		base64.RawURLEncoding.EncodeToString(make([]byte, 33)):                   length,
		base64.RawURLEncoding.EncodeToString(make([]byte, 65)):                   "must be the private key, not the public key",
	} {
		_, err := push.ParseKeys(text)
		require.EqualError(t, err, want, text)
	}
}

func TestSubscriptions(t *testing.T) {
	b := pushtest.NewBrowser(t)
	for _, endpoint := range []string{
		"https://fcm.googleapis.com/fcm/send/abc:DEF-_", "https://updates.push.services.mozilla.com/wpush/v2/gAAAA", "https://web.push.apple.com/QGx",
		"https://wns2-par02p.notify.windows.com/w/?token=BQ%3d%3d", "https://push.example.com:8443/up?x=1", "https://1.1.1.1/x", "https://[2606:4700::1111]/x",
		"https://push.example.com/" + strings.Repeat("x", 2048-25), "https://xn--bcher-kva.example/x",
	} {
		assert.NoError(t, b.Subscription(endpoint).Check(false), endpoint)
	}
	const (
		scheme  = "endpoint must be a URL that begins with https://"
		private = "endpoint must not be on a host of a private network"
		address = "endpoint must not be at an address that is not public"
		host    = "endpoint must have a valid host name"
	)
	for endpoint, want := range map[string]string{
		"": scheme, "push.example.com/s3cret": scheme, "http://push.example.com/s3cret": scheme, "HTTP://push.example.com": scheme, "ftp://a.example": scheme,
		"javascript:alert(1)": scheme, "data:text/plain,x": scheme, "file:///etc/passwd": scheme, "//push.example.com/": scheme, "https:push.example.com": scheme,
		"https:///x": scheme, "https://a.example/s3cret b": scheme, "https://a.example/\n": scheme, "https://a.example\\@127.0.0.1/": scheme, "https://bücher.example/": scheme,
		"https://①②⑦.⓪.⓪.①/":                                 scheme,
		"https://user:s3cret@a.example/":                     "endpoint must not contain a user or a password",
		"https://a.example/x#s3cret":                         "endpoint must not have a fragment",
		"https://a.example/x#":                               "endpoint must not have a fragment",
		"https://a.example/" + strings.Repeat("s3cret", 340): "endpoint must have at most 2048 bytes",
		"https://localhost/x":                                private,
		"https://LOCALHOST:8443/x":                           private,
		"https://metadata/x":                                 private,
		"https://metadata.google.internal/x":                 private,
		"https://printer.local/x":                            private,
		"https://nas.home.arpa/x":                            private,
		"https://127.1/x":                                    host,
		"https://2130706433/x":                               host,
		"https://0x7f000001/x":                               host,
		"https://0177.0.0.1/x":                               host,
		"https://a.example./x":                               host,
		"https://a..example/x":                               host,
		"https://a.example%00.b.example/x":                   scheme,
		"https://-a.example/x":                               host,
		"https://" + strings.Repeat("a.", 130) + "example/x": host,
		"https://127.0.0.1/x":                                address,
		"https://10.0.0.1:8443/x":                            address,
		"https://169.254.169.254/latest/meta-data":           address,
		"https://[::1]/x":                                    address,
		"https://[::ffff:10.0.0.1]/x":                        address,
		"https://[fe80::1%25eth0]/x":                         address,
	} {
		err := b.Subscription(endpoint).Check(false)
		require.EqualError(t, err, want, endpoint)
		allowed := want == private || want == address
		assert.Equal(t, allowed, b.Subscription(endpoint).Check(true) == nil, "in a private network: %s", endpoint)
	}
}

func TestKeysOfSubscriptions(t *testing.T) {
	good := pushtest.NewBrowser(t).Subscription("https://push.example.com/x")
	require.NoError(t, good.Check(false))
	compressed := pushtest.NewBrowser(t).Private.PublicKey().Bytes()[:33]
	compressed[0] = 2
	off := pushtest.NewBrowser(t).Private.PublicKey().Bytes()
	off[64] ^= 1
	const length, point = "p256dh must be the base64url of a public key of 65 bytes", "p256dh must be a point of the curve P-256, uncompressed"
	for key, want := range map[string]string{
		"": length, "s3cret": length, base64.RawURLEncoding.EncodeToString(compressed): length, base64.RawURLEncoding.EncodeToString(off): point,
		base64.RawURLEncoding.EncodeToString(make([]byte, 65)): point, good.P256dh + "=": "", good.P256dh[:10] + "+" + good.P256dh[11:]: length,
	} {
		s := good
		s.P256dh = key
		if err := s.Check(false); want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
	}
	for _, auth := range []string{"", "s3cret", base64.RawURLEncoding.EncodeToString(make([]byte, 15)), base64.RawURLEncoding.EncodeToString(make([]byte, 17))} {
		s := good
		s.Auth = auth
		assert.EqualError(t, s.Check(false), "auth must be the base64url of 16 bytes")
	}
}

// TestAddresses checks the first and the last address of each range, and those beside it.
func TestAddresses(t *testing.T) {
	for address, public := range map[string]bool{
		"0.0.0.0": false, "0.255.255.255": false, "1.0.0.0": true, "9.255.255.255": true, "10.0.0.0": false, "10.255.255.255": false, "11.0.0.0": true,
		"100.63.255.255": true, "100.64.0.0": false, "100.127.255.255": false, "100.128.0.0": true, "126.255.255.255": true, "127.0.0.1": false, "128.0.0.0": true,
		"169.253.255.255": true, "169.254.0.0": false, "169.255.0.0": true, "172.15.255.255": true, "172.16.0.0": false, "172.31.255.255": false, "172.32.0.0": true,
		"192.0.0.8": false, "192.0.1.0": true, "192.0.2.1": false, "192.88.99.1": false, "192.167.255.255": true, "192.168.0.0": false, "192.169.0.0": true,
		"198.17.255.255": true, "198.18.0.0": false, "198.19.255.255": false, "198.20.0.0": true, "198.51.100.1": false, "203.0.113.1": false,
		"223.255.255.255": true, "224.0.0.0": false, "239.255.255.255": false, "240.0.0.0": false, "255.255.255.255": false,
		"::": false, "::1": false, "::127.0.0.1": false, "::8.8.8.8": false, "100::": false, "fc00::1": false, "fd12::1": false, "fe80::1": false, "fec0::1": false, "ff02::1": false,
		"2001::1": false, "2001:db8::1": false, "2001:200::1": true, "2002:7f00:1::": false, "2002:808:808::": false, "2a00:1450::1": true, "3fff::1": false,
		"3ffe::1": true, "4000::1": false, "5f00::1": false, "64:ff9b::8.8.8.8": true, "64:ff9b::10.0.0.1": false, "64:ff9b:1::8.8.8.8": false,
		"::ffff:8.8.8.8": true, "::ffff:127.0.0.1": false,
	} {
		host := address
		if strings.Contains(address, ":") {
			host = "[" + address + "]"
		}
		err := pushtest.NewBrowser(t).Subscription("https://" + host + "/x").Check(false)
		assert.Equal(t, public, err == nil, "%s: %v", address, err)
	}
}

// TestEmbeddedAddresses checks that an IPv4 address is refused in each form in which IPv6 contains it, if it is refused
// by itself.
func TestEmbeddedAddresses(t *testing.T) {
	b := pushtest.NewBrowser(t)
	allowed := func(address netip.Addr) bool {
		host := address.String()
		if address.Is6() {
			host = "[" + host + "]"
		}
		return b.Subscription("https://"+host+"/x").Check(false) == nil
	}
	rapid.Check(t, func(t *rapid.T) {
		bytes := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
		if rapid.Bool().Draw(t, "special") {
			bytes[0] = rapid.SampledFrom([]byte{0, 10, 100, 127, 169, 172, 192, 198, 203, 224, 255}).Draw(t, "first")
		}
		v4 := netip.AddrFrom4(bytes)
		embed := func(prefix string, at int) netip.Addr {
			all := netip.MustParseAddr(prefix).As16()
			copy(all[at:], bytes[:])
			return netip.AddrFrom16(all)
		}
		require.Equal(t, allowed(v4), allowed(embed("::ffff:0:0", 12)), "mapped: %s", v4)
		require.Equal(t, allowed(v4), allowed(embed("64:ff9b::", 12)), "NAT64: %s", v4)
		require.False(t, allowed(embed("2002::", 2)), "6to4")
		require.False(t, allowed(embed("64:ff9b:1::", 12)), "local NAT64")
		require.False(t, allowed(embed("2001::", 12)), "Teredo")
		require.False(t, allowed(embed("::", 12)), "compatible")
	})
}

// TestPrivateAddressesAreNotConnectedTo checks the address that a name resolves to, not only the name.
func TestPrivateAddressesAreNotConnectedTo(t *testing.T) {
	s := pushtest.NewService(t)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		subscription := s.Browser.Subscription("https://" + host + ":" + port + "/s3cret")
		_, err := push.NewSender(func() *push.Keys { return s.Keys }, pushtest.Subject, subscription, s.PushClient(false)).Send(t.Context(), waiting())
		require.EqualError(t, err, host+":"+port+": its address is not public: see PUSH_ALLOW_PRIVATE")
		require.ErrorIs(t, err, notify.ErrRefused)
	}
	assert.Empty(t, s.Taken())
	_, err := s.Sender().Send(t.Context(), waiting())
	require.NoError(t, err, "it can be reached if that is allowed")
}

// TestNoProxy checks that no proxy is used that would resolve names itself, unless private addresses are allowed.
func TestNoProxy(t *testing.T) {
	assert.Nil(t, push.NewClient(false).Transport.(*http.Transport).Proxy)
	assert.NotNil(t, push.NewClient(true).Transport.(*http.Transport).Proxy)
}
