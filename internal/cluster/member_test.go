package cluster_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestANewServerStartsFromASnapshot joins a server, and one that was away, after the stream was trimmed.
func TestANewServerStartsFromASnapshot(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, away, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "away", 1), newMember(t, nodes, "added", 1)
	one.start(t)
	away.start(t)
	away.report(t, "t", "first")
	away.stop()
	for i := range 50 {
		one.report(t, fmt.Sprint("t", i%5), fmt.Sprint(i))
	}
	require.Eventually(t, func() bool { // once the journal has recorded a later position, everything before it is in the snapshot
		one.snapshot(t)
		stream, err := connect(t, nodes).Stream(t.Context(), "KUBEAGENTS")
		require.NoError(t, err)
		return stream.CachedInfo().State.FirstSeq > 40
	}, time.Minute, 10*time.Millisecond)
	one.report(t, "t", "later")
	away.start(t)
	added.start(t)
	all := requireEqual(t, []*member{one, away, added})
	require.Equal(t, 52, strings.Count(all, `"received_at"`))
}

// runAlone lets a server record twenty reports without a cluster.
func runAlone(t *testing.T, m *member) {
	j, err := m.options.Open()
	require.NoError(t, err)
	opts := memberStore
	opts.Replicated = false
	st := store.New(opts)
	require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, time.Now(), func(journal.Progress) {}))
	rec := recorder.New(st, j, metrics.New(st, "test"))
	for i := range 20 {
		_, err := rec.Accept(nil, []models.StatusReport{{AgentID: "agent", SessionTopic: fmt.Sprint("t", i%3), Status: models.Running, Message: fmt.Sprint("alone ", i)}}, time.Now(), nil)
		require.NoError(t, err)
	}
	require.NoError(t, j.Close())
}

// TestAServerAloneBecomesACluster begins a stream with the state of a server that ran alone. Others join it; one that has
// other state does not.
func TestAServerAloneBecomesACluster(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, other, third := newMember(t, nodes, "one", 1), newMember(t, nodes, "other", 1), newMember(t, nodes, "third", 1)
	runAlone(t, one)
	runAlone(t, third)
	one.start(t)
	other.start(t)
	other.report(t, "t1", "together")
	all := requireEqual(t, []*member{one, other})
	require.Equal(t, 21, strings.Count(all, `"received_at"`))
	require.Contains(t, all, "alone 19")

	_, err := cluster.Join(t.Context(), third.options)
	require.ErrorContains(t, err, "holds state that the NATS stream KUBEAGENTS does not have")
}

// TestAServerThatIsStoppedWhileItBeginsAStream stops a server when it has published the first message of a stream, but not
// recorded that, and when it has not written a snapshot. It was part of another cluster before.
func TestAServerThatIsStoppedWhileItBeginsAStream(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	runAlone(t, one)
	j, err := one.options.Open()
	require.NoError(t, err)
	require.NoError(t, j.WriteNotes([]journal.Note{{Key: journal.TermKey, Value: []byte("1000000")}}))
	require.NoError(t, j.Close())
	before := t.TempDir()
	require.NoError(t, os.CopyFS(before, os.DirFS(one.options.DataDir)))
	join := func() {
		m, err := cluster.Join(t.Context(), one.options)
		require.NoError(t, err)
		require.NoError(t, m.Journal.Close())
		js := connect(t, nodes)
		require.NoError(t, js.DeleteObjectStore(t.Context(), one.options.Settings.SnapshotsBucket()))
	}
	join()
	one.options.DataDir = before
	join()
	join()

	one.start(t)
	eventually(t, "the server acts for its cluster", one.leads.Load)
	two.start(t)
	require.Equal(t, 20, strings.Count(requireEqual(t, []*member{one, two}), `"received_at"`))
}

// TestWhatTheStreamLosesIsPublishedAgain takes the stream away with everything in it, and lets a server without state
// begin a new one. What the others had acknowledged is there again once they are back, once, at all servers.
func TestWhatTheStreamLosesIsPublishedAgain(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two, fresh := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1), newMember(t, nodes, "fresh", 1)
	one.start(t)
	two.start(t)
	for i := range 30 {
		one.report(t, fmt.Sprint("t", i%4), fmt.Sprint("old ", i))
	}
	requireEqual(t, []*member{one, two})
	one.stop()
	two.stop()
	require.NoError(t, connect(t, nodes).DeleteStream(t.Context(), "KUBEAGENTS"))

	fresh.start(t)
	for i := range 5 {
		fresh.report(t, fmt.Sprint("t", i%4), fmt.Sprint("new ", i))
	}
	fresh.report(t, "t0", "old 0") // its client was told that it may have been recorded, and sends it again
	one.start(t)
	two.start(t)
	all := requireEqual(t, []*member{one, two, fresh})
	for i := range 30 {
		require.Equal(t, 1, strings.Count(all, fmt.Sprintf(`"message":"old %d"`, i)), i)
	}
	require.Equal(t, 35, strings.Count(all, `"received_at"`))
}

// TestASnapshotOfALostStreamIsNotUsed takes the stream away after a snapshot was written, and lets a server without state
// begin a new one. The snapshot is of no use to it.
func TestASnapshotOfALostStreamIsNotUsed(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, fresh, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "fresh", 1), newMember(t, nodes, "added", 1)
	one.start(t)
	for i := range 30 {
		one.report(t, fmt.Sprint("t", i%4), fmt.Sprint("old ", i))
	}
	one.snapshot(t)
	one.stop()
	require.NoError(t, connect(t, nodes).DeleteStream(t.Context(), "KUBEAGENTS"))

	fresh.start(t)
	fresh.report(t, "t0", "new")
	one.start(t)
	added.start(t)
	all := requireEqual(t, []*member{one, fresh, added})
	require.Equal(t, 31, strings.Count(all, `"received_at"`))
	fresh.snapshot(t)
	added.stop()
	require.NoError(t, os.RemoveAll(added.options.DataDir))
	stream, err := connect(t, nodes).Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(fresh.State().Position.Sequence)))
	fresh.report(t, "t0", "later")
	added.start(t)
	require.Equal(t, 32, strings.Count(requireEqual(t, []*member{one, fresh, added}), `"received_at"`))
}

// TestAMessageAppliedInPartThatTheStreamNoLongerHas stops a server in the middle of a message, and trims the stream up to
// just that one.
func TestAMessageAppliedInPartThatTheStreamNoLongerHas(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, away := newMember(t, nodes, "one", 1), newMember(t, nodes, "away", 1)
	one.start(t)
	away.start(t)
	away.report(t, "t", "first")
	at := away.State().Position
	away.stop()
	j, err := away.options.Open()
	require.NoError(t, err)
	require.NoError(t, j.Advance(journal.Position{Sequence: at.Sequence, ID: at.ID, Time: time.Now(), Parts: 1, Records: 1}, nil))
	require.NoError(t, j.Close())
	one.report(t, "t", "second")
	one.snapshot(t)
	stream, err := connect(t, nodes).Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(at.Sequence+1)))
	away.start(t)
	away.report(t, "t", "third")
	require.Equal(t, 3, strings.Count(requireEqual(t, []*member{one, away}), `"received_at"`))
}

// TestARunningServerNoticesALoss takes the stream away while servers run.
func TestARunningServerNoticesALoss(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one := newMember(t, nodes, "one", 1)
	m, err := cluster.Join(t.Context(), one.options)
	require.NoError(t, err)
	st := store.New(memberStore)
	log := m.Log(st, metrics.New(st, "test"), nil)
	require.NoError(t, m.Journal.Replay(t.Context(), st, 100, time.Now(), func(journal.Progress) {}))
	one.recorder = recorder.NewShared(st, m.Journal, log)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(t.Context(), nil, func(ctx context.Context, _ *cluster.Box) { <-ctx.Done() }) }()
	require.NoError(t, m.AwaitCaughtUp(t.Context()))
	one.report(t, "t", "first")
	js := connect(t, nodes)
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	require.NoError(t, js.DeleteStream(t.Context(), "KUBEAGENTS"))
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, cluster.ErrDiverged)
	require.NoError(t, m.Journal.Close())
}

// TestAServerThatCannotPublishLetsAnotherAct makes the journal of the server that acts for its cluster fail, and repairs it
// when another one has taken over.
func TestAServerThatCannotPublishLetsAnotherAct(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.start(t)
	eventually(t, "the first server acts", one.leads.Load)
	two.start(t)
	one.SetUnable("its disk is full")
	eventually(t, "the second server acts", func() bool { return two.leads.Load() && !one.leads.Load() })
	one.SetUnable("")
	two.stop()
	eventually(t, "the first server acts again", one.leads.Load)
}

// TestAServerThatIsBackOnNATSLogsIt restarts the only node.
func TestAServerThatIsBackOnNATSLogsIt(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	var log lines
	one := newMember(t, nodes, "one", 1)
	one.options.Logger = log.logger()
	one.start(t)
	nodes.Node(0).Restart()
	eventually(t, "the loss is logged", func() bool { return strings.Contains(log.String(), "lost the connection to NATS") })
	eventually(t, "the end of the loss is logged", func() bool { return strings.Contains(log.String(), "connected to NATS again") })
	one.report(t, "t", "after")
}

// TestAMessageOfSomebodyElseHasNoEffect publishes what no server writes, while servers run and while all are stopped.
func TestAMessageOfSomebodyElseHasNoEffect(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	var log lines
	one.options.Logger = log.logger()
	one.start(t)
	two.start(t)
	js := connect(t, nodes)
	publish := func() {
		_, err := js.Publish(t.Context(), "KUBEAGENTS.log", []byte("rubbish"))
		require.NoError(t, err)
	}
	one.report(t, "t", "first")
	publish()
	two.report(t, "t", "second")
	eventually(t, "the log says so", func() bool { return strings.Contains(log.String(), "somebody else publishes to the stream") })
	one.stop()
	two.stop()
	publish()
	one.start(t)
	two.start(t)
	at, err := cluster.ParsePosition(one.State().Position.String())
	require.NoError(t, err)
	require.NoError(t, two.Await(t.Context(), at))
	one.report(t, "t", "third")
	require.Equal(t, 3, strings.Count(requireEqual(t, []*member{one, two}), `"received_at"`))
}
