package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// container is a container of a Pod with its status.
type container struct {
	pod    *corev1.Pod
	spec   *corev1.Container
	status *corev1.ContainerStatus
	place  string // " in container import" if the Pod has others like it
}

// mainContainers returns the containers whose end is the end of the Pod.
func mainContainers(p *corev1.Pod) []container {
	place := ""
	if len(p.Spec.Containers) > 1 {
		place = " in container "
	}
	return containers(p, p.Spec.Containers, p.Status.ContainerStatuses, place, func(*corev1.Container) bool { return true })
}

// initContainers returns the containers that must end before the main ones start.
func initContainers(p *corev1.Pod) []container {
	return containers(p, p.Spec.InitContainers, p.Status.InitContainerStatuses, " in init container ",
		func(c *corev1.Container) bool { return !isSidecar(c) })
}

// sidecars returns the init containers that run beside the main ones.
func sidecars(p *corev1.Pod) []container {
	return containers(p, p.Spec.InitContainers, p.Status.InitContainerStatuses, " in sidecar ", isSidecar)
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func containers(p *corev1.Pod, specs []corev1.Container, statuses []corev1.ContainerStatus, place string, include func(*corev1.Container) bool) (list []container) {
	for i := range specs {
		spec := &specs[i]
		if !include(spec) {
			continue
		}
		c := container{pod: p, spec: spec, status: &corev1.ContainerStatus{}}
		if place != "" {
			c.place = place + spec.Name
		}
		if at := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == spec.Name }); at >= 0 {
			c.status = &statuses[at]
		}
		list = append(list, c)
	}
	return list
}

// restarts reports whether the kubelet starts the container again after this end.
func (c container) restarts(end *corev1.ContainerStateTerminated) bool {
	if c.spec.RestartPolicy != nil {
		switch *c.spec.RestartPolicy {
		case corev1.ContainerRestartPolicyAlways:
			return true
		case corev1.ContainerRestartPolicyNever:
			return false
		}
		return end.ExitCode != 0
	}
	switch c.pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return end.ExitCode != 0
	}
	return end.ExitCode != 0 || !slices.ContainsFunc(c.pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.spec.Name })
}

// steadyAfter is how long a container must run before it counts as recovered from its crashes. The kubelet forgets its
// back-off after the same time.
const steadyAfter = 10 * time.Minute

// lastEnd returns how the container last ended, and how often it ended. end is nil if it never did, or did for good.
func (c container) lastEnd() (end *corev1.ContainerStateTerminated, times int) {
	if end := c.status.State.Terminated; end != nil {
		if !c.restarts(end) {
			return nil, 0
		}
		return end, int(c.status.RestartCount) + 1
	}
	times = int(c.status.RestartCount)
	if c.status.State.Running == nil {
		times++
	}
	return c.status.LastTerminationState.Terminated, times
}

// crash says how a container keeps ending.
type crash struct {
	end   *corev1.ContainerStateTerminated
	times int
	until time.Time // when it counts as recovered; zero if it does not run
}

// crashes reports whether the container ends again and again soon after each start.
func (c container) crashes(now time.Time) (crash, bool) {
	end, times := c.lastEnd()
	if end == nil {
		return crash{}, false
	}
	loops := crash{end: end, times: times}
	if waiting := c.status.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "CrashLoopBackOff", "RunContainerError":
			return loops, true
		}
	}
	if times < 2 || end.FinishedAt.Sub(end.StartedAt.Time) >= steadyAfter && !timeOf(&end.StartedAt).IsZero() {
		return crash{}, false
	}
	if running := c.status.State.Running; running != nil {
		loops.until = running.StartedAt.Add(steadyAfter)
		return loops, now.Before(loops.until)
	}
	return loops, true
}

// words says how the container ended, as the predicate of a sentence about it, and what it left as its termination
// message if that is too long for the sentence.
func (c container) words(end *corev1.ContainerStateTerminated) (what, content string) {
	what, message := "", strings.TrimSpace(end.Message)
	switch end.Reason {
	case "OOMKilled":
		what = "ran out of memory" + c.memoryLimit()
	case "ContainerStatusUnknown":
		return "ended unobserved: its node lost track of it" + c.place, ""
	case "StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError":
		return "could not start" + c.place + ": " + cut(startFault(message), maxReason), ""
	case "DeadlineExceeded":
		what = "ran longer than its deadline"
	default:
		what = exit(end)
	}
	what += c.place
	if message == "" {
		return what, ""
	}
	lines := strings.Split(message, "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if len(lines) > 1 || len(last) > maxReason {
		content = message
	}
	return what + ": " + cut(last, maxReason), content
}

// maxReason is how much of a text from elsewhere a message shows, in characters.
const maxReason = 200

// memoryLimit is the limit of memory in parentheses, or "".
func (c container) memoryLimit() string {
	limits := []corev1.ResourceList{c.spec.Resources.Limits}
	if r := c.status.Resources; r != nil {
		limits = append([]corev1.ResourceList{r.Limits}, limits...) // it can be changed while the container runs
	}
	if r := c.pod.Spec.Resources; r != nil {
		limits = append(limits, r.Limits)
	}
	for _, list := range limits {
		if limit, ok := list[corev1.ResourceMemory]; ok {
			return fmt.Sprintf(" (limit %s)", limit.String())
		}
	}
	return ""
}

var signals = map[int32]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
	9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM"}

// exit says how a process ended.
func exit(end *corev1.ContainerStateTerminated) string {
	signal := end.Signal
	if signal == 0 && end.ExitCode > 128 {
		signal = end.ExitCode - 128
	}
	if name, ok := signals[signal]; ok {
		return fmt.Sprintf("was ended by %s (exit status %d)", name, end.ExitCode)
	}
	return fmt.Sprintf("ended with exit status %d", end.ExitCode)
}

// startFault is the part of a container runtime's error that says what is wrong.
func startFault(message string) string {
	for _, prefix := range []string{"error during container init: ", "unable to start container process: ", "runc create failed: "} {
		if _, rest, found := strings.Cut(message, prefix); found {
			return rest
		}
	}
	return strings.TrimPrefix(message, "failed to create containerd task: ")
}

// startBlock says why a container that waits can't start until somebody does something, as what follows "can't start: ".
// It returns "" if there is no such reason. It is vague if the kubelet's message does not say why.
func (c container) startBlock() (why string, vague bool) {
	waiting := c.status.State.Waiting
	if waiting == nil {
		return "", false
	}
	message := cut(strings.TrimSpace(waiting.Message), maxReason)
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
		return c.imageFault(waiting.Message)
	case "InvalidImageName":
		return fmt.Sprintf("the image name %q is invalid", c.spec.Image), false
	case "ErrImageNeverPull":
		return fmt.Sprintf("image %s is not on the node, and its pull policy is Never", c.spec.Image), false
	case "CreateContainerConfigError", "CreateContainerError":
		return strings.TrimSpace(startFault(message) + c.place), false
	}
	return "", false
}

// imageFault says why an image can't be pulled, in the same words at each attempt.
func (c container) imageFault(message string) (why string, vague bool) {
	lower := strings.ToLower(message)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(lower, part) })
	}
	switch {
	case has("denied", "unauthorized", "authorization failed", "no basic auth", "403 forbidden"):
		return "image " + c.spec.Image + " can't be pulled: the registry refuses access (it does not exist, or a pull secret is missing)", false
	case has("not found", "manifest unknown", "does not exist", "notfound"):
		return "image " + c.spec.Image + " not found", false
	case has("no such host", "connection refused", "i/o timeout", "deadline exceeded", "unreachable", "dial tcp"):
		return "image " + c.spec.Image + " can't be pulled: its registry can't be reached", false
	case has("toomanyrequests", "too many requests", "rate limit"):
		return "image " + c.spec.Image + " can't be pulled: its registry limits the rate", false
	case has("no match for platform", "no matching manifest"):
		return "image " + c.spec.Image + " is not for the node's platform", false
	case has("signature"):
		return "image " + c.spec.Image + " can't be pulled: its signature is not accepted", false
	}
	return "image " + c.spec.Image + " can't be pulled", true
}
