package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// SignedInFor is the maximum duration of a sign-in.
const SignedInFor = 12 * time.Hour

// maxSignIns is how many sign-ins one token may have at a time. Beyond that, a new one ends the oldest.
const maxSignIns = 100

// SignIns holds the sign-ins of people who signed in with a token. Each is known by a secret that the browser keeps.
// One server alone keeps them in memory only; several share them, see [NewSharedSignIns]. Its methods are safe for
// concurrent use.
type SignIns struct {
	tokens  *Keyring    // nil without shared
	shared  SignInStore // nil for one server alone
	lookups *lookups    // nil without shared

	mu      sync.Mutex
	known   map[signInHash]*signIn
	byToken map[string][]*signIn // by [Grant.Token], oldest first
	gone    *lru.Cache[signInHash, struct{}]
}

// signInHash is the hash of a sign-in's secret.
type signInHash = [sha256.Size]byte

type signIn struct {
	sum   signInHash
	token string // see [Grant.Token]
	line  string // see Grant.line
	order uint64 // among those of the token; 0 for the newest, if the other servers do not know it yet
	end   time.Time
	timer *time.Timer

	grant *Grant             // nil while this server does not know the token with that line
	stop  context.CancelFunc // ends grant
}

// maxGone is how many sign-ins that have ended are remembered, so that late news does not bring them back.
const maxGone = 10_000

// NewSignIns returns an empty SignIns.
func NewSignIns() *SignIns {
	gone, _ := lru.New[signInHash, struct{}](maxGone) //nolint:errcheck // the size is positive
	return &SignIns{known: map[signInHash]*signIn{}, byToken: map[string][]*signIn{}, gone: gone}
}

// Add signs in a person who has a token with this grant, and returns the secret for the browser to keep. The secret
// only allows reading the state and, if the token does, acknowledging what needs attention and managing notifications.
// It is valid as long as the token is, but no longer than [SignedInFor].
func (s *SignIns) Add(token *Grant) (secret string) {
	secret = rand.Text() + rand.Text()
	in := &signIn{sum: sha256.Sum256([]byte(secret)), token: token.token, line: token.line}
	s.mu.Lock()
	s.insert(in, SignedInFor)
	s.admit(in, token)
	excess := s.trim(in.token)
	s.mu.Unlock()
	if s.shared != nil {
		s.shared.Add(in.sum, SharedSignIn{Token: in.token, Line: in.line, For: SignedInFor})
	}
	s.unshare(excess...)
	return secret
}

// insert adds a sign-in that ends after a while. The caller holds s.mu.
func (s *SignIns) insert(in *signIn, after time.Duration) {
	s.known[in.sum] = in
	s.byToken[in.token] = append(s.byToken[in.token], in)
	in.end = time.Now().Add(after)
	in.timer = time.AfterFunc(after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(in)
	})
}

// admit lets a sign-in do what its token allows a person to do. The caller holds s.mu.
func (s *SignIns) admit(in *signIn, token *Grant) {
	grant := *token
	grant.scopes &= Read | Acknowledge
	grant.ended, in.stop = context.WithCancel(token.ended)
	grant.person = true
	in.grant = &grant
	context.AfterFunc(grant.ended, func() { s.tokenEnded(in, &grant) })
}

// trim removes the oldest sign-ins of a token until there are not too many, and returns them. The caller holds s.mu.
func (s *SignIns) trim(token string) (excess []signInHash) {
	for len(s.byToken[token]) > maxSignIns {
		oldest := s.byToken[token][0]
		s.remove(oldest)
		excess = append(excess, oldest.sum)
	}
	return excess
}

// remove ends a sign-in and forgets it. It may be called more than once. The caller holds s.mu.
func (s *SignIns) remove(in *signIn) {
	if s.known[in.sum] != in {
		return
	}
	delete(s.known, in.sum)
	s.gone.Add(in.sum, struct{}{})
	in.timer.Stop()
	if in.stop != nil {
		in.stop()
	}
	mine := slices.DeleteFunc(s.byToken[in.token], func(other *signIn) bool { return other == in })
	if s.byToken[in.token] = mine; len(mine) == 0 {
		delete(s.byToken, in.token)
	}
}

// tokenEnded ends a sign-in whose grant has ended with its token, on all servers. If the token is still there with the
// same line, the sign-in goes on with a new grant: only the team's share has changed.
func (s *SignIns) tokenEnded(in *signIn, grant *Grant) {
	s.mu.Lock()
	if s.known[in.sum] != in || in.grant != grant {
		s.mu.Unlock()
		return // it has ended otherwise
	}
	in.grant = nil
	if s.grantOf(in) != nil {
		s.mu.Unlock()
		return
	}
	s.remove(in)
	s.mu.Unlock()
	if !grant.expired() { // else each server notices by itself
		s.unshare(in.sum)
	}
}

// Grant returns the grant of a sign-in, nil if the secret is unknown or the sign-in has ended.
//
// As with tokens, the secret is looked up by its hash, so the time this takes reveals nothing about other secrets.
func (s *SignIns) Grant(secret string) *Grant {
	in := s.find(secret)
	if in == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grantOf(in)
}

// grantOf returns the grant of a sign-in, nil if it has none. The caller holds s.mu.
func (s *SignIns) grantOf(in *signIn) *Grant {
	if in.grant == nil && s.tokens != nil && s.known[in.sum] == in {
		if token := s.tokens.Known(in.token); token != nil && token.line == in.line {
			s.admit(in, token)
		}
	}
	if in.grant == nil || !in.grant.valid() {
		return nil
	}
	return in.grant
}

func (s *SignIns) find(secret string) *signIn {
	if len(secret) > maxToken {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	if in := s.get(sum); in != nil || s.shared == nil {
		return in
	}
	s.lookUp(sum)
	return s.get(sum)
}

func (s *SignIns) get(sum signInHash) *signIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[sum]
}

// End ends the sign-in with this secret, if there is one.
func (s *SignIns) End(secret string) {
	in := s.find(secret)
	if in == nil {
		return
	}
	s.mu.Lock()
	s.remove(in)
	s.mu.Unlock()
	s.unshare(in.sum)
}

// Count returns the number of sign-ins.
func (s *SignIns) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}
