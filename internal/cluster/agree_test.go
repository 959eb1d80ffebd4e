package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// settings are shared settings with this default TTL and this retention.
func settings(minutes, retention string) cluster.SharedSettings {
	return cluster.SharedSettings{"CAPTURE": "full", "DEFAULT_TTL_MINUTES": minutes, "SESSION_RETENTION": retention}
}

// refusal returns why the member is not ready, once it says something about its settings.
func (m *member) refusal(t *testing.T) (cause string) {
	t.Helper()
	eventually(t, "the server compares its settings", func() bool {
		cause = m.State().Cause
		return strings.HasPrefix(cause, "the settings of this server")
	})
	return cause
}

// TestServersAgreeOnSettings lets servers with other settings join, changes the settings of a cluster by restarting its
// servers one after another, and looks what the servers do with reports without a TTL.
func TestServersAgreeOnSettings(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two, other := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1), newMember(t, nodes, "other", 1)
	one.options.SharedSettings, two.options.SharedSettings = settings("60", "168h0m0s"), settings("60", "168h0m0s")
	other.options.SharedSettings = settings("5", "168h0m0s")
	other.options.SharedSettings["CAPTURE"] = "none"
	var log, changes lines
	two.options.Logger, one.options.Logger = log.logger(), changes.logger()
	one.start(t)
	two.start(t)
	one.report(t, "before", "1")

	other.launch(t)
	require.Equal(t, "the settings of this server are not those of its cluster: CAPTURE is none, and must be full; "+
		"DEFAULT_TTL_MINUTES is 5, and must be 60", other.refusal(t))
	_, err := other.recorder.Accept(nil, []models.StatusReport{{AgentID: "agent", SessionTopic: "x", Status: models.Running}}, time.Now(), nil)
	require.ErrorContains(t, err, "DEFAULT_TTL_MINUTES is 5, and must be 60")
	require.Equal(t, store.Lifetimes{DefaultTTL: time.Hour, SessionRetention: 168 * time.Hour}, other.store.Lifetimes())

	// One server changes them, and the others go on with the new ones.
	one.stop()
	one.options.SharedSettings = settings("30", "1h0m0s")
	one.start(t)
	two.report(t, "after", "2")
	all := requireEqual(t, []*member{one, two, other})
	require.Contains(t, all, `"session_topic":"before"`)
	require.Equal(t, 1, strings.Count(all, `"ttl_minutes":60`))
	require.Equal(t, 1, strings.Count(all, `"ttl_minutes":30`))
	for _, m := range []*member{one, two, other} {
		require.Equal(t, store.Lifetimes{DefaultTTL: 30 * time.Minute, SessionRetention: time.Hour}, m.store.Lifetimes())
	}
	require.Contains(t, changes.String(), "DEFAULT_TTL_MINUTES from 60 to 30; SESSION_RETENTION from 168h0m0s to 1h0m0s")
	require.True(t, two.State().Caught, "a server that runs stays ready")
	require.Contains(t, log.String(), "another server has changed the settings of the cluster")
	require.Contains(t, log.String(), "DEFAULT_TTL_MINUTES is 60, and must be 30; SESSION_RETENTION is 168h0m0s, and must be 1h0m0s")

	// A server that is restarted with the old ones does not change them back, but waits for them.
	two.stop()
	two.launch(t)
	require.Contains(t, two.refusal(t), "DEFAULT_TTL_MINUTES is 60, and must be 30")
	require.Equal(t, 30*time.Minute, two.store.Lifetimes().DefaultTTL)
	one.stop()
	one.options.SharedSettings = two.options.SharedSettings
	one.start(t)
	require.NoError(t, two.AwaitCaughtUp(t.Context()))
	requireEqual(t, []*member{one, two})
}

// TestSettingsThatAreNewAreAdded upgrades the first of two servers to a version with another setting.
func TestSettingsThatAreNewAreAdded(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.options.SharedSettings, two.options.SharedSettings = settings("60", "1h0m0s"), settings("60", "1h0m0s")
	one.start(t)
	two.start(t)
	one.stop()
	one.options.SharedSettings = settings("60", "1h0m0s")
	one.options.SharedSettings["NEW"] = "1"
	one.start(t)
	two.stop()
	two.start(t) // it does not know the new one, and leaves it as it is
	two.stop()
	two.options.SharedSettings = settings("60", "1h0m0s")
	two.options.SharedSettings["NEW"] = "2"
	two.launch(t)
	require.NoError(t, two.AwaitCaughtUp(t.Context()), "it had the settings in effect before, so the change is meant")
}

// TestAServerAloneBringsItsSettings begins a new stream with the state of a server that was part of a cluster with other
// settings, and was alone since.
func TestAServerAloneBringsItsSettings(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one := newMember(t, nodes, "one", 1)
	one.options.SharedSettings = settings("45", "1h0m0s")
	one.start(t)
	one.report(t, "t", "together")
	one.stop()
	loseEverything(t, nodes)
	runAlone(t, one)
	one.options.SharedSettings = settings("30", "1h0m0s")
	one.start(t)
	require.Equal(t, 30*time.Minute, one.store.Lifetimes().DefaultTTL)
}

// TestOneOfTwoNewServersDecides starts two servers with different settings on a new stream at the same time.
func TestOneOfTwoNewServersDecides(t *testing.T) {
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	one.options.SharedSettings, two.options.SharedSettings = settings("60", "1h0m0s"), settings("30", "1h0m0s")
	one.launch(t)
	two.launch(t)
	refused := func(m *member) bool { return strings.HasPrefix(m.State().Cause, "the settings of this server") }
	eventually(t, "one is ready, and the other one is not", func() bool {
		return one.State().Caught && refused(two) || two.State().Caught && refused(one)
	})
	require.Equal(t, one.store.Lifetimes(), two.store.Lifetimes())
}

// TestTwoVersionsOfMessages upgrades servers one after another to a version with another encoding of messages, and lets
// one that does not know it come back.
func TestTwoVersionsOfMessages(t *testing.T) {
	natstest.Long(t)
	nodes := natstest.Start(t, 1)
	one, two := newMember(t, nodes, "one", 1), newMember(t, nodes, "two", 1)
	const later = journal.MessageVersion + 1
	one.start(t)
	two.start(t)
	one.report(t, "t", "1")
	one.stop()
	one.options.Encoding = later
	one.start(t)
	for _, m := range []*member{one, two} {
		m.report(t, "t", m.options.Server)
	}
	requireEqual(t, []*member{one, two})
	require.True(t, two.State().Caught)

	two.stop()
	js := connect(t, nodes)
	eventually(t, "messages are written in the new version", func() bool {
		stream, err := js.Stream(t.Context(), "KUBEAGENTS")
		require.NoError(t, err)
		msg, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
		require.NoError(t, err)
		_, err = journal.DecodeMessage(string(msg.Data), journal.MessageVersion)
		return err != nil
	})
	two.launch(t)
	eventually(t, "the old version says why it stops", func() bool {
		return strings.HasPrefix(two.State().Cause, "another server writes messages that this version of the program does not know")
	})
	require.Contains(t, two.reads(t), `"message":"one"`, "reads go on")
	two.stop()
	two.options.Encoding = later
	two.start(t)
	two.report(t, "t", "upgraded")
	require.Contains(t, requireEqual(t, []*member{one, two}), "upgraded")
}
