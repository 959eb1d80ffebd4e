package watch

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestRefusalsInWords checks what the log says when the cluster refuses to list or watch.
func TestRefusalsInWords(t *testing.T) {
	jobs := schema.GroupResource{Group: "batch", Resource: "jobs"}
	forbidden := apierrors.NewForbidden(jobs, "", errors.New(`User "system:serviceaccount:kubeagents:watcher" cannot watch resource "jobs" in API group "batch" in the namespace "data"`))
	require.Contains(t, explain("data", "jobs", forbidden), "may not watch jobs in namespace data: the Role of its service account there needs the verbs get, list and watch")
	require.Contains(t, explain("", "pods", apierrors.NewForbidden(jobs, "", errors.New("cannot list"))), "may not list pods in all namespaces: the ClusterRole")
	require.Contains(t, explain("", "pods", apierrors.NewUnauthorized("no")), "does not accept the credentials")
	require.Empty(t, explain("", "pods", apierrors.NewResourceExpired("too old")))
}
