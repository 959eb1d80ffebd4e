package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
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

// adminOf returns JetStream's interface for an operator.
func adminOf(t *testing.T, nodes *natstest.Cluster) jetstream.JetStream {
	conn, err := nats.Connect(nodes.URL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// TestANewServerStartsFromASnapshot joins a server, and one that was away, after the stream was trimmed.
func TestANewServerStartsFromASnapshot(t *testing.T) {
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
		require.NoError(t, one.Snapshot(t.Context()))
		stream, err := adminOf(t, nodes).Stream(t.Context(), "KUBEAGENTS")
		require.NoError(t, err)
		return stream.CachedInfo().State.FirstSeq > 40
	}, time.Minute, 10*time.Millisecond)
	one.report(t, "t", "later")
	away.start(t)
	added.start(t)
	all := requireEqual(t, []*member{one, away, added})
	require.Equal(t, 52, strings.Count(all, `"received_at"`))
}

// TestAServerAloneBecomesACluster begins a stream with the state of a server that ran alone. Others join it; one that has
// other state does not.
func TestAServerAloneBecomesACluster(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, other, third := newMember(t, nodes, "one", 1), newMember(t, nodes, "other", 1), newMember(t, nodes, "third", 1)
	alone := func(m *member) {
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
	alone(one)
	alone(third)
	one.start(t)
	other.start(t)
	other.report(t, "t1", "together")
	all := requireEqual(t, []*member{one, other})
	require.Equal(t, 21, strings.Count(all, `"received_at"`))
	require.Contains(t, all, "alone 19")

	_, err := cluster.Join(t.Context(), third.options)
	require.ErrorContains(t, err, "holds state that the NATS stream KUBEAGENTS does not have")
}

// TestWhatTheStreamLosesIsPublishedAgain takes the stream away with everything in it, and lets a server without state
// begin a new one. What the others had acknowledged is there again once they are back, once, at all servers.
func TestWhatTheStreamLosesIsPublishedAgain(t *testing.T) {
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
	require.NoError(t, adminOf(t, nodes).DeleteStream(t.Context(), "KUBEAGENTS"))

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

// TestARunningServerNoticesALoss takes the stream away while servers run.
func TestARunningServerNoticesALoss(t *testing.T) {
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
	js := adminOf(t, nodes)
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	require.NoError(t, js.DeleteStream(t.Context(), "KUBEAGENTS"))
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, cluster.ErrDiverged)
	require.NoError(t, m.Journal.Close())
}
