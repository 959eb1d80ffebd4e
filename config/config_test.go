package config_test

import (
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

func TestDefaults(t *testing.T) {
	for _, environment := range []map[string]string{{}, {"PORT": "", "LOG_LEVEL": "", "CORS_ALLOWED_ORIGINS": ""}} {
		c, err := config.Load(environment)
		require.NoError(t, err)
		require.Equal(t, config.Config{
			Port: 8080, CORSAllowedOrigins: config.Origins{"*"}, DefaultTTLMinutes: 30, ExpiryInterval: time.Second,
			SessionRetention: 168 * time.Hour, HistoryRetention: 168 * time.Hour, HistoryLimit: 100, HistoryMaxBytes: 512 << 20, MaxSessions: 1_000_000,
			EventWindow: 10_000, MaxSubscribers: 10_000, LogFormat: "text", ShutdownTimeout: 10 * time.Second,
		}, c)
		require.Equal(t, ":8080", c.Address())
	}
}

func TestEverySettingIsRead(t *testing.T) {
	c, err := config.Load(map[string]string{
		"PORT": "9", "HOST": "::1", "CORS_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,https://*.b.example", "DEFAULT_TTL_MINUTES": "1440",
		"EXPIRY_INTERVAL": "10ms", "SESSION_RETENTION": "0s", "HISTORY_LIMIT": "1", "HISTORY_MAX_BYTES": "2GiB", "MAX_SESSIONS": "5",
		"DATA_DIR": "/d", "HISTORY_RETENTION": "36h", "EVENT_WINDOW": "100", "MAX_SUBSCRIBERS": "0", "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "SHUTDOWN_TIMEOUT": "1m",
	})
	require.NoError(t, err)
	require.Equal(t, config.Config{
		Port: 9, Host: "::1", CORSAllowedOrigins: config.Origins{"https://a.example", "http://localhost:3000", "https://*.b.example"}, DefaultTTLMinutes: 1440,
		ExpiryInterval: 10 * time.Millisecond, DataDir: "/d", HistoryRetention: 36 * time.Hour, HistoryLimit: 1, HistoryMaxBytes: 2 << 30, MaxSessions: 5,
		EventWindow: 100, MaxSubscribers: 0, LogLevel: config.LogLevel{Level: slog.LevelDebug}, LogFormat: "json", ShutdownTimeout: time.Minute,
	}, c)
	require.Equal(t, "[::1]:9", c.Address())
	require.False(t, c.CORSAllowedOrigins.All())
}

func TestAnInvalidSettingIsNamedWithWhatIsAllowed(t *testing.T) {
	for name, values := range map[string][]string{
		"PORT":                 {"http", "-1", "65536", "80.5"},
		"CORS_ALLOWED_ORIGINS": {"example.com", "https://a.example/path", "https://*.*.example", ",", "https://"},
		"DEFAULT_TTL_MINUTES":  {"0", "1441", "30m"},
		"EXPIRY_INTERVAL":      {"1", "0s", "2h", "9ms"},
		"SESSION_RETENTION":    {"-1s", "7d", "87601h"},
		"HISTORY_RETENTION":    {"0s", "7d", "87601h"},
		"HISTORY_LIMIT":        {"0", "10001", "many"},
		"HISTORY_MAX_BYTES":    {"1023KiB", "2TiB", "lots", "-1MiB"},
		"MAX_SESSIONS":         {"0", "100000001", "1e6"},
		"EVENT_WINDOW":         {"99", "1000001", "all"},
		"MAX_SUBSCRIBERS":      {"-1", "1000001", "many"},
		"LOG_LEVEL":            {"loud", "info+2"},
		"LOG_FORMAT":           {"xml"},
		"SHUTDOWN_TIMEOUT":     {"0s", "11m", "10"},
	} {
		for _, value := range values {
			_, err := config.Load(map[string]string{name: value})
			require.ErrorContains(t, err, name+` is "`+value+`", but must be `, "%s=%s", name, value)
		}
	}
	_, err := config.Load(map[string]string{"PORT": "x", "LOG_FORMAT": "y"})
	require.ErrorContains(t, err, "PORT is")
	require.ErrorContains(t, err, "LOG_FORMAT is")
}

// TestREADMEStatesEverySetting holds the README's table to what the program reads.
func TestREADMEStatesEverySetting(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for field := range reflect.TypeFor[config.Config]().Fields() {
		row := "| `" + field.Tag.Get("env") + "` | "
		if def := field.Tag.Get("envDefault"); def != "" {
			row += "`" + def + "` | "
		} else {
			row += "– | "
		}
		row += field.Tag.Get("allowed") + " |"
		require.True(t, strings.Contains(string(readme), row), "README.md lacks the row %s", row)
	}
}
