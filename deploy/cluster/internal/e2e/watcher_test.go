package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// build builds a program of this repository, once for each folder.
func build(t testing.TB, folder, name string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if program := builds.done[name]; program != "" {
		return program
	}
	dir, err := os.MkdirTemp("", "kubeagents-")
	require.NoError(t, err)
	program := filepath.Join(dir, name)
	command := exec.Command("go", "build", "-o", program, ".")
	command.Dir = filepath.Join("../../../..", folder)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	builds.done[name] = program
	return program
}

var builds = struct {
	sync.Mutex
	done map[string]string
}{done: map[string]string{}}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, program := range builds.done {
		os.RemoveAll(filepath.Dir(program)) //nolint:errcheck // it is a temporary directory
	}
	os.Exit(code)
}

// log is what a program logs.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// program is a running program.
type program struct {
	*exec.Cmd
	log
	ended chan struct{}
}

// run runs a program until the test ends.
func run(t testing.TB, path string, environment ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(path), ended: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HOST=127.0.0.1"}, environment...)
	p.Stderr = &p.log
	require.NoError(t, p.Start())
	go func() {
		p.Wait() //nolint:errcheck // its status does not matter
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(path), &p.log)
		}
	})
	return p
}

// end sends a signal and waits for the end of the program.
func (p *program) end(signal syscall.Signal) {
	p.Process.Signal(signal) //nolint:errcheck // it may have ended
	<-p.ended
}

// logs waits until the program has logged something.
func (p *program) logs(t testing.TB, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q in the log", text), func(context.Context) (bool, error) {
		select {
		case <-p.ended:
			return false, fmt.Errorf("it ended:\n%s", &p.log)
		default:
			return strings.Contains(p.log.String(), text), nil
		}
	})
}

// hub is a real KubeAgents server.
type hub struct{ url string }

func startHub(t testing.TB) *hub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, _ := net.SplitHostPort(address)
	h := &hub{"http://" + address}
	run(t, build(t, ".", "kubeagents"), "PORT="+port, "DATA_DIR="+t.TempDir(), "RATE_LIMIT_READS=0", "LOG_LEVEL=error")
	eventually(t, "the server is ready", func(context.Context) (bool, error) { return h.get("/health/ready", &struct{}{}), nil })
	return h
}

func (h *hub) get(path string, into any) bool {
	response, err := http.Get(h.url + path)
	if err != nil {
		return false
	}
	defer response.Body.Close() //nolint:errcheck // it is read
	body, err := io.ReadAll(response.Body)
	return err == nil && response.StatusCode == http.StatusOK && json.Unmarshal(body, into) == nil
}

// told returns the history of the only session of an agent, oldest first.
func (h *hub) told(t *testing.T, agent string) (lines []string) {
	t.Helper()
	path := "/api/agents/" + url.PathEscape(agent) + "/sessions"
	var list struct {
		Sessions []struct {
			Topic string `json:"session_topic"`
		}
	}
	if !h.get(path, &list) || len(list.Sessions) == 0 {
		return nil
	}
	require.Len(t, list.Sessions, 1, agent)
	var session struct {
		History []struct{ Status, Message string } `json:"status_history"`
	}
	h.get(path+"/"+url.PathEscape(list.Sessions[0].Topic), &session)
	for i := range session.History {
		entry := session.History[len(session.History)-1-i]
		lines = append(lines, entry.Status+": "+entry.Message)
	}
	return lines
}

// eventually waits until the newest entry of an agent's only session is as wanted.
func (h *hub) eventually(t *testing.T, agent, want string) {
	t.Helper()
	var told []string
	defer func() {
		if t.Failed() {
			t.Logf("%s: %q", agent, told)
		}
	}()
	eventually(t, agent+": "+want, func(context.Context) (bool, error) {
		told = h.told(t, agent)
		return len(told) > 0 && told[len(told)-1] == want, nil
	})
}

// roles are the rules that the chart gives the watcher.
func roles(t testing.TB) (rules struct{ Lease, Watch []rbacv1.PolicyRule }) {
	t.Helper()
	text, err := os.ReadFile("../../../watcher/testdata/roles.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(text, &rules))
	return rules
}

// account creates a service account that may use the Lease in its namespace, and watch with the rules there, or
// everywhere. It returns the kubeconfig of the account, with the API server at an address.
func (c *cluster) account(t testing.TB, namespace, name string, everywhere bool, watch []rbacv1.PolicyRule, address string) string {
	t.Helper()
	ctx, access := t.Context(), c.client.RbacV1()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	require.NoError(t, err)
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: namespace}}
	bind := func(role string, rules []rbacv1.PolicyRule) {
		meta := metav1.ObjectMeta{Name: role}
		_, err := access.Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = access.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	bind(name+"-lease", roles(t).Lease)
	if everywhere {
		meta := metav1.ObjectMeta{Name: namespace + "-" + name}
		_, err = access.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: watch}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = access.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	} else {
		bind(name, watch)
	}
	request, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: address, CertificateAuthorityData: c.config.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// startWatcher starts the real watcher.
func startWatcher(t testing.TB, h *hub, kubeconfig string, environment ...string) *program {
	t.Helper()
	return run(t, build(t, "deploy/watcher", "kubeagents-watcher"),
		append(environment, "PORT=0", "KUBECONFIG="+kubeconfig, "KUBEAGENTS_SERVER="+h.url)...)
}

// testWatcherSeesEverything plays every recording while the watcher watches all namespaces with the chart's ClusterRole.
// What a person sees on a real server is what the golden files say.
func (c *cluster) testWatcherSeesEverything(t *testing.T) {
	c.namespace(t, "kubeagents")
	h := startHub(t)
	kubeconfig := c.account(t, "kubeagents", "watcher", true, roles(t).Watch, c.config.Host)
	startWatcher(t, h, kubeconfig, "POD_NAMESPACE=kubeagents", "POD_NAME=first").logs(t, "leader=first this=true")
	c.playRecordings(t, h)
}

// scene is what a person should see of a recording: the parts of its golden file.
type scene struct {
	h     *hub
	agent string
	views []goldenView
}

// goldenView is a view in a golden file: it is there after a step, or some time later.
type goldenView struct {
	step  int
	later bool
	text  string
}

// goldenViews reads a golden file.
func goldenViews(t *testing.T, path string) (views []goldenView) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	step, later := -1, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		indented, isView := strings.CutPrefix(line, "   ")
		switch match := goldenLine.FindStringSubmatch(indented); {
		case !isView:
			step, later = step+1, false
		case strings.HasSuffix(line, " later"):
			later = true
		case match != nil:
			views = append(views, goldenView{step, later, alike(match[1] + ": " + match[2])})
		}
	}
	return views
}

var (
	goldenLine = regexp.MustCompile(`^(\w+) since [0-9:]+(?:, for good|, to become lost)?: (.*)$`)
	durations  = regexp.MustCompile(`\b(less than a second|(\d+h)?(\d+m)?\d+s|\d+m)\b`)
	objects    = regexp.MustCompile(`(pod|job) \S+ -n \S+`)
)

// alike returns a message without what differs between a recording and its play: durations, names of objects, and
// CronJobs, of which the Jobs of a play have none.
func alike(text string) string {
	text, _, _ = strings.Cut(text, "; a CronJob ")
	return objects.ReplaceAllString(durations.ReplaceAllString(text, "T"), "$1 X")
}

// expect waits until the server shows what is seen after a step, or something that comes later: controllers don't wait.
func (s *scene) expect(t *testing.T, step int) {
	t.Helper()
	first := -1
	for i, v := range s.views {
		if v.step <= step && !v.later {
			first = i
		}
	}
	if first < 0 {
		return
	}
	var told []string
	defer func() {
		if t.Failed() {
			t.Logf("it is %q", told)
		}
	}()
	eventually(t, fmt.Sprintf("step %d: %s", step+1, s.views[first].text), func(context.Context) (bool, error) {
		told = s.h.told(t, s.agent)
		for _, line := range told {
			for _, v := range s.views[first:] {
				if alike(line) == v.text {
					return true, nil
				}
			}
		}
		return false, nil
	})
}

// end requires that the server shows nothing but views of the golden file, in their order, and the last one.
func (s *scene) end(t *testing.T) {
	t.Helper()
	told := s.h.told(t, s.agent)
	next := 0
	for _, line := range told {
		for next < len(s.views) && s.views[next].text != alike(line) {
			next++
		}
		require.Less(t, next, len(s.views), "%q is not in the golden file, or not there: %q", line, told)
		next++
	}
	last := len(s.views) - 1
	for s.views[last].later {
		last--
	}
	require.GreaterOrEqual(t, next, last+1, "%q is missing in %q", s.views[last].text, told)
}

// agentJob creates a Job that is an agent, and returns its first Pod.
func (c *cluster) agentJob(t *testing.T, namespace, name string, change func(*batchv1.Job)) *corev1.Pod {
	t.Helper()
	label := map[string]string{"kubeagents.dev/agent": name}
	none := int32(0)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: label},
		Spec:       batchv1.JobSpec{BackoffLimit: &none, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: label}, Spec: restricted()}},
	}
	job.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	if change != nil {
		change(job)
	}
	_, err := c.client.BatchV1().Jobs(namespace).Create(t.Context(), job, metav1.CreateOptions{})
	require.NoError(t, err)
	return c.pod(t, namespace, "kubeagents.dev/agent="+name)
}

// becomes gives a Pod a node if it has none, and reports a status of its only container, as a kubelet would.
func (c *cluster) becomes(t *testing.T, pod *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState) {
	t.Helper()
	pod, err := c.client.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
	require.NoError(t, err)
	if pod.Spec.NodeName == "" {
		require.NoError(t, c.client.CoreV1().Pods(pod.Namespace).Bind(t.Context(), &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "worker-1"}}, metav1.CreateOptions{}))
		pod, err = c.client.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		require.NoError(t, err)
	}
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", Image: "agent", ImageID: "agent", State: state}}
	_, err = c.client.CoreV1().Pods(pod.Namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

func ended(code int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: metav1.Now(), FinishedAt: metav1.Now()}}
}

// testWatcherReplicas runs two watchers with the chart's Role of one namespace, and kills the one that leads. The other
// one reports that the Job ran out of memory.
func (c *cluster) testWatcherReplicas(t *testing.T) {
	t.Parallel()
	c.namespace(t, "replicas")
	h := startHub(t)
	kubeconfig := c.account(t, "replicas", "watcher", false, roles(t).Watch, c.config.Host)
	settings := []string{"NAMESPACES=replicas", "POD_NAMESPACE=replicas"}
	first := startWatcher(t, h, kubeconfig, append(settings, "POD_NAME=first")...)
	first.logs(t, "leader=first this=true")
	second := startWatcher(t, h, kubeconfig, append(settings, "POD_NAME=second")...)
	second.logs(t, "leader=first this=false")
	pod := c.agentJob(t, "replicas", "nightly-import", nil)
	c.becomes(t, pod, corev1.PodRunning, running())
	h.eventually(t, "replicas/nightly-import", "running: Running")
	before := h.told(t, "replicas/nightly-import")

	first.end(syscall.SIGKILL)
	c.becomes(t, pod, corev1.PodFailed, ended(137, "OOMKilled"))
	second.logs(t, "leader=second this=true")
	h.eventually(t, "replicas/nightly-import", "failed: Ran out of memory (limit 64Mi)")
	require.Equal(t, append(before, "failed: Ran out of memory (limit 64Mi)"), h.told(t, "replicas/nightly-import"), "nothing is repeated")

	second.end(syscall.SIGTERM)
	lease, err := c.client.CoordinationV1().Leases("replicas").Get(t.Context(), "kubeagents-watcher", metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, *lease.Spec.HolderIdentity, "a watcher that stops releases the Lease")
}

// link forwards connections to the API server until it is cut.
type link struct {
	target string
	net.Listener
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func startLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &link{target: target, Listener: listener}
	var forwarding sync.WaitGroup
	forwarding.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			forwarding.Go(func() { l.forward(from) })
		}
	})
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // it was open
		l.set(true)
		forwarding.Wait()
	})
	return l
}

// forward forwards a connection until one side closes it, or the link is cut.
func (l *link) forward(from net.Conn) {
	defer from.Close() //nolint:errcheck // it may be closed
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // it may be closed
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return
	}
	l.conns = append(l.conns, from, to)
	l.mu.Unlock()
	done := make(chan struct{})
	go func() {
		io.Copy(to, from) //nolint:errcheck // the end of a connection
		to.Close()        //nolint:errcheck // it may be closed
		close(done)
	}()
	io.Copy(from, to) //nolint:errcheck // the end of a connection
	from.Close()      //nolint:errcheck // it may be closed
	<-done
}

// set cuts the link, or mends it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for _, conn := range l.conns {
			conn.Close() //nolint:errcheck // it may be closed
		}
		l.conns = nil
	}
}

// testWatcherLosesTheCluster cuts the watcher off from the API server while a Job fails, a Pod goes, and another Job
// begins.
func (c *cluster) testWatcherLosesTheCluster(t *testing.T) {
	t.Parallel()
	c.namespace(t, "cut")
	h := startHub(t)
	address, err := url.Parse(c.config.Host)
	require.NoError(t, err)
	l := startLink(t, address.Host)
	kubeconfig := c.account(t, "cut", "watcher", false, roles(t).Watch, "https://"+l.Addr().String())
	startWatcher(t, h, kubeconfig, "NAMESPACES=cut").logs(t, "msg=ready")
	fails := c.agentJob(t, "cut", "fails", nil)
	c.becomes(t, fails, corev1.PodRunning, running())
	spec := restricted()
	goes := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "goes", Labels: map[string]string{"kubeagents.dev/agent": ""}}, Spec: spec}
	goes, err = c.client.CoreV1().Pods("cut").Create(t.Context(), goes, metav1.CreateOptions{})
	require.NoError(t, err)
	c.becomes(t, goes, corev1.PodRunning, running())
	h.eventually(t, "cut/fails", "running: Running")
	h.eventually(t, "cut/goes", "running: Running")

	l.set(true)
	c.becomes(t, fails, corev1.PodFailed, ended(137, "OOMKilled"))
	require.NoError(t, c.client.CoreV1().Pods("cut").Delete(t.Context(), "goes", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
	begins := c.agentJob(t, "cut", "begins", nil)
	c.becomes(t, begins, corev1.PodRunning, running())
	l.set(false)
	h.eventually(t, "cut/fails", "failed: Ran out of memory (limit 64Mi)")
	h.eventually(t, "cut/goes", "running: Vanished: force-deleted, or its node is gone")
	h.eventually(t, "cut/begins", "running: Running")
}

// testWatcherLacksPermission starts watchers that may not do what they need, and expects their words.
func (c *cluster) testWatcherLacksPermission(t *testing.T) {
	t.Parallel()
	c.namespace(t, "forbidden")
	h := startHub(t)
	pods := roles(t).Watch[:1]
	everywhere := startWatcher(t, h, c.account(t, "forbidden", "everywhere", true, pods, c.config.Host))
	everywhere.logs(t, "may not list jobs in all namespaces: the ClusterRole of its service account needs the verbs get, list and watch for pods and for jobs of batch")
	here := startWatcher(t, h, c.account(t, "forbidden", "here", false, pods, c.config.Host), "NAMESPACES=forbidden")
	here.logs(t, "may not list jobs in namespace forbidden: the Role of its service account there needs the verbs get, list and watch")
	match := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(here.log.String())
	require.NotNil(t, match)
	response, err := http.Get("http://" + match[1] + "/health/ready")
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // it is read
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Contains(t, string(body), "may not list jobs in namespace forbidden")
	require.NotContains(t, everywhere.log.String(), "msg=ready")
}

// testWatcherSeesJobs lets the real Job controller run Jobs of other kinds than those that are recorded, and changes
// labels of what runs.
func (c *cluster) testWatcherSeesJobs(t *testing.T) {
	t.Parallel()
	c.namespace(t, "jobs")
	h := startHub(t)
	kubeconfig := c.account(t, "jobs", "watcher", false, roles(t).Watch, c.config.Host)
	w := startWatcher(t, h, kubeconfig, "NAMESPACES=jobs", "POD_NAMESPACE=jobs")
	w.logs(t, "msg=ready")
	t.Run("out of memory", func(t *testing.T) {
		pod := c.agentJob(t, "jobs", "oom", nil)
		c.becomes(t, pod, corev1.PodFailed, ended(137, "OOMKilled"))
		h.eventually(t, "jobs/oom", "failed: Ran out of memory (limit 64Mi)")
	})
	t.Run("Indexed, with parallelism and a limit for each index", func(t *testing.T) {
		c.agentJob(t, "jobs", "indexed", func(j *batchv1.Job) {
			mode := batchv1.IndexedCompletion
			j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = &mode, new(int32(3)), new(int32(3))
			j.Spec.BackoffLimit, j.Spec.BackoffLimitPerIndex = nil, new(int32(0))
		})
		var pods []corev1.Pod
		eventually(t, "three Pods", func(ctx context.Context) (bool, error) {
			list, err := c.client.CoreV1().Pods("jobs").List(ctx, metav1.ListOptions{LabelSelector: "kubeagents.dev/agent=indexed"})
			pods = list.Items
			return len(pods) == 3, err
		})
		for i := range pods {
			c.becomes(t, &pods[i], corev1.PodRunning, running())
		}
		h.eventually(t, "jobs/indexed", "running: 0 of 3 done")
		c.becomes(t, &pods[0], corev1.PodSucceeded, ended(0, "Completed"))
		h.eventually(t, "jobs/indexed", "running: 1 of 3 done")
		c.becomes(t, &pods[1], corev1.PodFailed, ended(3, "Error"))
		h.eventually(t, "jobs/indexed", "running: 1 of 3 done, 1 failed")
		c.becomes(t, &pods[2], corev1.PodSucceeded, ended(0, "Completed"))
		h.eventually(t, "jobs/indexed", "failed: Ended with exit status 3; 2 of 3 done, 1 failed")
	})
	t.Run("with a failure policy", func(t *testing.T) {
		pod := c.agentJob(t, "jobs", "policy", func(j *batchv1.Job) {
			j.Spec.BackoffLimit = new(int32(6))
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
		})
		c.becomes(t, pod, corev1.PodFailed, ended(42, "Error"))
		h.eventually(t, "jobs/policy", "failed: Ended with exit status 42 (its failure policy ends the Job)")
	})
	t.Run("whose label comes, goes and comes again", func(t *testing.T) {
		pod := c.agentJob(t, "jobs", "labels", func(j *batchv1.Job) {
			j.Labels, j.Spec.Template.Labels = nil, map[string]string{"kubeagents.dev/agent": "labels"}
			j.Spec.Template.Labels["other"] = "x"
		})
		c.becomes(t, pod, corev1.PodRunning, running())
		label := func(value string) {
			_, err := c.client.BatchV1().Jobs("jobs").Patch(t.Context(), "labels", "application/merge-patch+json",
				[]byte(`{"metadata":{"labels":{"kubeagents.dev/agent":`+value+`}}}`), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		label(`"job"`)
		h.eventually(t, "jobs/job", "running: Running")
		label(`null`)
		h.eventually(t, "jobs/job", "success: No longer watched: its label was removed")
		label(`"job"`)
		h.eventually(t, "jobs/job", "running: Running")
		label(`"renamed"`)
		h.eventually(t, "jobs/job", "success: No longer watched: its label was changed")
		h.eventually(t, "jobs/renamed", "running: Running")
	})
	t.Run("that is deleted and created anew", func(t *testing.T) {
		c.agentJob(t, "jobs", "anew", nil)
		h.eventually(t, "jobs/anew", "running: Starting: waiting for a node")
		background := metav1.DeletePropagationBackground
		require.NoError(t, c.client.BatchV1().Jobs("jobs").Delete(t.Context(), "anew", metav1.DeleteOptions{PropagationPolicy: &background}))
		h.eventually(t, "jobs/anew", "failed: Deleted before it finished")
		eventually(t, "it is gone", func(ctx context.Context) (bool, error) {
			_, err := c.client.BatchV1().Jobs("jobs").Get(ctx, "anew", metav1.GetOptions{})
			return errors.IsNotFound(err), nil
		})
		c.agentJob(t, "jobs", "anew", nil)
		var list struct {
			Sessions []struct {
				Status string `json:"current_status"`
			}
		}
		eventually(t, "a second session", func(context.Context) (bool, error) {
			return h.get("/api/agents/jobs%2Fanew/sessions", &list) && len(list.Sessions) == 2, nil
		})
		require.ElementsMatch(t, []string{"running", "failed"}, []string{list.Sessions[0].Status, list.Sessions[1].Status})
	})
}

// BenchmarkWatcherMemory reports the resident memory of a watcher of 10,000 running Pods in a real API server, each of
// them an agent. It leaves out kubelets, so nothing changes once the Pods run.
func BenchmarkWatcherMemory(b *testing.B) {
	const pods = 10_000
	c := start(b)
	c.namespace(b, "many")
	h := startHub(b)
	kubeconfig := c.account(b, "many", "watcher", false, roles(b).Watch, c.config.Host)
	for b.Loop() {
		var group errgroup.Group
		group.SetLimit(16)
		for i := range pods {
			group.Go(func() error {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("agent-", i), Labels: map[string]string{"kubeagents.dev/agent": ""}}, Spec: restricted()}
				pod, err := c.client.CoreV1().Pods("many").Create(b.Context(), pod, metav1.CreateOptions{})
				if err != nil {
					return err
				}
				pod.Status.Phase = corev1.PodRunning
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", Image: "agent", ImageID: "agent", State: running()}}
				_, err = c.client.CoreV1().Pods("many").UpdateStatus(b.Context(), pod, metav1.UpdateOptions{})
				return err
			})
		}
		require.NoError(b, group.Wait())
		w := startWatcher(b, h, kubeconfig, "NAMESPACES=many")
		var summary struct {
			Sessions struct {
				ByStatus struct{ Running int } `json:"by_status"`
			}
		}
		eventually(b, "all Pods are reported", func(context.Context) (bool, error) {
			return h.get("/api/summary", &summary) && summary.Sessions.ByStatus.Running == pods, nil
		})
		b.ReportMetric(memoryOf(b, w, "VmRSS"), "MB-resident")
		b.ReportMetric(memoryOf(b, w, "VmHWM"), "MB-peak")
		w.end(syscall.SIGTERM)
	}
}

// memoryOf returns a figure of Linux about a program's memory, in megabytes.
func memoryOf(t testing.TB, p *program, name string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	require.NoError(t, err)
	match := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, match)
	n, err := strconv.Atoi(string(match[1]))
	require.NoError(t, err)
	return float64(n) * 1024 / 1e6
}
