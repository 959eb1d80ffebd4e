package watch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// The two lists of Pods. A Pod of a labelled Job may have no label itself, and a selector can't say "or".
var podSelectors = [2]string{Label, "!" + Label + "," + batchv1.ControllerUidLabel}

// Source feeds a tracker with the Pods and Jobs of a cluster.
type Source struct {
	client  kubernetes.Interface
	logger  *slog.Logger
	tracker *Tracker

	factories []informers.SharedInformerFactory
	synced    []cache.InformerSynced

	mu     sync.Mutex
	faults map[string]string // the last error of each list
}

// NewSource returns the source of the objects in some namespaces, in all if there are none.
func NewSource(client kubernetes.Interface, namespaces []string, tracker *Tracker, logger *slog.Logger) (*Source, error) {
	s := &Source{client: client, logger: logger, tracker: tracker, faults: map[string]string{}}
	tracker.Exists = s.exists
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		for list := range podSelectors {
			if err := s.add(namespace, "pods", podSelectors[list], podHandler{tracker, list}); err != nil {
				return nil, err
			}
		}
		if err := s.add(namespace, "jobs", Label, jobHandler{tracker}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Source) add(namespace, resource, selector string, handler cache.ResourceEventHandler) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.client, 0, informers.WithNamespace(namespace), informers.WithTransform(strip),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = selector }))
	informer := factory.Core().V1().Pods().Informer()
	if resource == "jobs" {
		informer = factory.Batch().V1().Jobs().Informer()
	}
	err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) { s.failed(namespace, resource, err) })
	if err != nil {
		return err
	}
	registered, err := informer.AddEventHandler(handler)
	if err != nil {
		return err
	}
	s.factories, s.synced = append(s.factories, factory), append(s.synced, registered.HasSynced)
	return nil
}

// Run feeds the tracker until ctx is done.
func (s *Source) Run(ctx context.Context) {
	for _, factory := range s.factories {
		factory.StartWithContext(ctx)
	}
	<-ctx.Done()
	for _, factory := range s.factories {
		factory.Shutdown()
	}
}

// WaitForSync waits until the tracker knows everything that exists. It returns false if ctx is done before.
func (s *Source) WaitForSync(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), s.synced...)
}

// Fault says what is still to be listed, and why it could not be. It returns "" once everything was.
func (s *Source) Fault() string {
	for _, synced := range s.synced {
		if !synced() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, fault := range s.faults {
				return fault
			}
			return "the Pods and Jobs have not been listed yet"
		}
	}
	return ""
}

// failed logs why a list or a watch failed, once until the reason changes.
func (s *Source) failed(namespace, resource string, err error) {
	text := explain(namespace, resource, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := namespace + "/" + resource
	if text == "" || s.faults[key] == text {
		return
	}
	s.faults[key] = text
	s.logger.Error("can't watch the cluster", "error", text)
}

// explain says in words why a list or a watch failed, "" if that is nothing to tell: watches end all the time.
func explain(namespace, resource string, err error) string {
	where := "in namespace " + namespace
	role := "the Role of its service account there"
	if namespace == metav1.NamespaceAll {
		where, role = "in all namespaces", "the ClusterRole of its service account"
	}
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return ""
	case apierrors.IsForbidden(err):
		verb := "list"
		if strings.Contains(err.Error(), "cannot watch") {
			verb = "watch"
		}
		return fmt.Sprintf("may not %s %s %s: %s needs the verbs get, list and watch for pods and for jobs of batch, or set NAMESPACES (%v)", verb, resource, where, role, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Sprintf("the API server does not accept the credentials: %v", err)
	}
	return fmt.Sprintf("can't list or watch %s %s: %v", resource, where, err)
}

// existsTimeout is how long the API server may take to say whether an object exists. Other reports wait meanwhile.
const existsTimeout = 5 * time.Second

// exists asks the API server whether an object exists.
func (s *Source) exists(ctx context.Context, kind string, meta *metav1.ObjectMeta) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, existsTimeout)
	defer cancel()
	var found metav1.Object
	var err error
	if kind == "Job" {
		found, err = s.client.BatchV1().Jobs(meta.Namespace).Get(ctx, meta.Name, metav1.GetOptions{})
	} else {
		found, err = s.client.CoreV1().Pods(meta.Namespace).Get(ctx, meta.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && found.GetUID() == meta.UID, err
}

type podHandler struct {
	tracker *Tracker
	list    int
}

func (h podHandler) OnAdd(object any, _ bool) { h.tracker.PutPod(h.list, object.(*corev1.Pod)) }
func (h podHandler) OnUpdate(_, object any)   { h.tracker.PutPod(h.list, object.(*corev1.Pod)) }
func (h podHandler) OnDelete(object any) {
	last, sure := final(object)
	if p, ok := last.(*corev1.Pod); ok {
		h.tracker.RemovePod(h.list, p, sure)
	}
}

type jobHandler struct{ tracker *Tracker }

func (h jobHandler) OnAdd(object any, _ bool) { h.tracker.PutJob(object.(*batchv1.Job)) }
func (h jobHandler) OnUpdate(_, object any)   { h.tracker.PutJob(object.(*batchv1.Job)) }
func (h jobHandler) OnDelete(object any) {
	last, sure := final(object)
	if j, ok := last.(*batchv1.Job); ok {
		h.tracker.RemoveJob(j, sure)
	}
}

// final returns the last known state of a deleted object, and whether it is its final one.
func final(object any) (last any, sure bool) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj, false
	}
	return object, true
}
