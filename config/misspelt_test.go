package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

func TestMisspellings(t *testing.T) {
	require.Equal(t, []string{
		"DATADIR is not a setting and has no effect: did you mean DATA_DIR?",
		"KUBEAGENTS_TOKENS_FILE is not a setting and has no effect: did you mean TOKENS_FILE?",
		"TOKEN_FILE is not a setting and has no effect: did you mean TOKENS_FILE?",
	}, config.Misspellings(map[string]string{
		"TOKEN_FILE": "/t", "DATADIR": "", "KUBEAGENTS_TOKENS_FILE": "/t",
		"TOKENS_FILE": "/t", "DATA_DIR": "/d", "PORT": "1", // settings
		"PORTS": "1", "HOSTS": "x", "HOSTNAME": "h", "KUBEAGENTS_PORT": "tcp://10.0.0.1:80", "KUBEAGENTS_SERVICE_HOST": "10.0.0.1", "KUBEAGENTS_AGENT_ID": "a",
		"KUBEAGENTS_TOKEN": "ka_x", "PATH": "/bin", "HOME": "/root", "XDG_DATA_DIRS": "/usr/share", "LANG": "C", "LC_ALL": "C", "SSL_CERT_FILE": "/c", // variables of other programs
	}))
	require.Empty(t, config.Misspellings(nil))
}
