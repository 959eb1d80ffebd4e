package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

func TestMisspellings(t *testing.T) {
	require.Equal(t, []string{
		"CORS_ORIGINS is not a setting and has no effect: did you mean CORS_ALLOWED_ORIGINS?",
		"DATADIR is not a setting and has no effect: did you mean DATA_DIR?",
		"DEFAULT_TTL is not a setting and has no effect: did you mean DEFAULT_TTL_MINUTES?",
		"KUBEAGENTS_TOKENS_FILE is not a setting and has no effect: did you mean TOKENS_FILE?",
		"NATS_CREDS is not a setting and has no effect: did you mean NATS_CREDS_FILE?",
		"NATS_PASSWORD is not a setting and has no effect: did you mean NATS_PASSWORD_FILE?",
		"NATS_URLS is not a setting and has no effect: did you mean NATS_URL?",
		"RATE_LIMIT is not a setting and has no effect: did you mean RATE_LIMIT_REPORTS or RATE_LIMIT_READS?",
		"SERVERNAME is not a setting and has no effect: did you mean SERVER_NAME?",
		"TLS_CERT is not a setting and has no effect: did you mean TLS_CERT_FILE?",
		"TLS_KEY is not a setting and has no effect: did you mean TLS_KEY_FILE?",
		"TOKEN_FILE is not a setting and has no effect: did you mean TOKENS_FILE?",
	}, config.Misspellings(map[string]string{
		"TLS_CERT": "/c", "TLS_KEY": "/k", "RATE_LIMIT": "1", "CORS_ORIGINS": "*", "DEFAULT_TTL": "5", "CERT_FILE": "/c", "MAX_BYTES": "1",
		"NATS_CREDS": "/c", "NATS_PASSWORD": "p", "NATS_URLS": "nats://a", "SERVERNAME": "a",
		"TOKEN_FILE": "/t", "DATADIR": "", "KUBEAGENTS_TOKENS_FILE": "/t",
		"TOKENS_FILE": "/t", "DATA_DIR": "/d", "PORT": "1", // settings
		"PORTS": "1", "HOSTS": "x", "HOSTNAME": "h", "KUBEAGENTS_PORT": "tcp://10.0.0.1:80", "KUBEAGENTS_SERVICE_HOST": "10.0.0.1", "KUBEAGENTS_AGENT_ID": "a",
		"KUBEAGENTS_TOKEN": "ka_x", "PATH": "/bin", "HOME": "/root", "XDG_DATA_DIRS": "/usr/share", "LANG": "C", "LC_ALL": "C", "SSL_CERT_FILE": "/c", // variables of other programs
		"NATS_PORT": "tcp://10.0.0.2:4222", "NATS_SERVICE_HOST": "10.0.0.2", "NATS_SERVICE_PORT": "4222", "NATS_PORT_4222_TCP": "tcp://10.0.0.2:4222", "NATS_CONTEXT": "a", "SERVICE_NAME": "a", "SERVER_PORT": "1",
	}))
	require.Empty(t, config.Misspellings(nil))
}
