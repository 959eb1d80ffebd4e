//go:build unix

package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/connect"
)

// TestChartConnect checks that the ConfigMaps with the lines for agents' tools have exactly what the server prints at
// /connect under the same address.
func TestChartConnect(t *testing.T) {
	needChart(t)
	tokens, _ := accesstest.TokensFile(t, map[string]access.Entry{"reports": {Scopes: []string{"report"}}})
	const inCluster = serviceName + ":8080"
	for name, test := range map[string]struct {
		values     []string
		settings   []string // of the server
		host       string   // of the request
		address    string
		namespaces []string
	}{
		"tokens, in the cluster":      {[]string{"tokens.existingSecret=t"}, []string{"TOKENS_FILE=" + tokens}, inCluster, "http://" + inCluster, []string{"kubeagents"}},
		"no tokens":                   {[]string{"allowAnyone=true"}, nil, inCluster, "http://" + inCluster, []string{"kubeagents"}},
		"another port of the Service": {[]string{"allowAnyone=true", "service.port=80"}, nil, serviceName, "http://" + serviceName, []string{"kubeagents"}},
		"an Ingress below a path": {[]string{"tokens.existingSecret=t", "ingress.enabled=true", "ingress.host=hub.example.com", "ingress.path=/agents/"},
			[]string{"TOKENS_FILE=" + tokens, "PUBLIC_URL=https://hub.example.com/agents"}, "", "https://hub.example.com/agents", []string{"kubeagents"}},
		"PUBLIC_URL": {[]string{"tokens.existingSecret=t", "settings.PUBLIC_URL=HTTPS://Hub.example.com:443/"},
			[]string{"TOKENS_FILE=" + tokens, "PUBLIC_URL=HTTPS://Hub.example.com:443/"}, "", "https://hub.example.com", []string{"kubeagents"}},
		"an address of its own, and namespaces": {[]string{"tokens.existingSecret=t", "settings.PUBLIC_URL=https://hub.example.com",
			"connect.address=http://" + inCluster, "connect.namespaces={data,kubeagents,ci}"},
			[]string{"TOKENS_FILE=" + tokens}, inCluster, "http://" + inCluster, []string{"kubeagents", "data", "ci"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, test.settings...)
			want := map[string]string{"server": test.address}
			for _, tool := range connect.Names() {
				w := server.do(http.MethodGet, "/connect/"+tool, "", "Host: "+test.host)
				require.Equal(t, http.StatusOK, w.Code)
				want[tool] = w.Body.String()
			}
			require.Zero(t, server.stop(t))
			got := connectMaps(t, test.values)
			require.Len(t, got, len(test.namespaces))
			for _, namespace := range test.namespaces {
				require.Equal(t, want, got[namespace])
			}
		})
	}
	require.Empty(t, connectMaps(t, []string{"allowAnyone=true", "connect.enabled=false"}))
}

// connectMaps renders the chart with some values, and returns the data of each ConfigMap with lines for agents' tools by
// its namespace.
func connectMaps(t *testing.T, values []string) map[string]map[string]string {
	t.Helper()
	args := []string{"--set", "image.repository=registry.example/kubeagents"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	found := map[string]map[string]string{}
	for _, object := range objectsIn(t, render(t, args...)) {
		if object.kind() != "ConfigMap" || object.name() != "kubeagents-connect" {
			continue
		}
		namespace := at[string](object, "metadata", "namespace")
		require.NotContains(t, found, namespace)
		found[namespace] = map[string]string{}
		for key, text := range at[map[string]any](object, "data") {
			found[namespace][key] = text.(string)
		}
	}
	return found
}
