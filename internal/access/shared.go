package access

import (
	"cmp"
	"context"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// SignInStore is where several servers keep sign-ins, so that a sign-in at one of them holds at all of them. A sign-in
// is stored by the hash of its secret; the secret is not stored. The store tells each server about the changes of the
// others with [SignIns.Learn] and [SignIns.Forget]. Its methods may be called concurrently.
type SignInStore interface {
	// Add stores a sign-in. It waits a moment for that. If the store can't be reached, Add stores it later.
	Add(sum [32]byte, in SharedSignIn)
	// Remove removes a sign-in, without waiting. If the store can't be reached, Remove removes it later.
	Remove(sum [32]byte)
	// Find looks up a sign-in. The error is not nil if it is not known whether there is one.
	Find(ctx context.Context, sum [32]byte) (in SharedSignIn, found bool, err error)
}

// SharedSignIn is a sign-in as servers share it.
type SharedSignIn struct {
	Token string        // see [Grant.Token]
	Line  string        // identifies what the token's line in the tokens file says
	For   time.Duration // how long it holds from now on
	Order uint64        // higher for later ones
}

// NewSharedSignIns returns the sign-ins of one of several servers. A sign-in holds at each server that knows its token,
// with the same line in the tokens file: when the files differ for a while, nobody is let in for more than the server's
// own file says. It ends on all servers when the line is changed or removed at one that knew it, when the person signs
// out at any of them, and when the token has too many.
//
// While the store can't be reached, the sign-ins that a server knows go on. A new one holds at the server where the
// person signed in, and at the others once the store is back: the token is good whether the store is there or not, and
// somebody must be able to look at a cluster in trouble. Sign-outs reach the others then as well.
func NewSharedSignIns(tokens *Keyring, store SignInStore) *SignIns {
	s := NewSignIns()
	s.tokens, s.shared, s.lookups = tokens, store, newLookups()
	return s
}

// Learn adds a sign-in at another server, or corrects when it ends and its order.
func (s *SignIns) Learn(sum [32]byte, shared SharedSignIn) {
	s.mu.Lock()
	if s.gone.Contains(sum) || shared.For <= 0 {
		s.mu.Unlock()
		return
	}
	in := s.known[sum]
	if in == nil {
		in = &signIn{sum: sum, token: shared.Token, line: shared.Line}
		s.insert(in, min(shared.For, SignedInFor))
	}
	if end := time.Now().Add(shared.For); end.Before(in.end) {
		in.end = end
		in.timer.Reset(shared.For)
	}
	in.order = shared.Order
	slices.SortStableFunc(s.byToken[in.token], func(a, b *signIn) int { return cmp.Compare(a.order-1, b.order-1) }) // 0 is last

	s.grantOf(in) // so that the sign-in ends with its token, even if nobody uses it here
	excess := s.trim(in.token)
	s.mu.Unlock()
	s.unshare(excess...)
}

// Forget ends a sign-in that has ended at another server.
func (s *SignIns) Forget(sum [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone.Add(sum, struct{}{})
	if in := s.known[sum]; in != nil {
		s.remove(in)
	}
}

// unshare removes sign-ins from the other servers. The caller must not hold s.mu.
func (s *SignIns) unshare(sums ...[32]byte) {
	if s.shared == nil {
		return
	}
	for _, sum := range sums {
		s.shared.Remove(sum)
	}
}

// The bounds of what strangers can cause with invented secrets.
const (
	maxLookups    = 4           // at a time
	lookupRate    = 20          // per second
	lookupTimeout = time.Second // of one
	maxLookedUp   = 10_000      // secrets that are not looked up again
)

// lookups are the sign-ins that a server has looked up in the store, since it has not heard of them. That happens in
// the moment between a sign-in at another server and the news of it. So each secret is looked up once, and only a few
// at a time and per second: if strangers use that up, people are let in a moment later.
type lookups struct {
	rate    *rate.Limiter
	running chan struct{}
	done    *lru.Cache[signInHash, chan struct{}] // closed when the sign-in has been looked up
}

func newLookups() *lookups {
	done, _ := lru.New[signInHash, chan struct{}](maxLookedUp) //nolint:errcheck // the size is positive
	return &lookups{rate.NewLimiter(lookupRate, lookupRate), make(chan struct{}, maxLookups), done}
}

// lookUp learns a sign-in that this server does not know from the store, if it is there.
func (s *SignIns) lookUp(sum signInHash) {
	l := s.lookups
	if done, ok := l.done.Get(sum); ok {
		<-done
		return
	}
	select {
	case l.running <- struct{}{}:
		defer func() { <-l.running }()
	default:
		return
	}
	if !l.rate.Allow() {
		return
	}
	done := make(chan struct{})
	defer close(done)
	if other, ok, _ := l.done.PeekOrAdd(sum, done); ok {
		<-other
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	in, found, err := s.shared.Find(ctx, sum)
	switch {
	case err != nil:
		l.done.Remove(sum)
	case found:
		s.Learn(sum, in)
	}
}
