package view_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/view"
)

var epoch = time.Date(2026, 11, 3, 2, 0, 0, 0, time.UTC)

func after(seconds int) metav1.Time {
	return metav1.NewTime(epoch.Add(time.Duration(seconds) * time.Second))
}

// onNode returns a Pod on a node with one main container in a state.
func onNode(state corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "import-a", UID: "pod", CreationTimestamp: after(0)},
		Spec:       corev1.PodSpec{NodeName: "worker-1", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "import:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: state}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: after(1)}}},
	}
}

func ended(code int32, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message, StartedAt: after(2), FinishedAt: after(9)}}
}

func runs() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: after(2)}}
}

func waits(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

// withInit adds an init container that crashed three times; it is a sidecar if policy is Always.
func withInit(p *corev1.Pod, policy corev1.ContainerRestartPolicy, now corev1.ContainerState) *corev1.Pod {
	init := corev1.Container{Name: "proxy", Image: "proxy:1"}
	if policy != "" {
		init.RestartPolicy = &policy
	}
	p.Spec.InitContainers = []corev1.Container{init}
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", RestartCount: 2, State: now, LastTerminationState: ended(1, "")}}
	return p
}

func jobOf(change func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "import", UID: "job", CreationTimestamp: after(0)},
		Spec: batchv1.JobSpec{BackoffLimit: new(int32(6)), Parallelism: new(int32(1)), Completions: new(int32(1))}}
	change(j)
	return j
}

func failedPod() *corev1.Pod {
	p := onNode(ended(3, ""))
	p.Status.Phase = corev1.PodFailed
	return p
}

// TestWhatIsSeen checks what a person sees of states that no recording has.
func TestWhatIsSeen(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	none := func(*batchv1.Job) {}
	onFailure := func(p *corev1.Pod) *corev1.Pod {
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		return p
	}
	again := func(p *corev1.Pod) *corev1.Pod {
		p.Status.ContainerStatuses[0].RestartCount, p.Status.ContainerStatuses[0].LastTerminationState = 1, ended(3, "")
		return p
	}
	gated := onNode(corev1.ContainerState{})
	gated.Spec.NodeName, gated.Status = "", corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled,
		Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated}}}
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "kueue.x-k8s.io/admission"}, {Name: "example.com/quota"}}
	tainted := onNode(corev1.ContainerState{})
	tainted.Spec.NodeName, tainted.Status = "", corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled,
		Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }. no new claims to deallocate"}}}
	backwards := onNode(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: after(9), FinishedAt: after(2)}})
	backwards.Status.Phase = corev1.PodSucceeded
	debugged := onNode(runs())
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	debugged.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", State: ended(1, "")}}
	ofCronJob := jobOf(func(j *batchv1.Job) {
		j.OwnerReferences = []metav1.OwnerReference{{Kind: "CronJob", Name: "import", Controller: new(true)}}
	})
	now := epoch.Add(time.Minute)
	for name, test := range map[string]struct {
		seen view.View
		want string
	}{
		"a sidecar crashes while the Pod works":       {view.Pod(withInit(onNode(runs()), always, waits("CrashLoopBackOff")), now), "failed: Keeps crashing, 3 times so far: ended with exit status 1 in sidecar proxy"},
		"a sidecar crashes while the Job's Pod works": {view.Job(jobOf(none), []*corev1.Pod{withInit(onNode(runs()), always, waits("CrashLoopBackOff"))}, nil, now), "failed: Keeps crashing, 3 times so far: ended with exit status 1 in sidecar proxy"},
		"a sidecar ends with the Pod":                 {view.Pod(withInit(finished(onNode(ended(0, ""))), always, ended(143, "")), now), "success: Finished in 7s"},
		"an init container crashes in a Job's Pod":    {view.Job(jobOf(none), []*corev1.Pod{onFailure(withInit(onNode(waits("PodInitializing")), "", waits("CrashLoopBackOff")))}, nil, now), "running: Attempt 4 of 7, the last ended with exit status 1 in init container proxy"},
		"a Job's container is restarted in place":     {view.Job(jobOf(none), []*corev1.Pod{again(onFailure(onNode(runs())))}, nil, now), "running: Attempt 2 of 7, the first ended with exit status 3"},
		"scheduling gates hold the Pod":               {view.Pod(gated, now), "running: Waiting to be scheduled: held by kueue.x-k8s.io/admission, example.com/quota"},
		"no node fits":                                {view.Pod(tainted, now), "pending: No node for it: insufficient cpu, nodes had untolerated taint node-role.kubernetes.io/control-plane"},
		"a debugging container fails":                 {view.Pod(debugged, now), "running: Running"},
		"a container ended before it started":         {view.Pod(backwards, now), "success: Finished in less than a second"},
		"the Job's retries are not limited":           {view.Job(jobOf(func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(math.MaxInt32)) }), []*corev1.Pod{failedPod()}, nil, now), "running: Attempt 2, the first ended with exit status 3"},
		"the Job's retries are limited for each index": {view.Job(jobOf(func(j *batchv1.Job) {
			j.Spec.BackoffLimit, j.Spec.BackoffLimitPerIndex = new(int32(math.MaxInt32)), new(int32(1))
		}), []*corev1.Pod{failedPod()}, nil, now), "running: Attempt 2 of 2, the first ended with exit status 3"},
		"the Job's parallelism is 0": {view.Job(jobOf(func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(0)) }), nil, nil, now), "pending: Paused: its parallelism is 0"},
		"a queue holds the Job": {view.Job(jobOf(func(j *batchv1.Job) {
			j.Spec.Suspend, j.Labels = new(true), map[string]string{"kueue.x-k8s.io/queue-name": "q"}
		}), nil, nil, now), "running: Waiting in a queue"},
		"somebody deletes the Job":                         {view.JobGone(jobOf(none), nil, nil, true, now), "failed: Deleted before it finished"},
		"the Job of a CronJob is replaced by its next run": {view.JobGone(ofCronJob, nil, nil, true, now), "failed: Deleted before it finished; a CronJob with the concurrencyPolicy Replace does so when its next run is due"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, string(test.seen.Status)+": "+test.seen.Message)
		})
	}
}

func finished(p *corev1.Pod) *corev1.Pod {
	p.Status.Phase = corev1.PodSucceeded
	return p
}

// TestSuspendedJobsSayHowToResumeThem looks for the command in the content of a suspended Job.
func TestSuspendedJobsSayHowToResumeThem(t *testing.T) {
	seen := view.Job(jobOf(func(j *batchv1.Job) { j.Name, j.Namespace, j.Spec.Suspend = "import", "data", new(true) }), nil, nil, epoch)
	require.Equal(t, "Suspended", seen.Message)
	require.Contains(t, seen.Content, `kubectl patch job import -n data -p '{"spec":{"suspend":false}}'`)
}

// TestTextsFit ends a container with messages that are long or no text, and expects what the server accepts: lengths are
// in characters, not bytes.
func TestTextsFit(t *testing.T) {
	for name, message := range map[string]string{
		"long":                strings.Repeat("é", 30_000),
		"long last line":      "first\n" + strings.Repeat("𝄞", 5_000),
		"many lines":          strings.Repeat("línea\n", 5_000),
		"not UTF-8":           strings.Repeat("\xff\xfe", 3_000),
		"control characters":  "\x1b[31mred\x00\r\n\u202edesrever",
		"only line breaks":    "\n\n\n",
		"cut in a long image": strings.Repeat("a", 250),
	} {
		t.Run(name, func(t *testing.T) {
			p := onNode(ended(3, message))
			p.Spec.Containers[0].Image = "registry.example.com/" + strings.Repeat("x", 2_000)
			p.Status.Phase = corev1.PodFailed
			blocked := onNode(waits("ErrImagePull"))
			blocked.Spec.Containers[0].Image = p.Spec.Containers[0].Image
			for _, v := range []view.View{view.Pod(p, epoch), view.Pod(blocked, epoch), view.Job(jobOf(func(*batchv1.Job) {}), []*corev1.Pod{p}, nil, epoch)} {
				text, err := json.Marshal([]string{v.Message, v.Content})
				require.NoError(t, err)
				var sent []string
				require.NoError(t, json.Unmarshal(text, &sent))
				require.NotEmpty(t, sent[0])
				require.LessOrEqual(t, utf8.RuneCountInString(sent[0]), 1_000)
				require.LessOrEqual(t, utf8.RuneCountInString(sent[1]), 10_000)
			}
			require.Contains(t, view.Pod(p, epoch).Message, "Ended with exit status 3")
		})
	}
}
