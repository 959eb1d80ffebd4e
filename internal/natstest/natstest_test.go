package natstest_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
)

func TestOneNode(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, 1)
	log := createLog(t, c, 1)
	log.publish(1)
	assert.Equal(t, c.Node(0), c.LeaderOf("LOG"))
	c.Node(0).Restart()
	log.publish(2)
}

func TestThreeNodes(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	failAndRecover(t, natstest.Start(t, 3))
}

func TestThreePrograms(t *testing.T) {
	t.Parallel()
	failAndRecover(t, natstest.StartProgram(t, natstest.Program(t), 3))
}

// failAndRecover cuts off, kills and restarts nodes of a cluster, and checks that a stream of three replicas goes on
// as long as two nodes reach each other, and only then.
func failAndRecover(t *testing.T, c *natstest.Cluster) {
	log := createLog(t, c, 3)
	log.publish(1)

	leader := c.LeaderOf("LOG")
	leader.CutOff()
	other := c.LeaderOf("LOG")
	require.NotEqual(t, leader.Name(), other.Name(), "the others elect a leader")
	log = openLog(t, other.URL())
	log.publish(2)
	leader.Rejoin()
	c.AwaitReady()

	leader.Stop()
	log.publish(3)
	third := func() *natstest.Node {
		for _, node := range c.Nodes() {
			if node != leader && node != other {
				return node
			}
		}
		return nil
	}()
	third.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := log.js.Publish(ctx, "log", nil)
	require.Error(t, err, "one node of three is no majority")

	leader.Restart()
	third.Restart()
	c.AwaitReady()
	log.publish(4)
}

type log struct {
	t  *testing.T
	js jetstream.JetStream
}

func openLog(t *testing.T, url string) log {
	connection, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	return log{t, js}
}

func createLog(t *testing.T, c *natstest.Cluster, replicas int) log {
	l := openLog(t, c.URL())
	config := jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}, Replicas: replicas}
	_, err := l.js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	return l
}

// publish adds the message with a number, again and again until it is acknowledged.
func (l log) publish(number int) {
	require.EventuallyWithT(l.t, func(t *assert.CollectT) {
		ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Second)
		defer cancel()
		_, err := l.js.Publish(ctx, "log", nil, jetstream.WithMsgID(string(rune('a'+number))))
		require.NoError(t, err)
	}, time.Minute, 10*time.Millisecond)
}

// TestProgramDoesNotContainTheServer holds that only tests are built with the NATS server.
func TestProgramDoesNotContainTheServer(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "github.com/kubeagents/kubeagents").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.NotContains(t, string(out), "github.com/nats-io/nats-server")
	assert.Contains(t, string(out), "github.com/kubeagents/kubeagents/handlers", "the list is that of the program")
}
