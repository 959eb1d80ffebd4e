package journal

import (
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
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
