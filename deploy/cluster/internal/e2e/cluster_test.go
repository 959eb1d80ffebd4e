// Package e2e tests the program in deploy/cluster from outside, and plays the recorded lives of Pods and Jobs to it.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterVariable names the environment variable that holds the path of the built program.
const clusterVariable = "KUBEAGENTS_CLUSTER"

// patience is how long to wait for what a cluster does by itself. It only matters to a test that fails.
const patience = time.Minute

// cluster is a running cluster, and its administrator's access.
type cluster struct {
	config  *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface

	process *exec.Cmd
	stdin   io.Closer
	temp    string // where it creates its temporary directory
}

// start starts a cluster, and stops it at the end of the test if the test has not.
func start(t testing.TB) *cluster {
	t.Helper()
	program := os.Getenv(clusterVariable)
	if program == "" {
		t.Skip("run make test-cluster")
	}
	temp, err := os.MkdirTemp("", "e2e-") // shorter than t.TempDir: the paths of sockets are limited
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(temp) }) //nolint:errcheck // it is a temporary directory
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	c := &cluster{process: exec.Command(program, "-kubeconfig", kubeconfig), temp: temp}
	c.process.Env = append(os.Environ(), "TMPDIR="+temp)
	var log bytes.Buffer
	c.process.Stderr = &log
	c.stdin, err = c.process.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.process.Start())
	t.Cleanup(func() {
		if c.process.ProcessState == nil {
			c.stdin.Close()                      //nolint:errcheck // the process may be gone
			require.NoError(t, c.process.Wait()) // it says so by an exit status
		}
		if t.Failed() {
			t.Logf("log of the cluster:\n%s", log.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoErrorf(t, err, "it ended before it was ready:\n%s", &log)
	require.Equal(t, "ready\n", line)
	c.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	c.config.QPS = -1
	c.client, err = kubernetes.NewForConfig(c.config)
	require.NoError(t, err)
	c.dynamic, err = dynamic.NewForConfig(c.config)
	require.NoError(t, err)
	return c
}

// eventually waits until done returns true.
func eventually(t testing.TB, what string, done func(ctx context.Context) (bool, error)) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, done)
	require.NoError(t, err, what)
}

// namespace creates a namespace that enforces the restricted profile, and waits until Pods can be created in it.
func (c *cluster) namespace(t testing.TB, name string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, "its service account", func(ctx context.Context) (bool, error) {
		_, err := c.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// restricted returns a Pod that the restricted profile allows.
func restricted() corev1.PodSpec {
	yes, no := true, false
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   &yes,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name:  "agent",
			Image: "registry.example.com/agent",
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no,
				Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

func TestClusterEndsWithItsStandardInput(t *testing.T) {
	t.Parallel()
	c := start(t)
	require.NoError(t, c.stdin.Close())
	c.requireGone(t)
}

func TestClusterEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	c := start(t)
	require.NoError(t, c.process.Process.Signal(syscall.SIGTERM))
	c.requireGone(t)
}

// requireGone requires that the process ends well, and leaves nothing behind.
func (c *cluster) requireGone(t *testing.T) {
	t.Helper()
	require.NoError(t, c.process.Wait(), "its exit status")
	left, err := os.ReadDir(c.temp)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files")
	address, err := url.Parse(c.config.Host)
	require.NoError(t, err)
	require.True(t, net.ParseIP(address.Hostname()).IsLoopback())
	_, err = net.Dial("tcp", address.Host)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := start(t)
	t.Run("says its version", c.testVersion)
	t.Run("fails a Job whose Pod runs out of memory", c.testJobOutOfMemory)
	t.Run("refuses what the restricted profile forbids", c.testRestricted)
	t.Run("refuses what a Role does not allow", c.testRole)
	t.Run("runs the Pods of a StatefulSet and a Deployment", c.testWorkloads)
	t.Run("serves a custom resource", c.testCustomResource)
	t.Run("deletes a namespace with all that is in it", c.testNamespace)
	t.Run("accepts every recorded status, and the watcher reports it", c.testWatcherSeesEverything)
	t.Run("is watched by two replicas", c.testWatcherReplicas)
	t.Run("comes back while it is watched", c.testWatcherLosesTheCluster)
	t.Run("forbids the watcher what it needs", c.testWatcherLacksPermission)
	t.Run("runs Jobs that are watched", c.testWatcherSeesJobs)
}

// testVersion checks what charts compare with their kubeVersion.
func (c *cluster) testVersion(t *testing.T) {
	version, err := c.client.Discovery().ServerVersion()
	require.NoError(t, err)
	require.Regexp(t, `^v1\.[0-9]+\.[0-9]+$`, version.GitVersion)
	require.Equal(t, "1."+version.Minor, strings.TrimPrefix(version.GitVersion[:strings.LastIndex(version.GitVersion, ".")], "v"))
}

func (c *cluster) testJobOutOfMemory(t *testing.T) {
	c.namespace(t, "out-of-memory")
	label := map[string]string{"kubeagents.dev/agent": "nightly-import"}
	none := int32(0)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly-import", Labels: label},
		Spec: batchv1.JobSpec{
			BackoffLimit: &none,
			Template:     corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: label}, Spec: restricted()},
		},
	}
	job, err := c.client.BatchV1().Jobs("out-of-memory").Create(t.Context(), job, metav1.CreateOptions{})
	require.NoError(t, err)
	pod := c.pod(t, "out-of-memory", "kubeagents.dev/agent=nightly-import")
	require.Equal(t, job.UID, metav1.GetControllerOf(pod).UID)

	pod.Status.Phase = corev1.PodFailed
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name:  "agent",
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
	}}
	_, err = c.client.CoreV1().Pods(pod.Namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
	eventually(t, "the Job has failed", func(ctx context.Context) (bool, error) {
		job, err = c.client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, condition := range job.Status.Conditions {
			if condition.Type == batchv1.JobFailed && condition.Status == corev1.ConditionTrue {
				require.Equal(t, "BackoffLimitExceeded", condition.Reason)
				return true, nil
			}
		}
		return false, nil
	})
	require.EqualValues(t, 1, job.Status.Failed)
}

// pod waits for a Pod in namespace that matches selector, and returns it.
func (c *cluster) pod(t *testing.T, namespace, selector string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, "a Pod with "+selector, func(ctx context.Context) (bool, error) {
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(pods.Items) == 0 {
			return false, err
		}
		pod = &pods.Items[0]
		return true, nil
	})
	return pod
}
