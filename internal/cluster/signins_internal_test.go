package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/store"
)

// TestSignInsCountDown checks that a server that starts late ends a sign-in in time, though the clock of the bucket is
// another one, and that a sign-in that is no longer in the bucket ends.
func TestSignInsCountDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := access.NewKeyring(store.New(store.Options{}), access.Limits{})
		token, line := access.NewToken("x")
		line.Scopes = []string{"read"}
		_, err := tokens.Load([]byte(line.String()))
		require.NoError(t, err)
		stored := &capture{}
		first := access.NewSharedSignIns(tokens, stored)
		grant, err := tokens.Grant(token)
		require.NoError(t, err)

		s := NewSignIns(nil, silent())
		s.known = access.NewSharedSignIns(tokens, s)
		ahead := time.Now().Add(7 * time.Minute)
		signIn := func(age time.Duration) (string, entry) {
			secret := first.Add(grant)
			value := fmt.Sprintf(`{"token":%q,"line":%q,"seconds":43200}`, stored.in.Token, stored.in.Line)
			sum := sha256.Sum256([]byte(secret))
			return secret, entry{key: hex.EncodeToString(sum[:]), value: []byte(value), revision: 1, created: ahead.Add(-age)}
		}
		old, oldEntry := signIn(access.SignedInFor - time.Hour)
		_, endedEntry := signIn(access.SignedInFor)
		other, otherEntry := signIn(time.Minute)
		clock := entry{key: signInsClock, created: ahead}
		s.begin(agedBy([]jetstream.KeyValueEntry{endedEntry, oldEntry, otherEntry, clock}))
		time.Sleep(time.Hour - time.Nanosecond)
		assert.Equal(t, 2, s.known.Count())
		assert.NotNil(t, s.known.Grant(old))
		assert.NotNil(t, s.known.Grant(other))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, 1, s.known.Count(), "only the other one is left")
		clock.created = ahead.Add(time.Hour)
		s.begin(agedBy([]jetstream.KeyValueEntry{clock}))
		assert.Zero(t, s.known.Count())
	})
}

// capture is a store that keeps the last sign-in.
type capture struct {
	access.SignInStore
	in access.SharedSignIn
}

func (c *capture) Add(_ [32]byte, in access.SharedSignIn) { c.in = in }
