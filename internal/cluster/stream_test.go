package cluster_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// TestEnsure makes the stream and the buckets, and uses them.
func TestEnsure(t *testing.T) {
	t.Parallel()
	node := natstest.Start(t, 1)
	var l lines
	settings := settingsFor(node.URL())
	c := connected(t, settings, &l)
	stream, err := c.Ensure(t.Context(), cluster.Beginning{First: 1000})
	require.NoError(t, err)
	ack, err := c.JetStream().Publish(t.Context(), settings.Subject(), []byte("a"), jetstream.WithMsgID("one"))
	require.NoError(t, err)
	assert.Equal(t, uint64(1000), ack.Sequence)
	ack, err = c.JetStream().Publish(t.Context(), settings.Subject(), []byte("a"), jetstream.WithMsgID("one"))
	require.NoError(t, err)
	assert.True(t, ack.Duplicate)

	require.Error(t, stream.DeleteMsg(t.Context(), 1000), "nobody deletes a message")
	again, err := c.Ensure(t.Context(), cluster.Beginning{First: 5})
	require.NoError(t, err)
	assert.Equal(t, uint64(1000), again.CachedInfo().State.FirstSeq, "what exists stays")
	assert.Equal(t, "kubeagents", again.CachedInfo().Config.Metadata["created-by"])
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(1001)))
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint64(1001), info.State.FirstSeq)

	for _, bucket := range []string{settings.LeasesBucket(), settings.ServersBucket(), settings.SignInsBucket()} {
		values, err := c.JetStream().KeyValue(t.Context(), bucket)
		require.NoError(t, err)
		revision, err := values.Create(t.Context(), "key", []byte("a"))
		require.NoError(t, err)
		_, err = values.Update(t.Context(), "key", []byte("b"), revision)
		require.NoError(t, err)
		require.NoError(t, values.Purge(t.Context(), "key"))
	}
	objects, err := c.JetStream().ObjectStore(t.Context(), settings.SnapshotsBucket())
	require.NoError(t, err)
	_, err = objects.PutString(t.Context(), "a", "snapshot")
	require.NoError(t, err)
	text, err := objects.GetString(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, "snapshot", text)
}

// TestEnsureAtOnce has six servers make the stream of three replicas at once, each as its own first sequence.
func TestEnsureAtOnce(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	nodes := natstest.Start(t, 3)
	var wait sync.WaitGroup
	first := make([]uint64, 6)
	for i := range first {
		var l lines
		settings := settingsFor(nodes.URLs()[i%3:]...)
		settings.Replicas = 3
		c := connected(t, settings, &l)
		wait.Go(func() {
			stream, err := c.Ensure(t.Context(), cluster.Beginning{First: uint64(i+1) * 100})
			if assert.NoError(t, err) {
				info, err := stream.Info(t.Context())
				if assert.NoError(t, err) {
					first[i] = info.Config.FirstSeq
					assert.Equal(t, 3, info.Config.Replicas)
				}
			}
		})
	}
	wait.Wait()
	for _, sequence := range first {
		assert.Equal(t, first[0], sequence, "all have the same stream")
	}
	assert.NotZero(t, first[0])
}

// TestEnsureRefuses has a stream that is not as it must be. It must be named with all that differs, and stay as it is.
func TestEnsureRefuses(t *testing.T) {
	t.Parallel()
	node := natstest.Start(t, 1)
	var l lines
	made := connected(t, settingsFor(node.URL()), &l)
	stream, err := made.Ensure(t.Context(), cluster.Beginning{})
	require.NoError(t, err)
	good := stream.CachedInfo().Config
	cases := map[string]struct {
		change func(*jetstream.StreamConfig)
		want   []string // nothing if it may differ so
	}{
		"other subjects": {func(s *jetstream.StreamConfig) { s.Subjects = append(s.Subjects, s.Name+".other") },
			[]string{"subjects is [NAME.log NAME.other] and must be [NAME.log]"}},
		"in memory": {func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage },
			[]string{"storage is Memory and must be File"}},
		"written later": {func(s *jetstream.StreamConfig) { s.PersistMode = jetstream.AsyncPersistMode },
			[]string{"persist_mode is Async and must be default"}},
		"messages that expire": {func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour },
			[]string{"max_age is 1h0m0s and must be 0s"}},
		"the oldest go": {func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardOld },
			[]string{"discard is DiscardOld and must be New"}},
		"few per subject": {func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 5 },
			[]string{"max_msgs_per_subject is 5 and must be -1"}},
		"small messages": {func(s *jetstream.StreamConfig) { s.MaxMsgSize = 1000 },
			[]string{"max_msg_size is 1000 and must be 1048576 or more"}},
		"a short window": {func(s *jetstream.StreamConfig) { s.Duplicates = time.Second },
			[]string{"duplicate_window is 1s and must be 2m0s or more"}},
		"until they are read": {func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy },
			[]string{"retention is Interest and must be Limits"}},
		"not acknowledged": {func(s *jetstream.StreamConfig) { s.NoAck = true }, []string{"no_ack is true"}},
		"messages can be deleted": {func(s *jetstream.StreamConfig) { s.DenyDelete = false },
			[]string{"deny_delete is false"}},
		"nothing can be purged": {func(s *jetstream.StreamConfig) { s.DenyPurge = true }, []string{"deny_purge is true"}},
		"messages replace others": {func(s *jetstream.StreamConfig) { s.AllowRollup = true },
			[]string{"allow_rollup_hdrs is true"}},
		"messages with a TTL": {func(s *jetstream.StreamConfig) { s.AllowMsgTTL = true }, []string{"allow_msg_ttl is true"}},
		"no direct reads":     {func(s *jetstream.StreamConfig) { s.AllowDirect = false }, []string{"allow_direct is false"}},
		"few consumers": {func(s *jetstream.StreamConfig) { s.MaxConsumers = 1 },
			[]string{"max_consumers is 1 and must be -1"}},
		"changed subjects": {func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: s.Subjects[0], Destination: "elsewhere"}
		}, []string{"subject_transform is set"}},
		"two faults": {func(s *jetstream.StreamConfig) { s.MaxAge, s.DenyDelete = time.Hour, false },
			[]string{"max_age is", "; ", "deny_delete is"}},
		"what may differ": {func(s *jetstream.StreamConfig) {
			s.MaxBytes, s.MaxMsgs, s.MaxMsgSize, s.Compression = 1<<30, 1e6, 2<<20, jetstream.S2Compression
			s.Duplicates, s.Description, s.Metadata = time.Hour, "ours", nil
		}, nil},
	}
	for name, difference := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := settingsFor(node.URL())
			settings.Stream = strings.ToUpper(strings.ReplaceAll(name, " ", "_"))
			config := good
			config.Name, config.Subjects = settings.Stream, []string{settings.Subject()}
			difference.change(&config)
			existing, err := made.JetStream().CreateStream(t.Context(), config)
			require.NoError(t, err)
			before := existing.CachedInfo().Config

			var l lines
			c := connected(t, settings, &l)
			_, err = c.Ensure(t.Context(), cluster.Beginning{})
			for _, want := range difference.want {
				require.ErrorContains(t, err, strings.ReplaceAll(want, "NAME", settings.Stream))
			}
			if len(difference.want) == 0 {
				require.NoError(t, err)
			}
			info, err := existing.Info(t.Context())
			require.NoError(t, err)
			assert.Equal(t, before, info.Config, "nothing is changed")
		})
	}
}

// TestEnsureRefusesNodes has NATS servers that can't keep such a stream.
func TestEnsureRefusesNodes(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct {
		node     func(*natsserver.Options)
		settings func(*cluster.Settings)
		prepare  func(jetstream.JetStream) error
		want     []string
	}{
		"fewer nodes than replicas": {func(*natsserver.Options) {}, func(s *cluster.Settings) { s.Replicas = 3 }, nil,
			[]string{"NATS_REPLICAS is 3", "too few nodes"}},
		"small messages": {func(o *natsserver.Options) { o.MaxPayload = 64 << 10 }, func(*cluster.Settings) {}, nil,
			[]string{"65536", "set max_payload to 1048576 or more"}},
		"no permission": {func(o *natsserver.Options) {
			o.Users = []*natsserver.User{{Username: "kube", Password: secret, Permissions: &natsserver.Permissions{
				Publish: &natsserver.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.KV_>", "$JS.API.STREAM.CREATE.*"}},
			}}}
		}, func(s *cluster.Settings) {
			s.URLs[0] = strings.Replace(s.URLs[0], "://", "://kube:"+secret+"@", 1)
		}, nil, []string{"NATS denies this server", "$JS.API.STREAM.CREATE.KUBEAGENTS"}},
		"a bucket of another kind": {func(*natsserver.Options) {}, func(*cluster.Settings) {},
			func(js jetstream.JetStream) error {
				_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
					Bucket: "KUBEAGENTS_LEASES", TTL: time.Minute, Storage: jetstream.MemoryStorage,
				})
				return err
			}, []string{"KV_KUBEAGENTS_LEASES", "max_age is 1m0s and must be 0s", "storage is Memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := natstest.Start(t, 1, refusal.node)
			settings := settingsFor(node.URL())
			refusal.settings(&settings)
			var l lines
			c := connected(t, settings, &l)
			if refusal.prepare != nil {
				require.NoError(t, refusal.prepare(c.JetStream()))
			}
			_, err := c.Ensure(t.Context(), cluster.Beginning{})
			for _, want := range refusal.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error()+l.String(), secret)
		})
	}
}

// TestLeastPermissions does everything that a server of a cluster does in NATS, as a user who may do no more.
func TestLeastPermissions(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"KUBEAGENTS.log", "$O.KUBEAGENTS_SNAPSHOTS.>", "$JS.API.INFO", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>",
		"$JS.API.STREAM.PURGE.KUBEAGENTS", "$JS.API.STREAM.PURGE.OBJ_KUBEAGENTS_SNAPSHOTS",
	}
	for _, bucket := range []string{"LEASES", "SERVERS", "SIGN_INS"} {
		allowed = append(allowed, "$KV.KUBEAGENTS_"+bucket+".>")
	}
	for _, stream := range []string{
		"KUBEAGENTS", "KV_KUBEAGENTS_LEASES", "KV_KUBEAGENTS_SERVERS", "KV_KUBEAGENTS_SIGN_INS",
		"OBJ_KUBEAGENTS_SNAPSHOTS",
	} {
		allowed = append(allowed, "$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.CREATE."+stream,
			"$JS.API.STREAM.MSG.GET."+stream, "$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>")
	}
	node := natstest.Start(t, 1, func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "kube", Password: secret, Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: allowed},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}}
	})
	settings := settingsFor(strings.Replace(node.URL(), "://", "://kube:"+secret+"@", 1))
	var l lines
	c := connected(t, settings, &l)
	stream, err := c.Ensure(t.Context(), cluster.Beginning{})
	require.NoError(t, err)

	_, err = c.JetStream().Publish(t.Context(), settings.Subject(), []byte("a"), jetstream.WithMsgID("one"))
	require.NoError(t, err)
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	message, err := consumer.Next()
	require.NoError(t, err)
	assert.Equal(t, "a", string(message.Data()))
	_, err = stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(2)))

	values, err := c.JetStream().KeyValue(t.Context(), settings.LeasesBucket())
	require.NoError(t, err)
	watch, err := values.WatchAll(t.Context())
	require.NoError(t, err)
	assert.Nil(t, <-watch.Updates())
	_, err = values.Create(t.Context(), "a", []byte("b"))
	require.NoError(t, err)
	assert.Equal(t, "a", (<-watch.Updates()).Key())
	_, err = values.Get(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, values.Delete(t.Context(), "a"))
	require.NoError(t, watch.Stop())

	objects, err := c.JetStream().ObjectStore(t.Context(), settings.SnapshotsBucket())
	require.NoError(t, err)
	_, err = objects.PutString(t.Context(), "a", strings.Repeat("snapshot", 100_000))
	require.NoError(t, err)
	_, err = objects.GetString(t.Context(), "a")
	require.NoError(t, err)
	_, err = objects.List(t.Context())
	require.NoError(t, err)
	require.NoError(t, objects.Delete(t.Context(), "a"))
	require.NoError(t, c.NATS().Flush())
	assert.Empty(t, l.String(), "nothing was denied")
}
