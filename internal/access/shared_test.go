package access_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
)

// TestSharedSignIns checks that a sign-in at one server holds at the others as long as it would hold there, and no
// longer.
func TestSharedSignIns(t *testing.T) {
	tok, line := entryFor("x", func(e *access.Entry) { e.Scopes = []string{"read", "acknowledge", "admin"} })
	_, otherLine := entryFor("other", nil)
	both := line + "\n" + otherLine
	for name, end := range map[string]func(f *fleet, secret string){
		"until the person signs out there":   func(f *fleet, secret string) { f.a.End(secret) },
		"until they sign out at another":     func(f *fleet, secret string) { f.b.End(secret) },
		"no longer than a sign-in holds":     func(*fleet, string) { time.Sleep(access.SignedInFor) },
		"until the token is removed there":   func(f *fleet, _ string) { f.load(t, f.tokensA, otherLine) },
		"until it is removed at another":     func(f *fleet, _ string) { f.load(t, f.tokensB, otherLine) },
		"until its line is changed":          func(f *fleet, _ string) { f.load(t, f.tokensB, strings.Replace(both, `"x"`, `"y"`, 1)) },
		"until the token has too many there": func(f *fleet, _ string) { f.signIn(t, f.a, f.tokensA, tok, 100) },
		"until it has too many elsewhere":    func(f *fleet, _ string) { f.signIn(t, f.b, f.tokensB, tok, 100) },
		"until it has too many in the fleet": func(f *fleet, _ string) {
			f.signIn(t, f.a, f.tokensA, tok, 50)
			f.signIn(t, f.b, f.tokensB, tok, 50)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, both)
				secret := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
				time.Sleep(access.SignedInFor / 2)
				late := access.NewSharedSignIns(f.tokensB, f.store)
				f.store.join(late)
				time.Sleep(access.SignedInFor/2 - time.Nanosecond)
				for server, s := range map[string]*access.SignIns{"a": f.a, "b": f.b, "one that started late": late} {
					grant := s.Grant(secret)
					require.NotNil(t, grant, server)
					assert.True(t, grant.SignedIn())
					assert.Equal(t, "x", grant.Name())
					assert.True(t, grant.Allows(access.Acknowledge))
					assert.False(t, grant.Allows(access.Admin))
					assert.NoError(t, grant.Ended().Err())
					assert.Same(t, grant, s.Grant(secret))
				}
				grant := f.b.Grant(secret)
				end(f, secret)
				synctest.Wait()
				assert.Nil(t, f.a.Grant(secret))
				assert.Nil(t, f.b.Grant(secret))
				assert.Nil(t, late.Grant(secret))
				require.Error(t, grant.Ended().Err())
				assert.LessOrEqual(t, f.a.Count(), 100)
				f.load(t, f.tokensA, both)
				f.load(t, f.tokensB, both)
				synctest.Wait()
				assert.Nil(t, f.a.Grant(secret), "it does not come back with its token")
				assert.Nil(t, f.b.Grant(secret), "it does not come back with its token")
			})
		})
	}
}

// TestTokensFilesThatDiffer checks that a server lets nobody in for more than its own tokens file says, and that a
// sign-in holds there once the files agree.
func TestTokensFilesThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", nil)
		_, older := entryFor("older", nil)
		f := newFleet(t, line)
		f.load(t, f.tokensB, older)
		secret := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		assert.Nil(t, f.b.Grant(secret), "b does not know the token")
		f.load(t, f.tokensB, strings.Replace(line, `"read"`, `"report","read"`, 1))
		assert.Nil(t, f.b.Grant(secret), "the token allows something else there")
		f.load(t, f.tokensB, line)
		grant := f.b.Grant(secret)
		require.NotNil(t, grant)

		_, sharing := entryFor("sharing", func(e *access.Entry) { e.Share = 0.5 })
		f.load(t, f.tokensB, line+"\n"+sharing)
		synctest.Wait()
		require.Error(t, grant.Ended().Err(), "the share of all tokens for every agent has changed")
		assert.NotNil(t, f.b.Grant(secret), "the sign-in goes on, since the token's line has not changed")
		assert.NotNil(t, f.a.Grant(secret))
	})
}

// TestTokenThatExpires checks that a server whose clock is wrong signs nobody out elsewhere.
func TestTokenThatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", func(e *access.Entry) { e.Expires = time.Now().Add(time.Hour) })
		f := newFleet(t, line)
		secret := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		require.NotNil(t, f.b.Grant(secret))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Nil(t, f.a.Grant(secret))
		assert.Nil(t, f.b.Grant(secret))
		assert.Zero(t, f.store.removed)
	})
}

// TestUnknownSignIns checks that a sign-in that a server has not heard of is looked up once, and that strangers can
// cause no more than a few requests.
func TestUnknownSignIns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", nil)
		f := newFleet(t, line)
		f.store.silent = true
		secret := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		var requests sync.WaitGroup
		for range 10 { // a page makes several requests at once
			requests.Go(func() { assert.NotNil(t, f.b.Grant(secret)) })
		}
		requests.Wait()
		assert.Equal(t, 1, f.store.found)

		for range 1000 {
			for range 5 {
				assert.Nil(t, f.b.Grant("the same"))
			}
		}
		assert.Equal(t, 2, f.store.found)
		for i := range 1000 {
			requests.Go(func() { assert.Nil(t, f.b.Grant(fmt.Sprint("another ", i))) })
		}
		requests.Wait()
		assert.LessOrEqual(t, f.store.found, 25, "lookups by strangers are limited")
		begun := time.Now()
		for i := range 1000 {
			assert.Nil(t, f.b.Grant(fmt.Sprint("one more ", i)))
			time.Sleep(10 * time.Millisecond)
		}
		assert.LessOrEqual(t, f.store.found, 25+int(20*time.Since(begun)/time.Second))
		assert.Nil(t, f.b.Grant(strings.Repeat("x", 10_000)))
	})
}

// TestSignInsWithoutStore checks that known sign-ins go on while the store can't be reached, and that an unknown one is
// refused in time, and looked up again later.
func TestSignInsWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", nil)
		f := newFleet(t, line)
		known := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		f.store.silent, f.store.away = true, true
		unknown := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		assert.NotNil(t, f.a.Grant(known))
		assert.NotNil(t, f.b.Grant(known))
		assert.NotNil(t, f.a.Grant(unknown))
		begun := time.Now()
		var requests sync.WaitGroup
		for range 100 {
			requests.Go(func() { assert.Nil(t, f.b.Grant(unknown)) })
		}
		requests.Wait()
		assert.LessOrEqual(t, time.Since(begun), 2*time.Second)
		f.store.away = false
		assert.NotNil(t, f.b.Grant(unknown))
	})
}

// TestLateNews checks that a sign-in that has ended does not come back when old news of it arrives, and that what is
// looked up ends when the news says.
func TestLateNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", nil)
		f := newFleet(t, line)
		secret := f.signIn(t, f.a, f.tokensA, tok, 1)[0]
		sum := sha256.Sum256([]byte(secret))
		news := f.store.all[sum]
		f.b.Forget(sum)
		f.b.Learn(sum, news)
		assert.Nil(t, f.b.Grant(secret))

		late := access.NewSharedSignIns(f.tokensB, f.store)
		late.Learn(sum, news)
		news.For = time.Minute
		late.Learn(sum, news)
		time.Sleep(time.Minute - time.Nanosecond)
		assert.NotNil(t, late.Grant(secret))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Nil(t, late.Grant(secret))
	})
}

// TestOldestSignInEnds checks that every server ends the same sign-ins when a token has too many, in whatever order it
// hears of them.
func TestOldestSignInEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", nil)
		f := newFleet(t, line)
		f.store.silent = true
		secrets := f.signIn(t, f.a, f.tokensA, tok, 100)
		late := access.NewSharedSignIns(f.tokensB, f.store)
		f.store.join(late)
		more := f.signIn(t, late, f.tokensB, tok, 1)[0]
		assert.Nil(t, late.Grant(secrets[0]))
		assert.NotNil(t, late.Grant(secrets[1]))
		assert.NotNil(t, late.Grant(more))
	})
}

// fleet is two servers with a store, each with its own tokens file.
type fleet struct {
	store            *memory
	tokensA, tokensB *access.Keyring
	a, b             *access.SignIns
}

func newFleet(t *testing.T, lines string) *fleet {
	f := &fleet{store: &memory{all: map[[32]byte]access.SharedSignIn{}}, tokensA: newKeyring(), tokensB: newKeyring()}
	f.load(t, f.tokensA, lines)
	f.load(t, f.tokensB, lines)
	f.a, f.b = access.NewSharedSignIns(f.tokensA, f.store), access.NewSharedSignIns(f.tokensB, f.store)
	f.store.join(f.a)
	f.store.join(f.b)
	return f
}

func (*fleet) load(t *testing.T, k *access.Keyring, lines string) {
	t.Helper()
	_, err := k.Load([]byte(lines))
	require.NoError(t, err)
}

// signIn signs in n times at a server.
func (*fleet) signIn(t *testing.T, s *access.SignIns, k *access.Keyring, token string, n int) (secrets []string) {
	t.Helper()
	for range n {
		grant, err := k.Grant(token)
		require.NoError(t, err)
		secrets = append(secrets, s.Add(grant))
	}
	return secrets
}

// memory is a store in memory, which tells all servers at once.
type memory struct {
	silent, away bool // whether it tells nothing; whether it can't be reached

	mu      sync.Mutex
	servers []*access.SignIns
	all     map[[32]byte]access.SharedSignIn
	at      map[[32]byte]time.Time
	order   uint64
	found   int
	removed int
}

// join tells a server what is there.
func (s *memory) join(server *access.SignIns) {
	s.mu.Lock()
	s.servers = append(s.servers, server)
	all := maps.Clone(s.all)
	s.mu.Unlock()
	for sum, in := range all {
		in.For -= time.Since(s.at[sum])
		server.Learn(sum, in)
	}
}

func (s *memory) Add(sum [32]byte, in access.SharedSignIn) {
	s.mu.Lock()
	s.order++
	in.Order = s.order
	s.all[sum] = in
	if s.at == nil {
		s.at = map[[32]byte]time.Time{}
	}
	s.at[sum] = time.Now()
	servers := s.servers
	s.mu.Unlock()
	for _, server := range servers {
		if !s.silent {
			server.Learn(sum, in)
		}
	}
}

func (s *memory) Remove(sum [32]byte) {
	s.mu.Lock()
	s.removed++
	delete(s.all, sum)
	servers := s.servers
	s.mu.Unlock()
	for _, server := range servers {
		server.Forget(sum)
	}
}

func (s *memory) Find(ctx context.Context, sum [32]byte) (access.SharedSignIn, bool, error) {
	if s.away {
		<-ctx.Done()
		return access.SharedSignIn{}, false, errors.New("away")
	}
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found++
	in, found := s.all[sum]
	return in, found, nil
}
