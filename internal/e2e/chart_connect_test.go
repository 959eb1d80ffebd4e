//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/connect"
)

// chartVariable is the environment variable with which the tests of the Helm chart run: see make test-chart.
const chartVariable = "KUBEAGENTS_CHART"

// helm is the module and version of the program that renders the chart.
const helm = "helm.sh/helm/v4/cmd/helm@v4.3.1"

// requireChart skips the test unless the tests of the chart are to run.
func requireChart(t *testing.T) {
	t.Helper()
	if os.Getenv(chartVariable) == "" {
		t.Skip("run make test-chart")
	}
}

// TestChartConnect checks that the ConfigMaps with the lines for agents' tools have exactly what the server prints at
// /connect under the same address.
func TestChartConnect(t *testing.T) {
	requireChart(t)
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
	args := []string{"run", helm, "template", "kubeagents", filepath.Join(root, "deploy/chart"), "--namespace", "kubeagents", "--set", "image.repository=registry.example/kubeagents"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...) //nolint:gosec // the test's own arguments
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	rendered, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	found := map[string]map[string]string{}
	for documents := yaml.NewDecoder(bytes.NewReader(rendered)); ; {
		var object struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
			Data     map[string]string
		}
		if err := documents.Decode(&object); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			require.NoError(t, err)
		}
		if object.Kind == "ConfigMap" && object.Metadata.Name == "kubeagents-connect" {
			require.NotContains(t, found, object.Metadata.Namespace)
			found[object.Metadata.Namespace] = object.Data
		}
	}
}
