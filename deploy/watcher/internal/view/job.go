package view

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// endPatience is how long the end of a Job waits for the end of its Pods, which arrives by another stream.
const endPatience = 5 * time.Second

// job is a Job with the states of its Pods, oldest Pod first.
type job struct {
	*batchv1.Job
	pods     []attempt
	failures []attempt // those of pods that failed, in the order of their ends
}

// attempt is a Pod of a Job.
type attempt struct {
	pod *corev1.Pod
	state
	gone bool
}

// Job returns what a person should see of a Job at a time. pods are its Pods, gone those that it had.
func Job(j *batchv1.Job, pods, gone []*corev1.Pod, now time.Time) View {
	k := job{Job: j}
	for _, p := range pods {
		k.pods = append(k.pods, attempt{p, stateOf(p, now), false})
	}
	for _, p := range gone {
		k.pods = append(k.pods, attempt{p, stateOf(p, now), true})
	}
	slices.SortStableFunc(k.pods, func(a, b attempt) int { return a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time) })
	for _, a := range k.pods {
		if a.gone && !a.over() {
			a.kind, a.what = failed, "vanished"
		}
		if a.kind == failed || a.kind == lost || a.kind == stopped && disruption(a.pod) != "" {
			k.failures = append(k.failures, a)
		}
	}
	slices.SortStableFunc(k.failures, func(a, b attempt) int { return a.since.Compare(b.since) })
	v := k.view(now)
	if v.Host == "" && len(k.pods) > 0 {
		v.Host = k.pods[len(k.pods)-1].pod.Spec.NodeName
	}
	return v.finish()
}

// JobGone returns what a person should see of a Job that does not exist any more, from its last known state. sure says
// that nothing happened to it between that and its end.
func JobGone(j *batchv1.Job, pods, gone []*corev1.Pod, sure bool, now time.Time) View {
	if v := Job(j, pods, gone, now.Add(endPatience)); v.Ended {
		return v
	}
	if !sure {
		return View{Status: Running, Message: "Vanished while the watcher was not looking", Since: now, Ended: true, Lost: true, key: "gone"}
	}
	message := "Deleted before it finished"
	if owner := metav1.GetControllerOf(j); owner != nil && owner.Kind == "CronJob" {
		message += "; a CronJob with the concurrencyPolicy Replace does so when its next run is due"
	}
	return View{Status: Failed, Message: message, Since: now, Ended: true, key: "gone"}
}

// condition returns a condition of the Job that holds, nil if it does not.
func (k *job) condition(kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range k.Status.Conditions {
		if c := &k.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

func (k *job) view(now time.Time) View {
	if c := k.condition(batchv1.JobComplete); c != nil {
		return k.complete(c)
	}
	if c := k.condition(batchv1.JobFailed); c != nil {
		if v, known := k.failed(c, now); known {
			return v
		}
	}
	if k.Spec.Suspend != nil && *k.Spec.Suspend {
		return k.suspended()
	}
	if c := k.condition(batchv1.JobFailureTarget); c != nil && c.Reason != batchv1.JobReasonBackoffLimitExceeded {
		what, _ := k.reason(c)
		return View{Status: Running, Message: "stopping: it " + what, Since: c.LastTransitionTime.Time}
	}
	if k.Spec.Parallelism != nil && *k.Spec.Parallelism == 0 {
		return View{Status: Pending, Message: "paused: its parallelism is 0", Since: k.begun()}
	}
	if k.isParallel() {
		return k.parallel()
	}
	return k.single()
}

// ended returns the view of a Job that ended. Its ID depends on nothing but the end, because its Pods, which say more,
// may be gone when the watcher starts again.
func (k *job) ended(status Status, c *batchv1.JobCondition, message, content string) View {
	since := c.LastTransitionTime.Time
	for _, a := range k.pods {
		if a.over() {
			since = latest(since, a.since)
		}
	}
	return View{Status: status, Message: message, Content: content, Since: since, Ended: true, key: "end"}
}

func (k *job) complete(c *batchv1.JobCondition) View {
	message, content := "finished", ""
	if start := k.Status.StartTime; start != nil {
		message += " in " + duration(c.LastTransitionTime.Sub(start.Time))
	}
	var notes []string
	if k.isParallel() && k.Spec.Completions != nil {
		notes = append(notes, fmt.Sprintf("%d of %d done", k.Status.Succeeded, *k.Spec.Completions))
	} else if n := k.failedCount(); n > 0 {
		notes = append(notes, fmt.Sprintf("in attempt %d", n+1))
	}
	for _, a := range k.pods {
		if _, note, found := strings.Cut(a.what, "; "); !k.isParallel() && a.kind == succeeded && found {
			notes = append(notes, note)
		} else if _, said, found := strings.Cut(a.what, ": "); !k.isParallel() && a.kind == succeeded && found {
			notes, content = append(notes, said), a.content
		}
	}
	if len(notes) > 0 {
		message += "; " + strings.Join(notes, "; ")
	}
	return k.ended(Success, c, message, content)
}

// failed returns the view of a Job that failed. known is false if its Pods will soon say why.
func (k *job) failed(c *batchv1.JobCondition, now time.Time) (v View, known bool) {
	message, content := k.reason(c)
	switch {
	case k.isParallel():
		message += "; " + k.progress()
	case c.Reason == batchv1.JobReasonBackoffLimitExceeded && len(k.failures) == 0 && now.Before(c.LastTransitionTime.Add(endPatience)):
		return View{}, false
	case c.Reason == batchv1.JobReasonBackoffLimitExceeded && k.limit() > 0:
		message += "; " + k.attempt(min(max(1, k.failedCount()), k.limit()+1))
	}
	return k.ended(Failed, c, message, content), true
}

// reason says why the Job failed, as a predicate.
func (k *job) reason(c *batchv1.JobCondition) (what, content string) {
	last := attempt{}
	if n := len(k.failures); n > 0 {
		last = k.failures[n-1]
	} else if n := len(k.pods); n > 0 && k.pods[n-1].times > 0 { // restarted in place until the limit was reached
		last = k.pods[n-1]
		if c, end := lastEndOf(last.pod); end != nil {
			last.what, last.content = c.words(end)
		}
	}
	switch c.Reason {
	case batchv1.JobReasonBackoffLimitExceeded, batchv1.JobReasonFailedIndexes, batchv1.JobReasonMaxFailedIndexesExceeded:
		if last.what != "" {
			return last.what, last.content
		}
	case batchv1.JobReasonDeadlineExceeded:
		return "ran longer than its deadline" + seconds(k.Spec.ActiveDeadlineSeconds), ""
	case batchv1.JobReasonPodFailurePolicy:
		if last.what != "" {
			return last.what + " (its failure policy ends the Job)", cmp.Or(last.content, c.Message)
		}
		return "was ended by its failure policy: " + firstSentence(c.Message), c.Message
	}
	return "failed: " + firstSentence(cmp.Or(c.Message, c.Reason)), ""
}

// lastEndOf returns the container of a Pod that was restarted, and how it ended before.
func lastEndOf(p *corev1.Pod) (container, *corev1.ContainerStateTerminated) {
	for _, c := range append(mainContainers(p), initContainers(p)...) {
		if end := c.status.State.Terminated; end != nil && end.ExitCode != 0 {
			return c, end
		}
		if end := c.status.LastTerminationState.Terminated; end != nil {
			return c, end
		}
	}
	return container{}, nil
}

// queueLabel is the label of Kueue, which suspends the Jobs that wait in a queue.
const queueLabel = "kueue.x-k8s.io/queue-name"

func (k *job) suspended() View {
	v := View{Status: Pending, Message: "suspended",
		Content: fmt.Sprintf("To resume it, run:\n\nkubectl patch job %s -n %s -p '{\"spec\":{\"suspend\":false}}'", k.Name, k.Namespace)}
	if k.Labels[queueLabel] != "" || k.Spec.ManagedBy != nil && *k.Spec.ManagedBy != batchv1.JobControllerName {
		v = View{Status: Running, Message: "waiting in a queue"}
	}
	v.Since = k.begun()
	return v
}

func (k *job) isParallel() bool {
	return k.Spec.Completions == nil && k.Spec.Parallelism != nil && *k.Spec.Parallelism > 1 || k.Spec.Completions != nil && *k.Spec.Completions > 1
}

// attempt names an attempt, and how many there may be unless that is practically unlimited.
func (k *job) attempt(n int) string {
	if k.limit() == math.MaxInt32 {
		return fmt.Sprintf("attempt %d", n)
	}
	return fmt.Sprintf("attempt %d of %d", n, k.limit()+1)
}

// limit is how many Pods may fail before the Job does, or its only index.
func (k *job) limit() int {
	if each := k.Spec.BackoffLimitPerIndex; each != nil {
		return int(*each)
	}
	if k.Spec.BackoffLimit == nil {
		return 6
	}
	return int(*k.Spec.BackoffLimit)
}

// failedCount is how many Pods failed, as far as the Job or its Pods say. With a failure policy, only the Job knows
// which of them count.
func (k *job) failedCount() int {
	counted := int(k.Status.Failed)
	if u := k.Status.UncountedTerminatedPods; u != nil {
		counted += len(u.Failed)
	}
	if k.Spec.PodFailurePolicy != nil {
		return counted
	}
	return max(counted, len(k.failures))
}

// begun is when the Job began, or was last suspended or resumed.
func (k *job) begun() time.Time {
	begun := latest(k.CreationTimestamp.Time, timeOf(k.Status.StartTime))
	for i := range k.Status.Conditions {
		if c := &k.Status.Conditions[i]; c.Type == batchv1.JobSuspended {
			begun = latest(begun, timeOf(&c.LastTransitionTime))
		}
	}
	return begun
}

// single returns the view of a Job that needs one Pod to succeed.
func (k *job) single() View {
	v := View{Status: Running, Message: "starting: waiting for a node", Since: k.begun()}
	var active *attempt
	for i := range k.pods {
		if a := &k.pods[i]; !a.gone && !a.over() {
			active = a
		}
	}
	attempts := k.failedCount() + 1
	var before attempt
	if n := len(k.failures); n > 0 {
		before = k.failures[n-1]
	}
	if active != nil {
		if active.kind == blocked {
			v = viewOf(active.pod, active.state)
			v.Since = latest(v.Since, k.begun())
			return v
		}
		v.Host, v.Check = active.pod.Spec.NodeName, active.check
		if c, end := lastEndOf(active.pod); end != nil && active.times > 0 {
			attempts += active.times
			before = *active
			before.what, before.content = c.words(end)
		}
	} else if n := len(k.pods); n > 0 && k.pods[n-1].kind == succeeded { // not counted yet
		v.Message, v.Since = "running", latest(v.Since, runningSince(k.pods[n-1].pod))
		v.Host = k.pods[n-1].pod.Spec.NodeName
	}
	attempts = min(attempts, k.limit()+1)
	if attempts > 1 {
		if k.failedCount() > k.limit() && len(k.failures) > 1 { // the last attempt failed, and the Job is about to say so
			before = k.failures[k.limit()-1]
		}
		return k.again(v, attempts, before)
	}
	switch {
	case active != nil && active.kind == crashing: // not a container whose restarts are attempts
		return viewOf(active.pod, active.state)
	case active != nil:
		v.Message, v.Since = active.what, latest(v.Since, active.since)
	case len(k.failures) > 0: // the only attempt failed, and the Job is about to say so
		v.Message, v.Since = "running", latest(v.Since, runningSince(k.failures[0].pod))
	}
	return v
}

// runningSince is when the first container of a Pod started.
func runningSince(p *corev1.Pod) time.Time {
	since := acceptedAt(p)
	for _, c := range mainContainers(p) {
		if end := c.status.State.Terminated; end != nil {
			since = latest(since, timeOf(&end.StartedAt))
		}
	}
	return since
}

// again returns the view of a Job whose first attempt failed, and whose latest failure is before.
func (k *job) again(v View, n int, before attempt) View {
	v.Message = k.attempt(n)
	if before.what != "" {
		v.Message += ", the " + map[bool]string{true: "first ", false: "last "}[n == 2] + before.what
	}
	v.Content = before.content
	v.Since = latest(v.Since, before.since)
	v = v.finish()
	v.key = fmt.Sprintf("%s\n%s", v.Status, v.Message)
	return v
}

// progress says how much of the Job is done, in steps of a twentieth, so that not each Pod of thousands is news.
func (k *job) progress() string {
	text := ""
	if k.Spec.Completions != nil {
		all := int(*k.Spec.Completions)
		step := max(1, all/20)
		text = fmt.Sprintf("%d of %d done", min(int(k.Status.Succeeded), all)/step*step, all)
	} else {
		text = fmt.Sprintf("%d done", k.Status.Succeeded)
	}
	if n := k.failedCount(); n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	return text
}

// parallel returns the view of a Job that needs several Pods.
func (k *job) parallel() View {
	v := View{Status: Running, Message: "starting: " + k.progress(), Since: k.begun()}
	var waits *attempt
	for i := range k.pods {
		a := &k.pods[i]
		switch {
		case a.over():
			v.Since = latest(v.Since, a.since)
		case a.gone:
		case a.kind == blocked && waits == nil:
			waits = a
		case a.kind == running, a.kind == crashing, a.kind == stopping:
			v.Message = k.progress()
			v.Since = latest(v.Since, runningSince(a.pod))
		}
		if !a.gone && !a.over() && (v.Check.IsZero() || !a.check.IsZero() && a.check.Before(v.Check)) {
			v.Check = a.check
		}
	}
	if waits != nil && strings.HasPrefix(v.Message, "starting") {
		v = viewOf(waits.pod, waits.state)
		v.Since = latest(v.Since, k.begun())
		return v
	}
	if k.Status.Succeeded > 0 || k.failedCount() > 0 {
		v.Message = k.progress()
	}
	v = v.finish()
	v.key = fmt.Sprintf("%s\n%s", v.Status, v.Message)
	return v
}
