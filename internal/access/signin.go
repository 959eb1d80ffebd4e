package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// SignedInFor is the maximum duration of a sign-in.
const SignedInFor = 12 * time.Hour

// maxSignIns is how many sign-ins one token may have at a time. Beyond that, a new one ends the oldest.
const maxSignIns = 100

// SignIns holds the sign-ins of people who signed in with a token. Each is known by a secret that the browser keeps.
// Sign-ins are kept in memory only. Its methods are safe for concurrent use.
type SignIns struct {
	mu      sync.Mutex
	known   map[[sha256.Size]byte]*signIn // by the hashes of their secrets
	byToken map[string][]*signIn          // by the name of the token, oldest first
}

type signIn struct {
	sum   [sha256.Size]byte
	grant *Grant
	end   context.CancelFunc
}

// NewSignIns returns an empty SignIns.
func NewSignIns() *SignIns {
	return &SignIns{known: map[[sha256.Size]byte]*signIn{}, byToken: map[string][]*signIn{}}
}

// Add signs in a person who has a token with this grant, and returns the secret for the browser to keep. The secret
// only allows reading the state and, if the token does, acknowledging what needs attention and managing notifications.
// It is valid as long as the token is, but no longer than [SignedInFor].
func (s *SignIns) Add(token *Grant) (secret string) {
	secret = rand.Text() + rand.Text()
	ended, end := context.WithTimeout(token.ended, SignedInFor)
	grant := *token
	grant.scopes &= Read | Acknowledge
	grant.ended = ended
	grant.person = true
	in := &signIn{sha256.Sum256([]byte(secret)), &grant, end}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[in.sum] = in
	s.byToken[grant.name] = append(s.byToken[grant.name], in)
	if mine := s.byToken[grant.name]; len(mine) > maxSignIns {
		s.remove(mine[0])
	}
	context.AfterFunc(ended, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(in)
	})
	return secret
}

// remove ends a sign-in and forgets it. It may be called more than once. The caller holds s.mu.
func (s *SignIns) remove(in *signIn) {
	in.end()
	delete(s.known, in.sum)
	mine := slices.DeleteFunc(s.byToken[in.grant.name], func(other *signIn) bool { return other == in })
	if s.byToken[in.grant.name] = mine; len(mine) == 0 {
		delete(s.byToken, in.grant.name)
	}
}

// Grant returns the grant of a sign-in, nil if the secret is unknown or the sign-in has ended.
//
// As with tokens, the secret is looked up by its hash, so the time this takes reveals nothing about other secrets.
func (s *SignIns) Grant(secret string) *Grant {
	if in := s.find(secret); in != nil && in.grant.valid() {
		return in.grant
	}
	return nil
}

func (s *SignIns) find(secret string) *signIn {
	if len(secret) > maxToken {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[sum]
}

// End ends the sign-in with this secret, if there is one.
func (s *SignIns) End(secret string) {
	if in := s.find(secret); in != nil {
		in.end()
	}
}

// Count returns the number of sign-ins.
func (s *SignIns) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}
