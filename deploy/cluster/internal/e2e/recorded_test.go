package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// recordings holds what the tests of the watcher replay. Its README describes the format.
const recordings = "../../../watcher/testdata/pods"

// finalStates are the fields of a Job's status that a recording must share with a real Job. Its times are its own.
var finalStates = []string{"active", "ready", "terminating", "failed", "succeeded"}

// playRecordings plays every recording. The API server must accept each status of a Pod as it was recorded, and the real
// Job controller must come to the recorded status of each Job by itself. After each step, the server shows what its golden
// file says.
func (c *cluster) playRecordings(t *testing.T, h *hub) {
	files, err := filepath.Glob(filepath.Join(recordings, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.namespace(t, "recorded-"+name)
			p := &player{cluster: c, namespace: "recorded-" + name, objects: map[string]*object{}}
			seen := &scene{h: h, agent: "recorded-" + name + "/nightly-import", views: goldenViews(t, strings.TrimSuffix(file, "yaml")+"golden")}
			for step, document := range documents(t, file) {
				p.play(t, document)
				seen.expect(t, step)
			}
			seen.end(t)
		})
	}
}

// documents returns the YAML documents in a file.
func documents(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // it is only read
	for decoder := yaml.NewYAMLToJSONDecoder(file); ; {
		var document map[string]any
		if err := decoder.Decode(&document); err != nil {
			require.ErrorContains(t, err, "EOF")
			return all
		}
		if document != nil {
			all = append(all, document)
		}
	}
}

// player plays the parts of the scheduler, the kubelet and the people in a recording.
type player struct {
	*cluster
	namespace string
	objects   map[string]*object // by their recorded name
}

// object is one that was recorded and its counterpart in the cluster.
type object struct {
	name     string // in the cluster
	resource dynamic.ResourceInterface
	recorded map[string]any // its last recorded state
	ofJob    bool           // a controller created it and will delete it
	states   <-chan watch.Event
}

// play makes the cluster reach the state that the next document records, or waits until it has.
func (p *player) play(t *testing.T, document map[string]any) {
	event := document["kind"] == "WatchEvent"
	if event {
		document = document["object"].(map[string]any)
	}
	document = shifted(document, time.Since(newest(document))).(map[string]any)
	metadata := document["metadata"].(map[string]any)
	o, known := p.objects[metadata["name"].(string)]
	switch {
	case !known && document["kind"] == "Job":
		p.createJob(t, document)
	case !known:
		p.createPod(t, document)
	case event:
		o.remove(t)
	case document["kind"] == "Job":
		o.recorded = merged(o.recorded, document)
		o.advanceJob(t, document)
	default:
		o.recorded = merged(o.recorded, document)
		o.advancePod(t, p, document)
	}
}

// newest returns the newest of the times in a document.
func newest(value any) (at time.Time) {
	later := func(other time.Time) {
		if other.After(at) {
			at = other
		}
	}
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			later(newest(element))
		}
	case map[string]any:
		for _, member := range value {
			later(newest(member))
		}
	case string:
		if parsed, err := time.Parse(time.RFC3339, value); err == nil {
			later(parsed)
		}
	}
	return at
}

// shifted returns value with all of its times moved, but not those of 1970, which stand for none. With them, the newest
// time of a document becomes the present. Controllers compare it with the clock: a Job waits for ten seconds after the end
// of a Pod that failed, and a Pod that is about to be disrupted no longer counts as such after two minutes.
func shifted(value any, by time.Duration) any {
	switch value := value.(type) {
	case []any:
		moved := make([]any, len(value))
		for i := range value {
			moved[i] = shifted(value[i], by)
		}
		return moved
	case map[string]any:
		moved := make(map[string]any, len(value))
		for key := range value {
			moved[key] = shifted(value[key], by)
		}
		return moved
	case string:
		if at, err := time.Parse(time.RFC3339, value); err == nil && at.Year() > 1970 {
			return at.Add(by).UTC().Truncate(time.Second).Format(time.RFC3339)
		}
	}
	return value
}

// merged returns a with the JSON merge patch b applied to it.
func merged(a map[string]any, b map[string]any) map[string]any {
	a = maps.Clone(a)
	if a == nil {
		a = map[string]any{}
	}
	for key, value := range b {
		patch, isObject := value.(map[string]any)
		old, wasObject := a[key].(map[string]any)
		switch {
		case value == nil:
			delete(a, key)
		case isObject && wasObject:
			a[key] = merged(old, patch)
		default:
			a[key] = value
		}
	}
	return a
}

// without returns a copy of an object that lacks the given members.
func without(document map[string]any, keys ...string) map[string]any {
	document = maps.Clone(document)
	for _, key := range keys {
		delete(document, key)
	}
	return document
}

func (p *player) createPod(t *testing.T, document map[string]any) {
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	o := &object{recorded: document, resource: p.dynamic.Resource(pods).Namespace(p.namespace)}
	metadata := document["metadata"].(map[string]any)
	p.objects[metadata["name"].(string)] = o
	if metadata["ownerReferences"] != nil {
		o.ofJob = true
		o.name = p.nextPod(t)
		return
	}
	pod := without(document, "status")
	pod["metadata"] = without(metadata, "namespace", "uid", "resourceVersion", "creationTimestamp", "generation")
	created, err := o.resource.Create(t.Context(), &unstructured.Unstructured{Object: pod}, metav1.CreateOptions{})
	require.NoError(t, err)
	o.name = created.GetName()
}

// nextPod waits for a Pod that is not in the recording yet, and returns its name.
func (p *player) nextPod(t *testing.T) (name string) {
	eventually(t, "the controller creates a Pod", func(ctx context.Context) (bool, error) {
		pods, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, pod := range pods.Items {
			name = pod.Name
			taken := false
			for _, o := range p.objects {
				taken = taken || o.name == name
			}
			if !taken {
				return true, nil
			}
		}
		return false, nil
	})
	return name
}

// advancePod applies a patch to a Pod as the scheduler, the kubelet or a person would.
func (o *object) advancePod(t *testing.T, p *player, patch map[string]any) {
	if spec, ok := patch["spec"].(map[string]any); ok {
		binding := &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: o.name},
			Target:     corev1.ObjectReference{Kind: "Node", Name: spec["nodeName"].(string)},
		}
		require.NoError(t, p.client.CoreV1().Pods(p.namespace).Bind(t.Context(), binding, metav1.CreateOptions{}))
	}
	if status, ok := patch["status"]; ok { // before the deletion, as when a Pod is evicted
		body, err := json.Marshal(map[string]any{"status": status})
		require.NoError(t, err)
		_, err = o.resource.Patch(t.Context(), o.name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
		require.NoError(t, err)
	}
	metadata := patch["metadata"].(map[string]any)
	if grace, ok := metadata["deletionGracePeriodSeconds"].(float64); ok && !o.ofJob {
		seconds := int64(grace)
		require.NoError(t, o.resource.Delete(t.Context(), o.name, metav1.DeleteOptions{GracePeriodSeconds: &seconds}))
	} else if ok {
		p.expireJobs(t)
	}
	var pod *unstructured.Unstructured
	eventually(t, "controllers have done their part", func(ctx context.Context) (done bool, err error) {
		pod, err = o.resource.Get(ctx, o.name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		recorded := o.recorded["metadata"].(map[string]any)
		_, deleted := recorded["deletionTimestamp"]
		_, finalizers := recorded["finalizers"]
		return (pod.GetDeletionTimestamp() != nil) == deleted && (finalizers || len(pod.GetFinalizers()) == 0), nil
	})
	require.JSONEq(t, toJSON(t, o.recorded["status"]), toJSON(t, pod.Object["status"]))
	require.EqualValues(t, o.recorded["metadata"].(map[string]any)["generation"], pod.GetGeneration())
}

// toJSON returns a value as JSON, without the members that are null.
func toJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &value))
	text, err = json.Marshal(withoutNull(value))
	require.NoError(t, err)
	return string(text)
}

func withoutNull(value any) any {
	switch value := value.(type) {
	case []any:
		for i := range value {
			value[i] = withoutNull(value[i])
		}
	case map[string]any:
		for key := range value {
			if value[key] == nil {
				delete(value, key)
			} else {
				value[key] = withoutNull(value[key])
			}
		}
	}
	return value
}

// remove makes the object go, as the last one to hold on to it, and waits until it is gone.
func (o *object) remove(t *testing.T) {
	options := metav1.DeleteOptions{}
	spec, _ := o.recorded["spec"].(map[string]any)
	switch {
	case spec["ttlSecondsAfterFinished"] != nil:
		o.patch(t, `{"spec": {"ttlSecondsAfterFinished": 0}}`)
	case o.recorded["kind"] == "Job":
		background := metav1.DeletePropagationBackground
		options.PropagationPolicy = &background
		require.NoError(t, o.resource.Delete(t.Context(), o.name, options))
	default:
		if spec["nodeName"] != nil {
			options.GracePeriodSeconds = new(int64)
		}
		if err := o.resource.Delete(t.Context(), o.name, options); !errors.IsNotFound(err) {
			require.NoError(t, err)
		}
	}
	eventually(t, "it is gone", func(ctx context.Context) (bool, error) {
		_, err := o.resource.Get(ctx, o.name, metav1.GetOptions{})
		return errors.IsNotFound(err), nil
	})
}

func (o *object) patch(t *testing.T, body string) {
	_, err := o.resource.Patch(t.Context(), o.name, types.MergePatchType, []byte(body), metav1.PatchOptions{})
	require.NoError(t, err)
}

func (p *player) createJob(t *testing.T, document map[string]any) {
	jobs := schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	o := &object{recorded: document, resource: p.dynamic.Resource(jobs).Namespace(p.namespace)}
	watcher, err := o.resource.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	t.Cleanup(watcher.Stop)
	o.states = watcher.ResultChan()

	metadata := document["metadata"].(map[string]any)
	job := without(document, "status")
	job["metadata"] = without(metadata, "namespace", "uid", "resourceVersion", "creationTimestamp", "generation",
		"ownerReferences")
	spec := without(document["spec"].(map[string]any), "selector", "manualSelector", "activeDeadlineSeconds")
	template := maps.Clone(spec["template"].(map[string]any))
	template["metadata"] = map[string]any{"labels": metadata["labels"]}
	spec["template"] = template
	job["spec"] = spec
	created, err := o.resource.Create(t.Context(), &unstructured.Unstructured{Object: job}, metav1.CreateOptions{})
	require.NoError(t, err)
	o.name = created.GetName()
	p.objects[o.name] = o
}

// advanceJob waits until the status of a Job has been as recorded, after it causes what controllers wait for.
func (o *object) advanceJob(t *testing.T, patch map[string]any) {
	if spec, ok := patch["spec"].(map[string]any); ok {
		o.patch(t, toJSON(t, map[string]any{"spec": map[string]any{"suspend": spec["suspend"]}}))
	}
	want := summary(o.recorded["status"])
	var seen []any
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case event := <-o.states:
			job := event.Object.(*unstructured.Unstructured)
			got := summary(job.Object["status"])
			if assert.ObjectsAreEqual(toJSON(t, want), toJSON(t, got)) {
				return
			}
			seen = append(seen, toJSON(t, got))
		case <-ctx.Done():
			require.Failf(t, "the Job never was as recorded", "recorded: %s\nseen: %v", toJSON(t, want), seen)
		}
	}
}

// expireJobs lets the deadlines of Jobs pass that were recorded with one. They had none so far, so that their Pods could run.
func (p *player) expireJobs(t *testing.T) {
	for _, o := range p.objects {
		spec, _ := o.recorded["spec"].(map[string]any)
		if o.recorded["kind"] == "Job" && spec["activeDeadlineSeconds"] != nil {
			o.patch(t, `{"spec": {"activeDeadlineSeconds": 1}}`)
		}
	}
}

// summary returns the part of a Job's status that does not depend on time.
func summary(status any) map[string]any {
	full, _ := status.(map[string]any)
	result := map[string]any{}
	for _, key := range finalStates {
		if value := full[key]; value != nil {
			result[key] = value
		}
	}
	var conditions []any
	list, _ := full["conditions"].([]any)
	for _, condition := range list {
		conditions = append(conditions, without(condition.(map[string]any), "lastProbeTime", "lastTransitionTime"))
	}
	result["conditions"] = conditions
	return result
}
