package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// member is a server of a cluster without its HTTP side.
type member struct {
	*cluster.Member
	options  cluster.MemberOptions
	store    *store.Store
	metrics  *metrics.Metrics
	recorder *recorder.Recorder
	leads    atomic.Bool // acts for its cluster
	ended    chan error  // receives what Run returns
	stop     func()
}

func newMember(t *testing.T, nodes *natstest.Cluster, name string, replicas int) *member {
	m := &member{options: cluster.MemberOptions{
		Settings: cluster.Settings{URLs: nodes.URLs(), Stream: "KUBEAGENTS", Replicas: replicas}, Server: name, Version: "test", Encoding: journal.MessageVersion,
		DataDir: t.TempDir(), Stale: 15 * time.Second, Logger: silent(),
	}}
	m.options.Open = func() (*journal.Journal, error) {
		dir, err := datadir.Prepare(m.options.DataDir, journal.Lock)
		if err != nil {
			return nil, err
		}
		return journal.Open(journal.Options{Dir: dir, Logger: m.options.Logger})
	}
	return m
}

var memberStore = store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 30, MaxSessions: 10_000,
	EventWindow: 1000, Journaled: true, Replicated: true}

// start starts the member with what its directory holds, and waits until it is ready. If the member ends because it must
// start again, start does that.
func (m *member) start(t *testing.T) {
	t.Helper()
	for m.launch(t); !m.State().Caught; time.Sleep(time.Millisecond) {
		select {
		case err := <-m.ended:
			require.Error(t, err)
			t.Logf("%s is started again: %v", m.options.Server, err)
			m.ended <- nil
			m.stop()
			m.launch(t)
		case <-t.Context().Done():
			require.NoError(t, t.Context().Err())
		default:
		}
	}
}

// launch is start, but does not wait.
func (m *member) launch(t *testing.T) {
	t.Helper()
	cancel := m.run(t)
	m.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-m.ended)
		require.NoError(t, m.Journal.Close())
	})
	t.Cleanup(m.stop)
}

// begin is start for a member that ends by itself.
func (m *member) begin(t *testing.T) {
	t.Helper()
	cancel := m.run(t)
	t.Cleanup(cancel)
	require.NoError(t, m.AwaitCaughtUp(t.Context()))
}

// run starts the member with what its directory holds.
func (m *member) run(t *testing.T) (cancel context.CancelFunc) {
	t.Helper()
	var err error
	m.Member, err = cluster.Join(t.Context(), m.options)
	require.NoError(t, err)
	opts := memberStore
	if l, ok := m.options.SharedSettings.Lifetimes(); ok {
		opts.DefaultTTL, opts.SessionRetention = l.DefaultTTL, l.SessionRetention
	}
	m.store = store.New(opts)
	m.metrics = metrics.New(m.store, "test")
	log := m.Log(m.store, m.metrics, nil)
	require.NoError(t, m.Journal.Replay(t.Context(), m.store, memberStore.HistoryLimit, time.Now(), func(journal.Progress) {}))
	m.recorder = recorder.NewShared(m.store, m.Journal, log)
	ctx, cancel := context.WithCancel(context.Background())
	m.ended = make(chan error, 1)
	lead := func(ctx context.Context, _ *cluster.Box) {
		m.leads.Store(true)
		<-ctx.Done()
		m.leads.Store(false)
	}
	ended := m.ended
	go func() { ended <- m.Run(ctx, nil, lead) }()
	return cancel
}

// snapshot writes a snapshot.
func (m *member) snapshot(t *testing.T) {
	t.Helper()
	written, err := m.Snapshot(t.Context())
	require.NoError(t, err)
	require.Positive(t, written.Size)
	require.False(t, written.Written.IsZero())
}

// report records a report.
func (m *member) report(t *testing.T, topic, message string) {
	t.Helper()
	r := models.StatusReport{AgentID: "agent", SessionTopic: topic, Status: models.Running, Message: message, ReportID: message}
	require.Eventually(t, func() bool {
		outcomes, err := m.recorder.Accept(nil, []models.StatusReport{r}, m.recorder.Now(), nil)
		return err == nil && outcomes[0] == store.Stored
	}, time.Minute, time.Millisecond)
}

// reads returns what reads of the member return.
func (m *member) reads(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	sessions, err := m.store.Sessions(t.Context(), store.SessionQuery{}, nil, 10_000)
	require.NoError(t, err)
	for _, se := range sessions.Items {
		_, questions, page, _ := m.store.SessionInFull(se.AgentID, se.Topic, nil, 1000)
		require.NoError(t, m.Journal.CompleteSession(store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}, &page, nil, 1000))
		text, err := json.Marshal([]any{se, questions, page.Items})
		require.NoError(t, err)
		b.Write(append(text, '\n'))
	}
	return b.String()
}

// requireEqual waits until all members have applied the same, and requires that they show the same.
func requireEqual(t *testing.T, members []*member) string {
	t.Helper()
	var last cluster.Position
	for _, m := range members {
		if p := m.State().Position; p.Sequence > last.Sequence {
			last = p
		}
	}
	for _, m := range members {
		require.NoError(t, m.Await(t.Context(), last))
	}
	first := members[0].reads(t)
	for _, m := range members[1:] {
		require.Equal(t, first, m.reads(t))
	}
	return first
}

// TestServersShareALog lets many clients report to three servers at once, retrying what fails. Everything that was
// acknowledged is there once, and all servers show the same, also after one of them was away.
func TestServersShareALog(t *testing.T) {
	nodes := natstest.Start(t, 3)
	var members []*member
	for i := range 3 {
		m := newMember(t, nodes, fmt.Sprint("hub-", i), 3)
		m.start(t)
		members = append(members, m)
	}
	var acknowledged atomic.Int64
	report := func(writers, each int, among []*member) {
		var running sync.WaitGroup
		for w := range writers {
			running.Go(func() {
				for n := range each {
					r := models.StatusReport{AgentID: fmt.Sprint("agent-", w%7), SessionTopic: fmt.Sprint("session-", w), Status: models.Statuses[n%4],
						Message: fmt.Sprint(n), ReportID: fmt.Sprint(acknowledged.Load(), "-", w, "-", n)}
					for try := 0; ; try++ {
						m := among[(w+n+try)%len(among)]
						outcomes, err := m.recorder.Accept(nil, []models.StatusReport{r}, m.recorder.Now(), nil)
						if err == nil && outcomes[0] == store.Stored || err == nil && outcomes[0] == store.Duplicate && try > 0 {
							acknowledged.Add(1)
							break
						}
						if try > 1000 {
							t.Errorf("%v %v", outcomes, err)
							return
						}
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		}
		running.Wait()
	}
	report(32, 10, members)
	require.Equal(t, 320, strings.Count(requireEqual(t, members), `"received_at"`))

	members[2].stop()
	report(32, 10, members[:2])
	members[2].start(t)
	require.EqualValues(t, 640, acknowledged.Load())
	require.Equal(t, 640, strings.Count(requireEqual(t, members), `"received_at"`))
}

// TestCatchingUp has one server catch up with what another one has just recorded, and with a stream that can't be asked.
func TestCatchingUp(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.start(t)
	two.start(t)
	for i := range 50 {
		one.report(t, "t", fmt.Sprint(i))
		recorded := one.State().Position.Sequence
		require.NoError(t, two.CatchUp(t.Context()))
		require.GreaterOrEqual(t, two.State().Position.Sequence, recorded)
	}
	nodes.Node(0).Stop()
	require.Error(t, two.CatchUp(t.Context()))
}

// TestTheHolderOfTheLeaseWritesAtItsEnd stops a server that writes something as it stops acting for its cluster. That is
// applied. What others want to record on it afterwards fails at once.
func TestTheHolderOfTheLeaseWritesAtItsEnd(t *testing.T) {
	natstest.Long(t)
	one := newMember(t, natstest.Start(t, 1), "one", 1)
	m, err := cluster.Join(t.Context(), one.options)
	require.NoError(t, err)
	st := store.New(memberStore)
	log := m.Log(st, metrics.New(st, "test"), nil)
	require.NoError(t, m.Journal.Replay(t.Context(), st, 100, time.Now(), func(journal.Progress) {}))
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	require.NoError(t, m.Run(ctx, nil, func(ctx context.Context, box *cluster.Box) {
		cancel()
		<-ctx.Done()
		written <- box.WriteNotes([]journal.Note{{Key: "last", Value: []byte("words")}})
	}))
	require.NoError(t, <-written)
	value, err := m.Journal.Note("last")
	require.NoError(t, err)
	require.Equal(t, "words", string(value))

	started := time.Now()
	_, err = log.Do(t.Context(), &journal.Message{})
	var unavailable *recorder.Unavailable
	require.ErrorAs(t, err, &unavailable)
	require.Less(t, time.Since(started), 5*time.Second)
	require.NoError(t, m.Journal.Close())
}
