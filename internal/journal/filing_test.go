package journal

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestFilingWaitsUntilRecordsAreApplied checks that a question survives a restart if the log is filed when its record
// is durable, but not yet applied. The journal files the state that the store has of the session, which must include
// the record.
func TestFilingWaitsUntilRecordsAreApplied(t *testing.T) {
	fs := vfs.NewMem()
	j, st, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	begins := recordOf("a", "t", 0)
	begins.ByEvent = true
	record(t, j, st, begins)

	asks := recordOf("a", "t", 1)
	asks.ByEvent, asks.Status = true, models.Pending
	asks.Turn = &models.Turn{
		Question:   &models.Question{Kind: models.Permission, Text: "May I?"},
		Open:       []models.OpenQuestion{{CallIDHash: 1}},
		Underlying: models.UnderlyingStatus{Status: models.Running},
	}
	filed := make(chan error, 1)
	records := []models.Record{asks}
	require.NoError(t, j.Append(Commit{Records: records}, func() {
		go func() { filed <- j.File() }()
		for range 10_000 { // enough time to file
			runtime.Gosched()
		}
		st.Apply(records...)
	}))
	require.NoError(t, <-filed)
	before := dumpState(t, j, st)
	require.Contains(t, before, "May I?")
	require.NoError(t, j.Close())

	j, st, err = openAndReplay(t, fs, "data")
	require.NoError(t, err)
	require.Equal(t, before, dumpState(t, j, st))
	require.NoError(t, j.Close())
}

// TestTheLogIsReadToItsEnd checks that all durable records are read from the log if they can't be filed, including the
// last commit.
func TestTheLogIsReadToItsEnd(t *testing.T) {
	j, st, err := openAndReplay(t, vfs.NewMem(), "data")
	require.NoError(t, err)
	j.filing.Lock() // keeps the log from being filed
	for n := range 5 {
		record(t, j, st, recordOf("a", "t", n), recordOf("a", "other", n), recordOf("b", "t", n))
	}
	for h, want := range map[history]int{{"a", "t"}: 5, {agentID: "a"}: 10, {"b", "t"}: 5, {"b", "none"}: 0} {
		m := merge{page: new(store.HistoryPage), limit: 100}
		j.mu.RLock()
		err := j.addUnfiled(h, nil, &m, map[string]bool{})
		j.mu.RUnlock()
		require.NoError(t, err)
		require.Len(t, m.items, want, "%v", h)
		if want > 0 {
			require.Equal(t, "message 4", m.items[0].Message)
			require.Equal(t, "message 0", m.items[want-1].Message)
		}
	}
	j.filing.Unlock()
	require.NoError(t, j.Close())
}

// TestMarkAliveDuringClose calls MarkAlive while another goroutine closes the journal, and after that.
func TestMarkAliveDuringClose(t *testing.T) {
	fs := vfs.NewMem()
	for range 20 {
		j, st, err := openAndReplay(t, fs, "data")
		require.NoError(t, err)
		record(t, j, st, recordOf("a", "t", 1))
		var others sync.WaitGroup
		others.Go(func() {
			for range 100 {
				j.MarkAlive(epoch)
			}
		})
		require.NoError(t, j.Close())
		others.Wait()
		j.MarkAlive(epoch) // does nothing
	}
}

// TestARoundHasABoundedNumberOfSessions files many sessions whose reports are short. A round that had 16 MiB of them
// would take hundreds of megabytes of memory, and keep a server from stopping.
func TestARoundHasABoundedNumberOfSessions(t *testing.T) {
	const commit = 1000
	for name, test := range map[string]struct {
		topics int  // the number of different sessions
		renews bool // whether the reports only renew them
		whole  bool // whether one round files all
	}{
		"many sessions":        {topics: 2 * roundSessions},
		"many renewals":        {topics: 2 * roundSessions, renews: true},
		"many of few sessions": {topics: 10, whole: true},
	} {
		t.Run(name, func(t *testing.T) {
			j, st, err := openAndReplay(t, vfs.NewMem(), "data")
			require.NoError(t, err)
			j.filing.Lock() // keeps the log from being filed in the background
			for from := 0; from < 2*roundSessions; from += commit {
				records := make([]models.Record, 0, commit)
				for n := from; n < from+commit; n++ {
					topic := fmt.Sprint(n % test.topics)
					r := models.Record{Received: epoch, Sequence: uint64(n + 1), StatusReport: models.StatusReport{
						AgentID: "a" + topic, SessionTopic: topic, Status: models.Running, Timestamp: epoch.Add(time.Duration(n)), Message: "m"}}
					if test.renews {
						r.Renews.Sequence = r.Sequence
					}
					records = append(records, r)
				}
				record(t, j, st, records...)
			}
			j.filing.Unlock()
			before, all := j.filedTo.Load().position, j.durable.Load()
			require.NoError(t, j.fileRound())
			if test.whole {
				require.Equal(t, all, j.filedTo.Load().position)
			} else {
				commits := j.filedTo.Load().position - before
				require.LessOrEqual(t, commits, uint64(roundSessions/commit+1))
				require.Positive(t, commits)
			}
			require.NoError(t, j.File())
			require.Equal(t, all, j.filedTo.Load().position)
			require.Zero(t, j.Stats().UnfiledBytes)
			require.NoError(t, j.Close())
		})
	}
}
