package config_test

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

// inCluster returns the smallest environment of a server in a cluster, with more.
func inCluster(more map[string]string) map[string]string {
	environment := map[string]string{"NATS_URL": "nats://a.example:4222", "DATA_DIR": "/d"}
	maps.Copy(environment, more)
	return environment
}

func TestSettingsOfAClusterAreRead(t *testing.T) {
	c, err := config.Load(map[string]string{
		"NATS_URL": "nats://a.example:4222, tls://[::1]:4222/,tls://b.example", "NATS_STREAM": "Team-a_1", "NATS_REPLICAS": "5", "NATS_USER": "kube", "NATS_PASSWORD_FILE": "/p",
		"NATS_CA_FILE": "/ca", "NATS_CERT_FILE": "/c", "NATS_KEY_FILE": "/k", "NATS_MONITOR_URL": "http://a.example:8222,https://b.example", "NATS_STALE_AFTER": "1m",
		"SERVER_NAME": "hub-1.example", "DATA_DIR": "/d",
	})
	require.NoError(t, err)
	require.Equal(t, config.NATSURLs{"nats://a.example:4222", "tls://[::1]:4222/", "tls://b.example"}, c.NATSURL)
	require.Equal(t, "Team-a_1", c.NATSStream)
	require.Equal(t, 5, c.NATSReplicas)
	require.Equal(t, []string{"kube", "/p", "/ca", "/c", "/k"}, []string{c.NATSUser, c.NATSPasswordFile, c.NATSCAFile, c.NATSCertFile, c.NATSKeyFile})
	require.Equal(t, config.MonitorURLs{"http://a.example:8222", "https://b.example"}, c.NATSMonitorURL)
	require.Equal(t, time.Minute, c.NATSStaleAfter)
	require.Equal(t, "hub-1.example", c.ServerName)

	c, err = config.Load(inCluster(map[string]string{"NATS_CREDS_FILE": "/creds"}))
	require.NoError(t, err)
	require.Equal(t, "/creds", c.NATSCredsFile)
	c, err = config.Load(inCluster(map[string]string{"NATS_NKEY_FILE": "/nkey"}))
	require.NoError(t, err)
	require.Equal(t, "/nkey", c.NATSNKeyFile)
}

func TestInvalidSettingsOfAClusterAreNamed(t *testing.T) {
	for name, values := range map[string][]string{
		"NATS_STREAM":      {"a.b", "a b", "*", strings.Repeat("a", 33)},
		"NATS_REPLICAS":    {"0", "2", "4", "7", "three"},
		"NATS_STALE_AFTER": {"4s", "11m", "15"},
		"SERVER_NAME":      {"a b", "a/b", "ä", strings.Repeat("a", 65)},
	} {
		for _, value := range values {
			_, err := config.Load(inCluster(map[string]string{name: value}))
			require.ErrorContains(t, err, name+` is "`+value+`", but must be `)
			require.NotContains(t, err.Error(), "\n", "only %s is invalid", name)
		}
	}
	for name, values := range map[string][]string{
		"NATS_URL": {"a.example", "a.example:4222", "http://a.example", "ws://a.example", "nats://", "nats://:4222", "nats://a.example:0", "nats://a.example:65536", "nats://a.example:port",
			"nats://a.example/b", "nats://a.example?b", "nats://a.example#b", "nats://a.example,", "nats://a.example tls://b.example", "nats://kube:topsecret@%", "nats://kube:top,secret@a.example"},
		"NATS_MONITOR_URL": {"a.example:8222", "nats://a.example:8222", "http://a.example:8222/varz", "http://kube:topsecret@a.example:8222", "http://a.example,"},
	} {
		for _, value := range values {
			_, err := config.Load(inCluster(map[string]string{name: value}))
			require.ErrorContains(t, err, name+" (value not shown) must be addresses of ", value)
			require.NotContains(t, err.Error(), "\n", "only %s is invalid", name)
			require.NotContains(t, err.Error(), "secret")
		}
	}
}

// TestSettingsOfAClusterFitTogether checks the rules about several settings, and that each error names the right ones.
func TestSettingsOfAClusterFitTogether(t *testing.T) {
	const withUser = "nats://a.example,tls://kube:topsecret@b.example"
	for name, test := range map[string]struct {
		environment map[string]string
		want        []string
	}{
		"a cluster":                     {map[string]string{"NATS_URL": "nats://a.example", "DATA_DIR": "/d"}, nil},
		"a user in the address":         {inCluster(map[string]string{"NATS_URL": withUser}), nil},
		"a name without a cluster":      {map[string]string{"SERVER_NAME": "a"}, nil},
		"a cluster in memory":           {map[string]string{"NATS_URL": "nats://a.example"}, []string{"DATA_DIR"}},
		"an invalid cluster in memory":  {map[string]string{"NATS_URL": "http://a.example"}, []string{"DATA_DIR", "NATS_URL"}},
		"a password without a user":     {inCluster(map[string]string{"NATS_PASSWORD_FILE": "/p"}), []string{"NATS_USER"}},
		"a user without a password":     {inCluster(map[string]string{"NATS_USER": "u"}), []string{"NATS_PASSWORD_FILE"}},
		"a key without a certificate":   {inCluster(map[string]string{"NATS_KEY_FILE": "/k"}), []string{"NATS_CERT_FILE"}},
		"a certificate without a key":   {inCluster(map[string]string{"NATS_CERT_FILE": "/c"}), []string{"NATS_KEY_FILE"}},
		"two files with credentials":    {inCluster(map[string]string{"NATS_CREDS_FILE": "/c", "NATS_NKEY_FILE": "/n"}), []string{"NATS_CREDS_FILE", "NATS_NKEY_FILE"}},
		"a user and an NKey":            {inCluster(map[string]string{"NATS_NKEY_FILE": "/n", "NATS_USER": "u", "NATS_PASSWORD_FILE": "/p"}), []string{"NATS_NKEY_FILE", "NATS_USER"}},
		"a user in the address, a file": {inCluster(map[string]string{"NATS_URL": withUser, "NATS_CREDS_FILE": "/c"}), []string{"NATS_URL", "NATS_CREDS_FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(test.environment)
			var named []string
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					variable, _, _ := strings.Cut(line, " ")
					named = append(named, variable)
				}
				require.NotContains(t, err.Error(), "topsecret")
			}
			require.Equal(t, test.want, named)
		})
	}
}

func TestSettingsForNATSNeedItsAddress(t *testing.T) {
	checked := 0
	for field := range reflect.TypeFor[config.Config]().Fields() {
		name := field.Tag.Get("env")
		if !strings.HasPrefix(name, "NATS_") || name == "NATS_URL" {
			continue
		}
		value := field.Tag.Get("envDefault")
		if value == "" {
			value = "http://a.example"
		}
		_, err := config.Load(map[string]string{name: value, "DATA_DIR": "/d"})
		require.ErrorContains(t, err, name+" ")
		require.Contains(t, field.Tag.Get("allowed"), "along with NATS_U", "the error says what is missing")
		checked++
	}
	require.Equal(t, 11, checked)
}

func TestAddressesOfNATSAreNotShown(t *testing.T) {
	c, err := config.Load(inCluster(map[string]string{"NATS_URL": "nats://kube:topsecret@a.example:4222"}))
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(verb, c), "topsecret")
		require.Contains(t, fmt.Sprintf(verb, c.NATSURL), "(secret)")
		require.NotContains(t, fmt.Sprintf(verb, config.Config{}.NATSURL), "secret", "nothing is hidden where nothing is set")
	}
}
