package recorder

import (
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// groupSize is the maximum number of reports in a group, unless a single call has more. Further calls wait for the next
// group.
const groupSize = 4096

// Call is a call of a [Recorder] that waits for its group: reports of one request, or a removal. A call with neither
// only records what the store forgot.
type Call struct {
	Team    *store.Team // the team that reports; nil for the whole fleet
	Reports []models.StatusReport
	Removal *journal.Removal  // nil if the call is not a removal; forms a group by itself, so that no report can restart a session before it is removed
	Over    []store.Forgotten // sessions to forget that memory evicted and whose retention has ended; as a removal
	Now     time.Time

	Outcomes []store.Outcome // those of the reports are appended
	Removed  int             // number of removed sessions
	Err      error

	steps *Steps    // nil if nobody wants to know
	lead  chan bool // receives true if the call must lead its group, false if the group is done
}

// isAlone reports whether the call forms a group by itself.
func (c *Call) isAlone() bool { return c.Removal != nil || c.Over != nil }

// errUnrecorded is the error of the calls in a group that was abandoned because of a panic.
var errUnrecorded = errors.New("the group was not recorded")

// Steps are when the reports of a call reached each step. A step that they did not reach, or that the server skips, as
// it has no journal, is zero.
type Steps struct {
	Submitted time.Time // they wait for their group
	Grouped   time.Time // they are in a group that is being recorded
	Admitted  time.Time // it is settled what they change
	Durable   time.Time // the log has them
	Applied   time.Time // the store has them
}

// note notes that the calls of a group have just reached a step, for those who want to know.
func note(group []*Call, step func(*Steps) *time.Time) {
	for _, c := range group {
		if c.steps != nil {
			*step(c.steps) = time.Now()
		}
	}
}

func grouped(s *Steps) *time.Time  { return &s.Grouped }
func admitted(s *Steps) *time.Time { return &s.Admitted }
func durable(s *Steps) *time.Time  { return &s.Durable }
func applied(s *Steps) *time.Time  { return &s.Applied }

// NoteShared notes that the calls of a group are durable and applied, in a log that servers share.
func NoteShared(group []*Call, atDurable, atApplied time.Time) {
	for _, c := range group {
		if c.steps != nil {
			c.steps.Durable, c.steps.Applied = atDurable, atApplied
		}
	}
}

// submit returns when the group of c is recorded. If c becomes the leader of a group, submit records the group.
func (r *Recorder) submit(c *Call) {
	if !r.join(c) && !<-c.lead {
		return
	}
	runtime.Gosched() // lets goroutines that are about to report join the group
	group := r.groupOf(c)
	defer func() {
		r.next()
		for _, other := range group {
			if other != c {
				other.lead <- false
			}
		}
	}()
	for _, c := range group {
		c.Err = errUnrecorded
	}
	note(group, grouped)
	recorded := r.log.Record(group)
	r.putBack(group[len(recorded):])
	group = recorded
}

// join reports whether c leads a group. If not, c waits.
func (r *Recorder) join(c *Call) (leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaders < r.log.Parallel() {
		r.leaders++
		return true
	}
	r.waiting = append(r.waiting, c)
	return false
}

// groupOf returns the group that c leads: c, and the calls that have waited longest.
func (r *Recorder) groupOf(c *Call) []*Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	reports, n := len(c.Reports), 0
	for n < len(r.waiting) && !c.isAlone() && !r.waiting[n].isAlone() && reports+len(r.waiting[n].Reports) <= groupSize {
		reports += len(r.waiting[n].Reports)
		n++
	}
	group := append(append(make([]*Call, 0, n+1), c), r.waiting[:n]...)
	r.takeWaiting(n)
	return group
}

// takeWaiting removes the first n waiting calls. The caller holds r.mu.
func (r *Recorder) takeWaiting(n int) {
	rest := copy(r.waiting, r.waiting[n:])
	clear(r.waiting[rest:])
	r.waiting = r.waiting[:rest]
}

// putBack returns calls of a group to the head of the waiting calls.
func (r *Recorder) putBack(calls []*Call) {
	if len(calls) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(slices.Clone(calls), r.waiting...)
}

// next makes the call that has waited longest a leader, if there is one.
func (r *Recorder) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.leaders--
		return
	}
	leader := r.waiting[0]
	r.takeWaiting(1)
	leader.lead <- true
}
