// Package watch follows the Pods and Jobs that carry the label kubeagents.dev/agent, and queues a report for whatever a
// person should see of them.
package watch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/report"
	"github.com/kubeagents/kubeagents/deploy/watcher/internal/view"
)

const (
	// Label marks the Pods and Jobs that are agents. Its value is the agent's name; an empty one stands for the name of
	// the object.
	Label = "kubeagents.dev/agent"

	queueLabel = "kueue.x-k8s.io/queue-name"
	source     = "kubernetes"

	// jobPatience is how long a Pod waits for its Job to become known: the two arrive by different streams.
	jobPatience = 5 * time.Second

	// failedTTL is the TTL of a session that failed, so that a failure at night is seen in the morning.
	failedTTL = 24 * time.Hour

	// oldAfter is how long ago an object may have ended that is seen for the first time. What ended earlier is history:
	// a first start of the watcher must not notify people of it.
	oldAfter = 24 * time.Hour

	// keptPods is how many Pods of a Job are remembered after their end and removal. The newest one says why the Job
	// failed.
	keptPods = 3
)

// Tracker keeps the Pods and Jobs that exist, and reports on them while it leads. Its methods are safe for concurrent
// use.
type Tracker struct {
	TTL    time.Duration // of live sessions
	Logger *slog.Logger

	// Exists reports whether an object of a kind, Pod or Job, still exists. It is asked when one is gone for no visible
	// reason: its label may have been removed.
	Exists func(ctx context.Context, kind string, meta *metav1.ObjectMeta) (bool, error)

	mu    sync.Mutex
	pods  map[types.UID]*pod
	jobs  map[types.UID]*job
	ended map[types.UID]endings // of the sessions of objects that go on
	term  *term                 // nil while it does not lead
}

// pod is a Pod that is watched, or was and is not settled yet.
type pod struct {
	*corev1.Pod
	in    [2]bool // which of the two lists of Pods has it; see [Tracker.PutPod]
	since time.Time
	gone  bool
	sure  bool // its last state is its final one
}

// job is a Job that is watched, or was while some of its Pods still are.
type job struct {
	*batchv1.Job             // nil if only its Pods are known
	pods         []types.UID // oldest first
	removed      []*corev1.Pod
	gone, sure   bool
	unlabelled   bool // it is gone because its label is
}

// Sink takes reports.
type Sink interface{ Put(report.Report) }

// endings says how many sessions of an object ended because its label changed or was removed, and when the last one did.
type endings struct {
	n  int
	at time.Time
}

// term is a time during which the tracker leads.
type term struct {
	queue    Sink
	work     workqueue.TypedDelayingInterface[types.UID]
	sessions map[types.UID]*session
}

// session is what was reported of an object.
type session struct {
	last   view.View
	report report.Report // the last one, without the agent's name
	renew  time.Time
	silent bool // it ended long before it was first seen
}

// NewTracker returns a tracker that knows nothing yet.
func NewTracker(ttl time.Duration, logger *slog.Logger) *Tracker {
	return &Tracker{TTL: ttl, Logger: logger, pods: map[types.UID]*pod{}, jobs: map[types.UID]*job{}, ended: map[types.UID]endings{}}
}

// jobOf returns the UID of the Job that controls a Pod, "" if there is none.
func jobOf(p *corev1.Pod) types.UID {
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil && owner.Kind == "Job" {
		return owner.UID
	}
	return ""
}

// PutPod notes the state of a Pod. list tells which of two lists has it, 0 or 1: a change of labels moves it from one to
// the other, in any order.
func (t *Tracker) PutPod(list int, p *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.pods[p.UID]
	if known == nil {
		known = &pod{since: time.Now()}
		t.pods[p.UID] = known
		if uid := jobOf(p); uid != "" {
			j := t.jobs[uid]
			if j == nil {
				j = &job{}
				t.jobs[uid] = j
			}
			j.pods = append(j.pods, p.UID)
		}
	}
	known.Pod, known.gone = p, false
	known.in[list] = true
	t.touch(p)
}

// RemovePod notes that a list does not have a Pod any more. p is its last known state; sure says that it is its final
// one.
func (t *Tracker) RemovePod(list int, p *corev1.Pod, sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.pods[p.UID]
	if known == nil {
		return
	}
	if known.in[list] = false; known.in[1-list] {
		return
	}
	known.Pod, known.gone, known.sure = p, true, sure
	t.touch(p)
	if t.term == nil {
		t.dropPod(p.UID)
	}
}

// PutJob notes the state of a Job.
func (t *Tracker) PutJob(j *batchv1.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.jobs[j.UID]
	if known == nil {
		known = &job{}
		t.jobs[j.UID] = known
	}
	known.Job, known.gone, known.unlabelled = j, false, false
	t.add(j.UID)
}

// RemoveJob notes that a Job does not exist any more, as [Tracker.RemovePod] does.
func (t *Tracker) RemoveJob(j *batchv1.Job, sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.jobs[j.UID]
	if known == nil {
		return
	}
	known.Job, known.gone, known.sure = j, true, sure
	t.add(j.UID)
	if t.term == nil {
		t.dropJob(j.UID)
	}
}

// touch has the session of a Pod looked at. The caller holds t.mu.
func (t *Tracker) touch(p *corev1.Pod) {
	if uid := jobOf(p); uid != "" && t.jobs[uid] != nil && t.jobs[uid].Job != nil {
		t.add(uid)
		return
	}
	t.add(p.UID)
}

func (t *Tracker) add(uid types.UID) {
	if t.term != nil {
		t.term.work.Add(uid)
	}
}

// dropPod forgets a Pod that is gone. The caller holds t.mu.
func (t *Tracker) dropPod(uid types.UID) {
	p := t.pods[uid]
	delete(t.pods, uid)
	if t.term != nil {
		delete(t.term.sessions, uid)
	}
	owner := jobOf(p.Pod)
	if owner == "" {
		return
	}
	if j := t.jobs[owner]; j != nil {
		j.pods = slices.DeleteFunc(j.pods, func(other types.UID) bool { return other == uid })
		if j.Job != nil && !j.gone {
			j.removed = append(j.removed, p.Pod)
			j.removed = j.removed[max(0, len(j.removed)-keptPods):]
		}
		t.dropJob(owner)
	}
}

// dropJob forgets a Job that is gone, once its Pods are. The caller holds t.mu.
func (t *Tracker) dropJob(uid types.UID) {
	if j := t.jobs[uid]; j != nil && (j.Job == nil || j.gone) && len(j.pods) == 0 {
		delete(t.jobs, uid)
		if t.term != nil {
			delete(t.term.sessions, uid)
		}
	}
}

// Lead reports on everything that exists, and on each change, until ctx is done.
func (t *Tracker) Lead(ctx context.Context, queue Sink) {
	work := workqueue.NewTypedDelayingQueue[types.UID]()
	stop := context.AfterFunc(ctx, work.ShutDown)
	defer stop()
	t.begin(&term{queue: queue, work: work, sessions: map[types.UID]*session{}})
	defer t.end()
	for {
		uid, done := work.Get()
		if done {
			return
		}
		t.look(ctx, uid)
		work.Done(uid)
	}
}

func (t *Tracker) begin(now *term) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.term = now
	for uid, j := range t.jobs {
		if j.Job != nil {
			t.add(uid)
		}
	}
	for _, p := range t.pods {
		t.touch(p.Pod)
	}
}

func (t *Tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.term.work.ShutDown()
	t.term = nil
	for uid, p := range t.pods {
		if p.gone {
			t.dropPod(uid)
		}
	}
	for uid, j := range t.jobs {
		if j.gone {
			t.dropJob(uid)
		}
	}
}

// look reports what is new about an object.
func (t *Tracker) look(ctx context.Context, uid types.UID) {
	now := time.Now()
	t.mu.Lock()
	unexplained := t.unexplained(uid, now)
	t.mu.Unlock()
	unlabelled := false
	if unexplained != nil {
		kind := "Pod"
		if t.isJob(uid) {
			kind = "Job"
		}
		exists, err := t.Exists(ctx, kind, unexplained)
		if err != nil {
			t.Logger.Warn("can't tell whether an object still exists, so it counts as gone", "kind", kind,
				"name", unexplained.Namespace+"/"+unexplained.Name, "error", err)
		}
		unlabelled = err == nil && exists
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term == nil {
		return
	}
	if j := t.jobs[uid]; j != nil && j.Job != nil {
		t.lookAtJob(uid, j, unlabelled && j.gone, now)
	} else if p := t.pods[uid]; p != nil {
		t.lookAtPod(uid, p, unlabelled && p.gone, now)
	}
}

func (t *Tracker) isJob(uid types.UID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.jobs[uid] != nil
}

// unexplained returns an object that is gone without an end, nil if there is none with the UID. The caller holds t.mu.
func (t *Tracker) unexplained(uid types.UID, now time.Time) *metav1.ObjectMeta {
	if t.Exists == nil {
		return nil
	}
	if p := t.pods[uid]; p != nil && p.gone && p.DeletionTimestamp == nil && !view.Pod(p.Pod, now).Ended {
		return &p.ObjectMeta
	}
	if j := t.jobs[uid]; j != nil && j.gone && !j.unlabelled && j.DeletionTimestamp == nil && !view.Job(j.Job, nil, nil, now).Ended {
		return &j.ObjectMeta
	}
	return nil
}

// withoutLabel is what a person sees of an object that goes on without its label, or with another one.
func withoutLabel(what string, now time.Time) view.View {
	return view.View{Status: view.Success, Message: "No longer watched: its label was " + what, Since: now, Ended: true}
}

// forget ends the session of an object that goes on without it. A later session of the object must not have its report
// IDs, or reports from before its end. The caller holds t.mu.
func (t *Tracker) forget(uid types.UID, now time.Time) {
	delete(t.term.sessions, uid)
	t.ended[uid] = endings{t.ended[uid].n + 1, now}
}

func (t *Tracker) lookAtJob(uid types.UID, j *job, unlabelled bool, now time.Time) {
	var pods []*corev1.Pod
	removed := slices.Clone(j.removed)
	known := slices.Clone(j.pods)
	for _, id := range known {
		if p := t.pods[id]; p.gone {
			removed = append(removed, p.Pod)
		} else {
			pods = append(pods, p.Pod)
		}
	}
	switch {
	case j.unlabelled:
	case unlabelled:
		j.unlabelled = true
		t.show(uid, &j.ObjectMeta, "Job", withoutLabel("removed", now), now)
		t.forget(uid, now)
	case j.gone:
		t.show(uid, &j.ObjectMeta, "Job", view.JobGone(j.Job, pods, removed, j.sure, now), now)
	default:
		t.show(uid, &j.ObjectMeta, "Job", view.Job(j.Job, pods, removed, now), now)
	}
	for _, id := range known {
		if t.pods[id].gone {
			t.dropPod(id)
		}
	}
	t.dropJob(uid)
}

func (t *Tracker) lookAtPod(uid types.UID, p *pod, unlabelled bool, now time.Time) {
	if _, labelled := p.Labels[Label]; !labelled {
		if p.gone {
			t.dropPod(uid)
		}
		return
	}
	if owner := jobOf(p.Pod); owner != "" && t.term.sessions[uid] == nil {
		if j := t.jobs[owner]; j != nil && j.Job != nil {
			t.add(owner)
			return
		}
		if wait := p.since.Add(jobPatience).Sub(now); wait > 0 && !p.gone {
			t.term.work.AddAfter(uid, wait)
			return
		}
	}
	if t.term.sessions[uid] == nil && p.DeletionTimestamp != nil && jobOf(p.Pod) != "" { // its Job is gone, and said so
		if p.gone {
			t.dropPod(uid)
		}
		return
	}
	switch {
	case unlabelled:
		t.show(uid, &p.ObjectMeta, "Pod", withoutLabel("removed", now), now)
		t.forget(uid, now)
	case p.gone:
		t.show(uid, &p.ObjectMeta, "Pod", view.PodGone(p.Pod, p.sure, now), now)
	default:
		t.show(uid, &p.ObjectMeta, "Pod", view.Pod(p.Pod, now), now)
	}
	if p.gone {
		t.dropPod(uid)
	}
}

// show queues a report if a person should see something new, or if it is time to renew the session. The caller holds
// t.mu.
func (t *Tracker) show(uid types.UID, meta *metav1.ObjectMeta, kind string, v view.View, now time.Time) {
	s := t.term.sessions[uid]
	if s != nil && !s.silent && !s.last.Ended && s.report.AgentID != agentID(meta) {
		last := t.reportOf(uid, meta, kind, withoutLabel("changed", now), s.report.Timestamp, now)
		last.AgentID, last.AgentName = s.report.AgentID, ""
		t.term.queue.Put(last)
		t.forget(uid, now)
		s = nil
	}
	first := s == nil
	if first {
		s = &session{silent: v.Ended && now.Sub(v.Since) > oldAfter}
		s.report.Timestamp = t.ended[uid].at
		t.term.sessions[uid] = s
	}
	switch {
	case s.silent, s.last.Ended:
		return
	case !first && v.Vague && v.Status == s.last.Status && v.Since.Equal(s.last.Since):
		v.Message, v.Content = s.last.Message, s.last.Content
	}
	if first || !v.Same(s.last) {
		s.report = t.reportOf(uid, meta, kind, v, s.report.Timestamp, now)
		if !first { // a tool that runs in the Pod may have set another name since
			s.report.AgentName = ""
		}
		t.term.queue.Put(s.report)
		s.report.AgentName = ""
		s.renew = now.Add(t.renewal())
		t.Logger.Debug("seen", "agent_id", s.report.AgentID, "session", s.report.SessionTitle, "status", s.report.Status, "message", s.report.Message)
	} else if !now.Before(s.renew) {
		again := s.report
		again.Renew, again.Idle = true, true
		t.term.queue.Put(again)
		s.renew = now.Add(t.renewal())
	}
	s.last = v
	if v.Ended {
		return
	}
	wake := s.renew
	if v.Check.After(now) && v.Check.Before(wake) {
		wake = v.Check
	}
	t.term.work.AddAfter(uid, wake.Sub(now))
}

// renewal is when to renew a session: after about a third of its TTL, so that two renewals may come late.
func (t *Tracker) renewal() time.Duration { return t.TTL/3 - rand.N(t.TTL/15) }

// reportOf returns the report of a view. Its timestamp is when it happened, but not before that of the session's report
// before it, and not in the future: the clocks of the nodes differ.
func (t *Tracker) reportOf(uid types.UID, meta *metav1.ObjectMeta, kind string, v view.View, before, now time.Time) report.Report {
	at := v.Since
	if at.IsZero() || at.After(now) {
		at = now
	}
	if at.Before(before) {
		at = before
	}
	ttl := t.TTL
	switch {
	case v.Lost:
		ttl = time.Minute
	case v.Ended && v.Status == view.Failed:
		ttl = failedTTL
	}
	id := v.ID(string(uid))
	if n := t.ended[uid].n; n > 0 {
		id += "/" + strconv.Itoa(n)
	}
	return report.Report{
		AgentID: agentID(meta), AgentName: cutName(agentName(meta), maxAgentName), AgentSource: source, AgentHost: cutName(v.Host, maxAgentHost),
		SessionTopic: string(uid), SessionTitle: kind + " " + cutName(meta.Name, maxTitle),
		Status: string(v.Status), Timestamp: at.UTC(), Message: v.Message, Content: v.Content,
		TTLMinutes: int(ttl / time.Minute), ReportID: id, Renew: !v.Ended,
	}
}

const (
	maxAgentID   = 100
	maxAgentName = 200
	maxAgentHost = 200
	maxTitle     = 190
)

// agentName returns the name of the agent that an object is: the label's value, or its own name.
func agentName(meta *metav1.ObjectMeta) string {
	return cmp.Or(meta.Labels[Label], meta.Name)
}

// agentID returns the ID of the agent that an object is: namespace/name.
func agentID(meta *metav1.ObjectMeta) string {
	return cutName(meta.Namespace+"/"+agentName(meta), maxAgentID)
}

// cutName returns at most n characters of a name. A longer one ends with a part of its hash, so that names that differ
// only at the end stay apart.
func cutName(name string, n int) string {
	if len(name) <= n {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:n-9] + "-" + hex.EncodeToString(sum[:4])
}

// Sessions returns how many sessions there are by status, of the objects that exist, while the tracker leads.
func (t *Tracker) Sessions() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[string]int{}
	if t.term != nil {
		for _, s := range t.term.sessions {
			if !s.silent {
				counts[string(s.last.Status)]++
			}
		}
	}
	return counts
}
