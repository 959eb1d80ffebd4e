package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var roomy = store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 1000, Journaled: true}

// disk allows n changes, and fails all that follow, until it is repaired.
type disk struct {
	n        int64
	cause    error
	count    atomic.Int64
	repaired atomic.Bool
}

// MaybeError implements errorfs.Injector.
func (d *disk) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || d.repaired.Load() {
		return nil
	}
	if d.count.Add(1) > d.n {
		return d.cause
	}
	return nil
}

func (d *disk) String() string { return "disk" }

// TestADiskErrorAtEachChangeInTurn reports while the disk starts to fail after its first change, after its second one,
// and so on, until no change fails. Acknowledged reports are kept and refused ones are not: before the disk is
// repaired, afterwards, and after a restart.
func TestADiskErrorAtEachChangeInTurn(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS} {
		t.Run(cause.Error(), func(t *testing.T) {
			for n, failed := int64(1), true; failed; n++ {
				failed = failAt(t, &disk{n: n, cause: cause})
			}
		})
	}
}

// failAt reports whether d failed while reports came in.
func failAt(t *testing.T, d *disk) bool {
	fs := vfs.NewCrashableMem()
	h := &hub{now: epoch, fs: fs, opts: roomy}
	h.open(t)
	require.NoError(t, h.journal.Close())
	h.fs = errorfs.Wrap(fs, d)
	d.count.Store(0)
	d.repaired.Store(true)
	h.open(t)
	d.repaired.Store(false)

	acknowledged, refused := 0, 0
	for i := range 12 {
		_, err := h.recorder.Accept(nil, []models.StatusReport{numbered(i), numbered(i + 100)}, h.now, nil)
		if err == nil {
			acknowledged++
			require.Zero(t, refused, "accepted after a refusal while the disk fails")
		} else {
			var failure *journal.Failure
			require.ErrorAs(t, err, &failure)
			require.NotEmpty(t, failure.Cause)
			require.ErrorIs(t, err, d.cause)
			refused++
		}
		if i == 6 {
			h.page(t, "a", "t", nil, 100) // files the log, or fails to
		}
	}
	requireNumbered(t, h, acknowledged, refused > 0)
	d.repaired.Store(true)
	for err := journal.ErrClosed; err != nil; runtime.Gosched() { // it recovers soon, without a restart
		_, err = h.recorder.Accept(nil, []models.StatusReport{numbered(1000), numbered(1100)}, h.now, nil)
	}
	requireNumbered(t, h, acknowledged+1, false)
	require.NoError(t, h.journal.Close())
	h.fs = fs.CrashClone(vfs.CrashCloneCfg{})
	h.open(t)
	requireNumbered(t, h, acknowledged+1, false)
	require.NoError(t, h.journal.Close())
	return refused > 0
}

func numbered(i int) models.StatusReport {
	return models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, Message: fmt.Sprint(i), ReportID: fmt.Sprint("id", i)}
}

// requireNumbered requires that the history has this many pairs of reports. While the disk fails, reports that memory
// doesn't have may be unreadable.
func requireNumbered(t *testing.T, h *hub, pairs int, failing bool) {
	t.Helper()
	if pairs == 0 {
		_, ok := h.store.Agent("a")
		require.False(t, ok)
		return
	}
	_, memory, ok := h.store.Session("a", "t", nil, 100)
	require.True(t, ok)
	require.Len(t, memory.Items, min(2*pairs, roomy.HistoryLimit))
	if failing && h.journal.CompleteSession(store.SessionKey{AgentID: "a", Topic: "t"}, &memory, nil, 100) != nil {
		return
	}
	all := h.history(t, "a", "t", 5)
	require.Len(t, all, 2*pairs)
	seen := map[string]bool{}
	for _, st := range all {
		require.False(t, seen[st.Message])
		seen[st.Message] = true
	}
}

// TestACrashLosesNothingAcknowledged has many goroutines report while the machine crashes and loses everything that was
// not synced.
func TestACrashLosesNothingAcknowledged(t *testing.T) {
	for round := range 10 {
		fs := vfs.NewCrashableMem()
		h := &hub{now: epoch, fs: fs, opts: roomy}
		h.open(t)
		ctx, crash := context.WithCancel(t.Context())
		var (
			wg           sync.WaitGroup
			acknowledged [8]atomic.Int64
			reached      = make(chan struct{})
		)
		for w := range acknowledged {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					_, err := h.recorder.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: fmt.Sprint(w),
						Status: models.Running, Message: fmt.Sprint(i), ReportID: fmt.Sprint(i)}}, h.now, nil)
					if err != nil {
						t.Error(err)
						return
					}
					acknowledged[w].Store(int64(i + 1))
					if w == 0 && i == 20+40*round {
						close(reached)
					}
					if w == 0 && i%50 == 49 {
						h.history(t, "a", "0", 7) // files the log
					}
				}
			})
		}
		<-reached
		var least [len(acknowledged)]int64
		for w := range least {
			least[w] = acknowledged[w].Load()
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		crash()
		wg.Wait()
		require.NoError(t, h.journal.Close())

		h.fs = after
		h.open(t)
		total := 0
		for w := range least {
			if least[w] == 0 {
				continue
			}
			history := h.history(t, "a", fmt.Sprint(w), 50)
			require.GreaterOrEqual(t, int64(len(history)), least[w])
			total += len(history)
			for i, st := range history {
				require.Equal(t, fmt.Sprint(len(history)-1-i), st.Message)
			}
		}
		require.GreaterOrEqual(t, len(h.history(t, "a", "", 100)), total)
		require.NoError(t, h.journal.Close())
	}
}

func TestAClosedJournalAcceptsNothing(t *testing.T) {
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: roomy}
	h.open(t)
	h.accept(t, numbered(1))
	require.NoError(t, h.journal.Close())
	require.NoError(t, h.journal.Close())
	_, err := h.recorder.Accept(nil, []models.StatusReport{numbered(2)}, h.now, nil)
	require.True(t, errors.Is(err, journal.ErrClosed))
	_, page, _ := h.store.Session("a", "t", nil, 10)
	require.Len(t, page.Items, 1)
}

// TestARemovalThatCantBeMadeDurable checks that nothing is removed if a removal fails because of the disk.
func TestARemovalThatCantBeMadeDurable(t *testing.T) {
	d := &disk{cause: syscall.ENOSPC}
	d.repaired.Store(true)
	h := &hub{now: epoch, fs: errorfs.Wrap(vfs.NewMem(), d), opts: roomy}
	h.open(t)
	for i := range 3 {
		h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: fmt.Sprint(i), Status: models.Running})
	}
	before := h.state(t)
	d.repaired.Store(false)
	var failure *journal.Failure
	_, err := h.recorder.RemoveSession(store.SessionKey{AgentID: "a", Topic: "1"}, h.now)
	require.ErrorAs(t, err, &failure)
	require.Equal(t, before, h.state(t))
	_, err = h.recorder.RemoveAgent(background, "a", h.now)
	require.ErrorAs(t, err, &failure)
	require.Equal(t, before, h.state(t))
	d.repaired.Store(true)
	for h.journal.Failure() != nil {
		runtime.Gosched()
	}
	require.NoError(t, h.journal.Close())
	h.open(t)
	require.Equal(t, before, h.state(t))
	removed, err := h.recorder.RemoveAgent(background, "a", h.now)
	require.NoError(t, err)
	require.Equal(t, 3, removed)
	require.NoError(t, h.journal.Close())
	h.open(t)
	require.Empty(t, h.state(t).Sessions)
	removed, err = h.recorder.RemoveAgent(background, "a", h.now)
	require.NoError(t, err)
	require.Zero(t, removed)
	require.NoError(t, h.journal.Close())
}

// TestARefusedReportIsStoredOnRetry makes the disk fail when a report is made durable. A retry with the same ID is a
// new report.
func TestARefusedReportIsStoredOnRetry(t *testing.T) {
	d := &disk{cause: syscall.EIO}
	d.repaired.Store(true)
	h := &hub{now: epoch, fs: errorfs.Wrap(vfs.NewMem(), d), opts: roomy}
	h.open(t)
	h.accept(t, numbered(1))
	d.repaired.Store(false)
	_, err := h.recorder.Accept(nil, []models.StatusReport{numbered(2)}, h.now, nil)
	require.Error(t, err)
	d.repaired.Store(true)
	var outcomes []store.Outcome
	for err != nil {
		runtime.Gosched()
		outcomes, err = h.recorder.Accept(nil, []models.StatusReport{numbered(2)}, h.now, nil)
	}
	require.Equal(t, []store.Outcome{store.Stored}, outcomes)
	require.Equal(t, []store.Outcome{store.Duplicate}, h.accept(t, numbered(2)))
	require.Len(t, h.history(t, "a", "t", 10), 2)
	require.NoError(t, h.journal.Close())
}

// TestAReturningAgentHasOneHistory removes the only session of an agent while the journal has sessions that memory
// forgot, so that the session's entries stay in the agent's history on disk. Then the agent reports again, also with
// old timestamps, and the server restarts.
func TestAReturningAgentHasOneHistory(t *testing.T) {
	opts := roomy
	opts.DefaultTTL, opts.MaxSessions, opts.HistoryLimit = 10*time.Minute, 3, 1
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: opts}
	h.open(t)
	report := func(agentID, topic string, at time.Time) models.StatusReport {
		return models.StatusReport{AgentID: agentID, SessionTopic: topic, Status: models.Running, Timestamp: at}
	}
	for i := range 3 {
		h.accept(t, report("c", fmt.Sprint(i), h.now))
	}
	h.now = h.now.Add(11 * time.Minute)
	h.recorder.Expire(h.now)
	h.accept(t, report("a", "t", h.now))
	require.True(t, h.store.HasCold(), "a session was evicted")
	require.NoError(t, h.journal.File())
	removed, err := h.recorder.RemoveSession(store.SessionKey{AgentID: "a", Topic: "t"}, h.now)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	require.NoError(t, h.journal.File())
	h.accept(t, report("a", "t", time.Date(5, 1, 1, 0, 0, 0, 0, time.UTC)))
	h.accept(t, report("a", "t", h.now.Add(-time.Second)))
	h.accept(t, report("a", "t2", h.now))
	require.NoError(t, h.journal.Close())
	h.opts.MaxSessions = 100
	h.open(t)
	require.Len(t, h.history(t, "a", "t", 1), 2)
	require.Len(t, h.history(t, "a", "", 1), 3)
	require.NoError(t, h.journal.Close())
}

// TestHistoriesOfAgentsAreTrimmed checks that trimming records also removes their entries from the history of the
// agent.
func TestHistoriesOfAgentsAreTrimmed(t *testing.T) {
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: roomy}
	h.opts.DefaultTTL = 24 * time.Hour
	h.open(t)
	const statuses = 20_000
	for i := range statuses / 100 {
		batch := make([]models.StatusReport, 100)
		for j := range batch {
			batch[j] = models.StatusReport{AgentID: "a", SessionTopic: fmt.Sprint(j), Status: models.Running, Timestamp: h.now.Add(time.Duration(i) * time.Second)}
		}
		h.now = h.now.Add(time.Second)
		h.accept(t, batch...)
	}
	space := func() (bytes int64) {
		require.NoError(t, h.journal.EachAgentSpace(background, func(_ string, n int64) error {
			bytes += n
			return nil
		}))
		return bytes
	}
	before := space()
	_, err := h.recorder.TrimHistory(background, h.now.Add(time.Hour))
	require.NoError(t, err)
	require.Less(t, space(), before/4)
	require.NoError(t, h.journal.Close())
}

// TestARemovedColdSessionStaysRemoved removes a session that memory has evicted, also while memory has no room for it.
// Nothing of it is left that would expire or be forgotten later.
func TestARemovedColdSessionStaysRemoved(t *testing.T) {
	opts := roomy
	opts.MaxSessions = 1
	for _, room := range []bool{true, false} {
		h := &hub{now: epoch, fs: vfs.NewMem(), opts: opts}
		h.open(t)
		h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "old", Status: models.Success, TTLMinutes: 1})
		h.now = h.now.Add(2 * time.Minute)
		h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "new", Status: models.Success, TTLMinutes: 1})
		require.True(t, h.store.HasCold(), "old was evicted")
		if room {
			h.now = h.now.Add(2 * time.Minute)
			h.recorder.Expire(h.now)
		}
		for _, want := range []int{1, 0} {
			removed, err := h.recorder.RemoveSession(store.SessionKey{AgentID: "a", Topic: "old"}, h.now)
			require.NoError(t, err)
			require.Equal(t, want, removed)
		}
		require.Len(t, h.state(t).Sessions, 1)
		for range 3 {
			h.now = h.now.Add(opts.SessionRetention)
			h.recorder.Expire(h.now)
		}
		require.Empty(t, h.state(t).Sessions)
		require.Zero(t, h.store.Stats().HistoryBytes)
		h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "old", Status: models.Running})
		require.Len(t, h.history(t, "a", "old", 10), 1)
		require.NoError(t, h.journal.Close())
	}
}
