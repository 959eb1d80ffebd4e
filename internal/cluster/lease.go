package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// leaseKey is the key of the lease in its bucket.
const leaseKey = "holder"

const (
	leaseTTL     = 6 * time.Second // after its last change that a server saw, the lease is free to that server
	leaseRenewal = 2 * time.Second // how often the holder renews it, and the limit of one request
	leaseMargin  = time.Second     // how long before others may take it over the holder stops
	leasePoll    = time.Second     // how often a server that does not hold it looks at it
)

// Lease lets one server of a cluster do what must be done once. Its methods are safe for concurrent use.
//
// # Invariant
//
// While one server's work has a context that has not ended, no other server's work is started. No clock is compared
// with another one: the holder counts leaseTTL from the moment before it sent its last successful renewal, less a
// margin. Any other server counts leaseTTL from the moment at which it first saw that renewal, which is later, and
// takes the lease over only if the bucket's revision is still that of the renewal.
//
// # What can still go wrong
//
// A process that stands still (a paused virtual machine, a machine out of memory) does not notice that its context
// should have ended until it runs again, and a request that it has sent already can arrive late. So a former holder may
// publish a little after its successor started. Each holder has a number that is higher than those of its
// predecessors, and what it publishes carries that number: whoever reads it ignores what has a lower number than they
// have seen. What the holder does elsewhere, such as sending a notification, may then happen twice.
//
// The number is higher than the revision in the bucket, that of the former holder, and that of any holder which the
// stream knows of: so it rises even if NATS loses the bucket. The next holder then waits as if the lease had been
// renewed, because the last one may not know of the loss yet.
type Lease struct {
	bucket leaseBucket
	server string
	id     string                 // tells this process from another one with the same name
	began  func() (uint64, error) // returns the number of the holder that began last, as far as the stream tells
	logger *slog.Logger

	mu     sync.Mutex // guards what follows
	holder string
	number uint64 // 0 if this server does not hold the lease
	until  time.Time
}

// leaseBucket is what a lease needs of a [jetstream.KeyValue].
type leaseBucket interface {
	Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error)
	Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
}

// leaseholder is the value of the lease in its bucket. Server and ID are empty if the holder gave it up.
type leaseholder struct {
	Server string `json:"server"`
	ID     string `json:"id"`
	Number uint64 `json:"number"`
}

// NewLease returns the lease in a bucket, for the server with this name. began returns the number of the holder that began
// last, as far as the stream tells.
func NewLease(bucket leaseBucket, server string, began func() (uint64, error), logger *slog.Logger) *Lease {
	return &Lease{bucket: bucket, server: server, id: rand.Text(), began: began, logger: logger}
}

// Held returns the number under which this server holds the lease, and false if it does not, or not for certain. It
// looks at the clock, so it notices the end of the lease even before the context of the work has ended.
func (l *Lease) Held() (number uint64, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.number, l.number != 0 && time.Now().Before(l.until)
}

// Holder returns the name of the server that held the lease when this server last saw it, "" for none.
func (l *Lease) Holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

// Run competes for the lease until ctx is done. While this server holds it, Run calls work with the number of this
// hold. The context of work ends with the lease, or with ctx. Work must then return soon. The next hold begins only
// after it has returned, and until then the lease is renewed, if possible. If work returns by itself, Run leaves the
// lease to the others for a while. When ctx is done, Run gives the lease up, so that another server can take it at once.
func (l *Lease) Run(ctx context.Context, work func(ctx context.Context, number uint64)) {
	var last sighting
	for ctx.Err() == nil {
		pause := leasePoll
		if taken, ok := l.take(ctx, &last); ok {
			last = sighting{}
			if l.hold(ctx, taken, work) {
				pause = leaseTTL
			}
		}
		sleep(ctx, pause)
	}
}

// sighting is a revision of the lease, 0 if there was none, with its holder, and when this server first saw it. In a bucket
// that was lost and made again, another holder may have the same revision.
type sighting struct {
	revision uint64
	holder   leaseholder
	since    time.Time
}

// see notes the revision that is there now. A revision may also be lower than the one before: an answer can come from a
// NATS server that lags behind. The time starts again, which is safe.
func (s *sighting) see(revision uint64, holder leaseholder, now time.Time) {
	if revision != s.revision || holder != s.holder || s.since.IsZero() {
		*s = sighting{revision, holder, now}
	}
}

// free reports whether the holder has stopped for certain.
func (s *sighting) free(now time.Time) bool { return now.Sub(s.since) >= leaseTTL }

// renewal is a revision that this server wrote under a number, and the moment before it sent it.
type renewal struct {
	number   uint64
	revision uint64
	sent     time.Time
}

// until returns when the holder must have stopped, unless it renews the lease again.
func (r renewal) until() time.Time { return r.sent.Add(leaseTTL - leaseMargin) }

// take takes the lease if it is free.
func (l *Lease) take(ctx context.Context, last *sighting) (renewal, bool) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	began, err := l.began()
	if err != nil {
		return renewal{}, false
	}
	var holder leaseholder
	var revision uint64
	switch entry, err := l.bucket.Get(ctx, leaseKey); {
	case err == nil:
		holder, revision = holderIn(entry), entry.Revision()
		l.setHolder(holder.Server)
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return renewal{}, false
	case began == 0 && last.since.IsZero(): // nobody has held it yet
	default:
		holder.ID = "unknown" // the bucket was lost: its holder may not know yet
	}
	if revision > 0 || holder.ID != "" {
		last.see(revision, holder, time.Now())
	}
	// An entry of this very process is from a hold that is over, or from a request whose answer was lost, unless that has
	// arrived late, in a bucket that was made again and that another server holds.
	mine := holder.ID == l.id && holder.Number >= began
	if holder.ID != "" && !mine && !last.free(time.Now()) {
		return renewal{}, false
	}
	number := max(holder.Number, began, revision) + 1
	if revision > 0 {
		return l.renew(ctx, renewal{number: number, revision: revision})
	}
	sent := time.Now()
	revision, err = l.bucket.Create(ctx, leaseKey, l.value(number))
	return renewal{number, revision, sent}, err == nil
}

func holderIn(entry jetstream.KeyValueEntry) (holder leaseholder) {
	if json.Unmarshal(entry.Value(), &holder) != nil {
		return leaseholder{ID: "unknown"} // it counts as held until it is not renewed
	}
	return holder
}

func (l *Lease) value(number uint64) []byte {
	value, _ := json.Marshal(leaseholder{l.server, l.id, number}) //nolint:errcheck // strings and a number
	return value
}

// renew writes the lease again, if its revision is still that of the last renewal.
func (l *Lease) renew(ctx context.Context, last renewal) (renewal, bool) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	sent := time.Now()
	revision, err := l.bucket.Update(ctx, leaseKey, l.value(last.number), last.revision)
	return renewal{last.number, revision, sent}, err == nil
}

// hold does the work while it can renew the lease. It returns when work has returned, with whether it did so by itself.
func (l *Lease) hold(ctx context.Context, last renewal, work func(ctx context.Context, number uint64)) (byItself bool) {
	number := last.number
	l.logger.Info("this server holds the lease", slog.Uint64("number", number))
	working, stop := context.WithCancel(ctx)
	defer stop()
	l.setHeld(number, last.until())
	end := time.AfterFunc(time.Until(last.until()), stop)
	defer end.Stop()
	unfinished, finished := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer finished()
		work(working, number)
	}()
	ticker := time.NewTicker(leaseRenewal)
	defer ticker.Stop()
	for lost := false; unfinished.Err() == nil; {
		select {
		case <-unfinished.Done():
		case <-ticker.C:
			if lost {
				continue
			}
			if last, lost = l.renewAgain(unfinished, last); lost {
				l.setHeld(0, time.Time{})
				stop()
			} else if end.Stop() { // the context has not ended meanwhile
				l.setHeld(number, last.until())
				end.Reset(time.Until(last.until()))
			}
		}
	}
	byItself = working.Err() == nil
	l.setHeld(0, time.Time{})
	l.giveUp(context.WithoutCancel(ctx), last)
	l.logger.Info("this server no longer holds the lease", slog.Uint64("number", number))
	return byItself
}

// renewAgain renews the lease, and returns the last renewal that succeeded. The lease is lost if another server has it.
//
// If the answer to a renewal was lost, the revision is not the expected one, but the entry is still that of this server.
func (l *Lease) renewAgain(ctx context.Context, last renewal) (_ renewal, lost bool) {
	if next, ok := l.renew(ctx, last); ok {
		return next, false
	}
	revision, mine, err := l.current(ctx)
	if err != nil || revision <= last.revision { // a NATS server that lags behind may have answered
		return last, false
	}
	if !mine {
		return last, true
	}
	if next, ok := l.renew(ctx, renewal{number: last.number, revision: revision}); ok {
		return next, false
	}
	return last, false
}

// current returns the revision of the lease, and whether this process wrote it.
func (l *Lease) current(ctx context.Context) (revision uint64, mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	entry, err := l.bucket.Get(ctx, leaseKey)
	if err != nil {
		return 0, false, err
	}
	holder := holderIn(entry)
	l.setHolder(holder.Server)
	return entry.Revision(), holder.ID == l.id, nil
}

// giveUp lets the other servers take the lease at once. If that fails, they take it when it has not been renewed.
func (l *Lease) giveUp(ctx context.Context, last renewal) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	nobody, _ := json.Marshal(leaseholder{Number: last.number}) //nolint:errcheck // strings and a number
	_, err := l.bucket.Update(ctx, leaseKey, nobody, last.revision)
	if err == nil {
		return
	}
	if revision, mine, err := l.current(ctx); err == nil && mine {
		l.bucket.Update(ctx, leaseKey, nobody, revision) //nolint:errcheck // see above
	}
}

func (l *Lease) setHeld(number uint64, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number, l.until = number, until
	if number != 0 {
		l.holder = l.server
	}
}

func (l *Lease) setHolder(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder = name
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
