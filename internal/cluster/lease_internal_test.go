package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestLeaseHasOneHolder checks that the work of one server never runs while that of another does, whatever the network
// does to requests and answers. The servers' only common clock is that of the test. Work returns as its context ends.
func TestLeaseHasOneHolder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		servers := rapid.IntRange(2, 3).Draw(rt, "servers")
		trouble := rapid.Float64Range(0, 0.5).Draw(rt, "trouble")
		losses := rapid.SliceOfN(rapid.IntRange(30, 270), 0, 1).Draw(rt, "the second at which the bucket is lost")
		synctest.Test(t, func(t *testing.T) {
			b := &slowBucket{random: rand.New(rand.NewPCG(seed, 1)), trouble: trouble}
			var watch holders
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			var running sync.WaitGroup
			for i := range servers {
				running.Go(func() {
					NewLease(b, fmt.Sprint("server-", i), watch.began, silent()).Run(ctx, watch.work)
				})
			}
			for _, second := range losses {
				time.AfterFunc(time.Duration(second)*time.Second, b.lose)
			}
			running.Wait()
			time.Sleep(requestsEnd)
			if trouble == 0 && len(losses) == 0 {
				assert.Equal(t, 1, watch.holds, "without trouble, the holder stays")
			}
			assert.Positive(t, watch.holds)
			assert.Empty(t, watch.faults)
		})
	})
}

// requestsEnd is when a request that was sent has arrived and was answered.
const requestsEnd = 6 * leaseTTL

// holders notes when work runs for more than one holder, and numbers that do not rise.
type holders struct {
	mu     sync.Mutex
	now    int
	last   uint64
	holds  int
	faults []string
}

func (h *holders) work(ctx context.Context, number uint64) {
	h.mu.Lock()
	h.holds++
	h.now++
	if h.now > 1 {
		h.faults = append(h.faults, "two at once")
	}
	if number <= h.last {
		h.faults = append(h.faults, fmt.Sprint("number ", number, " after ", h.last))
	}
	h.last = number
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now--
}

// began returns the number of the last holder.
func (h *holders) began() (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, nil
}

// TestLeaseFailsOver checks how long a cluster is without a holder.
func TestLeaseFailsOver(t *testing.T) {
	for name, test := range map[string]struct {
		orderly bool
		within  time.Duration
	}{
		"at once if the holder stops in order":   {true, leasePoll + time.Millisecond},
		"after its end if the holder is cut off": {false, leaseTTL + 2*leasePoll + leaseRenewal},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &slowBucket{random: rand.New(rand.NewPCG(1, 1))}
				first, second := &cuttable{slowBucket: b}, &cuttable{slowBucket: b}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var running sync.WaitGroup
				begun := make(chan time.Time, 2)
				a := NewLease(first, "a", nobodyBegan, silent())
				running.Go(func() {
					a.Run(ctx, func(ctx context.Context, _ uint64) {
						begun <- time.Now()
						<-ctx.Done()
					})
				})
				<-begun
				number, held := a.Held()
				require.True(t, held)
				require.Positive(t, number)
				other, stopOther := context.WithCancel(t.Context())
				defer stopOther()
				l := NewLease(second, "b", nobodyBegan, silent())
				running.Go(func() {
					l.Run(other, func(ctx context.Context, after uint64) {
						assert.Greater(t, after, number)
						begun <- time.Now()
						<-ctx.Done()
					})
				})
				time.Sleep(time.Minute)
				require.Empty(t, begun)
				assert.Equal(t, "a", l.Holder())
				ended := time.Now()
				if test.orderly {
					stop()
				} else {
					first.cut()
				}
				taken := (<-begun).Sub(ended)
				assert.LessOrEqual(t, taken, test.within)
				_, held = a.Held()
				assert.False(t, held)
				stopOther()
				stop()
				running.Wait()
				time.Sleep(requestsEnd)
			})
		})
	}
}

// TestHeldLooksAtTheClock checks that a holder whose work does not notice the end of its context is not taken for the
// holder, that the lease is not taken again before that work has returned, and that others can take it meanwhile.
func TestHeldLooksAtTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBucket{random: rand.New(rand.NewPCG(1, 1))}
		connection := &cuttable{slowBucket: b}
		a, other := NewLease(connection, "a", nobodyBegan, silent()), NewLease(b, "b", nobodyBegan, silent())
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var running sync.WaitGroup
		working := make(chan struct{})
		running.Go(func() {
			a.Run(ctx, func(context.Context, uint64) {
				working <- struct{}{}
				time.Sleep(time.Minute) // blocked, longer than the lease
			})
		})
		<-working
		taken := make(chan uint64)
		running.Go(func() {
			other.Run(ctx, func(ctx context.Context, number uint64) {
				_, held := a.Held()
				assert.False(t, held, "the former holder must have noticed before another one works")
				taken <- number
				<-ctx.Done()
			})
		})
		connection.cut()
		<-taken
		select {
		case <-working:
			t.Error("the former holder works again, though another one has the lease")
		case <-time.After(2 * time.Minute):
		}
		stop()
		running.Wait()
		time.Sleep(requestsEnd)
	})
}

// TestWorkThatReturns checks that a server whose work returns by itself leaves the lease to another one.
func TestWorkThatReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBucket{random: rand.New(rand.NewPCG(1, 1))}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		held := make(chan string)
		for name := range map[string]bool{"a": true, "b": true} {
			running.Go(func() {
				NewLease(b, name, nobodyBegan, silent()).Run(ctx, func(context.Context, uint64) { held <- name })
			})
		}
		first := <-held
		for range 3 {
			second := <-held
			assert.NotEqual(t, first, second)
			assert.Equal(t, first, <-held)
		}
		stop()
		running.Wait()
		time.Sleep(requestsEnd)
	})
}

// TestHolderStopsWhenReplaced checks that a holder stops with its next renewal if another server has the lease though
// its own clock says that it is not over: the clock of a machine that was suspended stands still.
func TestHolderStopsWhenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBucket{random: rand.New(rand.NewPCG(1, 1))}
		a, other := NewLease(b, "a", nobodyBegan, silent()), NewLease(b, "b", nobodyBegan, silent())
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var replaced time.Time
		stopped := make(chan time.Duration, 1)
		running.Go(func() {
			a.Run(ctx, func(ctx context.Context, number uint64) {
				_, ok := other.renew(t.Context(), renewal{revision: number})
				assert.True(t, ok)
				replaced = time.Now()
				<-ctx.Done()
				stopped <- time.Since(replaced)
				stop()
			})
		})
		assert.LessOrEqual(t, <-stopped, leaseRenewal+time.Second/2)
		assert.Equal(t, "b", a.Holder())
		running.Wait()
		time.Sleep(requestsEnd)
	})
}

// slowBucket is a bucket with a lease whose requests and answers take long, or get lost.
type slowBucket struct {
	trouble float64 // how much of the time

	mu       sync.Mutex
	random   *rand.Rand
	revision uint64
	value    []byte
}

// delay is mostly short. In times of trouble it can be longer than a lease.
func (b *slowBucket) delay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.random.Float64() < b.trouble {
		return time.Duration(b.random.Int64N(int64(3 * leaseTTL)))
	}
	return time.Duration(b.random.Int64N(int64(time.Millisecond)))
}

func (b *slowBucket) do(ctx context.Context, act func() error) error {
	done := make(chan error, 1)
	request, answer := b.delay(), b.delay()
	go func() {
		time.Sleep(request)
		b.mu.Lock()
		err := act()
		b.mu.Unlock()
		time.Sleep(answer)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lose loses all that is in the bucket.
func (b *slowBucket) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revision, b.value = 0, nil
}

func (b *slowBucket) Get(ctx context.Context, _ string) (jetstream.KeyValueEntry, error) {
	var found entry
	err := b.do(ctx, func() error {
		if b.revision == 0 {
			return jetstream.ErrKeyNotFound
		}
		found = entry{revision: b.revision, value: b.value}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (b *slowBucket) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return b.Update(ctx, key, value, 0)
}

func (b *slowBucket) Update(ctx context.Context, _ string, value []byte, revision uint64) (uint64, error) {
	var written uint64
	err := b.do(ctx, func() error {
		if b.revision != revision {
			return jetstream.ErrKeyRevisionMismatch
		}
		b.revision, b.value = b.revision+1, value
		written = b.revision
		return nil
	})
	if err != nil {
		return 0, err
	}
	return written, nil
}

// cuttable is a connection to a bucket that can be cut.
type cuttable struct {
	*slowBucket
	mu    sync.Mutex
	isCut bool
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
}

func (c *cuttable) reach(ctx context.Context) error {
	c.mu.Lock()
	isCut := c.isCut
	c.mu.Unlock()
	if isCut {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (c *cuttable) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	return c.slowBucket.Get(ctx, key)
}

func (c *cuttable) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := c.reach(ctx); err != nil {
		return 0, err
	}
	return c.slowBucket.Update(ctx, key, value, revision)
}

// entry is an entry of a bucket.
type entry struct {
	jetstream.KeyValueEntry
	key      string
	value    []byte
	revision uint64
	created  time.Time
}

func (e entry) Key() string                     { return e.key }
func (e entry) Value() []byte                   { return e.value }
func (e entry) Revision() uint64                { return e.revision }
func (e entry) Created() time.Time              { return e.created }
func (e entry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// nobodyBegan is the number of the last holder in a cluster that had none.
func nobodyBegan() (uint64, error) { return 0, nil }
