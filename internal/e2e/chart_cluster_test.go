//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// clusterVariable is the environment variable that names the program of deploy/cluster, a control plane of Kubernetes
// without nodes.
const clusterVariable = "KUBEAGENTS_CLUSTER"

// TestChartInstalls installs, upgrades and removes the chart in a namespace that enforces the restricted profile. The API
// server validates every object, and the controllers make Pods, which admission would refuse.
func TestChartInstalls(t *testing.T) {
	needChart(t)
	c := startCluster(t)
	c.do(t, "POST", "/api/v1/namespaces", readFile(t, root+"/deploy/manifests/namespace.yaml"), http.StatusCreated)
	for _, namespace := range []string{"data", "ml", "monitoring"} { // those that the values name
		c.do(t, "POST", "/api/v1/namespaces", "metadata: {name: "+namespace+"}", http.StatusCreated)
	}
	const withoutCustom = "serviceMonitor.enabled=false,prometheusRule.enabled=false,gateway.enabled=false,extraContainers=null,extraInitContainers=null," +
		"runtimeClassName=,priorityClassName=,watcher.priorityClassName=," +
		"persistence.retention.whenDeleted=Retain" // no controller of this control plane would let claims be deleted
	for name, file := range valueSets(t) {
		release := map[string]string{"everything": "agents"}[name]
		if release == "" {
			release = "kubeagents"
		}
		c.helm(t, "install", "kubeagents", chartDir, "--values", file, "--set", withoutCustom)
		c.requirePod(t, release+"-0")
		if name == "watcher" || name == "everything" {
			c.requireReplicas(t, release+"-watcher", 2)
		}
		// What the notes and the manual have people change, in a chart of another version.
		newer := filepath.Join(t.TempDir(), "chart")
		require.NoError(t, os.CopyFS(newer, os.DirFS(chartDir)))
		metadata := bytes.Replace([]byte(readFile(t, newer+"/Chart.yaml")), []byte("version: 0.1.0"), []byte("version: 0.2.0"), 1)
		writeFile(t, newer+"/Chart.yaml", metadata)
		c.helm(t, "upgrade", "kubeagents", newer, "--values", file, "--set", withoutCustom+",settings.LOG_LEVEL=debug,podLabels.a=b,commonLabels.c=d")
		c.helm(t, "rollback", "kubeagents")
		c.helm(t, "uninstall", "kubeagents", "--cascade", "foreground", "--wait", "--timeout", "1m")
	}
	c.requireSize(t, "data-kubeagents-0", "10Gi")
	c.requireSize(t, "kubeagents-backup", "20Gi")
}

// TestChartVolumeGrows enlarges the volume of an installed chart as the manual says: the claim template can't change, so Helm
// makes the StatefulSet anew around the running Pod.
func TestChartVolumeGrows(t *testing.T) {
	needChart(t)
	c := startCluster(t)
	c.do(t, "POST", "/api/v1/namespaces", readFile(t, root+"/deploy/manifests/namespace.yaml"), http.StatusCreated)
	values := []string{"--values", valueSets(t)["tokens"]}
	c.helm(t, append([]string{"install", "kubeagents", chartDir}, values...)...)
	c.requirePod(t, "kubeagents-0")
	larger := append([]string{"upgrade", "kubeagents", chartDir, "--set", "persistence.size=20Gi"}, values...)
	out, ok := c.tryHelm(t, larger...)
	require.False(t, ok, out)
	require.Contains(t, out, "field is immutable", "as the manual says")
	const set = "/apis/apps/v1/namespaces/kubeagents/statefulsets/kubeagents"
	c.do(t, "DELETE", set+"?propagationPolicy=Orphan", "", http.StatusOK)
	c.eventually(t, func() bool { return c.get(t, set, nil) == http.StatusNotFound })
	var before, after manifest
	require.Equal(t, http.StatusOK, c.get(t, "/api/v1/namespaces/kubeagents/pods/kubeagents-0", &before))
	c.helm(t, larger...)
	c.eventually(t, func() bool {
		require.Equal(t, http.StatusOK, c.get(t, "/api/v1/namespaces/kubeagents/pods/kubeagents-0", &after))
		return len(at[[]any](after, "metadata", "ownerReferences")) == 1
	})
	require.Equal(t, at[string](before, "metadata", "uid"), at[string](after, "metadata", "uid"), "the Pod stays")
}

// TestChartBecomesSeveral upgrades one server to three and goes back, as the manual says. The chart refuses steps by which a
// server without state would begin the stream, or the last server would lack what others took.
func TestChartBecomesSeveral(t *testing.T) {
	needChart(t)
	c := startCluster(t)
	c.do(t, "POST", "/api/v1/namespaces", readFile(t, root+"/deploy/manifests/namespace.yaml"), http.StatusCreated)
	upgrade := func(values string, more ...string) []string {
		args := []string{"upgrade", "kubeagents", chartDir, "--values", valueSets(t)[values], "--set", "serviceMonitor.enabled=false,prometheusRule.enabled=false"}
		return append(args, more...)
	}
	refused := func(why string, args []string) {
		t.Helper()
		out, ok := c.tryHelm(t, args...)
		require.False(t, ok, out)
		require.Contains(t, out, why)
	}
	c.helm(t, "install", "kubeagents", chartDir, "--values", valueSets(t)["tokens"])
	alone := c.awaitServer(t, "kubeagents-0", false)
	c.makeReady(t, "kubeagents-0")
	refused("the server has run without NATS: upgrade with nats.url and replicaCount=1 first", upgrade("cluster"))

	c.helm(t, upgrade("cluster", "--set", "replicaCount=1")...)
	begun := c.awaitServer(t, "kubeagents-0", true)
	require.NotEqual(t, alone, begun)
	refused("the server is not ready: its state may not be in the stream yet", upgrade("cluster"))
	c.makeReady(t, "kubeagents-0")
	c.helm(t, upgrade("cluster")...)
	for _, name := range []string{"kubeagents-1", "kubeagents-2"} {
		c.awaitServer(t, name, true)
		c.makeReady(t, name)
		c.requireSize(t, "data-"+name, "10Gi")
	}
	require.Equal(t, begun, c.awaitServer(t, "kubeagents-0", true), "more servers restart none")
	const budget = "/apis/policy/v1/namespaces/kubeagents/poddisruptionbudgets/kubeagents"
	require.Equal(t, http.StatusOK, c.get(t, budget, nil))
	refused("3 servers share a stream: upgrade with the same nats and replicaCount=1 first", upgrade("tokens"))
	refused("the servers' state belongs to the stream KUBEAGENTS", upgrade("cluster", "--set", "nats.stream=other"))

	c.helm(t, upgrade("cluster", "--set", "replicaCount=1")...)
	for _, name := range []string{"kubeagents-1", "kubeagents-2"} {
		c.eventually(t, func() bool { return c.get(t, "/api/v1/namespaces/kubeagents/pods/"+name, nil) == http.StatusNotFound })
	}
	require.Equal(t, http.StatusNotFound, c.get(t, budget, nil))
	require.Equal(t, begun, c.awaitServer(t, "kubeagents-0", true), "fewer servers restart none")
	c.awaitRollout(t, 1)
	c.helm(t, upgrade("tokens")...)
	require.NotEqual(t, begun, c.awaitServer(t, "kubeagents-0", false))
}

// TestChartNATSInstalls installs the chart of NATS as the manual says, in the namespace that enforces the restricted profile.
func TestChartNATSInstalls(t *testing.T) {
	needChart(t)
	c := startCluster(t)
	c.do(t, "POST", "/api/v1/namespaces", readFile(t, root+"/deploy/manifests/namespace.yaml"), http.StatusCreated)
	values := []string{natsChart, "--values", natsDir + "/values.yaml"}
	c.helm(t, append([]string{"install", "nats"}, values...)...)
	for _, name := range []string{"nats-0", "nats-1", "nats-2"} {
		c.requirePod(t, name)
		c.requireSize(t, "nats-js-"+name, "20Gi")
	}
	c.helm(t, append([]string{"upgrade", "nats"}, values...)...)
	c.helm(t, "uninstall", "nats", "--cascade", "foreground", "--wait", "--timeout", "1m")
}

// awaitServer waits until the Pod of a server exists that has NATS or not, and returns the Pod's ID.
func (c *cluster) awaitServer(t *testing.T, name string, nats bool) (uid string) {
	t.Helper()
	c.eventually(t, func() bool {
		var pod manifest
		if c.get(t, "/api/v1/namespaces/kubeagents/pods/"+name, &pod) != http.StatusOK {
			return false
		}
		text, err := json.Marshal(pod)
		require.NoError(t, err)
		uid = at[string](pod, "metadata", "uid")
		return bytes.Contains(text, []byte("NATS_URL")) == nats
	})
	return uid
}

// makeReady reports that a Pod is ready, as a kubelet does, and waits until the StatefulSet knows.
func (c *cluster) makeReady(t *testing.T, name string) {
	t.Helper()
	c.do(t, "PATCH", "/api/v1/namespaces/kubeagents/pods/"+name+"/status",
		`{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}`, http.StatusOK)
	number, err := strconv.Atoi(name[len("kubeagents-"):])
	require.NoError(t, err)
	c.awaitRollout(t, float64(number+1))
}

// awaitRollout waits until the StatefulSet of the servers has that many Pods that are ready, all of them current.
func (c *cluster) awaitRollout(t *testing.T, ready float64) {
	t.Helper()
	c.eventually(t, func() bool {
		var set manifest
		require.Equal(t, http.StatusOK, c.get(t, "/apis/apps/v1/namespaces/kubeagents/statefulsets/kubeagents", &set))
		status := at[map[string]any](set, "status")
		return status["readyReplicas"] == ready && status["currentRevision"] == status["updateRevision"] &&
			status["observedGeneration"] == at[float64](set, "metadata", "generation")
	})
}

// watcherProgram builds the watcher, once, and returns its path.
var watcherProgram = sync.OnceValue(func() string {
	path := filepath.Join(buildDir(), "kubeagents-watcher")
	build := exec.Command("go", "build", "-C", root+"/deploy/watcher", "-o", path, ".") //nolint:noctx // the build ends by itself
	if out, err := build.CombinedOutput(); err != nil {
		panic("build the watcher: " + string(out))
	}
	return path
})

// TestChartWatcherRuns runs the watcher with the settings, files and probes that the chart renders, beside the server. A
// Job that carries the label becomes an agent.
func TestChartWatcherRuns(t *testing.T) {
	needChart(t)
	c := startCluster(t)
	for _, namespace := range []string{"kubeagents", "data"} {
		c.do(t, "POST", "/api/v1/namespaces", "metadata: {name: "+namespace+"}", http.StatusCreated)
	}
	n := newNode(t, "--values", valueSets(t)["watcher"], "--set", "restore.from=") // there is no backup
	stop := n.start("kubeagents")
	watcher := *n
	watcher.port = freePort(t)
	pod := at[map[string]any](find(t, n.objects, "Deployment", "kubeagents-watcher"), "spec", "template", "spec")
	stopWatcher := watcher.startContainer(pod, "KUBECONFIG="+c.kubeconfig, "HOST=127.0.0.1")
	c.do(t, "POST", "/apis/batch/v1/namespaces/data/jobs", `{"metadata": {"name": "import", "labels": {"kubeagents.dev/agent": "nightly-import"}},
		"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "import"}]}}}}`, http.StatusCreated)
	c.eventually(t, func() bool {
		return n.do("GET", "http", "/api/agents/data%2Fnightly-import", "", "Authorization: Bearer "+n.tokens["reads"].Token) == http.StatusOK
	})
	log := stopWatcher()
	require.NotContains(t, log, `"level":"ERROR"`)
	require.NotContains(t, log, `"level":"WARN"`)
	stop()
}

// cluster is a running control plane.
type cluster struct {
	kubeconfig, address string
	client              *http.Client
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	program := os.Getenv(clusterVariable)
	if program == "" {
		t.Skip("run make test-chart-cluster, which needs a few minutes to build it once")
	}
	c := &cluster{kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	cmd := exec.CommandContext(t.Context(), program, "-kubeconfig", c.kubeconfig)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		cmd.Wait() //nolint:errcheck // it was asked to end
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		cmd.Wait() //nolint:errcheck // its log says why
		require.NoError(t, err, "%s", log.String())
	}
	require.Equal(t, "ready\n", line)
	go io.Copy(io.Discard, stdout) //nolint:errcheck // it says nothing else

	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     string `yaml:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert  string `yaml:"client-certificate-data"`
				Key   string `yaml:"client-key-data"`
				Token string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, c.kubeconfig)), &config))
	c.address = config.Clusters[0].Cluster.Server
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(decoded(t, config.Clusters[0].Cluster.CA))
	options := &tls.Config{RootCAs: roots}
	user := config.Users[0].User
	if user.Cert != "" {
		pair, err := tls.X509KeyPair(decoded(t, user.Cert), decoded(t, user.Key))
		require.NoError(t, err)
		options.Certificates = []tls.Certificate{pair}
	}
	c.client = &http.Client{Transport: bearer{user.Token, &http.Transport{TLSClientConfig: options}}}
	return c
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return b
}

// do sends a request to the API server, which must answer with a status.
func (c *cluster) do(t *testing.T, method, target, body string, want int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.address+target, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/yaml")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, want, resp.StatusCode, "%s", text)
}

// get decodes an object, if it exists, and returns the status of the response.
func (c *cluster) get(t *testing.T, target string, into any) int {
	t.Helper()
	resp, err := c.client.Get(c.address + target)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read as far as needed
	if into != nil && resp.StatusCode == http.StatusOK {
		require.NoError(t, json.NewDecoder(resp.Body).Decode(into))
	}
	return resp.StatusCode
}

func (c *cluster) eventually(t *testing.T, done func() bool) {
	t.Helper()
	require.Eventually(t, done, time.Minute, 50*time.Millisecond)
}

func (c *cluster) requirePod(t *testing.T, name string) {
	t.Helper()
	c.eventually(t, func() bool { return c.get(t, "/api/v1/namespaces/kubeagents/pods/"+name, nil) == http.StatusOK })
}

func (c *cluster) requireReplicas(t *testing.T, deployment string, want float64) {
	t.Helper()
	c.eventually(t, func() bool {
		var o manifest
		return c.get(t, "/apis/apps/v1/namespaces/kubeagents/deployments/"+deployment, &o) == http.StatusOK && at[float64](o, "status", "replicas") == want
	})
}

// requireSize requires that a claim, which outlives the release, has a size.
func (c *cluster) requireSize(t *testing.T, claim, want string) {
	t.Helper()
	var o manifest
	require.Equal(t, http.StatusOK, c.get(t, "/api/v1/namespaces/kubeagents/persistentvolumeclaims/"+claim, &o), claim)
	require.Equal(t, want, at[string](o, "spec", "resources", "requests", "storage"))
}

func (c *cluster) helm(t *testing.T, args ...string) {
	t.Helper()
	out, ok := c.tryHelm(t, args...)
	require.True(t, ok, "%v: %s", args, out)
}

func (c *cluster) tryHelm(t *testing.T, args ...string) (output string, ok bool) {
	t.Helper()
	out, errs, ok := runTool(t, helm(), append(args, "--namespace", "kubeagents", "--kubeconfig", c.kubeconfig)...)
	return out + errs, ok
}
