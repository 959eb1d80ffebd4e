package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/kubeagents/kubeagents/internal/demo/workday"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/store"
)

// writeHistory writes everything that happens in the day before the time opens to the data directory dir, as a server
// would have that ran until then. That way, the dashboard shows how long a session has been waiting: through the API,
// nothing can be received in the past.
func writeHistory(day *workday.Day, opens time.Time, dir string) (err error) {
	const historyLimit = 100
	st := store.New(store.Options{
		DefaultTTL:       30 * time.Minute,
		SessionRetention: workday.History,
		HistoryLimit:     historyLimit,
		HistoryMaxBytes:  64 << 20,
		MaxSessions:      10_000,
		EventWindow:      100,
		Journaled:        true,
	})
	memory := vfs.NewMem() // each event is synced, which on a disk would take seconds
	j, err := journal.Open(journal.Options{Dir: dir, FS: memory, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	err = j.Replay(context.Background(), st, historyLimit, opens.Add(-workday.History), func(journal.Progress) {})
	if err == nil {
		err = day.Record(recorder.New(st, j, metrics.New(st, "demo")), opens)
	}
	j.MarkAlive(opens)
	if err := errors.Join(err, j.Close()); err != nil {
		return err
	}
	_, err = vfs.Clone(memory, vfs.Default, dir, dir)
	return err
}
