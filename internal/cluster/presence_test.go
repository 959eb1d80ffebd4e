package cluster_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

var serversBucket = jetstream.KeyValueConfig{Bucket: "TEST_SERVERS", TTL: cluster.PresenceKept}

func TestPresence(t *testing.T) {
	t.Parallel()
	nats := natstest.Start(t, 1)
	list := func(server cluster.Server) *cluster.Presence {
		return cluster.NewPresence(bucket(t, connect(t, nats), serversBucket), func() cluster.Server { return server }, silent())
	}
	a := cluster.Server{Name: "a", Version: "1.2.0", Encoding: 3, Address: "10.0.0.1:8080",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Position: "7-abc"}
	b := cluster.Server{Name: "b. wörld/*", Version: "1.1.0", Encoding: 2, Started: a.Started.Add(-time.Hour)}
	first, second := list(a), list(b)
	_, known := first.LowestEncoding()
	assert.False(t, known, "nothing is known yet")
	assert.Equal(t, []cluster.Server{a}, first.Servers())
	start(t, first.Run)
	stop := start(t, second.Run)
	for name, presence := range map[string]*cluster.Presence{"a": first, "b": second} {
		eventually(t, name+" sees both, ordered by name", func() bool {
			return slices.Equal([]cluster.Server{a, b}, presence.Servers())
		})
		lowest, known := presence.LowestEncoding()
		assert.True(t, known)
		assert.Equal(t, 2, lowest)
	}
	stop()
	eventually(t, "a server that stops in order leaves the list at once", func() bool {
		return slices.Equal([]cluster.Server{a}, first.Servers())
	})
	lowest, _ := first.LowestEncoding()
	assert.Equal(t, 3, lowest)
}

// TestTwoServersWithOneName gives a server the name of another one.
func TestTwoServersWithOneName(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	var log lines
	one, other := newMember(t, nodes, "hub", 1), newMember(t, nodes, "hub", 1)
	one.options.Logger = log.logger()
	other.options.Address = "10.0.0.2:8080"
	one.start(t)
	other.start(t)
	eventually(t, "the first server notices", func() bool {
		return strings.Contains(log.String(), "another server has the same name as this one: give each server its own") && strings.Contains(log.String(), "address=10.0.0.2:8080")
	})
}
