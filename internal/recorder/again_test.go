package recorder_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var replicated = store.Options{DefaultTTL: time.Hour, SessionRetention: 2 * time.Minute, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 10,
	EventWindow: 100, Journaled: true, Replicated: true}

// startReplica starts a replica with an empty disk.
func startReplica(t *testing.T) *replica {
	r := &replica{fs: vfs.NewCrashableMem(), opts: replicated}
	r.start(t)
	t.Cleanup(func() { require.NoError(t, r.journal.Close()) })
	return r
}

// streamOf returns a stream of messages, nine seconds apart. Their IDs begin with a prefix.
func streamOf(prefix string, messages ...*journal.Message) (stream []published) {
	for i, m := range messages {
		at := journal.Position{Sequence: uint64(i + 1), ID: fmt.Sprint(prefix, i+1), Time: epoch.Add(time.Duration(i) * 9 * time.Second)}
		stream = append(stream, published{m.Encode(journal.MessageVersion), at})
	}
	return stream
}

// reporting returns a message with reports, each in a request of its own.
func reporting(reports ...models.StatusReport) *journal.Message {
	m := &journal.Message{}
	for _, r := range reports {
		m.Requests = append(m.Requests, journal.Request{Reports: []models.StatusReport{r}})
	}
	return m
}

// appliedBy returns what a replica applied, for another stream.
func appliedBy(t *testing.T, r *replica) (all []journal.Applied) {
	require.NoError(t, r.journal.EachApplied(0, func(a journal.Applied) error {
		all = append(all, a)
		return nil
	}))
	return all
}

// TestTheTermOfALostStreamDoesNotCount publishes again what a stream has lost, including that a holder of the lease began.
// Which holder began last does not depend on it, whether a server is started again or not.
func TestTheTermOfALostStreamDoesNotCount(t *testing.T) {
	former := startReplica(t)
	former.follow(t, streamOf("old", &journal.Message{}, &journal.Message{Lease: 5000, Notes: []journal.Note{{Key: "k", Value: []byte("v")}}}, &journal.Message{}))
	lost := appliedBy(t, former)
	require.NotEmpty(t, lost)
	again := &journal.Message{Again: lost}
	stream := streamOf("new", &journal.Message{Lease: 7}, again, &journal.Message{Lease: 6}, &journal.Message{Lease: 8})
	running, restarted := startReplica(t), startReplica(t)
	for i := range stream {
		one, two := running.follow(t, stream[:i+1]), restarted.follow(t, stream[:i+1])
		require.Equal(t, i == 2, one.Fenced, i)
		require.Equal(t, i == 2, two.Fenced, i)
		require.NoError(t, restarted.applier.Record(background))
		restarted.crashAfterSync(t)
	}
	require.Equal(t, running.reads(t), restarted.reads(t))
	require.Contains(t, running.reads(t), `"Key":"k"`)
}

// TestWhatIsPublishedAgainChangesNothingNewer publishes again that sessions were removed, forgotten or evicted, after their
// agents have reported to them in the new stream. What these reports began stays, also at a server that is restarted.
func TestWhatIsPublishedAgainChangesNothingNewer(t *testing.T) {
	report := func(topic, message string) models.StatusReport {
		return models.StatusReport{AgentID: "a", SessionTopic: topic, Status: models.Running, Message: message, TTLMinutes: 1}
	}
	quiet := make([]*journal.Message, 20) // the sessions expire, and their retention ends
	for i := range quiet {
		quiet[i] = &journal.Message{}
	}
	for name, change := range map[string][]*journal.Message{
		"a session that was removed":                  {{Removed: []journal.Removal{{AgentID: "a", Topic: "t"}}}},
		"an agent that was removed":                   {{Removed: []journal.Removal{{AgentID: "a"}}}},
		"a session whose retention was over":          quiet,
		"a session that was evicted":                  append(quiet[:10:10], &journal.Message{Evicted: []store.SessionKey{{AgentID: "a", Topic: "t"}, {AgentID: "a", Topic: "u"}}}),
		"a session whose retention was over, evicted": append(append(quiet[:10:10], &journal.Message{Evicted: []store.SessionKey{{AgentID: "a", Topic: "t"}}}), quiet...),
	} {
		t.Run(name, func(t *testing.T) {
			begun := reporting(report("t", "early"), report("u", "early, too"))
			former, running, restarted := startReplica(t), startReplica(t), startReplica(t)
			former.follow(t, streamOf("old", append([]*journal.Message{begun}, change...)...))
			lost := appliedBy(t, former)
			var stream []published
			for i, m := range []*journal.Message{reporting(report("t", "later")), {Again: lost}, {}} {
				at := journal.Position{Sequence: uint64(1000 + i), ID: fmt.Sprint("new", i), Time: epoch.Add(10*time.Minute + time.Duration(i)*9*time.Second)}
				stream = append(stream, published{m.Encode(journal.MessageVersion), at})
			}
			for _, r := range []*replica{running, restarted} {
				r.follow(t, streamOf("old", begun))
				r.follow(t, stream)
			}
			require.Contains(t, running.reads(t), `"current_message":"later"`)
			require.NoError(t, restarted.applier.Record(background))
			restarted.crashAfterSync(t)
			require.Equal(t, running.reads(t), restarted.reads(t))
		})
	}
}

// TestWhatIsPublishedAgainIsAppliedAfterARefusedCommit begins with the notes that a commit left that failed, but reached
// the disk.
func TestWhatIsPublishedAgainIsAppliedAfterARefusedCommit(t *testing.T) {
	former, first, second := startReplica(t), startReplica(t), startReplica(t)
	former.follow(t, streamOf("old", reporting(models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, Message: "lost"})))
	stream := streamOf("new", &journal.Message{}, &journal.Message{Again: appliedBy(t, former)}, &journal.Message{Again: appliedBy(t, former)})
	require.Equal(t, 1, first.follow(t, stream).Repeated)
	notes, err := first.journal.Notes()
	require.NoError(t, err)
	require.NoError(t, second.journal.WriteNotes(notes))
	require.Equal(t, 1, second.follow(t, stream).Repeated)
	require.Contains(t, second.reads(t), "lost")
	require.Equal(t, first.reads(t), second.reads(t))
}

// TestAServerThatIsKilledKnowsAnAgentAsTheOthersDo kills a server at each moment within a message that begins a session of
// an agent, and then another one in the place of the agent's last session, the retention of which is over.
func TestAServerThatIsKilledKnowsAnAgentAsTheOthersDo(t *testing.T) {
	old := models.StatusReport{AgentID: "a", AgentName: "its name", SessionTopic: "old", Status: models.Success, Message: "early", TTLMinutes: 1}
	messages := []*journal.Message{reporting(old)}
	for len(messages) < 10 {
		messages = append(messages, &journal.Message{})
	}
	messages = append(messages, &journal.Message{Evicted: []store.SessionKey{{AgentID: "a", Topic: "old"}}})
	for len(messages) < 60 {
		messages = append(messages, &journal.Message{})
	}
	begin := models.StatusReport{AgentID: "a", SessionTopic: "new", Status: models.Running, Message: "begins"}
	restart := models.StatusReport{AgentID: "a", SessionTopic: "old", Status: models.Running, Message: "begins anew"}
	stream := streamOf("id", append(messages, reporting(begin, restart))...)
	whole := startReplica(t)
	whole.shoot(t)
	whole.follow(t, stream)
	want := whole.reads(t)
	require.NotContains(t, want, "early")
	require.Contains(t, want, "begins anew")
	shots := whole.shoot(t)
	require.NotEmpty(t, shots)
	for i, shot := range shots {
		r := &replica{fs: shot, opts: replicated}
		r.start(t)
		r.follow(t, stream)
		require.Equal(t, want, r.reads(t), "after commit %d of %d", i+1, len(shots))
		require.NoError(t, r.journal.Close())
	}
}

// crashAfterSync starts the replica again with all that it has written.
func (r *replica) crashAfterSync(t *testing.T) {
	require.NoError(t, r.journal.Sync())
	r.crash(t)
}

// TestWhatIsDeletedAtOnceFitsIntoAMessage takes the longest IDs.
func TestWhatIsDeletedAtOnceFitsIntoAMessage(t *testing.T) {
	agent, topic := strings.Repeat("😀", models.MaxAgentID), strings.Repeat("😀", models.MaxSessionTopic)
	sessions, agents, over := &journal.Trim{}, &journal.Trim{}, &journal.Message{}
	for range recorder.PageSize {
		key := store.SessionKey{AgentID: agent, Topic: topic}
		sessions.Sessions, agents.Agents = append(sessions.Sessions, key), append(agents.Agents, agent)
		over.Over = append(over.Over, store.Forgotten{SessionKey: key})
	}
	for _, m := range []*journal.Message{{Trim: sessions}, {Trim: agents}, over} {
		require.Less(t, len(m.Encode(journal.MessageVersion)), cluster.MaxMessageBytes-1000)
	}
}
