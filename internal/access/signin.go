package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// SignedInFor is how long somebody stays signed in at most.
const SignedInFor = 12 * time.Hour

// maxSignIns is how many sign-ins one token may have at a time; the oldest makes room for another.
const maxSignIns = 100

// SignIns are the people who signed in with a token, each by a secret that their browser keeps. They end with the process.
// Its methods are safe for concurrent use.
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

// NewSignIns returns no sign-ins yet.
func NewSignIns() *SignIns {
	return &SignIns{known: map[[sha256.Size]byte]*signIn{}, byToken: map[string][]*signIn{}}
}

// Add signs somebody in who has a token with that grant, and returns the secret for the browser to keep. With it, the state may
// be read, and nothing else, for as long as the token lasts, and no longer than [SignedInFor].
func (s *SignIns) Add(token *Grant) (secret string) {
	secret = rand.Text() + rand.Text()
	ended, end := context.WithTimeout(token.ended, SignedInFor)
	grant := *token
	grant.scopes &= Read
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

// remove ends a sign-in and forgets it, if it is known. The caller holds s.mu.
func (s *SignIns) remove(in *signIn) {
	in.end()
	delete(s.known, in.sum)
	mine := slices.DeleteFunc(s.byToken[in.grant.name], func(other *signIn) bool { return other == in })
	if s.byToken[in.grant.name] = mine; len(mine) == 0 {
		delete(s.byToken, in.grant.name)
	}
}

// Grant returns what somebody who signed in may do, nil where the secret is not known, or not any more.
//
// As with tokens, what is looked up is a hash: the time that takes says nothing about the secrets.
func (s *SignIns) Grant(secret string) *Grant {
	if in := s.find(secret); in != nil && in.grant.holds() {
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

// End signs somebody out.
func (s *SignIns) End(secret string) {
	if in := s.find(secret); in != nil {
		in.end()
	}
}

// Count returns how many people are signed in.
func (s *SignIns) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}
