package view

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// schedulePatience is how long a Pod may wait for a node before somebody has to do something. An autoscaler or the
	// end of another Pod often helps earlier.
	schedulePatience = 10 * time.Second

	// mountPatience is how long the volumes and the network of a Pod may take. The status does not say why they are not
	// ready, only events do.
	mountPatience = 2 * time.Minute
)

// kind is what a Pod does, apart from how it is told.
type kind uint8

const (
	starting kind = iota
	blocked       // it waits for somebody
	running
	crashing // it ends again and again
	stopping // it was asked to end
	succeeded
	failed
	stopped // it ended because it was asked to
	lost
)

// state is what a Pod does.
type state struct {
	kind    kind
	what    string // a message; of a failed, stopped or crashing one, the predicate of a sentence
	content string
	since   time.Time
	check   time.Time
	vague   bool
	moving  bool // since changes while the rest stays the same

	times int // that a crashing or running container ended
}

func (s state) over() bool { return s.kind >= succeeded }

// Pod returns what a person should see of a Pod at a time.
func Pod(p *corev1.Pod, now time.Time) View {
	return viewOf(p, stateOf(p, now))
}

// viewOf returns the view of a Pod that is a session of its own.
func viewOf(p *corev1.Pod, s state) View {
	v := View{Status: Running, Message: s.what, Content: s.content, Since: s.since, Check: s.check, Vague: s.vague, Ended: s.over(), Host: p.Spec.NodeName}
	switch s.kind {
	case blocked:
		v.Status = Pending
	case crashing:
		v.Status, v.Message = Failed, "keeps crashing"+counted(s.times)+": "+s.what
	case succeeded:
		v.Status = Success
	case failed:
		v.Status = Failed
	case stopped:
		v.Status = Failed
		if isReplaceable(p) {
			v.Status = Success
		}
	case lost:
		v.Lost = true
	}
	v = v.finish()
	switch {
	case v.Ended:
		v.key = "end"
	case s.moving:
		v.key = fmt.Sprintf("%s\n%s", v.Status, v.Message)
	}
	return v
}

// counted says how often something ended, in steps that grow, so that not each time is news.
func counted(times int) string {
	if times <= 1 {
		return ""
	}
	if times <= 5 {
		return fmt.Sprintf(", %d times so far", times)
	}
	floor := 5
	for floor*2 <= times {
		floor *= 2
	}
	return fmt.Sprintf(", at least %d times so far", floor)
}

// isReplaceable reports whether something starts another Pod in place of this one, so that its end is nobody's loss.
func isReplaceable(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	return owner != nil && owner.Kind != "Job"
}

// condition returns a condition of the Pod, the zero value if it has none of this type.
func condition(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// stateOf returns what a Pod does at a time.
func stateOf(p *corev1.Pod, now time.Time) state {
	disruption := condition(p, corev1.DisruptionTarget)
	switch {
	case disruption.Reason == "DeletionByPodGC" && !hasEnded(p):
		return state{kind: lost, what: "vanished: its node is gone", since: latest(allTimes(p)...)}
	case p.Status.Phase == corev1.PodSucceeded:
		return stateOfSuccess(p)
	case p.Status.Phase == corev1.PodFailed:
		return stateOfFailure(p)
	case p.DeletionTimestamp != nil && !isForced(p):
		return stateOfStopping(p)
	}
	return stateOfLiving(p, now)
}

// isForced reports whether a Pod with a node is being deleted without waiting for its end. It is gone at once.
func isForced(p *corev1.Pod) bool {
	grace := p.DeletionGracePeriodSeconds
	return p.Spec.NodeName != "" && grace != nil && *grace == 0
}

// hasEnded reports whether the kubelet reported the end of a main container.
func hasEnded(p *corev1.Pod) bool {
	return slices.ContainsFunc(mainContainers(p), func(c container) bool { return c.status.State.Terminated != nil })
}

// acceptedAt is when the Pod's node took it, or as far as it got.
func acceptedAt(p *corev1.Pod) time.Time {
	scheduled := condition(p, corev1.PodScheduled)
	return latest(p.CreationTimestamp.Time, timeOf(&scheduled.LastTransitionTime), timeOf(p.Status.StartTime))
}

// allTimes returns the times at which something happened to the Pod. The last one is when its latest news happened.
func allTimes(p *corev1.Pod) []time.Time {
	times := []time.Time{acceptedAt(p)}
	for _, c := range p.Status.Conditions {
		times = append(times, timeOf(&c.LastTransitionTime))
	}
	return append(times, containerTimes(p)...)
}

func containerTimes(p *corev1.Pod) (times []time.Time) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			for _, s := range []corev1.ContainerState{list[i].State, list[i].LastTerminationState} {
				if s.Running != nil {
					times = append(times, timeOf(&s.Running.StartedAt))
				}
				if s.Terminated != nil {
					times = append(times, timeOf(&s.Terminated.StartedAt), timeOf(&s.Terminated.FinishedAt))
				}
			}
		}
	}
	return times
}

// endedAt is when the Pod ended.
func endedAt(p *corev1.Pod) time.Time {
	for _, c := range append(mainContainers(p), initContainers(p)...) {
		if end := c.status.State.Terminated; c.status.State.Running != nil || end != nil && end.FinishedAt.IsZero() {
			return latest(allTimes(p)...) // the kubelet does not know
		}
	}
	times := containerTimes(p)
	if len(times) == 0 {
		return latest(allTimes(p)...)
	}
	return latest(append(times, acceptedAt(p))...)
}

func stateOfSuccess(p *corev1.Pod) state {
	var begun time.Time
	s := state{kind: succeeded, since: endedAt(p)}
	notes := ""
	for _, c := range mainContainers(p) {
		end := c.status.State.Terminated
		if end == nil {
			continue
		}
		if at := timeOf(&end.StartedAt); begun.IsZero() || at.Before(begun) {
			begun = at
		}
		switch message := strings.TrimSpace(end.Message); {
		case end.Reason == "OOMKilled": // a child process
			notes += "; a process of it ran out of memory" + c.memoryLimit() + c.place
		case message != "":
			what, content := c.words(end)
			_, said, _ := strings.Cut(what, ": ")
			notes += ": " + said
			s.content = content
		}
	}
	s.what = "finished"
	if !begun.IsZero() {
		s.what += " in " + duration(s.since.Sub(begun))
	}
	s.what += notes
	if requested, by := deletion(p); by != "" && !s.since.Before(requested) {
		s.kind, s.what = stopped, by
		if !isReplaceable(p) {
			s.kind, s.what = succeeded, by+"; it ended with exit status 0"
		}
	}
	return s
}

// deletion returns when somebody asked for the Pod's end, and who or why. It returns "" if nobody did.
func deletion(p *corev1.Pod) (requested time.Time, by string) {
	if p.DeletionTimestamp == nil {
		return time.Time{}, ""
	}
	grace := int64(0)
	if p.DeletionGracePeriodSeconds != nil {
		grace = *p.DeletionGracePeriodSeconds
	}
	by = "deleted before it finished"
	if isReplaceable(p) {
		by = "stopped: replaced or scaled down"
	}
	if why := disruption(p); why != "" {
		by = why
	}
	return p.DeletionTimestamp.Add(-time.Duration(grace) * time.Second), by
}

// disruption says why the control plane or the kubelet ended the Pod, as a predicate. It returns "" if neither did.
func disruption(p *corev1.Pod) string {
	c := condition(p, corev1.DisruptionTarget)
	if c.Status != corev1.ConditionTrue {
		return ""
	}
	switch c.Reason {
	case "PreemptionByScheduler":
		return "was preempted by a Pod of a higher priority"
	case "EvictionByEvictionAPI":
		return "was evicted from its node, as when a node is drained"
	case "DeletionByTaintManager":
		return "was removed from its node, which stopped answering or has a taint"
	case "TerminationByKubelet":
		return "was evicted: " + firstSentence(c.Message)
	}
	return "was disrupted: " + firstSentence(c.Message)
}

// firstSentence returns the first sentence of a message, without the figures that follow.
func firstSentence(message string) string {
	message, _, _ = strings.Cut(strings.TrimSpace(message), ". ")
	return cut(strings.TrimSuffix(message, "."), maxReason)
}

// podReasons are the reasons of a failed Pod that say everything.
var podReasons = map[string]string{
	"Preempting": "was preempted by a critical Pod",
	"NodeLost":   "was lost with its node",
	"Shutdown":   "was ended because its node shut down",
	"Terminated": "was ended because its node shut down",
}

func stateOfFailure(p *corev1.Pod) state {
	s := state{kind: failed, since: endedAt(p)}
	s.what, s.content = failure(p)
	if limit := p.Spec.ActiveDeadlineSeconds; p.Status.Reason == "DeadlineExceeded" && limit != nil {
		s.since = latest(s.since, acceptedAt(p).Add(time.Duration(*limit)*time.Second))
	}
	requested, by := deletion(p)
	if by != "" && !s.since.Before(requested) && !strings.HasPrefix(s.what, "ran out of memory") {
		s.kind, s.what, s.content = stopped, by, ""
	}
	return s
}

// failure says why a failed Pod failed, as a predicate.
func failure(p *corev1.Pod) (what, content string) {
	switch reason := p.Status.Reason; {
	case reason == "Evicted":
		return "was evicted: " + firstSentence(p.Status.Message), p.Status.Message
	case reason == "DeadlineExceeded":
		return "ran longer than its deadline" + seconds(p.Spec.ActiveDeadlineSeconds), ""
	case podReasons[reason] != "":
		return podReasons[reason], ""
	case reason != "" && !hasEnded(p): // such as NodeAffinity, OutOfcpu, UnexpectedAdmissionError
		return "was rejected by its node (" + reason + "): " + firstSentence(p.Status.Message), p.Status.Message
	}
	if why := disruption(p); why != "" {
		return why, condition(p, corev1.DisruptionTarget).Message
	}
	for _, c := range append(mainContainers(p), initContainers(p)...) {
		if end := c.status.State.Terminated; end != nil && (end.ExitCode != 0 || end.Reason == "OOMKilled") {
			return c.words(end)
		}
	}
	return "failed" + strings.TrimSuffix(": "+firstSentence(p.Status.Message), ": "), ""
}

// seconds is a deadline as " of 2m", or "".
func seconds(n *int64) string {
	if n == nil {
		return ""
	}
	return " of " + duration(time.Duration(*n)*time.Second)
}

func stateOfStopping(p *corev1.Pod) state {
	requested, by := deletion(p)
	s := state{kind: stopping, what: "stopping", since: latest(requested, acceptedAt(p))}
	switch {
	case p.Spec.NodeName == "":
		s.kind, s.what = stopped, neverStarted(p)
	case condition(p, corev1.DisruptionTarget).Reason == "DeletionByTaintManager":
		s.what = "stopping: its node does not answer or has a taint"
	case disruption(p) != "":
		s.what = "stopping: it " + by
	}
	return s
}

// stateOfLiving returns the state of a Pod that has not ended and was not asked to.
func stateOfLiving(p *corev1.Pod, now time.Time) state {
	if s, waits := stateOfUnscheduled(p, now); waits {
		return s
	}
	everything := slices.Concat(initContainers(p), sidecars(p), mainContainers(p))
	for _, c := range everything {
		if why, vague := c.startBlock(); why != "" {
			return state{kind: blocked, what: "can't start: " + why, vague: vague, since: latest(allTimes(p)...)}
		}
	}
	for _, c := range everything {
		if loop, crashes := c.crashes(now); crashes {
			s := state{kind: crashing, since: latest(timeOf(&loop.end.FinishedAt), acceptedAt(p)), check: loop.until, moving: true, times: loop.times}
			s.what, s.content = c.words(loop.end)
			return s
		}
	}
	if isAtWork(p) {
		return stateOfRunning(p)
	}
	return stateOfStarting(p, now)
}

// stateOfUnscheduled returns the state of a Pod without a node, and whether it is one.
func stateOfUnscheduled(p *corev1.Pod, now time.Time) (state, bool) {
	scheduled := condition(p, corev1.PodScheduled)
	if p.Spec.NodeName != "" || scheduled.Status == corev1.ConditionTrue {
		return state{}, false
	}
	s := state{kind: starting, what: "starting: waiting for a node", since: p.CreationTimestamp.Time}
	switch scheduled.Reason {
	case corev1.PodReasonSchedulingGated:
		var gates []string
		for _, gate := range p.Spec.SchedulingGates {
			gates = append(gates, gate.Name)
		}
		s.what = "waiting to be scheduled: held by " + strings.Join(gates, ", ")
	case corev1.PodReasonUnschedulable:
		since := latest(timeOf(&scheduled.LastTransitionTime), s.since)
		s.check = since.Add(schedulePatience)
		if !now.Before(s.check) {
			s = state{kind: blocked, what: "no node for it: " + unschedulable(scheduled.Message), since: since}
		}
	}
	return s, true
}

var (
	nodesAvailable = regexp.MustCompile(`^\d+/\d+ nodes are available: `)
	nodeCount      = regexp.MustCompile(`^\d+ `)
	taint          = regexp.MustCompile(`\{([^:{}]+): [^{}]*\}`) // its key and, if it has one, its value
)

// unschedulable is the message of the scheduler without the numbers of nodes, which change with every node, and without
// its further sentences, which are about preemption and claims of resources.
func unschedulable(message string) string {
	message, _, _ = strings.Cut(message, ". ")
	message = nodesAvailable.ReplaceAllString(strings.TrimSpace(message), "")
	var reasons []string
	for reason := range strings.SplitSeq(strings.TrimSuffix(message, "."), ", ") {
		reason = nodeCount.ReplaceAllString(reason, "")
		reason = strings.NewReplacer("node(s) ", "nodes ", "taint(s)", "taints").Replace(reason)
		reason = taint.ReplaceAllString(reason, "$1")
		if first, rest, found := strings.Cut(reason, " "); found && first == "Insufficient" {
			reason = "insufficient " + rest
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	slices.Sort(reasons)
	return cut(strings.Join(reasons, ", "), maxReason)
}

// isAtWork reports whether a main container has started.
func isAtWork(p *corev1.Pod) bool {
	return slices.ContainsFunc(mainContainers(p), func(c container) bool {
		s := c.status
		return s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
	})
}

func stateOfRunning(p *corev1.Pod) state {
	s := state{kind: running, what: "running", since: acceptedAt(p)}
	for _, c := range mainContainers(p) {
		if now := c.status.State.Running; now != nil {
			s.since = latest(s.since, timeOf(&now.StartedAt))
		}
		if end := c.status.State.Terminated; end != nil && !c.restarts(end) {
			s.since = latest(s.since, timeOf(&end.StartedAt))
			if end.ExitCode != 0 {
				what, _ := c.words(end)
				s.what += ", but a container failed: it " + what
				s.since = latest(s.since, timeOf(&end.FinishedAt))
			}
		}
		end, times := c.lastEnd()
		if end == nil {
			continue
		}
		what, content := c.words(end)
		s.what, s.content, s.times = "running; restarted after it "+what+counted(times), content, max(s.times, times)
		s.since, s.moving = latest(s.since, timeOf(&end.FinishedAt)), true
		if now := c.status.State.Running; now != nil && times > 1 {
			s.since = latest(s.since, now.StartedAt.Add(steadyAfter))
		}
	}
	ready, containersReady := condition(p, corev1.PodReady), condition(p, corev1.ContainersReady)
	if ready.Status == corev1.ConditionFalse && ready.Reason == "" && containersReady.Status == corev1.ConditionTrue {
		s.what, s.since = "running when its node was last heard of; the node does not answer", latest(s.since, timeOf(&ready.LastTransitionTime))
	}
	return s
}

func stateOfStarting(p *corev1.Pod, now time.Time) state {
	s := state{kind: starting, what: "starting", since: acceptedAt(p)}
	inits := initContainers(p)
	for i, c := range inits {
		if running := c.status.State.Running; running != nil {
			s.what = fmt.Sprintf("starting: init container %s", c.spec.Name)
			if len(inits) > 1 {
				s.what += fmt.Sprintf(", %d of %d", i+1, len(inits))
			}
			s.since = latest(s.since, timeOf(&running.StartedAt))
			return s
		}
	}
	switch sandbox := condition(p, corev1.PodReadyToStartContainers); sandbox.Status {
	case corev1.ConditionTrue:
		s.what = "starting: pulling the image"
		s.since = latest(s.since, timeOf(&sandbox.LastTransitionTime))
	case corev1.ConditionFalse:
		if len(containerTimes(p)) > 0 {
			break
		}
		s.check = s.since.Add(mountPatience)
		if !now.Before(s.check) {
			return state{kind: blocked, since: s.check,
				what: fmt.Sprintf("can't start: its volumes or network are not ready; kubectl describe pod %s -n %s says why", p.Name, p.Namespace)}
		}
	}
	return s
}

// neverStarted says that a Pod was deleted before its first container started, as a predicate.
func neverStarted(p *corev1.Pod) string {
	if isReplaceable(p) {
		return "stopped before it started: replaced or scaled down"
	}
	return "deleted before it started"
}

// PodGone returns what a person should see of a Pod that does not exist any more, from its last known state. sure says
// that nothing happened to it between that and its end.
func PodGone(p *corev1.Pod, sure bool, now time.Time) View {
	s := stateOf(p, now)
	if s.over() {
		return viewOf(p, s)
	}
	began := len(containerTimes(p)) > 0
	switch {
	case !sure:
		s = state{kind: lost, what: "vanished while the watcher was not looking"}
	case !began:
		s = state{kind: stopped, what: neverStarted(p)}
	case s.kind == stopping:
		s = state{kind: lost, what: "vanished while it was stopping: force-deleted, or its node is gone"}
	default:
		s = state{kind: lost, what: "vanished: force-deleted, or its node is gone"}
	}
	s.since = now
	v := viewOf(p, s)
	v.key = "gone"
	return v
}
