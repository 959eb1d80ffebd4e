package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"
)

// patience is how long a test waits for what must happen. No test waits for it to pass.
const patience = time.Minute

// buildServer builds the server from the repository, once.
var buildServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kubeagents")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "kubeagents")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

// hub is a real KubeAgents server.
type hub struct {
	t           *testing.T
	environment []string
	url         string
	process     *exec.Cmd
}

// startHub starts a server on a free port, with a data directory.
func startHub(t *testing.T, settings ...string) *hub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, listener.Close())
	h := &hub{t: t, url: "http://127.0.0.1:" + port}
	h.environment = append([]string{"HOST=127.0.0.1", "PORT=" + port, "DATA_DIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, settings...)
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *hub) start() {
	h.t.Helper()
	program, err := buildServer()
	require.NoError(h.t, err)
	h.process = exec.Command(program)
	h.process.Env = h.environment
	log := &lockedBuffer{}
	h.process.Stderr = log
	require.NoError(h.t, h.process.Start())
	require.Eventually(h.t, func() bool {
		resp, err := http.Get(h.url + "/health/ready")
		if err != nil {
			return false
		}
		resp.Body.Close() //nolint:errcheck // nothing was read
		return resp.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond, "%s", log)
}

func (h *hub) stop() {
	if h.process == nil {
		return
	}
	h.process.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	h.process.Wait()                          //nolint:errcheck // its status does not matter
	h.process = nil
}

// get reads a resource of the server's API. It returns false if the server has none.
func (h *hub) get(path string, into any) bool {
	resp, err := http.Get(h.url + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close() //nolint:errcheck // it is read
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(text, into) == nil
}

// inFull is a session with its history, as the API returns it.
type inFull struct {
	Session struct {
		Title   string    `json:"title"`
		Status  string    `json:"current_status"`
		Message string    `json:"current_message"`
		TTL     int       `json:"ttl_minutes"`
		Lost    bool      `json:"lost"`
		Updated time.Time `json:"last_updated"`
	} `json:"session"`
	History []struct {
		Status    string    `json:"status"`
		Message   string    `json:"message"`
		Timestamp time.Time `json:"timestamp"`
	} `json:"status_history"`
}

func (h *hub) session(agent, topic string) (s inFull) {
	h.get("/api/agents/"+url.PathEscape(agent)+"/sessions/"+topic, &s)
	return s
}

// told returns the history of a session, oldest first.
func (h *hub) told(agent, topic string) (lines []string) {
	history := h.session(agent, topic).History
	for i := range history {
		e := history[len(history)-1-i]
		lines = append(lines, e.Status+": "+e.Message)
	}
	return lines
}

// eventually waits until a session's history is as wanted.
func (h *hub) eventually(agent, topic string, want ...string) {
	h.t.Helper()
	if !assertSoon(func() bool { return fmt.Sprint(h.told(agent, topic)) == fmt.Sprint(want) }) {
		require.Equal(h.t, want, h.told(agent, topic))
	}
}

func assertSoon(holds func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

// fast is a timing of Leases for tests.
var fast = timing{2 * time.Second, time.Second, 50 * time.Millisecond}

// replica is a running watcher.
type replica struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when err is set
	err    error
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startWatcher runs a watcher of the cluster that client reaches.
func startWatcher(t *testing.T, client kubernetes.Interface, h *hub, settings map[string]string) *replica {
	t.Helper()
	environment := map[string]string{"KUBEAGENTS_SERVER": h.url, "HOST": "127.0.0.1", "PORT": "0"}
	for name, value := range settings {
		environment[name] = value
	}
	s, err := loadSettings(environment)
	require.NoError(t, err)
	r := &replica{ended: make(chan struct{}), log: &lockedBuffer{}}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		r.err = serve(ctx, s, client, fast, slog.New(slog.NewTextHandler(r.log, nil)))
	}()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the watcher as SIGTERM does.
func (r *replica) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case <-r.ended:
		require.NoError(t, r.err)
	case <-time.After(patience):
		t.Fatal("the watcher does not end")
	}
}

// logs waits until the watcher has logged something.
func (r *replica) logs(t *testing.T, text string) {
	t.Helper()
	require.True(t, assertSoon(func() bool { return strings.Contains(r.log.String(), text) }), "%q is not in\n%s", text, r.log)
}

// recording replays a file of testdata/pods on an API server, with all times moved so that it begins a moment ago. Times
// that are still to come count as now.
type recording struct {
	t      *testing.T
	client kubernetes.Interface
	steps  []map[string]any
	known  map[string]map[string]any
}

func newRecording(t *testing.T, client kubernetes.Interface, name string) *recording {
	t.Helper()
	text, err := os.ReadFile("testdata/pods/" + name + ".yaml")
	require.NoError(t, err)
	r := &recording{t: t, client: client, known: map[string]map[string]any{}}
	first := time.Now().AddDate(100, 0, 0)
	walkTimes := func(visit func(string) string) {
		for _, step := range r.steps {
			walk(step, visit)
		}
	}
	for _, document := range strings.Split(string(text), "\n---\n")[1:] {
		step := map[string]any{}
		require.NoError(t, yaml.Unmarshal([]byte(document), &step))
		r.steps = append(r.steps, step)
	}
	walkTimes(func(s string) string {
		if at, err := time.Parse(time.RFC3339, s); err == nil && at.Before(first) && at.Unix() > 0 {
			first = at
		}
		return s
	})
	shift := time.Since(first) - 10*time.Second
	walkTimes(func(s string) string {
		if at, err := time.Parse(time.RFC3339, s); err == nil {
			return at.Add(shift).UTC().Format(time.RFC3339)
		}
		return s
	})
	return r
}

// walk replaces all strings in a document.
func walk(value any, visit func(string) string) any {
	switch v := value.(type) {
	case string:
		return visit(v)
	case map[string]any:
		for name := range v {
			v[name] = walk(v[name], visit)
		}
	case []any:
		for i := range v {
			v[i] = walk(v[i], visit)
		}
	}
	return value
}

// play replays the next n steps, all that are left if n is negative.
func (r *recording) play(n int) {
	r.t.Helper()
	if n < 0 {
		n = len(r.steps)
	}
	for _, step := range r.steps[:n] {
		r.apply(step)
	}
	r.steps = r.steps[n:]
}

func (r *recording) apply(step map[string]any) {
	r.t.Helper()
	deleted := step["kind"] == "WatchEvent"
	if deleted {
		step = step["object"].(map[string]any)
	}
	name := step["metadata"].(map[string]any)["name"].(string)
	key := step["kind"].(string) + "/" + name
	before, exists := r.known[key]
	after := merge(before, step).(map[string]any)
	r.known[key] = after
	ctx := r.t.Context()
	var err error
	switch step["kind"] {
	case "Job":
		var j batchv1.Job
		require.NoError(r.t, runtime.DefaultUnstructuredConverter.FromUnstructured(after, &j))
		jobs := r.client.BatchV1().Jobs(j.Namespace)
		switch {
		case deleted:
			err = jobs.Delete(ctx, name, metav1.DeleteOptions{})
		case exists:
			_, err = jobs.Update(ctx, &j, metav1.UpdateOptions{})
		default:
			_, err = jobs.Create(ctx, &j, metav1.CreateOptions{})
		}
	case "Pod":
		var p corev1.Pod
		require.NoError(r.t, runtime.DefaultUnstructuredConverter.FromUnstructured(after, &p))
		pods := r.client.CoreV1().Pods(p.Namespace)
		switch {
		case deleted:
			err = pods.Delete(ctx, name, metav1.DeleteOptions{})
		case exists:
			_, err = pods.Update(ctx, &p, metav1.UpdateOptions{})
		default:
			_, err = pods.Create(ctx, &p, metav1.CreateOptions{})
		}
	}
	require.NoError(r.t, err)
}

// merge applies a JSON merge patch (RFC 7396).
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object := map[string]any{}
	if before, ok := target.(map[string]any); ok {
		for name, value := range before {
			object[name] = value
		}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

const (
	importer = "data/nightly-import"
	oomJob   = "fcd7bff8-57fb-4431-a770-aa68fa7080e4" // the UID in job-oom-killed.yaml
)

// TestAJobThatRunsOutOfMemory is what the watcher is there for: the Job is on the server as just that.
func TestAJobThatRunsOutOfMemory(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	startWatcher(t, client, h, nil).logs(t, "ready")
	recorded := newRecording(t, client, "job-oom-killed")
	recorded.play(6)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Message == "Running" }))
	recorded.play(2)
	require.True(t, assertSoon(func() bool {
		return h.session(importer, oomJob).Session.Message == "Attempt 2 of 2, the first ran out of memory (limit 512Mi)"
	}))
	recorded.play(-1)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Status == "failed" }))

	var agent struct {
		ID      string `json:"agent_id"`
		Source  string `json:"source"`
		Host    string `json:"host"`
		Status  string `json:"latest_status"`
		Message string `json:"latest_message"`
	}
	require.True(t, h.get("/api/agents/data%2Fnightly-import", &agent))
	require.Equal(t, importer, agent.ID)
	require.Equal(t, "kubernetes", agent.Source)
	require.NotEmpty(t, agent.Host)
	require.Equal(t, "failed", agent.Status)
	require.Equal(t, "Ran out of memory (limit 512Mi); attempt 2 of 2", agent.Message)
	s := h.session(importer, oomJob)
	require.Equal(t, "Job nightly-import-29372280", s.Session.Title)
	require.Equal(t, 24*60, s.Session.TTL)
	for _, e := range s.History {
		require.WithinDuration(t, time.Now().Add(-time.Minute), e.Timestamp, 2*time.Minute, "the times are those of the objects")
	}
}

// TestTheServerIsAway changes a Job while the server is down, and expects each status once it is back.
func TestTheServerIsAway(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	r := startWatcher(t, client, h, nil)
	r.logs(t, "ready")
	recorded := newRecording(t, client, "job-oom-killed")
	recorded.play(6)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Message == "Running" }))
	before := h.told(importer, oomJob)
	h.stop()
	recorded.play(2)
	r.logs(t, "can't be reached")
	recorded.play(-1)
	h.start()
	h.eventually(importer, oomJob, append(before, "running: Attempt 2 of 2, the first ran out of memory (limit 512Mi)", "failed: Ran out of memory (limit 512Mi); attempt 2 of 2")...)
	r.logs(t, "takes reports again")
}

// TestARestartRepeatsNothing restarts the watcher twice: while a Job runs, and after it has ended meanwhile.
func TestARestartRepeatsNothing(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	r := startWatcher(t, client, h, nil)
	r.logs(t, "ready")
	recorded := newRecording(t, client, "job-oom-killed")
	recorded.play(6)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Message == "Running" }))
	before, updated := h.told(importer, oomJob), h.session(importer, oomJob).Session.Updated
	r.stop(t)

	r = startWatcher(t, client, h, nil)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Updated.After(updated) }), "the session is renewed")
	require.Equal(t, before, h.told(importer, oomJob))
	r.stop(t)

	recorded.play(-1)
	r = startWatcher(t, client, h, nil)
	h.eventually(importer, oomJob, append(before, "failed: Ran out of memory (limit 512Mi); attempt 2 of 2")...)
	r.stop(t)
	startWatcher(t, client, h, nil).logs(t, "ready")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "last", UID: "last", Labels: map[string]string{"kubeagents.dev/agent": ""}, CreationTimestamp: metav1.Now()}}
	_, err := client.CoreV1().Pods("data").Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	h.eventually("data/last", "last", "running: Starting: waiting for a node")
	require.Len(t, h.told(importer, oomJob), len(before)+1, "it was listed and reported before")
}

// TestTwoReplicas lets one of two replicas report, and the other one take over: when the first stops, and when it loses
// the Lease.
func TestTwoReplicas(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	var away atomic.Bool
	client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away.Load(), nil, errors.New("the API server is away")
	})
	first := startWatcher(t, client, h, map[string]string{"POD_NAMESPACE": "kubeagents", "POD_NAME": "first"})
	first.logs(t, "leader=first this=true")
	second := startWatcher(t, client, h, map[string]string{"POD_NAMESPACE": "kubeagents", "POD_NAME": "second"})
	second.logs(t, "leader=first this=false")
	recorded := newRecording(t, client, "job-oom-killed")
	recorded.play(6)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Message == "Running" }))
	before := h.told(importer, oomJob)

	first.stop(t)
	second.logs(t, "leader=second this=true")
	recorded.play(-1)
	h.eventually(importer, oomJob, append(before, "running: Attempt 2 of 2, the first ran out of memory (limit 512Mi)", "failed: Ran out of memory (limit 512Mi); attempt 2 of 2")...)

	away.Store(true)
	second.logs(t, "it lost the Lease")
}

// TestManyPods watches 10,000 Pods.
func TestManyPods(t *testing.T) {
	const n = 10_000
	h := startHub(t)
	client := fake.NewClientset()
	for i := range n {
		require.NoError(t, client.Tracker().Add(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: fmt.Sprint("web-", i), UID: types.UID(fmt.Sprint("uid-", i)),
				Labels: map[string]string{"kubeagents.dev/agent": ""}, CreationTimestamp: metav1.Now()},
			Spec: corev1.PodSpec{NodeName: "worker-1", Containers: []corev1.Container{{Name: "main", Image: "web:1"}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main",
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}},
		}))
	}
	r := startWatcher(t, client, h, nil)
	var summary struct {
		Sessions struct {
			ByStatus map[string]int `json:"by_status"`
		} `json:"sessions"`
	}
	require.True(t, assertSoon(func() bool { return h.get("/api/summary", &summary) && summary.Sessions.ByStatus["running"] == n }), "%v\n%s", summary, r.log)
	require.NotContains(t, r.log.String(), "level=WARN")
}

// TestATokenForOtherAgents lets the watcher report with a token that does not cover its agents, until it does.
func TestATokenForOtherAgents(t *testing.T) {
	program, err := buildServer()
	require.NoError(t, err)
	tokens := filepath.Join(t.TempDir(), "tokens")
	secret := filepath.Join(t.TempDir(), "token")
	create := exec.Command(program, "token", "-scopes", "report", "-agents", "ops/*", "watcher")
	var shown bytes.Buffer
	create.Stderr = &shown
	line, err := create.Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(tokens, line, 0o600))
	var token string
	for _, word := range strings.Fields(shown.String()) {
		if strings.HasPrefix(word, "ka_") || len(word) > len(token) {
			token = word
		}
	}
	require.NoError(t, os.WriteFile(secret, []byte(token), 0o600))
	h := startHub(t, "TOKENS_FILE="+tokens)
	client := fake.NewClientset()
	r := startWatcher(t, client, h, map[string]string{"KUBEAGENTS_TOKEN_FILE": secret})
	r.logs(t, "ready")
	newRecording(t, client, "oom-killed").play(-1)
	r.logs(t, "the token may not report for an agent")
	r.logs(t, "agent_id="+importer)
}

// page returns the status and the body of a page of the watcher: a probe or its metrics.
func (r *replica) page(t *testing.T, path string) (int, string) {
	t.Helper()
	match := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(r.log.String())
	require.NotNil(t, match, "%s", r.log)
	resp, err := http.Get("http://" + match[1] + path)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestProbesAndMetrics asks two replicas of which one leads, before and after the server takes a report.
func TestProbesAndMetrics(t *testing.T) {
	h := startHub(t)
	h.stop()
	client := fake.NewClientset()
	first := startWatcher(t, client, h, map[string]string{"POD_NAMESPACE": "kubeagents", "POD_NAME": "first"})
	first.logs(t, "leader=first this=true")
	second := startWatcher(t, client, h, map[string]string{"POD_NAMESPACE": "kubeagents", "POD_NAME": "second"})
	second.logs(t, "leader=first this=false")
	newRecording(t, client, "oom-killed").play(-1)
	first.logs(t, "can't be reached")
	for r, leads := range map[*replica]string{first: "1", second: "0"} {
		for _, probe := range []string{"/health/live", "/health/ready"} {
			code, body := r.page(t, probe)
			require.Equal(t, http.StatusOK, code)
			require.Equal(t, "ok\n", body)
		}
		_, metrics := r.page(t, "/metrics")
		require.Contains(t, metrics, "kubeagents_watcher_leading "+leads+"\n")
	}
	_, metrics := first.page(t, "/metrics")
	require.Regexp(t, `(?m)^kubeagents_watcher_waiting_reports [1-9]`, metrics)
	require.Regexp(t, `(?m)^kubeagents_watcher_failed_requests_total [1-9]`, metrics)
	require.Contains(t, metrics, `kubeagents_watcher_sessions{status="failed"} 1`)
	require.Contains(t, metrics, "kubeagents_watcher_last_accepted_timestamp_seconds 0\n")
	_, metrics = second.page(t, "/metrics")
	require.Contains(t, metrics, `kubeagents_watcher_sessions{status="failed"} 0`, "those that it reports")

	h.start()
	first.logs(t, "takes reports again")
	require.True(t, assertSoon(func() bool {
		_, metrics := first.page(t, "/metrics")
		return strings.Contains(metrics, "kubeagents_watcher_waiting_reports 0\n")
	}))
	_, metrics = first.page(t, "/metrics")
	require.Regexp(t, `(?m)^kubeagents_watcher_reports_total\{outcome="accepted"\} [1-9]`, metrics)
	require.Regexp(t, `(?m)^kubeagents_watcher_last_accepted_timestamp_seconds 1\.[0-9]+e\+09`, metrics)
}

// TestAStopSendsTheRest stops the watcher while reports wait for a server that is back. It sends them, and releases the
// Lease, within the grace period of a Pod.
func TestAStopSendsTheRest(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	r := startWatcher(t, client, h, map[string]string{"POD_NAMESPACE": "kubeagents", "POD_NAME": "first"})
	r.logs(t, "leader=first this=true")
	h.stop()
	newRecording(t, client, "oom-killed").play(-1)
	r.logs(t, "can't be reached")
	require.True(t, assertSoon(func() bool {
		_, text := r.page(t, "/metrics")
		return strings.Contains(text, `sessions{status="failed"} 1`)
	}))
	h.start()
	began := time.Now()
	r.stop(t)
	require.Less(t, time.Since(began), 30*time.Second, "the grace period that Kubernetes gives a Pod")
	var agent struct {
		Message string `json:"latest_message"`
		Name    string `json:"name"`
	}
	require.True(t, h.get("/api/agents/data%2Fnightly-import", &agent))
	require.Equal(t, "Ran out of memory (limit 512Mi)", agent.Message)
	require.Equal(t, "nightly-import", agent.Name)
	lease, err := client.CoordinationV1().Leases("kubeagents").Get(t.Context(), "kubeagents-watcher", metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, *lease.Spec.HolderIdentity)
}

// TestAToolInThePodKeepsItsName lets a tool report from the Pod of an agent. The folder that the tool runs in does not
// name the agent; a name that somebody gave the tool does, whatever the watcher reports later.
func TestAToolInThePodKeepsItsName(t *testing.T) {
	h := startHub(t)
	client := fake.NewClientset()
	hook := func(name string) {
		body := `{"hook_event_name":"UserPromptSubmit","session_id":"tool","cwd":"/work/checkout","prompt":"Go"}`
		resp, err := http.Post(h.url+"/webhook/claude-code?agent_id="+url.QueryEscape(importer)+name, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	name := func() string {
		var agent struct{ Name string }
		h.get("/api/agents/"+url.PathEscape(importer), &agent)
		return agent.Name
	}
	hook("")
	require.Equal(t, "checkout", name())
	r := startWatcher(t, client, h, nil)
	recorded := newRecording(t, client, "job-oom-killed")
	recorded.play(6)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Message == "Running" }))
	require.Equal(t, "nightly-import", name())
	hook("")
	require.Equal(t, "nightly-import", name())

	hook("&agent_name=Importer")
	require.Equal(t, "Importer", name())
	r.stop(t)
	updated := h.session(importer, oomJob).Session.Updated
	startWatcher(t, client, h, nil)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Updated.After(updated) }), "the session is renewed")
	recorded.play(-1)
	require.True(t, assertSoon(func() bool { return h.session(importer, oomJob).Session.Status == "failed" }))
	require.Equal(t, "Importer", name())
}
