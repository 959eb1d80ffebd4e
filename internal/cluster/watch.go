package cluster

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	watchRetry   = time.Second      // after a watch that failed
	watchAgain   = 10 * time.Minute // how long a watch goes on before it begins again, in case that it missed something
	watchRequest = 5 * time.Second  // how long one request may take
)

// aged is an entry, and how long ago it was written by the clock of the bucket's server. No other clock is asked.
type aged struct {
	jetstream.KeyValueEntry
	age time.Duration
}

// agedBy returns entries, which are in the order in which they were written, with their ages. The last one was written
// just now.
func agedBy(entries []jetstream.KeyValueEntry) []aged {
	all := make([]aged, len(entries))
	for i, entry := range entries {
		now := entries[len(entries)-1].Created()
		all[i] = aged{entry, max(0, now.Sub(entry.Created()))}
	}
	return all
}

// follower gets the content of a bucket and its changes: see follow.
type follower interface {
	// touch writes an entry, which the bucket gives its time.
	touch(ctx context.Context) error
	// begin gets the latest entry of every key.
	begin(entries []aged)
	// change gets every later entry. Its age is 0.
	change(entry aged)
}

// follow passes on to f what is in a bucket, and every change, until ctx is done. After an interruption it begins again, at
// once if again receives.
func follow(ctx context.Context, bucket jetstream.KeyValue, f follower, again <-chan struct{}) {
	for ctx.Err() == nil {
		if err := followOnce(ctx, bucket, f, again); err != nil {
			sleep(ctx, watchRetry)
		}
	}
}

// followOnce returns nil if it is time to begin again.
func followOnce(ctx context.Context, bucket jetstream.KeyValue, f follower, again <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, watchAgain)
	defer cancel()
	request, done := context.WithTimeout(ctx, watchRequest)
	defer done()
	if err := f.touch(request); err != nil {
		return err
	}
	starting := time.AfterFunc(watchRequest, cancel) // the watch itself goes on
	watcher, err := bucket.WatchAll(ctx)
	if !starting.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return err
	}
	defer watcher.Stop() //nolint:errcheck // it ends with ctx as well
	var all []jetstream.KeyValueEntry
	for begun := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			return nil
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return jetstream.ErrConsumerDeleted
			case entry == nil:
				f.begin(agedBy(all))
				begun, all = true, nil
			case begun:
				f.change(aged{entry, 0})
			default:
				all = append(all, entry)
			}
		}
	}
}

// signal makes the receiver of a channel with a buffer of one receive soon.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
