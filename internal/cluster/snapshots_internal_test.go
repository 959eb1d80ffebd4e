package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
)

func TestNeedsSnapshot(t *testing.T) {
	for _, c := range []struct {
		name           string
		messages, size uint64
		since          time.Duration
		needed         bool
	}{
		{"nothing is new after a long time", 0, 1000, 24 * time.Hour, false},
		{"little is new after a long time", snapshotEvery/100 - 1, 1000, 24 * time.Hour, false},
		{"something is new after a long time", snapshotEvery / 100, 1000, snapshotAfter, true},
		{"something is new after a short time", snapshotEvery - 1, 1000, snapshotAfter - 1, false},
		{"much is new", snapshotEvery, 1000, time.Minute, true},
		{"few large messages are new", 1024, 1 << 20, time.Minute, true},
		{"too few large messages are new", 1023, 1 << 20, time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.needed, needsSnapshot(c.messages, c.size, c.since))
		})
	}
}

// TestAbandonedChunks checks that the chunks of a writer that did not finish are removed, and those of one that goes on
// are not.
func TestAbandonedChunks(t *testing.T) {
	o := orphans{}
	now := time.Now()
	assert.Empty(t, o.abandoned(map[string]uint64{"dead": 5, "slow": 5}, now))
	assert.Empty(t, o.abandoned(map[string]uint64{"dead": 5, "slow": 6, "new": 5}, now.Add(orphanAge-1)))
	assert.Equal(t, []string{"dead"}, o.abandoned(map[string]uint64{"dead": 5, "slow": 6, "new": 6}, now.Add(orphanAge)))
	assert.Empty(t, o.abandoned(map[string]uint64{"slow": 7, "new": 6}, now.Add(2*orphanAge-1)))
	assert.Equal(t, []string{"new"}, o.abandoned(map[string]uint64{"slow": 7, "new": 6}, now.Add(2*orphanAge)))
}

// TestRemoveOrphans checks with a real NATS server that chunks without a description are removed, and only those.
func TestRemoveOrphans(t *testing.T) {
	t.Parallel()
	connection, err := nats.Connect(natstest.Start(t, 1).URL())
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	objects, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "TEST"})
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "OBJ_TEST")
	require.NoError(t, err)
	s := NewSnapshots(objects, stream, silent())
	_, err = s.Write(t.Context(), Position{1, "a"}, func(to io.Writer) error {
		_, err := to.Write(make([]byte, 1000))
		return err
	})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), s.chunksSubject("dead"), []byte("half"))
	require.NoError(t, err)

	require.NoError(t, s.removeOrphans(t.Context()))
	left, err := s.undescribed(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{s.chunksSubject("dead"): 1}, left, "it could still be written")
	s.orphan.seen[s.chunksSubject("dead")] = orphanSight{1, time.Now().Add(-orphanAge)}
	require.NoError(t, s.removeOrphans(t.Context()))
	left, err = s.undescribed(t.Context())
	require.NoError(t, err)
	assert.Empty(t, left)
	kept, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, kept, 1)
	_, err = s.verified(t.Context(), kept[0].Name)
	require.NoError(t, err)
}
