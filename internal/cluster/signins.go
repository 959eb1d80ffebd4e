package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/access"
)

const (
	signInWait   = 2 * time.Second // how long somebody who signs in waits until the other servers can know it
	signInRetry  = time.Second
	signInsClock = "clock" // the key of the entry that gives the bucket's time
)

// SignIns shares people's sign-ins with the other servers. It implements [access.SignInStore]. Its methods are safe for
// concurrent use.
//
// Each server counts down to the end of a sign-in, from its age by the clock of the bucket: no server compares its
// clock with another one. The bucket must keep entries for [access.SignedInFor], those of sign-ins that have ended, too,
// so that a server that was cut off does not store them again.
type SignIns struct {
	logger *slog.Logger
	wake   chan struct{} // receives when there is something to write
	again  chan struct{} // see follow

	mu      sync.Mutex         // guards what follows
	bucket  jetstream.KeyValue // nil before the server has joined
	unsaved map[string]signInChange
	stored  map[string]bool // the keys that the bucket is known to have
	known   *access.SignIns // nil before Run
}

// signInChange is what the bucket does not have yet.
type signInChange struct {
	in      storedSignIn
	until   time.Time // when the sign-in ends
	removed bool
}

// storedSignIn is the value of a sign-in in the bucket. Its key is the hash of the secret.
type storedSignIn struct {
	Token   string `json:"token"`
	Line    string `json:"line"`
	Seconds int    `json:"seconds"` // how long it holds, from when it was stored
}

// NewSignIns returns the sign-ins in a bucket, which is nil if it can't be opened yet.
func NewSignIns(bucket jetstream.KeyValue, logger *slog.Logger) *SignIns {
	return &SignIns{bucket: bucket, logger: logger, wake: make(chan struct{}, 1), again: make(chan struct{}, 1),
		unsaved: map[string]signInChange{}, stored: map[string]bool{}}
}

// open sets the bucket. It must be called before Run.
func (s *SignIns) open(bucket jetstream.KeyValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucket = bucket
}

// opened returns the bucket.
func (s *SignIns) opened() (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket == nil {
		return nil, errors.New(notJoined)
	}
	return s.bucket, nil
}

// Run tells known about the sign-ins of other servers, and stores what could not be stored at once, until ctx is done.
func (s *SignIns) Run(ctx context.Context, known *access.SignIns) {
	s.mu.Lock()
	s.known = known
	s.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() { follow(ctx, s.bucket, s, s.again) })
	running.Go(func() { s.saveAll(ctx) })
	running.Wait()
}

// Reconnected makes s go on at once when the connection to NATS is back, which it notices by itself after up to half a
// minute.
func (s *SignIns) Reconnected() { signal(s.again) }

// Add implements [access.SignInStore].
func (s *SignIns) Add(sum [32]byte, in access.SharedSignIn) {
	key := hex.EncodeToString(sum[:])
	change := signInChange{in: storedSignIn{Token: in.Token, Line: in.Line}, until: time.Now().Add(in.For)}
	s.mu.Lock()
	s.unsaved[key] = change
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), signInWait)
	defer cancel()
	if err := s.save(ctx, key, change); err != nil {
		s.logger.Warn("a sign-in holds on this server only until NATS can be reached", slog.String("error", err.Error()))
		signal(s.wake)
	}
}

// Remove implements [access.SignInStore].
func (s *SignIns) Remove(sum [32]byte) {
	s.mu.Lock()
	s.unsaved[hex.EncodeToString(sum[:])] = signInChange{removed: true, until: time.Now().Add(access.SignedInFor)}
	s.mu.Unlock()
	signal(s.wake)
}

// Find implements [access.SignInStore].
func (s *SignIns) Find(ctx context.Context, sum [32]byte) (access.SharedSignIn, bool, error) {
	bucket, err := s.opened()
	if err != nil {
		return access.SharedSignIn{}, false, err
	}
	entry, err := bucket.Get(ctx, hex.EncodeToString(sum[:]))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return access.SharedSignIn{}, false, nil
	}
	if err != nil {
		return access.SharedSignIn{}, false, err
	}
	in, ok := sharedIn(aged{entry, 0}) // the watch will tell its age
	return in, ok, nil
}

// sharedIn returns the sign-in in an entry.
func sharedIn(entry aged) (access.SharedSignIn, bool) {
	var in storedSignIn
	if entry.Operation() != jetstream.KeyValuePut || json.Unmarshal(entry.Value(), &in) != nil {
		return access.SharedSignIn{}, false
	}
	holds := time.Duration(in.Seconds)*time.Second - entry.age
	return access.SharedSignIn{Token: in.Token, Line: in.Line, For: holds, Order: entry.Revision()}, holds > 0
}

// saveAll writes what the bucket does not have yet, again and again until it has it. When ctx is done, it tries once
// more.
func (s *SignIns) saveAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), signInWait)
			defer cancel()
			s.saveOnce(last)
			return
		case <-s.wake:
		}
		for !s.saveOnce(ctx) && ctx.Err() == nil {
			sleep(ctx, signInRetry)
		}
	}
}

// saveOnce reports whether everything is written.
func (s *SignIns) saveOnce(ctx context.Context) bool {
	s.mu.Lock()
	unsaved := maps.Clone(s.unsaved)
	s.mu.Unlock()
	for key, change := range unsaved {
		ctx, cancel := context.WithTimeout(ctx, watchRequest)
		err := s.save(ctx, key, change)
		cancel()
		if err != nil {
			return false // the others would wait in vain, too
		}
	}
	return true
}

// save writes one change. If the bucket has an entry of a sign-in, it is stored already, by a request whose answer was
// lost, or it has even ended since.
func (s *SignIns) save(ctx context.Context, key string, change signInChange) error {
	bucket, err := s.opened()
	if err != nil {
		return err
	}
	left := time.Until(change.until).Truncate(time.Second)
	switch {
	case left <= 0: // it has ended
	case change.removed:
		err = bucket.Delete(ctx, key)
	default:
		change.in.Seconds = int(left / time.Second)
		value, _ := json.Marshal(change.in) //nolint:errcheck // strings and a number
		_, err = bucket.Update(ctx, key, value, 0)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved[key].removed == change.removed {
		delete(s.unsaved, key)
	}
	return nil
}

// touch implements follower.
func (s *SignIns) touch(ctx context.Context) error {
	_, err := s.bucket.Put(ctx, signInsClock, nil)
	return err
}

// begin implements follower.
func (s *SignIns) begin(entries []aged) {
	s.mu.Lock()
	before := s.stored
	s.stored = map[string]bool{}
	s.mu.Unlock()
	for _, entry := range entries {
		delete(before, entry.Key())
		s.change(entry)
	}
	for key := range before { // the news that it has ended did not arrive
		if sum, ok := sumOf(key); ok {
			s.known.Forget(sum)
		}
	}
}

// change implements follower.
func (s *SignIns) change(entry aged) {
	sum, ok := sumOf(entry.Key())
	if !ok {
		return
	}
	in, holds := sharedIn(entry)
	s.mu.Lock()
	if holds {
		s.stored[entry.Key()] = true
	} else {
		delete(s.stored, entry.Key())
	}
	s.mu.Unlock()
	if holds {
		s.known.Learn(sum, in)
	} else {
		s.known.Forget(sum)
	}
}

// sumOf returns the hash that is the key of a sign-in.
func sumOf(key string) (sum [32]byte, ok bool) {
	n, err := hex.Decode(sum[:], []byte(key)[:min(len(key), 2*len(sum))])
	return sum, err == nil && n == len(sum) && len(key) == 2*len(sum)
}
