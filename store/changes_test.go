package store_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// changesOf returns all changes after the one with this number, read a few at a time.
func changesOf(t require.TestingT, st *store.Store, after uint64) []store.Change {
	var all []store.Change
	for {
		some, ok := st.Changes(after, make([]store.Change, 0, 3))
		require.True(t, ok)
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
		after = some[len(some)-1].Number
	}
}

// follow applies changes to a list of sessions that was read before them.
func follow(sessions map[store.SessionKey]models.FleetSession, changes []store.Change) {
	for _, c := range changes {
		key := store.SessionKey{AgentID: c.Session.AgentID, Topic: c.Session.Topic}
		if c.Kind == store.Removed {
			delete(sessions, key)
			continue
		}
		sessions[key] = c.Session
		for other, se := range sessions { // a report also changes its agent
			if other.AgentID == key.AgentID {
				se.AgentName, se.AgentHost = c.Session.AgentName, c.Session.AgentHost
				sessions[other] = se
			}
		}
	}
}

func listed(t require.TestingT, st *store.Store) map[store.SessionKey]models.FleetSession {
	sessions := map[store.SessionKey]models.FleetSession{}
	for _, se := range allSessions(t, st, store.SessionQuery{}, 100) {
		sessions[store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}] = se
	}
	return sessions
}

// TestChangesLeadFromOneListToTheNext reads the list at some moment and applies the changes after it. The result must
// equal the list at the end.
func TestChangesLeadFromOneListToTheNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := newStore(func(o *store.Options) {
			o.DefaultTTL, o.SessionRetention, o.HistoryLimit = 3*time.Minute, 10*time.Minute, 3
			o.MaxSessions = rapid.SampledFrom([]int{3, 100}).Draw(t, "max sessions")
			o.EventWindow = 1000
		})
		now := epoch
		act := func() {
			if rapid.Bool().Draw(t, "report") {
				st.Accept(nil, []models.StatusReport{drawReport(t, now), drawReport(t, now)}, now, nil)
			} else {
				now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "seconds")) * time.Second)
				st.Expire(now)
			}
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			act()
		}
		position := st.EventPosition()
		sessions := listed(t, st)
		for range rapid.IntRange(0, 20).Draw(t, "after") {
			act()
		}
		follow(sessions, changesOf(t, st, position))
		require.Equal(t, listed(t, st), sessions)
		follow(sessions, changesOf(t, st, position))
		require.Equal(t, listed(t, st), sessions, "applied twice")
	})
}

func TestChanges(t *testing.T) {
	st := newStore(func(o *store.Options) { o.SessionRetention, o.EventWindow = time.Hour, 100 })
	report := running("a", "t")
	report.ReportID = "r"
	accept(st, epoch, report)
	accept(st, epoch, report) // a retry changes nothing
	report.ReportID, report.Status, report.Message = "", models.Pending, "May I?"
	accept(st, epoch.Add(time.Minute), report)
	late := running("a", "t")
	late.Timestamp = epoch.Add(30 * time.Second)
	accept(st, epoch.Add(2*time.Minute), late)
	st.Expire(epoch.Add(40 * time.Minute))
	accept(st, epoch.Add(41*time.Minute), report)
	st.Expire(epoch.Add(2 * time.Hour))

	changes := changesOf(t, st, 0)
	require.Len(t, changes, 6)
	for i, want := range []struct {
		kind          store.ChangeKind
		status        models.Status
		previous      models.Status
		revived, lost bool
		at            time.Duration
	}{
		{store.Reported, models.Running, 0, false, false, 0},
		{store.Reported, models.Pending, models.Running, false, false, time.Minute},
		{store.Reported, models.Pending, models.Pending, false, false, 2 * time.Minute}, // the late one only renews
		{store.Expired, models.Pending, 0, false, true, 40 * time.Minute},
		{store.Reported, models.Pending, models.Pending, true, false, 41 * time.Minute},
		{store.Expired, models.Pending, 0, false, true, 2 * time.Hour},
	} {
		c := changes[i]
		require.EqualValues(t, i+1, c.Number)
		require.Equal(t, want.kind, c.Kind, "%d", i)
		require.Equal(t, want.status, c.Session.CurrentStatus, "%d", i)
		require.Equal(t, want.previous, c.Previous, "%d", i)
		require.Equal(t, want.revived, c.Revived, "%d", i)
		require.Equal(t, want.lost, c.Session.Lost, "%d", i)
		require.Equal(t, epoch.Add(want.at), c.At.Round(time.Second), "%d", i)
	}
	require.Equal(t, epoch.Add(time.Minute), changes[2].Timestamp.Round(time.Second), "timestamp of the current status")

	st.Expire(epoch.Add(5 * time.Hour))
	removed := changesOf(t, st, 6)
	require.Len(t, removed, 1)
	require.Equal(t, store.Removed, removed[0].Kind)
	require.True(t, removed[0].LastOfAgent)
}

func TestOnlyTheNewestChangesAreKept(t *testing.T) {
	st := newStore(func(o *store.Options) { o.EventWindow = 10 })
	for range 25 {
		accept(st, epoch, running("a", "t"))
	}
	_, ok := st.Changes(14, nil)
	require.False(t, ok, "change 15 is no longer kept")
	require.Len(t, changesOf(t, st, 15), 10)
	require.EqualValues(t, 25, st.EventPosition())
	_, ok = st.Changes(26, nil)
	require.False(t, ok, "there is no change 26 yet")
}

// TestAKeptChangeDoesNotKeepItsContent limits what a window of changes takes in addition to the statuses.
func TestAKeptChangeDoesNotKeepItsContent(t *testing.T) {
	st := newStore(func(o *store.Options) { o.EventWindow, o.HistoryLimit = 20_000, 1 })
	report := running("a", "t")
	report.Message, report.Content = "short", strings.Repeat("x", 10_000)
	before := heapInUse()
	for range 20_000 {
		accept(st, epoch, report)
	}
	require.Less(t, heapInUse()-before, int64(20<<20))
	require.EqualValues(t, 20_000, st.EventPosition())
}

func TestAwaitChangeReturnsOnAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(func(o *store.Options) { o.EventWindow = 10 })
		for name, change := range map[string]func(){
			"report": func() { accept(st, epoch, running("a", "t")) },
			"record": func() {
				st.Apply(models.Record{StatusReport: running("a", "t"), Sequence: st.EventPosition() + 100, Received: epoch})
			},
			"expiry": func() { require.NotZero(t, st.Expire(epoch.Add(time.Hour)).Expired) },
		} {
			if name == "expiry" {
				accept(st, epoch, running("e", "t"))
			}
			done := make(chan error)
			for range 2 {
				go func() { done <- st.AwaitChange(t.Context(), st.EventPosition()) }()
			}
			synctest.Wait()
			change()
			require.NoError(t, <-done, name)
			require.NoError(t, <-done, name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, st.AwaitChange(ctx, st.EventPosition()), context.DeadlineExceeded)
		require.NoError(t, st.AwaitChange(t.Context(), 0), "the change exists already")
	})
}

// heapInUse returns the number of reachable bytes on the heap.
func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestKeptChangesTakeBoundedMemory removes sessions that had long messages and questions. Their changes are kept for
// streams to resume from, within a sixteenth of the memory bound.
func TestKeptChangesTakeBoundedMemory(t *testing.T) {
	const bound, sessions = 16 << 20, 3000
	st := newStore(func(o *store.Options) { o.EventWindow, o.HistoryMaxBytes, o.MaxSessions = 10_000, bound, 10 })
	before := heapInUse()
	for i := range sessions {
		topic := fmt.Sprint(i)
		require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch, models.StatusReport{AgentID: "a", SessionTopic: topic, Status: models.Running, Event: &models.Event{
			Name: "PermissionRequest", AppliesIn: models.Anywhere, CallIDHash: 1, Question: &models.Question{Kind: models.Permission, Text: strings.Repeat(topic, models.MaxMessage/4)},
		}}))
		require.True(t, st.RemoveSession(store.SessionKey{AgentID: "a", Topic: topic}, epoch))
	}
	require.Less(t, heapInUse()-before, int64(bound/16+(6<<20)), "the ring itself takes some memory")
	_, ok := st.Changes(0, make([]store.Change, 0, 1))
	require.False(t, ok, "the oldest changes are dropped")
	newest, ok := st.Changes(st.EventPosition()-1, make([]store.Change, 0, 10))
	require.True(t, ok)
	require.Equal(t, store.Removed, newest[0].Kind)
	require.Equal(t, fmt.Sprint(sessions-1), newest[0].Session.Topic)

	for range 5000 {
		accept(st, epoch, running("a", "small"))
	}
	_, ok = st.Changes(st.EventPosition()-4900, make([]store.Change, 0, 1))
	require.True(t, ok, "many small changes fit")
}

// TestRemovalAndExpiryWakeTheWaiter removes sessions and agents, and lets one expire.
func TestRemovalAndExpiryWakeTheWaiter(t *testing.T) {
	for name, change := range map[string]func(st *store.Store){
		"a session is removed": func(st *store.Store) { st.RemoveSession(store.SessionKey{AgentID: "a", Topic: "t"}, epoch) },
		"an agent is removed":  func(st *store.Store) { st.RemoveAgent("a", epoch) },
		"a session expires":    func(st *store.Store) { st.Expire(epoch.Add(25 * time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore(func(o *store.Options) { o.EventWindow = 10 })
				accept(st, epoch, running("a", "t"))
				woken := false
				go func() { woken = st.AwaitChange(t.Context(), st.EventPosition()) == nil }()
				synctest.Wait()
				require.False(t, woken)
				change(st)
				synctest.Wait()
				require.True(t, woken)
			})
		})
	}
}
