package main

import (
	"bytes"
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInvalidSettingsAreNamed starts the program with invalid settings, each of which it names with what is allowed.
func TestInvalidSettingsAreNamed(t *testing.T) {
	for name, test := range map[string]struct{ variable, value, want string }{
		"no server":                  {"KUBEAGENTS_SERVER", "", "KUBEAGENTS_SERVER is not set: must be the address of the server"},
		"not an address":             {"KUBEAGENTS_SERVER", "hub.example.com", `KUBEAGENTS_SERVER is "hub.example.com", but must be the address of the server`},
		"a TTL of seconds":           {"TTL", "200s", `TTL is "200s", but must be whole minutes from 3m to 24h`},
		"a TTL that is too short":    {"TTL", "2m", `TTL is "2m", but must be whole minutes`},
		"not a port":                 {"PORT", "http", `PORT is "http", but must be a port`},
		"not a namespace":            {"NAMESPACES", "data, Ops", `NAMESPACES is "data, Ops", but must be namespaces, separated by commas`},
		"not a level":                {"LOG_LEVEL", "loud", `LOG_LEVEL is "loud", but must be debug, info, warn or error`},
		"not a format":               {"LOG_FORMAT", "xml", `LOG_FORMAT is "xml", but must be text or json`},
		"a token with a space in it": {"KUBEAGENTS_TOKEN", "s3cret word", "KUBEAGENTS_TOKEN is invalid:"},
		"a namespace of the Lease":   {"POD_NAMESPACE", "No", `POD_NAMESPACE is "No", but must be the namespace of the Lease`},
	} {
		t.Run(name, func(t *testing.T) {
			environment := map[string]string{"KUBEAGENTS_SERVER": "http://localhost:8080", test.variable: test.value}
			var log bytes.Buffer
			require.Equal(t, exitUsage, run(context.Background(), nil, environment, &log, &log))
			require.Contains(t, log.String(), test.want)
			require.NotContains(t, log.String(), "s3cret")
		})
	}
}

// TestEveryInvalidSettingIsNamedAtOnce gives two invalid settings.
func TestEveryInvalidSettingIsNamedAtOnce(t *testing.T) {
	_, err := loadSettings(map[string]string{"TTL": "x", "PORT": "70000"})
	require.Equal(t, 3, len(strings.Split(err.Error(), "\n")))
}

func TestSettings(t *testing.T) {
	s, err := loadSettings(map[string]string{"KUBEAGENTS_SERVER": "https://example.com/hub/", "NAMESPACES": "ops, data,ops"})
	require.NoError(t, err)
	require.Equal(t, "https://example.com/hub", s.Server.String())
	require.Equal(t, namespaces{"data", "ops"}, s.Namespaces)
	for field := range reflect.TypeFor[settings]().Fields() {
		require.NotEmpty(t, field.Tag.Get("allowed"), field.Name)
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, exitOK, run(context.Background(), []string{"version"}, nil, &out, &out))
	require.NotEmpty(t, strings.TrimSpace(out.String()))
	require.Equal(t, exitUsage, run(context.Background(), []string{"serve"}, nil, &out, &out))
}

// TestWithoutACluster starts the program outside of a cluster, and with a kubeconfig that does not exist.
func TestWithoutACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for want, environment := range map[string]map[string]string{
		"outside of a cluster, set KUBECONFIG": {"KUBEAGENTS_SERVER": "http://localhost:8080"},
		"KUBECONFIG: stat /nonexistent":        {"KUBEAGENTS_SERVER": "http://localhost:8080", "KUBECONFIG": "/nonexistent"},
	} {
		var log bytes.Buffer
		require.Equal(t, exitUsage, run(context.Background(), nil, environment, &log, &log))
		require.Contains(t, log.String(), want)
	}
}
