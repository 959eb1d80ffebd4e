package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
)

// loseEverything deletes all that NATS has.
func loseEverything(t *testing.T, nodes *natstest.Cluster) {
	t.Helper()
	js := connect(t, nodes)
	for name := range js.StreamNames(t.Context()).Name() {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}
}

// reportAll records reports with numbers, in several sessions.
func (m *member) reportAll(t *testing.T, what string, n int) {
	t.Helper()
	for i := range n {
		m.report(t, fmt.Sprint("t", i%3), fmt.Sprint(what, " ", i))
	}
}

// requireReports requires that there are reports with numbers, and that there is each once.
func requireReports(t *testing.T, all, what string, n int) {
	t.Helper()
	for i := range n {
		require.Equal(t, 1, strings.Count(all, fmt.Sprintf(`"message":"%s %d"`, what, i)), "%s %d", what, i)
	}
}

// TestNATSLosesEverything takes away what NATS has while all servers are stopped. The first one was alone at first, so what
// it recorded then is in no message.
func TestNATSLosesEverything(t *testing.T) {
	for name, first := range map[string]func(t *testing.T, one, away *member){
		"the first server has everything":    func(t *testing.T, one, away *member) { one.start(t); away.start(t) },
		"the first server was away for long": func(t *testing.T, one, away *member) { away.start(t); one.start(t) },
		"two servers start at the same time": func(t *testing.T, one, away *member) {
			var starting sync.WaitGroup
			starting.Go(func() { one.start(t) })
			starting.Go(func() { away.start(t) })
			starting.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			natstest.Long(t)
			t.Parallel()
			nodes := natstest.Start(t, 1)
			one, away, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "away", 1), newMember(t, nodes, "added", 1)
			runAlone(t, one)
			one.start(t)
			away.start(t)
			away.reportAll(t, "early", 10)
			away.stop()
			one.reportAll(t, "late", 10)
			one.stop()
			loseEverything(t, nodes)

			first(t, one, away)
			away.reportAll(t, "new", 10)
			added.start(t)
			one.reportAll(t, "newer", 10)
			all := requireEqual(t, []*member{one, away, added})
			for what, n := range map[string]int{"alone": 20, "early": 10, "late": 10, "new": 10, "newer": 10} {
				requireReports(t, all, what, n)
			}
			require.Equal(t, 60, strings.Count(all, `"received_at"`))
			require.Greater(t, one.State().Position.Sequence, uint64(1<<20), "messages of the new stream are beyond those of the former one")
			one.stop()
			added.stop()
			one.start(t)
			added.start(t)
			require.Equal(t, all, requireEqual(t, []*member{one, away, added}))
		})
	}
}

// TestTheFirstServerIsStoppedAsItBeginsTheStreamAgain makes the stream that continues a server's state, and nothing more,
// before the server starts.
func TestTheFirstServerIsStoppedAsItBeginsTheStreamAgain(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "added", 1)
	runAlone(t, one)
	one.start(t)
	one.reportAll(t, "early", 5)
	former := one.StreamID()
	one.stop()
	js := connect(t, nodes)
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	loseEverything(t, nodes)
	j, err := one.options.Open()
	require.NoError(t, err)
	at, _ := j.Position()
	require.NoError(t, j.Close())
	config := stream.CachedInfo().Config
	config.FirstSeq = at.Sequence + 1000
	config.Metadata["continues"] = former + "/" + cluster.Position{Sequence: at.Sequence, ID: at.ID}.String()
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	one.start(t)
	added.start(t)
	all := requireEqual(t, []*member{one, added})
	requireReports(t, all, "early", 5)
	requireReports(t, all, "alone", 20)
}

// TestAFormerStreamComesBack lets servers go on with other NATS nodes, which have nothing, and then again with the first
// ones, which know nothing of what was recorded meanwhile.
func TestAFormerStreamComesBack(t *testing.T) {
	natstest.Long(t)
	former, other := natstest.Start(t, 1), natstest.Start(t, 1)
	one, two := newMember(t, former, "one", 1), newMember(t, former, "two", 1)
	runAlone(t, one)
	for _, nodes := range []*natstest.Cluster{former, other, former} {
		for _, m := range []*member{one, two} {
			m.options.Settings.URLs = nodes.URLs()
			m.start(t)
		}
		what := map[*natstest.Cluster]string{former: "former", other: "other"}[nodes]
		if nodes == former && strings.Contains(one.reads(t), `"former 0"`) {
			what = "last"
		}
		two.reportAll(t, what, 5)
		requireEqual(t, []*member{one, two})
		one.stop()
		two.stop()
	}
	one.start(t)
	two.start(t)
	all := requireEqual(t, []*member{one, two})
	for what, n := range map[string]int{"alone": 20, "former": 5, "other": 5, "last": 5} {
		requireReports(t, all, what, n)
	}
}

// TestAStateIsNotReplacedByLess lets a server with nothing begin the stream again. A server that can't publish again all of
// its state does not join it, and keeps the state. Once the stream is deleted, it goes on with that, and the other server
// publishes again what it has recorded.
func TestAStateIsNotReplacedByLess(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, fresh := newMember(t, nodes, "one", 1), newMember(t, nodes, "fresh", 1)
	runAlone(t, one)
	one.start(t)
	one.reportAll(t, "early", 5)
	one.stop()
	loseEverything(t, nodes)
	fresh.start(t)
	fresh.reportAll(t, "new", 5)

	var log lines
	refused := one.options
	refused.Logger = log.logger()
	ctx, stop := context.WithCancel(t.Context())
	joining := make(chan error, 1)
	go func() {
		m, err := cluster.Join(ctx, refused)
		if err == nil {
			assert.NoError(t, m.Journal.Close())
		}
		joining <- err
	}()
	eventually(t, "the server says why", func() bool { return strings.Contains(log.String(), "stop all servers, delete the stream") })
	stop()
	<-joining
	fresh.stop()
	loseEverything(t, nodes)
	one.start(t)
	fresh.start(t)
	all := requireEqual(t, []*member{one, fresh})
	for what, n := range map[string]int{"alone": 20, "early": 5, "new": 5} {
		requireReports(t, all, what, n)
	}
}

// TestARunningServerNoticesThatTheStreamIsGone deletes the stream while a server runs.
func TestARunningServerNoticesThatTheStreamIsGone(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one := newMember(t, nodes, "one", 1)
	runAlone(t, one)
	one.begin(t)
	one.reportAll(t, "early", 5)
	loseEverything(t, nodes)
	select {
	case err := <-one.ended:
		require.ErrorIs(t, err, cluster.ErrGone)
	case <-time.After(time.Minute):
		t.Fatal("the server goes on")
	}
	require.NoError(t, one.Journal.Close())
	one.start(t)
	requireReports(t, one.reads(t), "alone", 20)
	requireReports(t, one.reads(t), "early", 5)
}

// TestBucketsAreMadeAgain deletes the buckets while two servers run. They go on: one of them acts for the cluster, though
// numbers of leases begin anew, both know each other, and new servers find a snapshot.
func TestBucketsAreMadeAgain(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1), newMember(t, nodes, "added", 1)
	var log lines
	one.options.Logger = log.logger()
	runAlone(t, one)
	one.start(t)
	eventually(t, "the first server acts", one.leads.Load)
	two.start(t)
	require.Contains(t, log.String(), "this server acts for its cluster")
	one.stop()
	eventually(t, "the second server acts", two.leads.Load)
	one.start(t)
	before := two.term(t)
	js := connect(t, nodes)
	for name := range js.StreamNames(t.Context()).Name() {
		if name != "KUBEAGENTS" {
			require.NoError(t, js.DeleteStream(t.Context(), name))
		}
	}
	eventually(t, "the loss is noticed", func() bool { return strings.Contains(log.String(), "NATS has lost buckets") })
	eventually(t, "the holder of the lease stops", func() bool { return !two.leads.Load() })
	two.reportAll(t, "late", 5)
	eventually(t, "a server acts again", func() bool { return one.leads.Load() || two.leads.Load() })
	eventually(t, "what it publishes has an effect", func() bool { return two.term(t) > before })
	eventually(t, "each server knows the other", func() bool { return len(one.State().Servers) == 2 && len(two.State().Servers) == 2 })
	leader := one
	if two.leads.Load() {
		leader = two
	}
	require.NoError(t, leader.KeepSnapshot(t.Context()))
	added.start(t)
	requireReports(t, requireEqual(t, []*member{one, two, added}), "late", 5)
}

// term returns the number of the lease whose holder began last.
func (m *member) term(t *testing.T) int {
	t.Helper()
	value, err := m.Journal.Note(journal.TermKey)
	require.NoError(t, err)
	number, err := strconv.Atoi(string(value))
	require.NoError(t, err)
	return number
}

// TestAServerStartsWhileNATSIsAway starts a server with state while NATS can't be reached. It serves its state, says that it
// is not ready and why, joins once NATS is there, and goes on.
func TestAServerStartsWhileNATSIsAway(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.start(t)
	one.reportAll(t, "early", 5)
	one.stop()
	two.start(t)
	two.reportAll(t, "late", 5)
	two.stop()
	nodes.Node(0).Stop()
	one.startAway(t)
	requireReports(t, one.reads(t), "early", 5)
	state := one.State()
	require.False(t, state.Caught)
	require.Contains(t, state.Cause, "can't join its cluster yet")
	require.Positive(t, state.Age)
	require.Equal(t, []string{"one"}, state.Servers)
	_, err := one.recorder.Accept(nil, []models.StatusReport{{AgentID: "agent", SessionTopic: "t", Status: models.Running}}, one.recorder.Now(), nil)
	var unavailable *recorder.Unavailable
	require.ErrorAs(t, err, &unavailable)
	require.False(t, unavailable.Unknown)
	one.Broadcast([]byte("nobody hears it"))

	nodes.Node(0).Restart()
	require.NoError(t, one.AwaitCaughtUp(t.Context()))
	one.reportAll(t, "new", 5)
	two.start(t)
	all := requireEqual(t, []*member{one, two})
	for what, n := range map[string]int{"early": 5, "late": 5, "new": 5} {
		requireReports(t, all, what, n)
	}
	one.stop()
	nodes.Node(0).Stop()
	one.startAway(t)
	one.stop() // before it has joined
	nodes.Node(0).Restart()
}

// TestAServerThatCannotGoOnFromItsStateStartsAgain starts a server with state while NATS can't be reached. Once it is, the
// stream has been trimmed, or is another one.
func TestAServerThatCannotGoOnFromItsStateStartsAgain(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, nodes *natstest.Cluster, two *member){
		"a stream that was trimmed": func(t *testing.T, nodes *natstest.Cluster, two *member) {
			two.snapshot(t)
			stream, err := connect(t, nodes).Stream(t.Context(), "KUBEAGENTS")
			require.NoError(t, err)
			require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(two.State().Position.Sequence)))
		},
		"another stream": func(t *testing.T, nodes *natstest.Cluster, two *member) {
			two.stop()
			loseEverything(t, nodes)
			two.start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			natstest.Long(t)
			t.Parallel()
			nodes := natstest.Start(t, 1)
			one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
			runAlone(t, one)
			one.start(t)
			one.reportAll(t, "early", 5)
			two.start(t)
			one.stop()
			two.reportAll(t, "late", 20)
			change(t, nodes, two)
			two.report(t, "t", "last")
			two.stop()
			nodes.Node(0).Stop()
			one.startAway(t)
			nodes.Node(0).Restart()
			select {
			case err := <-one.ended:
				require.Error(t, err)
			case <-time.After(time.Minute):
				t.Fatal("the server goes on")
			}
			require.NoError(t, one.Journal.Close())
			one.start(t)
			two.start(t)
			all := requireEqual(t, []*member{one, two})
			for what, n := range map[string]int{"alone": 20, "early": 5, "late": 20} {
				requireReports(t, all, what, n)
			}
		})
	}
}

// TestASnapshotOnDemand writes snapshots at a server that does not hold the lease, several at once, and while NATS is away.
func TestASnapshotOnDemand(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two, added := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1), newMember(t, nodes, "added", 1)
	runAlone(t, one)
	one.start(t)
	eventually(t, "the first server acts", one.leads.Load)
	two.start(t)
	two.reportAll(t, "early", 5)
	two.snapshot(t)
	results := make(chan error, 10)
	for range cap(results) {
		go func() {
			_, err := two.Snapshot(context.Background())
			results <- err
		}()
	}
	written := 0
	for range cap(results) {
		if err := <-results; err == nil {
			written++
		} else {
			require.ErrorIs(t, err, cluster.ErrSnapshotUnderWay)
		}
	}
	require.Positive(t, written)
	require.Less(t, written, cap(results), "one at a time")
	added.start(t)
	requireReports(t, requireEqual(t, []*member{one, two, added}), "alone", 20)

	nodes.Node(0).Stop()
	var unavailable *recorder.Unavailable
	eventually(t, "the server says that NATS is away", func() bool {
		_, err := two.Snapshot(t.Context())
		return errors.As(err, &unavailable) && unavailable.Cause != ""
	})
	nodes.Node(0).Restart()
}

// startAway starts the member while NATS can't be reached.
func (m *member) startAway(t *testing.T) {
	t.Helper()
	cancel := m.run(t)
	m.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-m.ended)
		require.NoError(t, m.Journal.Close())
	})
}

// TestAServerThatHasNotJoinedCannotCatchUp asks a server that started while NATS is away for what only the stream knows,
// also while it joins.
func TestAServerThatHasNotJoinedCannotCatchUp(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one := newMember(t, nodes, "one", 1)
	one.start(t)
	one.report(t, "t", "early")
	one.stop()
	nodes.Node(0).Stop()
	one.startAway(t)
	require.Error(t, one.CatchUp(t.Context()))
	asking, done := context.WithCancel(t.Context())
	var asks sync.WaitGroup
	asks.Go(func() {
		for asking.Err() == nil {
			one.CatchUp(asking) //nolint:errcheck // it must be safe while the server joins
		}
	})
	nodes.Node(0).Restart()
	require.NoError(t, one.AwaitCaughtUp(t.Context()))
	done()
	asks.Wait()
	require.NoError(t, one.CatchUp(t.Context()))
	one.stop()
}

// TestASnapshotOnDemandIsNotMeasuredByOthers writes a snapshot at a server that does not hold the lease. Only the holder sees
// later ones, so the metrics of the other server must not go on to show that one.
func TestASnapshotOnDemandIsNotMeasuredByOthers(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.start(t)
	eventually(t, "the first server acts", one.leads.Load)
	two.start(t)
	two.report(t, "t", "early")
	two.snapshot(t)
	require.Zero(t, two.Measure().SnapshotWritten)
	one.snapshot(t)
	require.NotZero(t, one.Measure().SnapshotWritten)
}

// TestAServerThatCannotReplaceItsStateKeepsTrying starts a server that needs a snapshot, and can't restore the only one. It
// does not start and end over and over, nor publish again more than once what only it has. It joins when there is another
// snapshot.
func TestAServerThatCannotReplaceItsStateKeepsTrying(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, away := newMember(t, nodes, "one", 1), newMember(t, nodes, "away", 1)
	away.start(t)
	away.reportAll(t, "early", 5)
	away.stop()
	require.NoError(t, connect(t, nodes).DeleteStream(t.Context(), "KUBEAGENTS"))
	one.start(t)
	one.reportAll(t, "late", 5)
	one.snapshot(t)
	js := connect(t, nodes)
	bucket, err := js.ObjectStore(t.Context(), away.options.Settings.SnapshotsBucket())
	require.NoError(t, err)
	snapshots, err := bucket.List(t.Context())
	require.NoError(t, err)
	for _, snapshot := range snapshots {
		snapshot.Metadata["format"] = "1000"
		require.NoError(t, bucket.UpdateMeta(t.Context(), snapshot.Name, snapshot.ObjectMeta))
	}

	var log lines
	away.options.Logger = log.logger()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		away.launch(t)
	}()
	eventually(t, "the server tries several times", func() bool {
		return strings.Count(log.String(), "starting from a snapshot") >= 3 || isClosed(joined)
	})
	require.False(t, isClosed(joined), "the server has joined with a state with which it can't go on")
	for _, snapshot := range snapshots {
		require.NoError(t, bucket.Delete(t.Context(), snapshot.Name))
	}
	one.snapshot(t)
	<-joined
	require.NoError(t, away.AwaitCaughtUp(t.Context()))
	all := requireEqual(t, []*member{one, away})
	requireReports(t, all, "early", 5)
	requireReports(t, all, "late", 5)
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	again := 0
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		msg, err := stream.GetMsg(t.Context(), sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it was trimmed
		}
		require.NoError(t, err)
		message, err := journal.DecodeMessage(string(msg.Data), journal.MessageVersion)
		require.NoError(t, err)
		again += min(1, len(message.Again))
	}
	require.LessOrEqual(t, again, 1)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
