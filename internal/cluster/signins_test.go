package cluster_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/store"
)

var signInsBucket = jetstream.KeyValueConfig{Bucket: "TEST_SIGN_INS", TTL: access.SignedInFor}

// TestSignIns checks with a real NATS server that people who sign in or out at one server are signed in or out at the
// others, also when NATS was away.
func TestSignIns(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	c := natstest.Start(t, 1)
	token, entry := access.NewToken("x")
	entry.Scopes = []string{"read"}
	first := newServer(t, c, entry.String())
	kv := bucket(t, connect(t, c), signInsBucket)

	secret := first.signIn(t, token)
	unconnected := access.NewSharedSignIns(first.tokens, cluster.NewSignIns(kv, silent()))
	assert.NotNil(t, unconnected.Grant(secret), "a server that has heard of nothing looks it up at once")
	assert.Nil(t, unconnected.Grant("unknown"))
	second := newServer(t, c, entry.String())
	eventually(t, "a server that starts later learns it", func() bool { return second.signIns.Count() == 1 })
	another := first.signIn(t, token)
	eventually(t, "the others learn a new one", func() bool { return second.signIns.Count() == 2 })
	keys, err := kv.Keys(t.Context())
	require.NoError(t, err)
	for _, key := range keys {
		value, err := kv.Get(t.Context(), key)
		require.NoError(t, err)
		assert.NotContains(t, key+string(value.Value()), secret, "the secret is not stored")
	}

	grant := first.signIns.Grant(secret)
	second.signIns.End(secret)
	eventually(t, "a sign-out holds at the others", func() bool { return first.signIns.Grant(secret) == nil })
	require.Error(t, grant.Ended().Err())

	c.Node(0).Stop()
	while := first.signIn(t, token)
	assert.NotNil(t, first.signIns.Grant(while), "a sign-in holds at its server while NATS is away")
	assert.Nil(t, second.signIns.Grant(while))
	second.signIns.End(another)
	assert.NotNil(t, first.signIns.Grant(another), "the other server can't know it yet")
	c.Node(0).Restart()
	eventually(t, "the sign-in is stored when NATS is back", func() bool { return second.signIns.Grant(while) != nil })
	eventually(t, "and so is the sign-out", func() bool { return first.signIns.Grant(another) == nil })
	assert.Contains(t, first.log.String(), "only until NATS can be reached")

	_, err = second.tokens.Load([]byte(strings.Replace(entry.String(), `"x"`, `"y"`, 1)))
	require.NoError(t, err)
	eventually(t, "a sign-in ends everywhere with its token's line", func() bool { return first.signIns.Count() == 0 })
	eventually(t, "and in the bucket", func() bool {
		keys, err := kv.Keys(t.Context())
		return err == nil && len(keys) == 1
	})
}

// server is what the test needs of one.
type server struct {
	tokens  *access.Keyring
	signIns *access.SignIns
	log     *lines
}

func newServer(t *testing.T, c *natstest.Cluster, line string) *server {
	s := &server{log: &lines{}}
	var shared atomic.Pointer[cluster.SignIns]
	js := connect(t, c, nats.ReconnectHandler(func(*nats.Conn) { shared.Load().Reconnected() }))
	shared.Store(cluster.NewSignIns(bucket(t, js, signInsBucket), s.log.logger()))
	s.tokens = access.NewKeyring(store.New(store.Options{}), access.Limits{})
	_, err := s.tokens.Load([]byte(line))
	require.NoError(t, err)
	s.signIns = access.NewSharedSignIns(s.tokens, shared.Load())
	start(t, func(ctx context.Context) { shared.Load().Run(ctx, s.signIns) })
	return s
}

func (s *server) signIn(t *testing.T, token string) (secret string) {
	grant, err := s.tokens.Grant(token)
	require.NoError(t, err)
	return s.signIns.Add(grant)
}
