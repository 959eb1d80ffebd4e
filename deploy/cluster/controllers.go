package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/ttlafterfinished"
)

// workers is how many objects each controller works on at the same time.
const workers = 2

// resync is how often the garbage collector looks for new kinds of objects, and the namespace controller for leftovers.
const resync = 30 * time.Second

// A controller watches objects and acts, until ctx is done.
type controller interface {
	Run(ctx context.Context, workers int)
}

// runControllers starts, in group, the controllers of kube-controller-manager that concern workloads and access. They are
// its packages rather than the whole of it, which builds for longer: those of nodes, volumes and endpoints are missing,
// and so is the garbage collector of Pods. All of them act as the administrator.
func runControllers(ctx context.Context, group *errgroup.Group, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	kinds := scale.NewDiscoveryScaleKindResolver(client.Discovery())
	scales, err := scale.NewForConfig(config, mapper, dynamic.LegacyAPIPathResolverFunc, kinds)
	if err != nil {
		return err
	}
	shared := informers.NewSharedInformerFactory(client, 0)
	core, apps, batch := shared.Core().V1(), shared.Apps().V1(), shared.Batch().V1()

	jobs, err := job.NewController(ctx, client, core.Pods(), batch.Jobs(), nil, nil)
	if err != nil {
		return err
	}
	cronJobs, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), client)
	if err != nil {
		return err
	}
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), client)
	if err != nil {
		return err
	}
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(),
		core.Namespaces(), client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}
	controllers := []controller{
		jobs,
		cronJobs,
		deployments,
		accounts,
		replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), client, replicaset.BurstReplicas),
		statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(),
			apps.ControllerRevisions(), client),
		disruption.NewDisruptionController(ctx, core.Pods(), shared.Policy().V1().PodDisruptionBudgets(),
			core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
			client, mapper, scales, client.Discovery()),
		ttlafterfinished.New(ctx, batch.Jobs(), client),
		namespace.NewNamespaceController(ctx, client, meta, client.Discovery().ServerPreferredNamespacedResources,
			core.Namespaces(), resync, v1.FinalizerKubernetes),
		clusterroleaggregation.NewClusterRoleAggregation(shared.Rbac().V1().ClusterRoles(), client.RbacV1()),
	}

	started := make(chan struct{})
	metas := metadatainformer.NewSharedInformerFactory(meta, 0)
	garbage, err := garbagecollector.NewGarbageCollector(ctx, client, meta, mapper,
		garbagecollector.DefaultIgnoredResources(), informerfactory.NewInformerFactory(shared, metas), started)
	if err != nil {
		return err
	}
	shared.Start(ctx.Done())
	metas.Start(ctx.Done())
	close(started)
	for _, c := range controllers {
		group.Go(func() error {
			c.Run(ctx, workers)
			return ctx.Err()
		})
	}
	group.Go(func() error {
		garbage.Run(ctx, workers, resync)
		return ctx.Err()
	})
	group.Go(func() error {
		garbage.Sync(ctx, client.Discovery(), resync)
		return ctx.Err()
	})
	return nil
}

// waitForServiceAccount returns when the namespace "default" has its service account. Without it, nobody can create Pods.
func waitForServiceAccount(ctx context.Context, client kubernetes.Interface) error {
	return wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if errors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}
