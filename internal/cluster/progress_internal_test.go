package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// TestAMessageAppliedInPartIsNotReached begins with a message that was applied in part before a restart.
func TestAMessageAppliedInPartIsNotReached(t *testing.T) {
	l := &Log{}
	l.progress.init(journal.Position{Sequence: 7, ID: "id7", Time: time.Now(), Parts: 2})
	l.progress.confirm(7, time.Now())
	require.False(t, l.State().Caught)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.Await(done, Position{7, "id7"}), context.Canceled)
	require.NoError(t, l.Await(done, Position{6, "id6"}))
	l.progress.advance(journal.Position{Sequence: 7, ID: "id7", Time: time.Now()}, 7)
	require.True(t, l.State().Caught)
	require.NoError(t, l.Await(done, Position{7, "id7"}))
}

// TestAServerThatIsAlwaysALittleBehindIsReady applies each message a second after the stream has it, while there are newer
// ones.
func TestAServerThatIsAlwaysALittleBehindIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Log{LogOptions: LogOptions{Stale: 15 * time.Second}}
		l.progress.init(journal.Position{})
		l.progress.confirm(0, time.Now())
		for sequence := uint64(1); sequence < 1000; sequence++ {
			time.Sleep(100 * time.Millisecond)
			l.progress.advance(journal.Position{Sequence: sequence, ID: "id"}, sequence+10)
			if sequence%10 == 0 {
				l.progress.confirm(sequence+10, time.Now())
			}
			s := l.State()
			require.True(t, s.Caught, s.Cause)
			require.Zero(t, s.Age)
		}
	})
}
