package config_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/push"
)

func TestDefaults(t *testing.T) {
	for _, environment := range []map[string]string{{}, {"PORT": "", "LOG_LEVEL": "", "CORS_ALLOWED_ORIGINS": ""}} {
		c, err := config.Load(environment)
		require.NoError(t, err)
		require.Equal(t, config.Config{
			Port: 8080, CORSAllowedOrigins: config.Origins{"*"}, DefaultTTLMinutes: 30, ExpiryInterval: time.Second,
			SessionRetention: 168 * time.Hour, HistoryRetention: 168 * time.Hour, HistoryLimit: 100, HistoryMaxBytes: 2 << 30, MaxSessions: 1_000_000,
			EventWindow: 10_000, MaxSubscribers: 10_000, Capture: "full", TeamShare: 0.5, RateLimitReports: 1000, RateLimitReads: 100, MaxInFlight: 1000, AnswersMaxBytes: 64 << 20, BodiesMaxBytes: 64 << 20, LogFormat: "text", ShutdownTimeout: 10 * time.Second,
			NATSStream: "KUBEAGENTS", NATSReplicas: 3, NATSStaleAfter: 15 * time.Second,
		}, c)
		require.Equal(t, []string{"127.0.0.1:8080", "[::1]:8080"}, c.Addresses())
	}
}

func TestEverySettingIsRead(t *testing.T) {
	c, err := config.Load(map[string]string{
		"PORT": "9", "HOST": "::1", "PUBLIC_URL": "HTTPS://Hub.example:443/Team-a/", "CORS_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,https://*.b.example", "DEFAULT_TTL_MINUTES": "1440",
		"EXPIRY_INTERVAL": "10ms", "SESSION_RETENTION": "0s", "HISTORY_LIMIT": "1", "HISTORY_MAX_BYTES": "2GiB", "MAX_SESSIONS": "5",
		"DATA_DIR": "/d", "HISTORY_RETENTION": "36h", "EVENT_WINDOW": "100", "MAX_SUBSCRIBERS": "0", "TOKENS_FILE": "/t", "METRICS_PUBLIC": "true",
		"WEBHOOK_SECRET": secret, "RATE_LIMIT_REPORTS": "0", "RATE_LIMIT_READS": "7", "MAX_IN_FLIGHT": "8", "ANSWERS_MAX_BYTES": "16MiB", "BODIES_MAX_BYTES": "32MiB", "TRUSTED_PROXIES": "10.1.2.3/8, ::1,192.0.2.1", "TLS_CERT_FILE": "/c",
		"VAPID_PRIVATE_KEY": vapidKey, "VAPID_SUBJECT": "mailto:ops@example.com", "PUSH_ALLOW_PRIVATE": "true",
		"TLS_KEY_FILE": "/k", "TLS_CLIENT_CA_FILE": "/a", "CAPTURE": "Titles", "TEAM_SHARE": "0.25", "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "SHUTDOWN_TIMEOUT": "1m",
	})
	require.NoError(t, err)
	keys, err := push.ParseKeys(vapidKey)
	require.NoError(t, err)
	require.Equal(t, config.Config{
		VAPIDPrivateKey: config.VAPIDKey{Keys: keys}, VAPIDSubject: "mailto:ops@example.com", PushAllowPrivate: true,
		Port: 9, Host: "::1", PublicURL: config.PublicURL{URL: &url.URL{Scheme: "https", Host: "hub.example", Path: "/Team-a"}}, CORSAllowedOrigins: config.Origins{"https://a.example", "http://localhost:3000", "https://*.b.example"}, DefaultTTLMinutes: 1440,
		ExpiryInterval: 10 * time.Millisecond, DataDir: "/d", HistoryRetention: 36 * time.Hour, HistoryLimit: 1, HistoryMaxBytes: 2 << 30, MaxSessions: 5,
		EventWindow: 100, MaxSubscribers: 0, Capture: "titles", TeamShare: 0.25, TokensFile: "/t", MetricsPublic: true, WebhookSecret: secret, RateLimitReads: 7, MaxInFlight: 8, AnswersMaxBytes: 16 << 20, BodiesMaxBytes: 32 << 20,
		TrustedProxies: config.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.1/32")},
		TLSCertFile:    "/c", TLSKeyFile: "/k", TLSClientCAFile: "/a", LogLevel: config.LogLevel{Level: slog.LevelDebug}, LogFormat: "json", ShutdownTimeout: time.Minute,
		NATSStream: "KUBEAGENTS", NATSReplicas: 3, NATSStaleAfter: 15 * time.Second, // see TestSettingsOfAClusterAreRead
	}, c)
	require.Equal(t, []string{"[::1]:9"}, c.Addresses())
	require.False(t, c.CORSAllowedOrigins.All())
	for origin, named := range map[string]bool{"https://a.example": true, "HTTPS://A.example": true, "https://x.b.example": true, "https://b.example": false,
		"https://.b.example": false, "http://a.example": false, "null": false, "": false} {
		require.Equal(t, named, c.CORSAllowedOrigins.Lists(origin), origin)
	}
	require.False(t, config.Origins{"*"}.Lists("https://a.example"), "* allows every origin, but names none")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(verb, c), "AAAA", "a secret is never shown")
		require.NotContains(t, fmt.Sprintf(verb, c), vapidKey, "a private key is never shown")
	}
}

const vapidKey = "8LN5azNlkwX_F33Z0CeErpr9iFjMW9CSkvM3sNFE9_M"

// TestVAPIDSubjectDefaultsToPublicURL checks that push services get an address that they can use, or none.
func TestVAPIDSubjectDefaultsToPublicURL(t *testing.T) {
	for public, want := range map[string]config.VAPIDSubject{"": "", "https://hub.example.com/team": "https://hub.example.com/team", "http://hub:8080": ""} {
		c, err := config.Load(map[string]string{"PUBLIC_URL": public})
		require.NoError(t, err)
		require.Equal(t, want, c.VAPIDSubject, public)
	}
}

const secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestProxiesInIPv6NotationAreTheirIPv4Addresses(t *testing.T) {
	var p config.Prefixes
	require.NoError(t, p.UnmarshalText([]byte("::ffff:192.0.2.1, ::ffff:10.1.2.3/104,::/0")))
	require.Equal(t, config.Prefixes{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}, p)
}

func TestAddressesAndOpen(t *testing.T) {
	for host, open := range map[string]bool{"": false, "0.0.0.0": true, "::": true, "192.0.2.1": true, "hub.example": true, "localhost": false, "127.0.0.1": false, "127.1.2.3": false, "::1": false} {
		c := config.Config{Host: host}
		require.Equal(t, open, c.ReachableFromNetwork(), host)
		c.WebhookSecret = secret // does not restrict reads
		require.Equal(t, open, c.ReachableFromNetwork(), host)
		c.TokensFile = "/t"
		require.Equal(t, open || host == "", c.ReachableFromNetwork(), host)
	}
	for _, test := range []struct {
		c    config.Config
		want []string
	}{
		{config.Config{Port: 1}, []string{"127.0.0.1:1", "[::1]:1"}},
		{config.Config{Port: 1, Host: "localhost"}, []string{"127.0.0.1:1", "[::1]:1"}},
		{config.Config{Port: 1, TokensFile: "/t"}, []string{":1"}},
		{config.Config{Port: 1, TokensFile: "/t", Host: "localhost"}, []string{"127.0.0.1:1", "[::1]:1"}},
		{config.Config{Port: 1, Host: "0.0.0.0"}, []string{"0.0.0.0:1"}},
		{config.Config{Port: 1, Host: "hub"}, []string{"hub:1"}},
	} {
		require.Equal(t, test.want, test.c.Addresses())
	}
}

// TestHostsOfOrigins checks which hosts CORS_ALLOWED_ORIGINS names.
func TestHostsOfOrigins(t *testing.T) {
	names, patterns := config.Origins{"*", "https://A.example:8443", "http://[::1]:80", "http://[::1]", "https://*.b.example", "https://*.c.example:1", "https://*", "https://d.*"}.Hosts()
	require.Equal(t, []string{"a.example", "[::1]", "[::1]"}, names)
	require.Equal(t, []string{"*.b.example", "*.c.example"}, patterns)
}

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://hub.example.com": "https://hub.example.com", "http://hub:8080/": "http://hub:8080", "https://example.com:443/team/hub/": "https://example.com/team/hub",
		"http://10.0.0.1:80": "http://10.0.0.1", "http://[::1]:8080": "http://[::1]:8080", "https://example.com/apis": "https://example.com/apis",
	} {
		c, err := config.Load(map[string]string{"PUBLIC_URL": text})
		require.NoError(t, err, text)
		require.Equal(t, want, c.PublicURL.String())
	}
}

func TestAnInvalidSecretIsNotShown(t *testing.T) {
	for _, value := range []string{"topsecret", "whsec_topsecret", "whsec_dG9wc2VjcmV0", secret + ",topsecret"} {
		_, err := config.Load(map[string]string{"WEBHOOK_SECRET": value})
		require.ErrorContains(t, err, "WEBHOOK_SECRET (value not shown) must be whsec_ followed by the base64 of 24 to 64 bytes")
		require.NotContains(t, err.Error(), "topsecret")
		require.NotContains(t, err.Error(), "dG9w")
	}
}

func TestAnInvalidPrivateKeyIsNotShown(t *testing.T) {
	for _, value := range []string{"topsecret", vapidKey + "topsecret", strings.Repeat("A", 43)} {
		_, err := config.Load(map[string]string{"VAPID_PRIVATE_KEY": value})
		require.ErrorContains(t, err, "VAPID_PRIVATE_KEY (value not shown) must be a private key as npx web-push generate-vapid-keys prints it")
		require.NotContains(t, err.Error(), value)
	}
}

func TestErrorsNameTheSettingAndWhatIsAllowed(t *testing.T) {
	for name, values := range map[string][]string{
		"PORT":                 {"http", "-1", "65536", "80.5"},
		"CORS_ALLOWED_ORIGINS": {"example.com", "https://a.example/path", "https://*.*.example", ",", "https://"},
		"PUBLIC_URL": {"hub.example.com", "/hub", "ftp://a.example", "https://", "https://a.example?x=1", "https://a.example#x", "https://u:p@a.example", "https://a.example//b", "https://a.example/./b",
			"https://a.example/..", "https://a.example/a b", "https://a.example/%41", "https://a.example/{x}", "https://bücher.example", "https://a.example/api", "https://a.example/webhook/x",
			"https://a.example:port", "https://$(x)", "javascript:alert(1)"},
		"DEFAULT_TTL_MINUTES": {"0", "1441", "30m"},
		"EXPIRY_INTERVAL":     {"1", "0s", "2h", "9ms"},
		"SESSION_RETENTION":   {"-1s", "7d", "87601h"},
		"HISTORY_RETENTION":   {"0s", "7d", "87601h"},
		"HISTORY_LIMIT":       {"0", "10001", "many"},
		"HISTORY_MAX_BYTES":   {"1023KiB", "2TiB", "lots", "-1MiB"},
		"DATA_MAX_BYTES":      {"255MiB", "2PiB", "all", "-1"},
		"MAX_SESSIONS":        {"0", "100000001", "1e6"},
		"EVENT_WINDOW":        {"99", "1000001", "all"},
		"MAX_SUBSCRIBERS":     {"-1", "1000001", "many"},
		"METRICS_PUBLIC":      {"maybe"},
		"RATE_LIMIT_REPORTS":  {"-1", "10000001", "1/s"},
		"RATE_LIMIT_READS":    {"-1", "10000001", "1/s"},
		"MAX_IN_FLIGHT":       {"-1", "1000001", "many"},
		"ANSWERS_MAX_BYTES":   {"15MiB", "2TiB", "some", "-1"},
		"BODIES_MAX_BYTES":    {"15MiB", "2TiB", "some", "-1"},
		"TRUSTED_PROXIES":     {"proxy.example", "10.0.0.0/33", "1.2.3.4,"},
		"TLS_CLIENT_CA_FILE":  {"/ca"},
		"VAPID_SUBJECT":       {"ops@example.com", "mailto:ops", "mailto:Ops <ops@example.com>", "http://a.example", "https://", "https:a", "tel:1", "https://u:p@a.example", "https://a.example/b c"},
		"PUSH_ALLOW_PRIVATE":  {"maybe"},
		"LOG_LEVEL":           {"loud", "info+2"},
		"LOG_FORMAT":          {"xml"},
		"CAPTURE":             {"some"},
		"SHUTDOWN_TIMEOUT":    {"0s", "11m", "10"},
	} {
		for _, value := range values {
			_, err := config.Load(map[string]string{name: value})
			require.ErrorContains(t, err, name+` is "`+value+`", but must be `, "%s=%s", name, value)
		}
	}
	_, err := config.Load(map[string]string{"TLS_CERT_FILE": "/c"})
	require.ErrorContains(t, err, `TLS_KEY_FILE is "", but must be a file with the certificate's key`)
	_, err = config.Load(map[string]string{"TLS_KEY_FILE": "/k"})
	require.ErrorContains(t, err, `TLS_CERT_FILE is "", but must be a file with a certificate`)
	_, err = config.Load(map[string]string{"PORT": "x", "LOG_FORMAT": "y"})
	require.ErrorContains(t, err, "PORT is")
	require.ErrorContains(t, err, "LOG_FORMAT is")
}

// TestManualListsEverySetting checks the manual's table of settings against the fields of Config.
func TestManualListsEverySetting(t *testing.T) {
	page, err := os.ReadFile("../docs/settings.md")
	require.NoError(t, err)
	for field := range reflect.TypeFor[config.Config]().Fields() {
		row := "| `" + field.Tag.Get("env") + "` | "
		if def := field.Tag.Get("envDefault"); def != "" {
			row += "`" + def + "` | "
		} else {
			row += "– | "
		}
		row += field.Tag.Get("allowed") + " |"
		require.True(t, strings.Contains(string(page), row), "docs/settings.md lacks the row %s", row)
	}
}

// TestBoundaryValuesAreAccepted sets the minimum and maximum of each setting that is a number, a size or a duration.
func TestBoundaryValuesAreAccepted(t *testing.T) {
	for name, values := range map[string][]string{
		"PORT":                {"0", "65535"},
		"DEFAULT_TTL_MINUTES": {"1", "1440"},
		"EXPIRY_INTERVAL":     {"10ms", "1h"},
		"SESSION_RETENTION":   {"0s", "87600h"},
		"HISTORY_RETENTION":   {"1s", "87600h"},
		"HISTORY_LIMIT":       {"1", "10000"},
		"HISTORY_MAX_BYTES":   {"1MiB", "1TiB"},
		"DATA_MAX_BYTES":      {"0", "256MiB", "1PiB"},
		"MAX_SESSIONS":        {"1", "100000000"},
		"EVENT_WINDOW":        {"100", "1000000"},
		"MAX_SUBSCRIBERS":     {"0", "1000000"},
		"TEAM_SHARE":          {"0.001", "1"},
		"RATE_LIMIT_REPORTS":  {"0", "10000000"},
		"RATE_LIMIT_READS":    {"0", "10000000"},
		"ANSWERS_MAX_BYTES":   {"16MiB", "1TiB"},
		"BODIES_MAX_BYTES":    {"16MiB", "1TiB"},
		"MAX_IN_FLIGHT":       {"0", "1000000"},
		"NATS_STREAM":         {"a", strings.Repeat("a", 32)},
		"NATS_REPLICAS":       {"1", "3", "5"},
		"NATS_STALE_AFTER":    {"5s", "10m"},
		"SERVER_NAME":         {"a", strings.Repeat("a", 64)},
		"SHUTDOWN_TIMEOUT":    {"100ms", "10m"},
	} {
		for _, value := range values {
			_, err := config.Load(inCluster(map[string]string{name: value}))
			require.NoError(t, err, "%s=%s", name, value)
		}
	}
}
