package cluster_test

import (
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
)

// metric returns the value of one of the member's metrics; -1 if it is not exposed.
func (m *member) metric(t *testing.T, series string) float64 {
	t.Helper()
	w := httptest.NewRecorder()
	m.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta("kubeagents_cluster_"+series) + ` (\S+)$`).FindStringSubmatch(w.Body.String())
	if found == nil {
		return -1
	}
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return value
}

// TestMetrics scrapes two servers, also while the stream is full, and after one of them has stopped.
func TestMetrics(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.start(t)
	eventually(t, "the first server leads", func() bool { return one.metric(t, "lease_held") == 1 })
	two.start(t)
	two.report(t, "t", "first")
	requireEqual(t, []*member{one, two})
	eventually(t, "both know both, and the stream", func() bool {
		return one.metric(t, "servers") == 2 && two.metric(t, "servers") == 2 && two.metric(t, "stream_messages") >= 2 && two.metric(t, "messages_behind") == 0
	})
	require.EqualValues(t, 0, two.metric(t, "lease_held"))
	require.EqualValues(t, 1, two.metric(t, "writable"))
	require.EqualValues(t, 1, two.metric(t, "publish_duration_seconds_count"))
	require.Greater(t, two.metric(t, "stream_bytes"), 100.)
	require.GreaterOrEqual(t, two.metric(t, "position"), 2.)
	require.Less(t, two.metric(t, "data_age_seconds"), 60.)

	require.Zero(t, one.metric(t, "snapshot_timestamp_seconds"))
	one.snapshot(t)
	require.InDelta(t, time.Now().Unix(), one.metric(t, "snapshot_timestamp_seconds"), 60)
	require.Greater(t, one.metric(t, "snapshot_position"), 0.)
	require.Zero(t, one.metric(t, "snapshot_failures_total"))
	require.Zero(t, two.metric(t, "snapshot_position"))

	js := connect(t, nodes)
	limit := func(bytes int64) {
		stream, err := js.Stream(t.Context(), "KUBEAGENTS")
		require.NoError(t, err)
		config := stream.CachedInfo().Config
		config.MaxBytes, config.Discard = bytes, jetstream.DiscardNew
		_, err = js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	}
	limit(1)
	_, err := two.recorder.Accept(nil, []models.StatusReport{{AgentID: "agent", SessionTopic: "t", Status: models.Running}}, two.recorder.Now(), nil)
	require.ErrorContains(t, err, "it is full")
	require.EqualValues(t, 1, two.metric(t, `publish_failures_total{cause="no_room"}`))
	require.Zero(t, two.metric(t, `publish_failures_total{cause="timeout"}`))
	require.Zero(t, two.metric(t, "writable"))
	eventually(t, "the ticks of the first server fail as well", func() bool { return one.metric(t, "writable") == 0 })
	limit(-1)
	two.report(t, "t", "second")
	require.EqualValues(t, 1, two.metric(t, "writable"))
	require.Empty(t, two.State().Refuses)

	one.stop()
	eventually(t, "the other server leads", func() bool { return two.metric(t, "lease_held") == 1 && two.metric(t, "servers") == 1 })
	require.Zero(t, one.metric(t, "lease_held"))
	require.Zero(t, one.metric(t, "snapshot_position"), "another server knows better")
}
