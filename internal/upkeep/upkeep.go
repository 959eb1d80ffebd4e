// Package upkeep runs the server's periodic jobs: it expires sessions, deletes old history and measures disk usage.
package upkeep

import (
	"context"
	"log/slog"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/store"
)

// Jobs are the server's periodic jobs. Each method runs one of them until its context is done.
type Jobs struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Metrics  *metrics.Metrics
	Logger   *slog.Logger

	clock func(now time.Time) time.Time // returns what the system clock shows; nil for now itself
}

// Every calls do once per interval until ctx is done.
func Every(ctx context.Context, interval time.Duration, do func(now time.Time)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			do(now)
		}
	}
}

// Expire expires the sessions whose TTL has run out, and removes those whose retention is over, once per interval. If
// the system clock is set back, sessions expire as if it had not been.
func (j Jobs) Expire(ctx context.Context, interval time.Duration) {
	last := time.Now()
	Every(ctx, interval, func(now time.Time) {
		if by := clockSetBack(j.wallTime(last), j.wallTime(now), now.Sub(last)); by > 0 {
			j.Store.ClockSetBack(by)
			j.Logger.Warn("the clock was set back: sessions expire as if it had not been", "by", by.Round(time.Millisecond))
		}
		last = now
		e := j.Recorder.Expire(j.wallTime(now))
		took := time.Since(now)
		j.Metrics.ObserveExpiry(took)
		if e != (store.Expiry{}) {
			j.Logger.Debug("expiry", "expired", e.Expired, "lost", e.Lost, "removed", e.Removed, "took", took)
		}
	})
}

// wallTime returns what the system clock shows at a time, without a monotonic reading.
func (j Jobs) wallTime(now time.Time) time.Time {
	if j.clock != nil {
		now = j.clock(now)
	}
	return now.Round(0)
}

// clockSetBack returns by how much the clock was set back between the readings from and to, if elapsed is the time that
// really passed. It returns 0 if the clock was set back by less than a second, because clocks are adjusted slightly all
// the time.
func clockSetBack(from, to time.Time, elapsed time.Duration) time.Duration {
	if by := elapsed - to.Sub(from); by >= time.Second {
		return by
	}
	return 0
}

// TrimHistory deletes history that is older than the retention. It does so about a hundred times per retention, but at
// least once an hour and at most once a second.
func (j Jobs) TrimHistory(ctx context.Context, retention time.Duration) {
	Every(ctx, min(max(retention/100, time.Second), time.Hour), func(time.Time) {
		now := j.Recorder.Now()
		deleted, err := j.Recorder.TrimHistory(ctx, now.Add(-retention))
		if err == nil {
			_, err = j.Recorder.TrimCold(ctx, now)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			j.Logger.Warn("history beyond its retention could not be deleted", "error", err.Error())
		case deleted > 0:
			j.Logger.Debug("history beyond its retention deleted", "records", deleted)
		}
	})
}

// measureEvery is how often disk usage is measured.
const measureEvery = 5 * time.Second

// MeasureDisk measures the journal's disk usage, immediately and then every five seconds. If disk usage is bounded, it
// deletes the oldest history of teams that use more than their share.
func (j Jobs) MeasureDisk(ctx context.Context) {
	measure := func(time.Time) {
		dropped, err := j.Recorder.MeasureSpace(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			j.Logger.Warn("the journal's disk usage could not be measured", "error", err.Error())
		case dropped > 0:
			j.Logger.Info("deleted the oldest history of teams at their share of the disk", "records", dropped)
		}
	}
	measure(time.Now())
	Every(ctx, measureEvery, measure)
}
