package view_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"sigs.k8s.io/yaml"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/view"
)

var update = flag.Bool("update", false, "write the golden files")

// replay is the state of a cluster while a recorded sequence of watch events is replayed. Each document of a recording
// is a JSON merge patch on the object of its kind and name, or a watch event that deletes one.
type replay struct {
	t        *testing.T
	raw      map[string][]byte
	job      *batchv1.Job
	jobGone  bool
	pods     []*corev1.Pod
	goneUIDs map[types.UID]bool
}

// step is a document of a recording: its comment and what it changes.
func (r *replay) step(document string) {
	patch, err := yaml.YAMLToJSON([]byte(document))
	require.NoError(r.t, err)
	var head struct {
		Type, Kind string
		Metadata   struct{ Name string }
		Object     json.RawMessage
	}
	require.NoError(r.t, json.Unmarshal(patch, &head))
	deleted := head.Kind == "WatchEvent"
	if deleted {
		require.Equal(r.t, "DELETED", head.Type)
		patch = head.Object
		require.NoError(r.t, json.Unmarshal(patch, &head))
	}
	key := head.Kind + "/" + head.Metadata.Name
	before := r.raw[key]
	if before == nil {
		before = []byte("{}")
	}
	after, err := jsonmergepatch.CreateThreeWayJSONMergePatch(nil, patch, before)
	require.NoError(r.t, err)
	r.raw[key] = merged(r.t, before, after)
	switch head.Kind {
	case "Job":
		r.job = new(batchv1.Job)
		require.NoError(r.t, json.Unmarshal(r.raw[key], r.job))
		r.jobGone = deleted
	case "Pod":
		p := new(corev1.Pod)
		require.NoError(r.t, json.Unmarshal(r.raw[key], p))
		r.put(p)
		r.goneUIDs[p.UID] = deleted
	default:
		r.t.Fatalf("kind %q", head.Kind)
	}
}

// merged applies a JSON merge patch (RFC 7396).
func merged(t *testing.T, document, patch []byte) []byte {
	var a, b any
	require.NoError(t, json.Unmarshal(document, &a))
	require.NoError(t, json.Unmarshal(patch, &b))
	out, err := json.Marshal(merge(a, b))
	require.NoError(t, err)
	return out
}

func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

func (r *replay) put(p *corev1.Pod) {
	for i := range r.pods {
		if r.pods[i].UID == p.UID {
			r.pods[i] = p
			return
		}
	}
	r.pods = append(r.pods, p)
}

// seen returns what a person sees at a time.
func (r *replay) seen(now time.Time) view.View {
	var pods, gone []*corev1.Pod
	for _, p := range r.pods {
		if r.goneUIDs[p.UID] {
			gone = append(gone, p)
		} else {
			pods = append(pods, p)
		}
	}
	switch {
	case r.job != nil && r.jobGone:
		return view.JobGone(r.job, pods, gone, true, now)
	case r.job != nil:
		return view.Job(r.job, pods, gone, now)
	case len(gone) > 0:
		return view.PodGone(gone[0], true, now)
	}
	return view.Pod(r.pods[0], now)
}

// now returns a time shortly after the last one in the objects.
func (r *replay) now() time.Time {
	var last time.Time
	for _, raw := range r.raw {
		for _, field := range bytes.Split(raw, []byte{'"'}) {
			if at, err := time.Parse(time.RFC3339, string(field)); err == nil && at.After(last) && !bytes.Contains(raw, append([]byte(`"deletionTimestamp":"`), field...)) {
				last = at
			}
		}
	}
	return last.Add(time.Second)
}

// TestRecordings replays what API servers send about Pods and Jobs, and compares what a person sees after each event
// with a golden file. To write these anew, run the test with -update.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("../../testdata/pods/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			r := replay{t: t, raw: map[string][]byte{}, goneUIDs: map[types.UID]bool{}}
			var got strings.Builder
			var last view.View
			for _, document := range strings.Split(string(text), "\n---\n")[1:] {
				comment, _, _ := strings.Cut(document, "\n")
				r.step(document)
				now := r.now()
				v := r.seen(now)
				fmt.Fprintf(&got, "%s\n%s", strings.TrimPrefix(comment, "# "), told(v, last))
				last = v
				for !v.Check.IsZero() && v.Check.After(now) {
					now = v.Check
					if v = r.seen(now); v.Same(last) {
						break
					}
					fmt.Fprintf(&got, "   %s later\n%s", now.UTC().Format(time.TimeOnly), told(v, last))
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}

// told describes a view, or says that it is like the one before.
func told(v, before view.View) string {
	if v.Same(before) && v.Ended == before.Ended {
		return "   the same\n"
	}
	end := map[bool]string{true: ", for good"}[v.Ended]
	if v.Lost {
		end = ", to become lost"
	}
	text := fmt.Sprintf("   %s since %s%s: %s\n", v.Status, v.Since.UTC().Format(time.TimeOnly), end, v.Message)
	if v.Content != "" {
		text += "   content: " + strings.ReplaceAll(v.Content, "\n", "\n            ") + "\n"
	}
	return text
}
