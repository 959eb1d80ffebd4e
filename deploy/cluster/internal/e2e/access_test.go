package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func (c *cluster) testRestricted(t *testing.T) {
	c.namespace(t, "restricted")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: restricted()}
	_, err := c.client.CoreV1().Pods("restricted").Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)

	pod.Name = "root"
	pod.Spec.SecurityContext.RunAsNonRoot = nil
	_, err = c.client.CoreV1().Pods("restricted").Create(t.Context(), pod, metav1.CreateOptions{})
	require.True(t, errors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `violates PodSecurity "restricted:latest": runAsNonRoot != true`)
}

func (c *cluster) testRole(t *testing.T) {
	c.namespace(t, "team")
	ctx, access := t.Context(), c.client.RbacV1()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "watcher"}}
	_, err := c.client.CoreV1().ServiceAccounts("team").Create(ctx, account, metav1.CreateOptions{})
	require.NoError(t, err)
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "watcher"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}}},
	}
	_, err = access.Roles("team").Create(ctx, role, metav1.CreateOptions{})
	require.NoError(t, err)
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "watcher"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "watcher"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "watcher", Namespace: "team"}},
	}
	_, err = access.RoleBindings("team").Create(ctx, binding, metav1.CreateOptions{})
	require.NoError(t, err)
	request, err := c.client.CoreV1().ServiceAccounts("team").CreateToken(ctx, "watcher", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = request.Status.Token
	watcher, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	eventually(t, "the Role takes effect", func(ctx context.Context) (bool, error) {
		_, err := watcher.CoreV1().Pods("team").List(ctx, metav1.ListOptions{})
		if errors.IsForbidden(err) {
			return false, nil
		}
		return err == nil, err
	})
	for what, try := range map[string]func() error{
		"list Pods elsewhere": func() error {
			_, err := watcher.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
			return err
		},
		"delete Pods": func() error { return watcher.CoreV1().Pods("team").Delete(ctx, "agent", metav1.DeleteOptions{}) },
		"read Secrets": func() error {
			_, err := watcher.CoreV1().Secrets("team").List(ctx, metav1.ListOptions{})
			return err
		},
	} {
		require.True(t, errors.IsForbidden(try()), what)
	}
	config.BearerToken = "no token"
	stranger, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = stranger.CoreV1().Pods("team").List(ctx, metav1.ListOptions{})
	require.True(t, errors.IsUnauthorized(err), "%v", err)
}

func (c *cluster) testWorkloads(t *testing.T) {
	c.namespace(t, "workloads")
	ctx := t.Context()
	template := func(app string) (*metav1.LabelSelector, corev1.PodTemplateSpec) {
		labels := map[string]string{"app": app}
		spec := restricted()
		spec.RestartPolicy = corev1.RestartPolicyAlways
		return &metav1.LabelSelector{MatchLabels: labels}, corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}
	}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "server"}}
	set.Spec.Selector, set.Spec.Template = template("server")
	_, err := c.client.AppsV1().StatefulSets("workloads").Create(ctx, set, metav1.CreateOptions{})
	require.NoError(t, err)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "watcher"}}
	deployment.Spec.Selector, deployment.Spec.Template = template("watcher")
	_, err = c.client.AppsV1().Deployments("workloads").Create(ctx, deployment, metav1.CreateOptions{})
	require.NoError(t, err)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "server"}}
	budget.Spec.Selector = set.Spec.Selector
	budget.Spec.MinAvailable = &intstr.IntOrString{IntVal: 1}
	_, err = c.client.PolicyV1().PodDisruptionBudgets("workloads").Create(ctx, budget, metav1.CreateOptions{})
	require.NoError(t, err)

	for _, app := range []string{"server", "watcher"} {
		pod := c.pod(t, "workloads", "app="+app)
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		_, err := c.client.CoreV1().Pods("workloads").UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	eventually(t, "the controllers see that the Pods are ready", func(ctx context.Context) (bool, error) {
		set, err := c.client.AppsV1().StatefulSets("workloads").Get(ctx, "server", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		deployment, err := c.client.AppsV1().Deployments("workloads").Get(ctx, "watcher", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		budget, err := c.client.PolicyV1().PodDisruptionBudgets("workloads").Get(ctx, "server", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return set.Status.ReadyReplicas == 1 && deployment.Status.ReadyReplicas == 1 && budget.Status.CurrentHealthy == 1, nil
	})
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "server-0", Namespace: "workloads"}}
	err = c.client.PolicyV1().Evictions("workloads").Evict(ctx, eviction)
	require.True(t, errors.IsTooManyRequests(err), "the budget allows no eviction: %v", err)
}

func (c *cluster) testCustomResource(t *testing.T) {
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": "monitors.example.com"},
		"spec": map[string]any{
			"group": "example.com",
			"scope": "Namespaced",
			"names": map[string]any{"kind": "Monitor", "plural": "monitors"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object",
					"properties": map[string]any{
						"spec": map[string]any{"type": "object", "properties": map[string]any{"port": map[string]any{"type": "string"}}},
					},
				}},
			}},
		},
	}}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	_, err := c.dynamic.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{})
	require.NoError(t, err)
	monitors := c.dynamic.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "monitors"}).Namespace("default")
	monitor := func(port any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1",
			"kind":       "Monitor",
			"metadata":   map[string]any{"name": "kubeagents"},
			"spec":       map[string]any{"port": port},
		}}
	}
	eventually(t, "the resource is served", func(ctx context.Context) (bool, error) {
		_, err := monitors.Create(ctx, monitor("http"), metav1.CreateOptions{})
		if errors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	_, err = monitors.Create(t.Context(), monitor(int64(8080)), metav1.CreateOptions{})
	require.True(t, errors.IsInvalid(err), "%v", err)
}

func (c *cluster) testNamespace(t *testing.T) {
	c.namespace(t, "short-lived")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: restricted()}
	_, err := c.client.CoreV1().Pods("short-lived").Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, c.client.CoreV1().Namespaces().Delete(t.Context(), "short-lived", metav1.DeleteOptions{}))
	eventually(t, "the namespace is gone", func(ctx context.Context) (bool, error) {
		_, err := c.client.CoreV1().Namespaces().Get(ctx, "short-lived", metav1.GetOptions{})
		return errors.IsNotFound(err), nil
	})
}
