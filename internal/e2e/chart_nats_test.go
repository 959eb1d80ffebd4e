//go:build unix

package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
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

// startRenderedNATS starts three nodes with the rendered configuration, except for names, addresses and folders.
func startRenderedNATS(t *testing.T) *natstest.Cluster {
	t.Helper()
	rendered := natsOptions(t, objectsIn(t, renderNATS(t)))
	return natstest.Start(t, 3, func(o *server.Options) {
		here := *o
		*o = *rendered.Clone()
		o.ServerName, o.Host, o.Port, o.HTTPHost, o.HTTPPort = here.ServerName, here.Host, here.Port, here.HTTPHost, here.HTTPPort
		o.ClientAdvertise, o.Cluster, o.Routes, o.StoreDir = here.ClientAdvertise, here.Cluster, here.Routes, here.StoreDir
		o.ConfigFile, o.PidFile, o.NoSigs, o.NoLog = "", "", here.NoSigs, here.NoLog
	})
}

// natsOf starts NATS for the sets of values that need it, and makes the Secrets.
var natsOf = map[string]func(n *node){
	"cluster-creds": func(n *node) {
		user, err := nkeys.CreateUser()
		require.NoError(n.t, err)
		account, err := nkeys.CreateAccount()
		require.NoError(n.t, err)
		public, err := user.PublicKey()
		require.NoError(n.t, err)
		token, err := jwt.NewUserClaims(public).Encode(account)
		require.NoError(n.t, err)
		seed, err := user.Seed()
		require.NoError(n.t, err)
		creds, err := jwt.FormatUserConfig(token, seed)
		require.NoError(n.t, err)
		n.secrets["kubeagents-nats"] = map[string][]byte{"nats.creds": creds}
		n.nats = natstest.Start(n.t, 1)
	},
	"cluster-mtls": func(n *node) {
		user, err := nkeys.CreateUser()
		require.NoError(n.t, err)
		public, err := user.PublicKey()
		require.NoError(n.t, err)
		seed, err := user.Seed()
		require.NoError(n.t, err)
		n.secrets["kubeagents-nats"] = map[string][]byte{"user.nk": seed}
		n.startNATSWithTLS(func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	},
	"everything": func(n *node) {
		n.secrets["kubeagents-nats"] = map[string][]byte{"password": []byte(natsPassword + "\n")}
		n.startNATSWithTLS(func(o *server.Options) { o.Username, o.Password = "hub", natsPassword })
	},
}

// startNATSWithTLS starts a node that requires TLS and certificates of its clients, and makes the Secrets.
func (n *node) startNATSWithTLS(configure func(*server.Options)) {
	n.t.Helper()
	ca := newAuthority(n.t)
	cert, key := ca.sign(n.t, 11)
	n.secrets["nats-ca"] = map[string][]byte{"ca.crt": ca.pem}
	n.secrets["kubeagents-nats-tls"] = map[string][]byte{"tls.crt": cert, "tls.key": key}
	pair, err := tls.X509KeyPair(ca.sign(n.t, 12))
	require.NoError(n.t, err)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	n.nats = natstest.Start(n.t, 1, configure, func(o *server.Options) {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	})
}

// replica returns the node of one of several Pods of a StatefulSet, which has a port and volumes of its own.
func (n *node) replica(i int) *node {
	r := *n
	r.pod = fmt.Sprint("kubeagents-", i)
	r.root = filepath.Join(n.root, r.pod)
	require.NoError(n.t, os.MkdirAll(r.root, 0o700))
	r.port = freePort(n.t)
	return &r
}

// TestChartGoesFromOneToThree runs one server, makes its state the beginning of a stream on the NATS of the manual, adds two
// servers, and goes back to the one, as the manual says. What was reported is there all the time.
func TestChartGoesFromOneToThree(t *testing.T) {
	needChart(t)
	alone := newNode(t, "--values", valueSets(t)["tokens"])
	cluster := *alone
	cluster.objects = objectsIn(t, render(t, "--values", valueSets(t)["cluster"]))
	cluster.secrets = maps.Clone(alone.secrets)
	cluster.secrets["kubeagents-nats"] = map[string][]byte{"password": []byte(natsPassword)}
	cluster.nats = startRenderedNATS(t)
	set := find(t, cluster.objects, "StatefulSet", "kubeagents")
	pod := at[map[string]any](set, "spec", "template", "spec")
	require.EqualValues(t, 3, at[uint64](set, "spec", "replicas"))
	reports, reads := alone.tokens["reports"].Header(), alone.tokens["reads"].Header()

	first := alone.replica(0)
	stop := first.start("kubeagents")
	require.Equal(t, http.StatusOK, first.do("POST", "http", "/webhook/status", reportOf("alone", "s", "running"), reports...))
	stop()

	first.objects, first.nats, first.secrets = cluster.objects, cluster.nats, cluster.secrets
	stops := []func() string{first.startContainer(pod)}
	replicas := []*node{first, cluster.replica(1), cluster.replica(2)}
	var awaits []func()
	for _, r := range replicas[1:] { // at the same time, as podManagementPolicy says
		await, stop := r.launch(pod)
		awaits, stops = append(awaits, await), append(stops, stop)
	}
	for _, await := range awaits {
		await()
	}
	for i, r := range replicas {
		require.Equal(t, http.StatusOK, r.do("GET", "http", "/api/agents/alone", "", reads...), "server %d", i)
		require.Equal(t, http.StatusOK, r.do("POST", "http", "/webhook/status", reportOf(fmt.Sprint("by-", i), "s", "running"), reports...), "server %d", i)
	}
	first.service = first.port
	test := at[map[string]any](find(t, cluster.objects, "Pod", "kubeagents-test"), "spec")
	status, out := first.run(test, at[[]any](test, "containers")[0].(map[string]any))
	require.Zero(t, status, out)
	for i, r := range replicas {
		for j := range replicas {
			require.Eventually(t, func() bool {
				return r.do("GET", "http", fmt.Sprint("/api/agents/by-", j), "", reads...) == http.StatusOK
			}, time.Minute, 20*time.Millisecond, "server %d", i)
		}
	}
	require.Eventually(t, func() bool {
		_, body := first.get("/health", reads...)
		return strings.Contains(body, `"servers":["kubeagents-0","kubeagents-1","kubeagents-2"]`)
	}, time.Minute, 20*time.Millisecond, "each has the name of its Pod")
	for i := len(stops) - 1; i >= 0; i-- { // the last one is asked to stop first
		log := stops[i]()
		require.NotContains(t, log, `"level":"ERROR"`)
		require.NotContains(t, strings.ToLower(log), "sync_interval", "it checked that NATS syncs every write")
	}

	first.objects = alone.objects
	stop = first.start("kubeagents")
	for _, agent := range []string{"alone", "by-0", "by-1", "by-2"} {
		require.Equal(t, http.StatusOK, first.do("GET", "http", "/api/agents/"+agent, "", reads...), agent)
	}
	require.Equal(t, http.StatusOK, first.do("POST", "http", "/webhook/status", reportOf("alone-again", "s", "running"), reports...))
	require.NotContains(t, stop(), `"level":"ERROR"`)

	first.objects = objectsIn(t, render(t, "--values", valueSets(t)["cluster"], "--set", "nats.stream=another"))
	second := cluster.replica(1)
	second.objects, second.root = first.objects, filepath.Join(cluster.root, "new")
	require.NoError(t, os.MkdirAll(second.root, 0o700))
	for _, r := range []*node{first, second} {
		stop = r.start("kubeagents")
		defer stop()
		for _, agent := range []string{"alone", "by-0", "by-1", "by-2", "alone-again"} {
			require.Equal(t, http.StatusOK, r.do("GET", "http", "/api/agents/"+agent, "", reads...), "%s: %s", r.pod, agent)
		}
	}
}

// TestChartScrapesEveryServer checks that a ServiceMonitor finds each server once: it selects one Service, which leads to
// all Pods and keeps no client at one of them.
func TestChartScrapesEveryServer(t *testing.T) {
	needChart(t)
	objects := objectsIn(t, render(t, "--values", valueSets(t)["cluster"]))
	labels := at[map[string]any](find(t, objects, "ServiceMonitor", "kubeagents"), "spec", "selector", "matchLabels")
	pods := at[map[string]any](find(t, objects, "StatefulSet", "kubeagents"), "spec", "template", "metadata", "labels")
	var selected []string
	for _, o := range objects {
		if o.kind() != "Service" || !contains(at[map[string]any](o, "metadata", "labels"), labels) {
			continue
		}
		selected = append(selected, o.name())
		require.True(t, contains(pods, at[map[string]any](o, "spec", "selector")))
		require.Nil(t, at[map[string]any](o, "spec")["sessionAffinity"])
	}
	require.Equal(t, []string{"kubeagents"}, selected)
}

// contains reports whether all has every label of some.
func contains(all, some map[string]any) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return len(some) > 0
}
