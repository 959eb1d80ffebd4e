package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// TestAMessageThatStandsTwiceInTheStream applies a message of this server a second time before the request that waits for
// it has looked, as when the stream no longer recognizes an ID that was published again.
func TestAMessageThatStandsTwiceInTheStream(t *testing.T) {
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), Logger: silent()})
	require.NoError(t, err)
	defer j.Close() //nolint:errcheck // the test is over
	st := store.New(store.Options{HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 1, Journaled: true, Replicated: true})
	require.NoError(t, j.Replay(t.Context(), st, 1, time.Now(), func(journal.Progress) {}))
	l := NewLog(LogOptions{Store: st, Journal: j, Metrics: metrics.New(st, "test"), Logger: silent(), Server: "one"})
	p := &publication{done: make(chan struct{})}
	l.waiting["same"] = p
	for sequence := range uint64(2) {
		at := journal.Position{Sequence: sequence + 1, ID: "same", Time: time.Now()}
		require.NoError(t, l.apply(t.Context(), incoming{at: at, message: &journal.Message{Server: "one"}}))
	}
	<-p.done
	require.Empty(t, l.waiting)
}
