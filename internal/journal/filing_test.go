package journal

import (
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestFilingAwaitsWhatIsApplied holds that a question survives a restart whose record is durable while the log is filed: the journal
// files what the store knows of its session, which must be no less than what the record told.
func TestFilingAwaitsWhatIsApplied(t *testing.T) {
	fs := vfs.NewMem()
	j, st, err := replayed(t, fs, "data")
	require.NoError(t, err)
	begins := recordOf("a", "t", 0)
	begins.ByEvent = true
	record(t, j, st, begins)

	asks := recordOf("a", "t", 1)
	asks.ByEvent, asks.Status = true, models.Pending
	asks.Turn = &models.Turn{
		Asks:    &models.Question{Kind: models.Permission, Text: "May I?"},
		Open:    []models.OpenQuestion{{Call: 1}},
		Beneath: models.Beneath{Status: models.Running},
	}
	filed := make(chan error, 1)
	records := []models.Record{asks}
	require.NoError(t, j.Append(nil, records, func() {
		go func() { filed <- j.File() }()
		for range 10_000 { // time enough to file
			runtime.Gosched()
		}
		st.Apply(records...)
	}))
	require.NoError(t, <-filed)
	before := shown(t, j, st)
	require.Contains(t, before, "May I?")
	require.NoError(t, j.Close())

	j, st, err = replayed(t, fs, "data")
	require.NoError(t, err)
	require.Equal(t, before, shown(t, j, st))
	require.NoError(t, j.Close())
}

// TestTheLogIsReadToItsEnd holds that all that is durable is read from the log where none of it can be filed, the last commit included.
func TestTheLogIsReadToItsEnd(t *testing.T) {
	j, st, err := replayed(t, vfs.NewMem(), "data")
	require.NoError(t, err)
	j.filing.Lock() // so that nothing is filed
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

// TestAliveWhileItCloses has it noted that the server runs while the journal is opened, filed and closed by others.
func TestAliveWhileItCloses(t *testing.T) {
	fs := vfs.NewMem()
	for range 20 {
		j, st, err := replayed(t, fs, "data")
		require.NoError(t, err)
		record(t, j, st, recordOf("a", "t", 1))
		var others sync.WaitGroup
		others.Go(func() {
			for range 100 {
				j.Alive(epoch)
			}
		})
		require.NoError(t, j.Close())
		others.Wait()
		j.Alive(epoch) // which does nothing then
	}
}
