package watch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/report"
)

// hub keeps what is queued for a server.
type hub struct {
	mu       sync.Mutex
	received []report.Report
}

// Put implements [Sink].
func (h *hub) Put(r report.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.received = append(h.received, r)
}

// seen returns what the hub was sent since the last call.
func (h *hub) seen() (lines []string) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.received {
		lines = append(lines, fmt.Sprintf("%s %s: %s", r.AgentID, r.Status, r.Message))
	}
	h.received = nil
	return lines
}

// lead lets a tracker lead for the rest of a test, and returns what it queues.
func lead(t *testing.T, tracker *Tracker) *hub {
	h, end := leadFor(tracker)
	t.Cleanup(end)
	return h
}

// leadFor lets a tracker lead until end is called.
func leadFor(tracker *Tracker) (h *hub, end func()) {
	h = &hub{}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { tracker.Lead(ctx, h) })
	synctest.Wait()
	return h, func() { cancel(); parts.Wait() }
}

func newTracker() *Tracker { return NewTracker(30*time.Minute, slog.New(slog.DiscardHandler)) }

// aPod returns a running Pod that carries the label.
func aPod(name string) *corev1.Pod {
	now := metav1.Now()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{Label: ""}, CreationTimestamp: now},
		Spec: corev1.PodSpec{NodeName: "worker-1", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "import:1",
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "main",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}},
	}
}

// ended returns p after its container ended.
func ended(p *corev1.Pod, code int32, reason string) *corev1.Pod {
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodFailed
	if code == 0 {
		p.Status.Phase = corev1.PodSucceeded
	}
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason,
		StartedAt: p.CreationTimestamp, FinishedAt: metav1.Now()}}
	return p
}

// aJob returns a Job that carries the label, and aPodOf one of its Pods.
func aJob(name, label string) *batchv1.Job {
	limit := int32(1)
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{Label: label}, CreationTimestamp: metav1.Now()},
		Spec: batchv1.JobSpec{BackoffLimit: &limit}}
}

func aPodOf(job *batchv1.Job, name string) *corev1.Pod {
	p := aPod(name)
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: job.Name, UID: job.UID, Controller: new(true)}}
	return p
}

func finished(j *batchv1.Job, kind batchv1.JobConditionType, reason string) *batchv1.Job {
	j = j.DeepCopy()
	j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.Now()})
	return j
}

// TestPodsAndJobsAreSessions follows a Pod and a Job with two Pods, and expects one session for each.
func TestPodsAndJobsAreSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		tracker.PutPod(0, aPod("web-1"))
		job := aJob("import-28811", "nightly-import")
		first, second := aPodOf(job, "import-28811-a"), aPodOf(job, "import-28811-b")
		tracker.PutPod(0, first) // it may arrive before its Job
		time.Sleep(time.Second)
		tracker.PutJob(job)
		time.Sleep(10 * time.Second)
		require.ElementsMatch(t, []string{"data/web-1 running: Running", "data/nightly-import running: Running"}, h.seen())

		tracker.PutPod(0, ended(first, 137, "OOMKilled"))
		time.Sleep(time.Second)
		second.CreationTimestamp = metav1.Now()
		tracker.PutPod(0, second)
		time.Sleep(time.Second)
		require.Equal(t, []string{"data/nightly-import running: Attempt 2 of 2, the first ran out of memory (limit 64Mi)"}, h.seen())

		tracker.RemovePod(0, ended(first, 137, "OOMKilled"), true)
		tracker.PutPod(0, ended(second, 137, "OOMKilled"))
		tracker.PutJob(finished(job, batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded))
		time.Sleep(time.Second)
		require.Equal(t, []string{"data/nightly-import failed: Ran out of memory (limit 64Mi); attempt 2 of 2"}, h.seen())

		tracker.RemovePod(0, ended(second, 137, "OOMKilled"), true)
		tracker.RemoveJob(finished(job, batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded), true)
		time.Sleep(time.Hour)
		require.NotContains(t, strings.Join(h.seen(), "\n"), "nightly-import")
		tracker.mu.Lock()
		defer tracker.mu.Unlock()
		require.Len(t, tracker.pods, 1)
		require.Empty(t, tracker.jobs)
		require.Len(t, tracker.term.sessions, 1)
	})
}

// TestTheReasonMayArriveAfterTheEnd lets the Job fail before its Pod is known to.
func TestTheReasonMayArriveAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		job := aJob("import", "")
		p := aPodOf(job, "import-a")
		tracker.PutJob(job)
		tracker.PutPod(0, p)
		time.Sleep(time.Second)
		h.seen()
		tracker.PutJob(finished(job, batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded))
		time.Sleep(time.Second)
		require.Empty(t, h.seen(), "it is not told yet, because the reason is missing")
		tracker.PutPod(0, ended(p, 3, "Error"))
		time.Sleep(time.Second)
		require.Equal(t, []string{"data/import failed: Ended with exit status 3; attempt 1 of 2"}, h.seen())
	})
}

// TestLiveSessionsAreRenewed expects renewals in time for the TTL while a Pod exists, and none after its end.
func TestLiveSessionsAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		p := aPod("web-1")
		tracker.PutPod(0, p)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.GreaterOrEqual(t, len(h.received), 12)
		for i, r := range h.received {
			require.True(t, r.Renew)
			require.Equal(t, 30, r.TTLMinutes)
			require.Equal(t, h.received[0].ReportID, r.ReportID, "renewal %d", i)
		}
		h.seen()
		tracker.PutPod(0, ended(p, 0, "Completed"))
		time.Sleep(3 * time.Hour)
		require.Len(t, h.seen(), 1)
	})
}

// TestWhatIsGone removes Pods and Jobs in each way in which they go.
func TestWhatIsGone(t *testing.T) {
	deleted := func(p *corev1.Pod) *corev1.Pod {
		p = p.DeepCopy()
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = new(metav1.Now()), new(int64(0))
		return p
	}
	for name, test := range map[string]struct {
		exists bool
		remove func(*Tracker, *corev1.Pod)
		want   string
		ttl    int
	}{
		"force-deleted":                         {false, func(tr *Tracker, p *corev1.Pod) { tr.RemovePod(0, p, true) }, "running: Vanished: force-deleted, or its node is gone", 1},
		"the watch was interrupted":             {false, func(tr *Tracker, p *corev1.Pod) { tr.RemovePod(0, p, false) }, "running: Vanished while the watcher was not looking", 1},
		"force-deleted, as the API server says": {false, func(tr *Tracker, p *corev1.Pod) { tr.RemovePod(0, deleted(p), true) }, "running: Vanished: force-deleted, or its node is gone", 1},
		"gone while it was stopping": {false, func(tr *Tracker, p *corev1.Pod) {
			p = deleted(p)
			*p.DeletionGracePeriodSeconds = 30
			tr.RemovePod(0, p, true)
		}, "running: Vanished while it was stopping: force-deleted, or its node is gone", 1},
		"its label was removed":   {true, func(tr *Tracker, p *corev1.Pod) { tr.RemovePod(0, p, true) }, "success: No longer watched: its label was removed", 30},
		"deleted":                 {false, func(tr *Tracker, p *corev1.Pod) { tr.RemovePod(0, ended(deleted(p), 143, "Error"), true) }, "failed: Deleted before it finished", 24 * 60},
		"moved to the other list": {false, func(tr *Tracker, p *corev1.Pod) { tr.PutPod(1, p); tr.RemovePod(0, p, true) }, "", 0},
		"ended, and then was removed": {false, func(tr *Tracker, p *corev1.Pod) {
			tr.PutPod(0, ended(p, 0, "Completed"))
			tr.RemovePod(0, ended(p, 0, "Completed"), true)
		}, "success: Finished in 1s", 30},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := newTracker()
				tracker.Exists = func(context.Context, string, *metav1.ObjectMeta) (bool, error) { return test.exists, nil }
				h := lead(t, tracker)
				p := aPod("web-1")
				tracker.PutPod(0, p)
				time.Sleep(time.Second)
				h.seen()
				test.remove(tracker, p)
				time.Sleep(time.Second)
				synctest.Wait()
				if test.want == "" {
					require.Empty(t, h.received)
					return
				}
				require.Len(t, h.received, 1)
				require.Equal(t, test.ttl, h.received[0].TTLMinutes)
				require.Equal(t, []string{"data/web-1 " + test.want}, h.seen())
				time.Sleep(2 * time.Hour)
				require.Empty(t, h.seen(), "it is not renewed")
			})
		})
	}
}

// TestReplacedPodsAreNoFailures ends a Pod of a Deployment in a rollout.
func TestReplacedPodsAreNoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		p := aPod("web-1")
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "rs", Controller: new(true)}}
		tracker.PutPod(0, p)
		time.Sleep(time.Second)
		p = p.DeepCopy()
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = new(metav1.NewTime(time.Now().Add(30*time.Second))), new(int64(30))
		tracker.PutPod(0, p)
		time.Sleep(2 * time.Second)
		tracker.RemovePod(0, ended(p, 137, "Error"), true)
		time.Sleep(time.Second)
		require.Equal(t, []string{"data/web-1 running: Running", "data/web-1 running: Stopping", "data/web-1 success: Stopped: replaced or scaled down"}, h.seen())
	})
}

// TestASecondTermRepeatsNothing leads twice, as a replica does that takes over, and expects the same report IDs.
func TestASecondTermRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		tracker.PutPod(0, aPod("web-1"))
		tracker.PutPod(0, ended(aPod("done-1"), 3, "Error"))
		old := ended(aPod("old-1"), 3, "Error")
		tracker.PutPod(0, old)
		ids := map[string]string{}
		h, end := leadFor(tracker)
		for _, r := range h.all() {
			ids[r.AgentID] = r.ReportID
		}
		end()
		require.Len(t, ids, 3)
		time.Sleep(oldAfter + time.Hour)
		tracker.PutPod(0, ended(aPod("done-2"), 3, "Error"))
		seen := lead(t, tracker).all()
		require.Len(t, seen, 2, "what ended long ago is history")
		for _, r := range seen {
			if r.AgentID != "data/done-2" {
				require.Equal(t, ids[r.AgentID], r.ReportID)
				require.True(t, r.Renew)
			}
		}
	})
}

func (h *hub) all() []report.Report {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.received
}

// TestLongNames checks that an agent's ID fits, and stays apart from others.
func TestLongNames(t *testing.T) {
	meta := func(name string) *metav1.ObjectMeta {
		return &metav1.ObjectMeta{Namespace: strings.Repeat("n", 63), Name: name, Labels: map[string]string{Label: ""}}
	}
	a, b := agentID(meta(strings.Repeat("p", 200)+"a")), agentID(meta(strings.Repeat("p", 200)+"b"))
	require.Len(t, a, 100)
	require.NotEqual(t, a, b)
	require.Equal(t, strings.Repeat("n", 63)+"/web", agentID(meta("web")))
}

// TestStrip checks that a Pod loses what no view needs.
func TestStrip(t *testing.T) {
	p := aPod("web-1")
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	p.Annotations = map[string]string{"a": "b"}
	p.Labels["other"] = "x"
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SECRET", Value: "x"}}
	p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	kept, err := strip(p)
	require.NoError(t, err)
	want := aPod("web-1")
	want.CreationTimestamp, want.Status.ContainerStatuses[0].State.Running.StartedAt = p.CreationTimestamp, p.Status.ContainerStatuses[0].State.Running.StartedAt
	require.Equal(t, want, kept)
}

// TestLabelsChange takes the label from a Pod and a Job that go on, gives it back, and changes its value. Each time, a
// session ends as such, and the next one has reports that the server does not know yet.
func TestLabelsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod, job := aPod("web-1"), aJob("import", "")
		labelled := func(value string) (*corev1.Pod, *batchv1.Job) {
			p, j := pod.DeepCopy(), job.DeepCopy()
			p.Labels, j.Labels = map[string]string{Label: value}, map[string]string{Label: value}
			return p, j
		}
		tracker := newTracker()
		tracker.Exists = func(context.Context, string, *metav1.ObjectMeta) (bool, error) { return true, nil }
		h := lead(t, tracker)
		known := map[string]bool{}
		last := map[string]time.Time{}
		expect := func(want ...string) {
			t.Helper()
			time.Sleep(time.Second)
			for _, r := range h.all() {
				require.False(t, known[r.AgentID+r.ReportID], "%s: %s", r.AgentID, r.Message)
				known[r.AgentID+r.ReportID] = true
				key := r.AgentID + r.SessionTopic
				require.False(t, r.Timestamp.Before(last[key]), "%s: %s: a late report is not what is shown", r.AgentID, r.Message)
				last[key] = r.Timestamp
			}
			require.ElementsMatch(t, want, h.seen())
		}
		put := func(value string) {
			p, j := labelled(value)
			tracker.PutPod(0, p)
			tracker.PutJob(j)
		}
		put("")
		expect("data/web-1 running: Running", "data/import running: Starting: waiting for a node")
		for range 2 {
			p, j := labelled("")
			tracker.RemovePod(0, p, true)
			tracker.RemoveJob(j, true)
			expect("data/web-1 success: No longer watched: its label was removed", "data/import success: No longer watched: its label was removed")
			put("")
			expect("data/web-1 running: Running", "data/import running: Starting: waiting for a node")
		}
		put("other")
		expect("data/web-1 success: No longer watched: its label was changed", "data/import success: No longer watched: its label was changed",
			"data/other running: Running", "data/other running: Starting: waiting for a node")
		put("")
		expect("data/other success: No longer watched: its label was changed", "data/other success: No longer watched: its label was changed",
			"data/web-1 running: Running", "data/import running: Starting: waiting for a node")
	})
}

// TestTheLabelNamesTheAgent expects a name in the first report of each session only: a tool in the Pod may set another
// one later.
func TestTheLabelNamesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		job, p := aJob("import-28811", "nightly-import"), aPod("web-1")
		p.Spec.NodeName = strings.Repeat("n", 253)
		tracker.PutJob(job)
		tracker.PutPod(0, p)
		time.Sleep(time.Hour)
		tracker.PutJob(finished(job, batchv1.JobComplete, ""))
		tracker.PutPod(0, ended(p, 0, "Completed"))
		time.Sleep(time.Second)
		names := map[string][]string{}
		for _, r := range h.all() {
			names[r.AgentID] = append(names[r.AgentID], r.AgentName)
			require.LessOrEqual(t, len(r.AgentHost), 200)
		}
		for id, want := range map[string]string{"data/nightly-import": "nightly-import", "data/web-1": "web-1"} {
			require.Greater(t, len(names[id]), 3)
			require.Equal(t, want, names[id][0])
			require.Empty(t, strings.Join(names[id][1:], ""))
		}
	})
}

// TestAJobIsCreatedAnew deletes a Job and creates another one with its name, and a Pod that has the same agent.
func TestAJobIsCreatedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		tracker.Exists = func(_ context.Context, _ string, meta *metav1.ObjectMeta) (bool, error) {
			return meta.UID == "second", nil
		}
		h := lead(t, tracker)
		first, second, p := aJob("import", ""), aJob("import", ""), aPod("web-1")
		second.UID, p.Labels[Label] = "second", "import"
		tracker.PutJob(first)
		tracker.PutPod(0, p)
		time.Sleep(time.Second)
		tracker.RemoveJob(first, true)
		tracker.PutJob(second)
		time.Sleep(time.Second)
		topics := map[string][]string{}
		for _, r := range h.all() {
			require.Equal(t, "data/import", r.AgentID)
			topics[r.SessionTopic] = append(topics[r.SessionTopic], r.Message)
		}
		require.Equal(t, map[string][]string{"uid-import": {"Starting: waiting for a node", "Deleted before it finished"},
			"second": {"Starting: waiting for a node"}, "uid-web-1": {"Running"}}, topics)
	})
}

// TestClocksDiffer reports on objects with times that are still to come.
func TestClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker()
		h := lead(t, tracker)
		time.Sleep(time.Minute)
		now, p := time.Now(), aPod("web-1")
		p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute))
		ahead := metav1.NewTime(now.Add(time.Hour))
		p.Status.ContainerStatuses[0].State.Running.StartedAt = ahead
		tracker.PutPod(0, p)
		time.Sleep(time.Minute)
		behind := ended(p, 3, "Error")
		end := behind.Status.ContainerStatuses[0].State.Terminated
		end.StartedAt, end.FinishedAt = metav1.NewTime(now.Add(-2*time.Hour)), metav1.NewTime(now.Add(-time.Hour))
		tracker.PutPod(0, behind)
		time.Sleep(time.Second)
		reports := h.all()
		require.Len(t, reports, 2)
		require.Equal(t, "failed", reports[1].Status)
		for _, r := range reports {
			require.False(t, r.Timestamp.After(time.Now()), "the server refuses times that are far ahead")
			require.False(t, r.Timestamp.Before(now))
		}
		require.False(t, reports[1].Timestamp.Before(reports[0].Timestamp), "a late report would not be what is shown")
	})
}
