//go:build unix

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

const (
	natsDir   = root + "/deploy/nats"
	natsChart = natsDir + "/nats-2.14.2.tgz"
)

// renderNATS renders the NATS chart in the repository, with the values beside it, as the manual installs it.
func renderNATS(t testing.TB) string {
	t.Helper()
	out, errs, ok := runTool(t, helm(), "template", "nats", natsChart, "--namespace", "kubeagents", "--values", natsDir+"/values.yaml")
	require.True(t, ok, "%s", errs)
	return out
}

// TestNATSChartIsPacked compares the archive of the NATS chart with its checksum, and the image in the values with the
// version of NATS that the tests run.
func TestNATSChartIsPacked(t *testing.T) {
	sum := sha256.Sum256([]byte(readFile(t, natsChart)))
	require.Equal(t, hex.EncodeToString(sum[:])+"  "+filepath.Base(natsChart)+"\n", readFile(t, natsDir+"/SHA256SUMS"))
	var values map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, natsDir+"/values.yaml")), &values))
	require.Equal(t, server.VERSION+"-alpine", at[string](values, "container", "image", "tag"))
}

// TestChartNATSIsValid checks what the NATS chart renders against the schemas of Kubernetes, the restricted profile, and
// what the servers need of NATS.
func TestChartNATSIsValid(t *testing.T) {
	needChart(t)
	rendered := renderNATS(t)
	for _, version := range []string{"v1.31", "v1.37"} {
		out, errs, ok := conforms(t, version, writeFile(t, filepath.Join(t.TempDir(), "nats.yaml"), []byte(rendered)))
		require.True(t, ok, "%s: %s%s", version, out, errs)
	}
	objects := objectsIn(t, rendered)
	set := find(t, objects, "StatefulSet", "nats")
	require.EqualValues(t, 3, at[uint64](set, "spec", "replicas"))
	require.EqualValues(t, 1, at[uint64](find(t, objects, "PodDisruptionBudget", "nats"), "spec", "maxUnavailable"))
	pod := at[map[string]any](set, "spec", "template", "spec")
	require.Len(t, at[[]any](pod, "topologySpreadConstraints"), 2)
	require.Equal(t, true, at[bool](pod, "securityContext", "runAsNonRoot"))
	for _, c := range at[[]any](pod, "containers") {
		container := c.(map[string]any)
		require.Equal(t, false, at[map[string]any](container, "securityContext")["allowPrivilegeEscalation"], container["name"])
		require.Equal(t, []any{"ALL"}, at[[]any](container, "securityContext", "capabilities", "drop"), container["name"])
	}
	selected := at[map[string]any](set, "spec", "selector", "matchLabels")
	require.Equal(t, selected, at[map[string]any](find(t, objects, "NetworkPolicy", "nats"), "spec", "podSelector", "matchLabels"))

	options := natsOptions(t, objects)
	require.True(t, options.SyncAlways, "the servers refuse nodes that don't sync every write")
	require.Equal(t, "/data", options.StoreDir)
	require.Equal(t, 8222, options.HTTPPort)
	require.Len(t, options.Routes, 3)
	require.Less(t, options.JetStreamMaxStore, int64(20<<30), "the volume is never full")
	require.Equal(t, []*server.User{{Username: "kubeagents", Password: natsPassword}}, options.Users)
}

// natsPassword is what the manual's command makes: the configuration of NATS must take it for text.
const natsPassword = "n0123456789e0123"

// natsOptions returns the options of the first node, as NATS reads them from the rendered configuration.
func natsOptions(t *testing.T, objects []manifest) *server.Options {
	t.Helper()
	t.Setenv("SERVER_NAME", "nats-0")
	t.Setenv("KUBEAGENTS_PASSWORD", natsPassword)
	text := at[string](find(t, objects, "ConfigMap", "nats-config"), "data", "nats.conf")
	options, err := server.ProcessConfigFile(writeFile(t, filepath.Join(t.TempDir(), "nats.conf"), []byte(text)))
	require.NoError(t, err)
	return options
}
