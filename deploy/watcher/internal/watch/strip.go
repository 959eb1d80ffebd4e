package watch

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// strip removes from a Pod or a Job what no view depends on, such as environment variables, volumes and managed fields,
// before it is kept.
func strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		return stripPod(o), nil
	case *batchv1.Job:
		return stripJob(o), nil
	case cache.DeletedFinalStateUnknown:
		inner, err := strip(o.Obj)
		o.Obj = inner
		return o, err
	}
	return object, nil
}

func stripMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds}
	for _, name := range []string{Label, queueLabel} {
		if value, ok := m.Labels[name]; ok {
			if kept.Labels == nil {
				kept.Labels = map[string]string{}
			}
			kept.Labels[name] = value
		}
	}
	if owner := metav1.GetControllerOfNoCopy(&m); owner != nil {
		kept.OwnerReferences = []metav1.OwnerReference{{Kind: owner.Kind, Name: owner.Name, UID: owner.UID, Controller: owner.Controller}}
	}
	return kept
}

func stripPod(p *corev1.Pod) *corev1.Pod {
	kept := &corev1.Pod{ObjectMeta: stripMeta(p.ObjectMeta)}
	kept.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy, ActiveDeadlineSeconds: p.Spec.ActiveDeadlineSeconds,
		SchedulingGates: p.Spec.SchedulingGates, Containers: stripContainers(p.Spec.Containers), InitContainers: stripContainers(p.Spec.InitContainers)}
	if p.Spec.Resources != nil {
		kept.Spec.Resources = &corev1.ResourceRequirements{Limits: onlyMemory(p.Spec.Resources.Limits)}
	}
	s := &p.Status
	kept.Status = corev1.PodStatus{Phase: s.Phase, Reason: s.Reason, Message: s.Message, StartTime: s.StartTime,
		ContainerStatuses: stripStatuses(s.ContainerStatuses), InitContainerStatuses: stripStatuses(s.InitContainerStatuses)}
	for _, c := range s.Conditions {
		kept.Status.Conditions = append(kept.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason,
			Message: c.Message, LastTransitionTime: c.LastTransitionTime})
	}
	return kept
}

func stripContainers(list []corev1.Container) (kept []corev1.Container) {
	for _, c := range list {
		kept = append(kept, corev1.Container{Name: c.Name, Image: c.Image, RestartPolicy: c.RestartPolicy,
			Resources: corev1.ResourceRequirements{Limits: onlyMemory(c.Resources.Limits)}})
	}
	return kept
}

func stripStatuses(list []corev1.ContainerStatus) (kept []corev1.ContainerStatus) {
	for _, c := range list {
		s := corev1.ContainerStatus{Name: c.Name, RestartCount: c.RestartCount, State: c.State, LastTerminationState: c.LastTerminationState}
		s.State.Terminated, s.LastTerminationState.Terminated = stripEnd(s.State.Terminated), stripEnd(s.LastTerminationState.Terminated)
		if c.Resources != nil {
			s.Resources = &corev1.ResourceRequirements{Limits: onlyMemory(c.Resources.Limits)}
		}
		kept = append(kept, s)
	}
	return kept
}

func stripEnd(end *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	if end == nil {
		return nil
	}
	kept := *end
	kept.ContainerID = ""
	return &kept
}

func onlyMemory(list corev1.ResourceList) corev1.ResourceList {
	if limit, ok := list[corev1.ResourceMemory]; ok {
		return corev1.ResourceList{corev1.ResourceMemory: limit}
	}
	return nil
}

func stripJob(j *batchv1.Job) *batchv1.Job {
	kept := &batchv1.Job{ObjectMeta: stripMeta(j.ObjectMeta), Status: j.Status}
	s := &j.Spec
	kept.Spec = batchv1.JobSpec{Parallelism: s.Parallelism, Completions: s.Completions, ActiveDeadlineSeconds: s.ActiveDeadlineSeconds,
		BackoffLimit: s.BackoffLimit, BackoffLimitPerIndex: s.BackoffLimitPerIndex, CompletionMode: s.CompletionMode, Suspend: s.Suspend, ManagedBy: s.ManagedBy}
	if s.PodFailurePolicy != nil {
		kept.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{}
	}
	return kept
}
