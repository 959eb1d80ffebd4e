package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/store"
)

// oddStream is JetStream with answers as a cluster gives them in trouble.
type oddStream struct {
	jetstream.JetStream
	nodes   *natstest.Cluster
	old     atomic.Pointer[jetstream.Stream] // what the stream answers about itself; nil for the truth
	asked   atomic.Int64                     // how often it answered that
	refuses atomic.Bool                      // it takes no messages
	drops   atomic.Int64                     // messages that are lost on the way from it
	silent  atomic.Int64                     // requests for consumers that it does not answer
	node    string                           // all consumers are on this node; "" for any
	gaps    atomic.Int64                     // messages that a consumer left out
}

func (s *oddStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if old := s.old.Load(); old != nil {
		s.asked.Add(1)
		return *old, nil
	}
	return s.JetStream.Stream(ctx, name)
}

func (s *oddStream) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if s.refuses.Load() {
		return nil, jetstream.ErrNoStreamResponse
	}
	return s.JetStream.PublishMsg(ctx, m, opts...)
}

func (s *oddStream) CreateConsumer(ctx context.Context, stream string, config jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if s.silent.Add(-1) >= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	consumer, err := s.JetStream.CreateConsumer(ctx, stream, config)
	if err == nil && s.node != "" && consumer.CachedInfo().Cluster.Leader != s.node {
		return nil, errors.Join(errors.New("it is on another node"), s.DeleteConsumer(ctx, stream, consumer.CachedInfo().Name))
	}
	return &oddConsumer{consumer, s}, err
}

type oddConsumer struct {
	jetstream.Consumer
	stream *oddStream
}

func (c *oddConsumer) Messages(opts ...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	messages, err := c.Consumer.Messages(opts...)
	return &oddMessages{MessagesContext: messages, stream: c.stream}, err
}

type oddMessages struct {
	jetstream.MessagesContext
	stream *oddStream
	last   uint64
}

func (m *oddMessages) Next(opts ...jetstream.NextOpt) (jetstream.Msg, error) {
	msg, err := m.MessagesContext.Next(opts...)
	if err == nil && m.stream.drops.Add(-1) >= 0 {
		return m.MessagesContext.Next(opts...)
	}
	if err == nil {
		meta, _ := msg.Metadata() //nolint:errcheck // it is a message of JetStream
		if m.last > 0 && meta.Sequence.Stream > m.last+1 {
			m.stream.gaps.Add(1)
		}
		m.last = meta.Sequence.Stream
	}
	return msg, err
}

// startLog runs a log on a stream, and waits until it has caught up.
func startLog(t *testing.T, js *oddStream) *cluster.Log {
	t.Helper()
	l := runLog(t, js)
	require.Eventually(t, func() bool { return l.Failure() == nil }, time.Minute, time.Millisecond)
	return l
}

// runLog runs a log on a stream, and does not wait until it has caught up.
func runLog(t *testing.T, js *oddStream) *cluster.Log {
	t.Helper()
	m := newMember(t, js.nodes, "one", 1)
	j, err := m.options.Open()
	require.NoError(t, err)
	st := store.New(memberStore)
	l := cluster.NewLog(cluster.LogOptions{JetStream: js, Stream: "KUBEAGENTS", Subject: "KUBEAGENTS.log", Server: "one", Store: st, Journal: j,
		Metrics: metrics.New(st, "test"), Logger: silent(), Stale: 15 * time.Second, Encoding: journal.MessageVersion})
	require.NoError(t, j.Replay(t.Context(), st, memberStore.HistoryLimit, time.Now(), func(journal.Progress) {}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, j.Close())
	})
	return l
}

// newOddStream makes a stream on one node.
func newOddStream(t *testing.T) *oddStream {
	nodes := natstest.Start(t, 1)
	js := connect(t, nodes)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KUBEAGENTS", Subjects: []string{"KUBEAGENTS.log"}, AllowDirect: true})
	require.NoError(t, err)
	return &oddStream{JetStream: js, nodes: nodes}
}

// TestAnOldAnswerOfTheStreamIsNoLoss lets the stream say that it ends before a message that was applied, as a leader does
// that was replaced without knowing it, or if the message arrives while the answer is under way.
func TestAnOldAnswerOfTheStreamIsNoLoss(t *testing.T) {
	natstest.Long(t)
	js := newOddStream(t)
	old, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	l := startLog(t, js) // which requires at its end that Run has not returned an error
	_, err = l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
	js.old.Store(&old)
	require.Eventually(t, func() bool { return js.asked.Load() > 1 }, time.Minute, time.Millisecond)
	js.old.Store(nil)
	_, err = l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
}

// TestTroubleWithTheStreamEnds lets the stream refuse messages for a while.
func TestTroubleWithTheStreamEnds(t *testing.T) {
	natstest.Long(t)
	js := newOddStream(t)
	l := startLog(t, js)
	js.refuses.Store(true)
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	_, err := l.Do(ctx, &journal.Message{})
	require.ErrorContains(t, err, "the stream has no leader")
	require.Equal(t, "the stream has no leader", l.State().Refuses)
	js.refuses.Store(false)
	_, err = l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
	require.Empty(t, l.State().Refuses)
}

// TestAMessageThatIsLostOnTheWayIsReadAgain loses a message between the stream and the server.
func TestAMessageThatIsLostOnTheWayIsReadAgain(t *testing.T) {
	natstest.Long(t)
	js := newOddStream(t)
	l := startLog(t, js) // which requires at its end that Run has not returned an error
	_, err := l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
	js.drops.Store(1)
	lost := make(chan error)
	go func() {
		_, err := l.Do(t.Context(), &journal.Message{})
		lost <- err
	}()
	require.Eventually(t, func() bool { return js.drops.Load() <= 0 }, time.Minute, time.Millisecond)
	_, err = l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
	require.NoError(t, <-lost)
}

// TestANodeTakesAnswersWithIt ends the consumer of a server, as a node does that dies, and lets the stream not answer the
// request for the next one. A report that is sent then is acknowledged at the first attempt.
func TestANodeTakesAnswersWithIt(t *testing.T) {
	natstest.Long(t)
	js := newOddStream(t)
	l := startLog(t, js)
	js.silent.Store(2)
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	for name := range stream.ConsumerNames(t.Context()).Name() {
		require.NoError(t, stream.DeleteConsumer(t.Context(), name))
	}
	_, err = l.Do(t.Context(), &journal.Message{})
	require.NoError(t, err)
	require.LessOrEqual(t, js.silent.Load(), int64(0))
}

// TestAMessageThatANodeHasLostIsReadFromAnother flips a bit in a message in the store of a node, which then leaves that
// message out, and lets a server read from this node.
func TestAMessageThatANodeHasLostIsReadFromAnother(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 3)
	writer := newMember(t, nodes, "writer", 3)
	writer.start(t)
	for i := range 50 {
		writer.report(t, fmt.Sprint("t", i%5), fmt.Sprint(i))
	}
	require.True(t, nodes.AwaitReplicas(time.Minute))
	n := nodes.Node(1)
	n.Stop()
	t.Log(n.Damage(rand.New(rand.NewPCG(1, 1)), "/streams/KUBEAGENTS/msgs/", ".blk"))
	n.Restart()
	nodes.AwaitReady()
	require.True(t, nodes.AwaitReplicas(time.Minute))
	js := &oddStream{JetStream: connect(t, nodes), nodes: nodes, node: n.Name()}
	l := startLog(t, js)
	require.NoError(t, l.Await(t.Context(), writer.State().Position))
	require.Equal(t, writer.reads(t), (&member{Member: &cluster.Member{Journal: l.Journal}, store: l.Store}).reads(t))
	require.Positive(t, js.gaps.Load(), "the node left nothing out")
}

// TestAMessageThatNoNodeHas deletes a message of the stream that a server needs. The server says so, and applies nothing
// after it.
func TestAMessageThatNoNodeHas(t *testing.T) {
	natstest.Long(t)
	js := newOddStream(t)
	for range 5 {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "KUBEAGENTS.log", Data: (&journal.Message{Server: "two"}).Encode(journal.MessageVersion)})
		require.NoError(t, err)
	}
	stream, err := js.Stream(t.Context(), "KUBEAGENTS")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 3))
	l := runLog(t, js)
	eventually(t, "the server says what it lacks", func() bool {
		return l.State().Cause == "no NATS node has message 3 of the stream, which this server needs next"
	})
	require.ErrorContains(t, l.Failure(), "no NATS node has message 3")
	require.Equal(t, uint64(2), l.State().Position.Sequence)
}
