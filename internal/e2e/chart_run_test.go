//go:build unix

package e2e

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// node runs the containers that the chart renders as processes of this machine, as a kubelet would run them on a node:
// with their command, their variables, the files of their volumes, and their probes. Paths are below a scratch directory,
// and the server listens on a free port of the loopback interface.
type node struct {
	t       *testing.T
	pod     string // the Pod's name
	root    string // the directory with all volumes
	port    string // the port that 8080 stands for
	service string // the port of the server that the Service leads to
	secrets map[string]map[string][]byte
	objects []manifest
	tokens  map[string]accesstest.Holder
	nats    *natstest.Cluster // nil unless the server needs NATS
}

func newNode(t *testing.T, args ...string) *node {
	t.Helper()
	port := freePort(t)
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	ca := newAuthority(t)
	cert, key := ca.sign(t, 9)
	vapid := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	return &node{t: t, pod: "a-pod", root: t.TempDir(), port: port, service: port, objects: objectsIn(t, render(t, args...)), tokens: holders, secrets: map[string]map[string][]byte{
		"kubeagents-tokens":  {"tokens": []byte(readFile(t, tokens)), "file": []byte(readFile(t, tokens))},
		"kubeagents-tls":     {"tls.crt": cert, "tls.key": key, "ca.crt": ca.pem},
		"internal-ca":        {"ca.crt": ca.pem},
		"kubeagents-clients": {"ca.crt": ca.pem},
		"kubeagents-notify":  {"TOPIC": []byte("agents-1")},
		"kubeagents-rules":   {"rules.yaml": []byte("destinations: {a: {ntfy: {url: 'https://ntfy.example/${TOPIC}'}}}\nrules: [{name: a, on: [waits], to: [a]}]\n")},
		"kubeagents-webhook": {"WEBHOOK_SECRET": []byte("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)))},
		"kubeagents-vapid":   {"VAPID_PRIVATE_KEY": []byte(vapid)},
		"kubeagents-backup":  {"token": []byte(holders["admin"].Token + "\n")},
		"kubeagents-watcher": {"token": []byte(holders["reports"].Token + "\n")},
	}}
}

// nextPort counts the ports that freePort has tried. Each process of a test begins elsewhere.
var nextPort = sync.OnceValue(func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(int64(os.Getpid()) * 97)
	return n
})

// freePort returns a port of the loopback interface that was free a moment ago. It is below those that the system gives to
// connections and to whoever listens on any port, so that nobody else gets it in the meantime.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20000 + nextPort().Add(1)%12000)
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			require.NoError(t, listener.Close())
			return port
		}
	}
	require.FailNow(t, "there is no free port")
	return ""
}

// mount writes the files of a Pod's volumes, and returns the directory of each.
func (n *node) mount(pod map[string]any) map[string]string {
	n.t.Helper()
	dirs := map[string]string{}
	volumes := at[[]any](pod, "volumes")
	if !slices.ContainsFunc(volumes, func(v any) bool { return v.(map[string]any)["name"] == "data" }) {
		dirs["data"] = filepath.Join(n.root, "claims", "data") // of the StatefulSet's template
		require.NoError(n.t, os.MkdirAll(dirs["data"], 0o700))
	}
	for _, v := range volumes {
		volume := v.(map[string]any)
		name := volume["name"].(string)
		dir := filepath.Join(n.root, "volumes", name)
		switch {
		case volume["secret"] != nil:
			source := at[map[string]any](volume, "secret")
			files, ok := n.secrets[source["secretName"].(string)]
			require.True(n.t, ok, "%v", source)
			n.writeVolume(dir, selected(n.t, files, source))
		case volume["configMap"] != nil:
			files := map[string][]byte{}
			for key, text := range at[map[string]any](find(n.t, n.objects, "ConfigMap", at[string](volume, "configMap", "name")), "data") {
				files[key] = []byte(text.(string))
			}
			n.writeVolume(dir, files)
		case volume["persistentVolumeClaim"] != nil:
			dir = filepath.Join(n.root, "claims", at[string](volume, "persistentVolumeClaim", "claimName"))
		}
		require.NoError(n.t, os.MkdirAll(dir, 0o700))
		dirs[name] = dir
	}
	return dirs
}

// selected returns the files of a Secret that a volume has.
func selected(t *testing.T, files map[string][]byte, source map[string]any) map[string][]byte {
	t.Helper()
	items := at[[]any](source, "items")
	if items == nil {
		return files
	}
	result := map[string][]byte{}
	for _, item := range items {
		key, to := item.(map[string]any)["key"].(string), item.(map[string]any)["path"].(string)
		text, ok := files[key]
		require.True(t, ok || source["optional"] == true, "%s: %v", key, source)
		if ok {
			result[to] = text
		}
	}
	return result
}

// writeVolume writes the files of a Secret or ConfigMap as a kubelet does: they are links into a directory that a link
// names, which is replaced to change all of them at once.
func (n *node) writeVolume(dir string, files map[string][]byte) {
	n.t.Helper()
	require.NoError(n.t, os.MkdirAll(dir, 0o700))
	version, err := os.MkdirTemp(dir, "..")
	require.NoError(n.t, err)
	for name, text := range files {
		writeFile(n.t, filepath.Join(version, name), text)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			require.ErrorIs(n.t, err, os.ErrExist)
		}
	}
	next := filepath.Join(dir, "..data_tmp")
	require.NoError(n.t, os.Symlink(filepath.Base(version), next))
	require.NoError(n.t, os.Rename(next, filepath.Join(dir, "..data")))
}

// command returns the process of a container.
func (n *node) command(pod, container map[string]any) *exec.Cmd {
	n.t.Helper()
	dirs := n.mount(pod)
	var replace, services []string
	for _, o := range n.objects { // the Service's name and port stand for the server's
		if o.kind() == "Service" {
			port := at[[]any](o, "spec", "ports")[0].(map[string]any)["port"]
			replace = append(replace, fmt.Sprintf("://%s.kubeagents.svc:%v", o.name(), port), "://127.0.0.1:"+n.service)
		}
	}
	services = slices.Clone(replace)
	mounts := at[[]any](container, "volumeMounts")
	for _, m := range mounts {
		mount := m.(map[string]any)
		dir, ok := dirs[mount["name"].(string)]
		require.True(n.t, ok, "%v", mount)
		replace = append(replace, mount["mountPath"].(string), dir)
	}
	here, serviceURL := strings.NewReplacer(replace...), strings.NewReplacer(services...)
	var args []string
	for _, arg := range at[[]any](container, "command") {
		args = append(args, here.Replace(arg.(string)))
	}
	programs := map[string]func() string{"/kubeagents": program, "/kubeagents-watcher": watcherProgram}
	require.Contains(n.t, programs, args[0])
	cmd := exec.CommandContext(n.t.Context(), programs[args[0]](), args[1:]...)
	cmd.Env = []string{} // no variable of the test
	for _, source := range at[[]any](container, "envFrom") {
		name := at[string](source.(map[string]any), "secretRef", "name")
		for key, value := range n.secrets[name] {
			cmd.Env = append(cmd.Env, key+"="+string(value))
		}
	}
	for _, v := range at[[]any](container, "env") {
		variable := v.(map[string]any)
		name, value := variable["name"].(string), at[string](variable, "value")
		if field := at[string](variable, "valueFrom", "fieldRef", "fieldPath"); field != "" {
			value = map[string]string{"metadata.namespace": "kubeagents", "metadata.name": n.pod}[field]
			require.NotEmpty(n.t, value, field)
		} else if variable["valueFrom"] != nil {
			text, ok := n.secrets[at[string](variable, "valueFrom", "secretKeyRef", "name")][at[string](variable, "valueFrom", "secretKeyRef", "key")]
			require.True(n.t, ok, "%v", variable)
			value = string(text)
		}
		switch name {
		case "PORT":
			require.Equal(n.t, "8080", value)
			value = n.port
		case "HOST":
			require.Equal(n.t, "0.0.0.0", value)
			value = "127.0.0.1"
		case "HTTPS_PROXY":
			continue
		case "NATS_URL":
			scheme, _, _ := strings.Cut(value, "://")
			value = strings.ReplaceAll(n.nats.URL(), "nats://", scheme+"://")
		case "NATS_MONITOR_URL":
			value = strings.Join(n.nats.MonitorURLs(), ",")
		}
		value = serviceURL.Replace(value)
		if strings.HasPrefix(value, "/") {
			require.NotEqual(n.t, value, here.Replace(value), "%s=%s is in no volume", name, value)
			value = here.Replace(value)
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs a container until it ends, and returns its exit status and its output.
func (n *node) run(pod, container map[string]any) (int, string) {
	n.t.Helper()
	cmd := n.command(pod, container)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(n.t, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// probe does once what a container's probe does, and returns why it fails.
func (n *node) probe(pod, container map[string]any, name string) error {
	probe := at[map[string]any](container, name)
	if exec := at[[]any](probe, "exec", "command"); exec != nil {
		cmd := n.command(pod, map[string]any{"command": exec, "env": container["env"], "envFrom": container["envFrom"], "volumeMounts": container["volumeMounts"]})
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	get := at[map[string]any](probe, "httpGet")
	ports := at[[]any](container, "ports")
	if !slices.ContainsFunc(ports, func(p any) bool {
		return p.(map[string]any)["name"] == get["port"] && p.(map[string]any)["containerPort"] == uint64(8080)
	}) {
		return fmt.Errorf("no port %v in %v", get["port"], ports)
	}
	scheme := strings.ToLower(cmp.Or(at[string](get, "scheme"), "HTTP"))
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as a kubelet does
	resp, err := client.Get(scheme + "://127.0.0.1:" + n.port + get["path"].(string))
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only the status counts
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// start starts the server, after its init containers, and waits until all its probes succeed. stop asks it to stop, as a
// kubelet does, and returns its log.
func (n *node) start(name string) (stop func() string) {
	n.t.Helper()
	pod := at[map[string]any](find(n.t, n.objects, "StatefulSet", name), "spec", "template", "spec")
	for _, c := range at[[]any](pod, "initContainers") {
		container := c.(map[string]any)
		status, out := n.run(pod, container)
		require.Zero(n.t, status, "%s: %s", container["name"], out)
	}
	return n.startContainer(pod)
}

// startContainer starts the first container of a Pod with more variables, and waits until its probes succeed. stop is as
// that of start.
func (n *node) startContainer(pod map[string]any, variables ...string) (stop func() string) {
	n.t.Helper()
	await, stop := n.launch(pod, variables...)
	await()
	return stop
}

// launch starts the first container of a Pod with more variables. await waits until its probes succeed. stop is as that of
// start.
func (n *node) launch(pod map[string]any, variables ...string) (await func(), stop func() string) {
	n.t.Helper()
	container := at[[]any](pod, "containers")[0].(map[string]any)
	cmd := n.command(pod, container)
	cmd.Env = append(cmd.Env, variables...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(n.t, cmd.Start())
	n.t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended already
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	await = func() {
		n.t.Helper()
		limit := time.After(time.Minute)
		for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			if container[probe] == nil {
				require.Equal(n.t, "startupProbe", probe)
				continue
			}
			for err := n.probe(pod, container, probe); err != nil; err = n.probe(pod, container, probe) {
				select {
				case <-limit:
					require.FailNow(n.t, "it does not start", "%s: %v", probe, err)
				case err := <-ended:
					require.FailNow(n.t, "it ended while it started", "%v: %s", err, log.String())
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}
	stop = func() string {
		n.t.Helper()
		grace := time.Duration(cmp.Or(at[uint64](pod, "terminationGracePeriodSeconds"), 30)) * time.Second
		require.NoError(n.t, cmd.Process.Signal(syscall.SIGTERM))
		late := time.AfterFunc(grace, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended already
		defer late.Stop()
		require.NoError(n.t, <-ended, "it ends with status 0 within %s: %s", grace, log.String())
		require.Error(n.t, n.probe(pod, container, "readinessProbe"))
		return log.String()
	}
	return await, stop
}

// do sends a request to the server with a token, and returns the status of the response.
func (n *node) do(method, scheme, target, body string, header ...string) int {
	n.t.Helper()
	resp := n.send(method, scheme, target, body, header)
	require.NoError(n.t, resp.Body.Close())
	return resp.StatusCode
}

// get reads from a server without TLS.
func (n *node) get(target string, header ...string) (status int, body string) {
	n.t.Helper()
	resp := n.send("GET", "http", target, "", header)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	text, err := io.ReadAll(resp.Body)
	require.NoError(n.t, err)
	return resp.StatusCode, string(text)
}

func (n *node) send(method, scheme, target, body string, header []string) *http.Response {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, scheme+"://127.0.0.1:"+n.port+target, strings.NewReader(body))
	require.NoError(n.t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	insecure := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the test Pod checks the certificate
	resp, err := insecure.Do(r)
	require.NoError(n.t, err)
	return resp
}

// TestChartRuns runs what the chart renders for each set of values: the server with its settings, files and probes, and
// the Pod of helm test.
func TestChartRuns(t *testing.T) {
	needChart(t)
	for name, file := range valueSets(t) {
		if name == "cluster" {
			continue // TestChartGoesFromOneToThree runs it
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--values", file, "--set", "restore.from=,nats.replicas=1"}
			release := "kubeagents"
			if name == "everything" {
				args = append(args, "--set", "extraContainers=null,extraInitContainers=null,tolerations=null")
				release = "agents"
			}
			n := newNode(t, args...)
			if configure, ok := natsOf[name]; ok {
				configure(n)
			}
			stop := n.start(release)
			if i := slices.IndexFunc(n.objects, func(o manifest) bool { return o.kind() == "Pod" }); i >= 0 {
				pod := at[map[string]any](n.objects[i], "spec")
				status, out := n.run(pod, at[[]any](pod, "containers")[0].(map[string]any))
				require.Zero(t, status, out)
				require.Contains(t, out, "is ready")
			} else {
				require.Contains(t, name, "mtls", "only a server that wants client certificates has no test")
			}
			log := stop()
			require.NotContains(t, log, "is not a setting")
			require.NotContains(t, log, "level=ERROR")
			require.NotContains(t, log, `"level":"ERROR"`)
		})
	}
}

// TestChartTokensAreReloaded changes the Secret of a running server, as a kubelet does, with TLS and rules.
func TestChartTokensAreReloaded(t *testing.T) {
	needChart(t)
	n := newNode(t, "--values", valueSets(t)["tls"])
	stop := n.start("kubeagents")
	require.Equal(t, http.StatusUnauthorized, n.do("GET", "https", "/api/summary", ""))
	require.Equal(t, http.StatusOK, n.do("GET", "https", "/api/summary", "", n.tokens["reads"].Header()...))
	token, line := newToken(t)
	require.Equal(t, http.StatusUnauthorized, n.do("GET", "https", "/api/summary", "", "Authorization: Bearer "+token))
	tokens := n.secrets["kubeagents-tokens"]
	tokens["tokens"] = append(tokens["tokens"], line...)
	n.writeVolume(filepath.Join(n.root, "volumes", "tokens"), tokens)
	require.Eventually(t, func() bool {
		return n.do("GET", "https", "/api/summary", "", "Authorization: Bearer "+token) == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	stop()
}

// TestChartCertificatesAreReloaded renews the certificate in the Secret of a running server, as cert-manager and a kubelet
// do.
func TestChartCertificatesAreReloaded(t *testing.T) {
	needChart(t)
	n := newNode(t, "--values", valueSets(t)["tls"])
	stop := n.start("kubeagents")
	served := func() []byte {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+n.port, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec,noctx // only which certificate it is counts
		require.NoError(t, err)
		defer conn.Close() //nolint:errcheck // nothing is sent
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	secret := n.secrets["kubeagents-tls"]
	first, _ := pem.Decode(secret["tls.crt"])
	require.Equal(t, first.Bytes, served())
	secret["tls.crt"], secret["tls.key"] = newAuthority(t).sign(t, 10)
	renewed, _ := pem.Decode(secret["tls.crt"])
	n.writeVolume(filepath.Join(n.root, "volumes", "tls"), secret)
	require.Eventually(t, func() bool { return bytes.Equal(renewed.Bytes, served()) }, time.Minute, 20*time.Millisecond)
	stop()
}

// newToken makes a token as the notes and the manual say, and returns it with its line for the tokens file.
func newToken(t *testing.T) (token, line string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(), "token", "-scopes", "report,read,acknowledge,admin", "operator-of-the-chart")
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run())
	i := strings.Index(errs.String(), "ka_")
	require.GreaterOrEqual(t, i, 0, errs.String())
	return strings.Fields(errs.String()[i:])[0], out.String()
}

// TestChartBacksUpAndRestores runs the backup of the CronJob against a server with TLS, loses the server's volume, and
// starts it again with restore.from.
func TestChartBacksUpAndRestores(t *testing.T) {
	needChart(t)
	values := []string{"--values", valueSets(t)["backup"]}
	n := newNode(t, append(values, "--set", "restore.from=")...)
	stop := n.start("kubeagents")
	reads := n.tokens["reads"].Header()
	require.Equal(t, http.StatusOK, n.do("POST", "https", "/webhook/status", reportOf("kept", "s", "running"), n.tokens["reports"].Header()...))
	job := podsOf(n.objects)["CronJob/kubeagents-backup"]
	claim := filepath.Join(n.root, "claims", "kubeagents-backup")
	for i := range 3 {
		status, out := n.run(job, at[[]any](job, "containers")[0].(map[string]any))
		require.Zero(t, status, out)
		made, err := filepath.Glob(claim + "/*Z")
		require.NoError(t, err)
		latest := slices.Max(made) // named for the second, so let it have been another one
		require.NoError(t, os.Rename(latest, filepath.Join(claim, fmt.Sprintf("2026010%dT032300Z", i+1))))
	}
	backups, err := filepath.Glob(claim + "/*Z")
	require.NoError(t, err)
	require.Len(t, backups, 2, "backup.keep is 2: %v", backups)
	stop()

	require.NoError(t, os.RemoveAll(filepath.Join(n.root, "claims", "data")))
	n.objects = objectsIn(t, render(t, append(values, "--set", "restore.from="+filepath.Base(backups[1]))...))
	for range 2 { // the second time, there is state, which stays
		stop = n.start("kubeagents")
		require.Equal(t, http.StatusOK, n.do("GET", "https", "/api/agents/kept", "", reads...))
		stop()
	}
}
