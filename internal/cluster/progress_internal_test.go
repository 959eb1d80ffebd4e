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
	l.progress.confirm(7, time.Now(), time.Now())
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
		l.progress.confirm(0, time.Now(), time.Now())
		for sequence := uint64(1); sequence < 1000; sequence++ {
			time.Sleep(100 * time.Millisecond)
			l.progress.advance(journal.Position{Sequence: sequence, ID: "id"}, sequence+10)
			if sequence%10 == 0 {
				l.progress.confirm(sequence+10, time.Now(), time.Now())
			}
			s := l.State()
			require.True(t, s.Caught, s.Cause)
			require.Zero(t, s.Age)
		}
	})
}

// TestAFailureEnds looks at what keeps reports from being accepted after a message could not be published.
func TestAFailureEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p progress
		refuses := func() string {
			p.confirm(1, time.Now(), time.Now()) // as happens every second
			var s State
			p.state(&s, 15*time.Second)
			return s.Refuses
		}
		p.init(journal.Position{})
		p.advance(journal.Position{Sequence: 1, ID: "a", Time: time.Now()}, 1)
		require.Empty(t, refuses())
		p.notePublished("the stream has no leader")
		require.Equal(t, "the stream has no leader", refuses())
		p.notePublished("")
		require.Empty(t, refuses(), "another message could be published")

		p.notePublished("the stream has no leader")
		time.Sleep(failureCounts - time.Second)
		require.NotEmpty(t, refuses())
		time.Sleep(time.Second)
		require.Empty(t, refuses(), "nobody has tried since")
	})
}

// TestAge looks at the age of what a server shows, before and after it has caught up.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p progress
		p.init(journal.Position{})
		time.Sleep(time.Second)
		require.Equal(t, time.Second, p.age(), "a server without state: since it started")
		p.init(journal.Position{Sequence: 1, ID: "a", Time: time.Now().Add(-time.Hour)})
		require.Equal(t, time.Hour, p.age())
		p.advance(journal.Position{Sequence: 2, ID: "b", Time: time.Now().Add(-time.Minute)}, 3)
		require.Equal(t, time.Minute, p.age(), "there are more")
		p.confirm(3, time.Now(), time.Now().Add(7*time.Minute))
		time.Sleep(time.Second)
		require.Equal(t, 8*time.Minute+time.Second, p.age(), "the clock of this server is slow")
		p.advance(journal.Position{Sequence: 3, ID: "c", Time: time.Now().Add(-time.Minute)}, 3)
		require.Zero(t, p.age())
		time.Sleep(time.Minute)
		require.Equal(t, time.Minute, p.age(), "without news")
		p.confirm(3, time.Now(), time.Now())
		require.Zero(t, p.age())
	})
}
