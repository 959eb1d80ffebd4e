package notify_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// TestAReminderInASummary withdraws the messages whose reminders became part of a summary.
func TestAReminderInASummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Minute
		o := open(t, r)
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 2, Per: 90 * time.Second}
		o.asks("a", 1)
		o.asks("b", 1)
		o.wait(91 * time.Second)
		require.Equal(t, []string{"a waits", "b waits", "summary: 2 waits"}, o.phone.got())
		o.crash()
		o.answered("a", 1)
		o.answered("b", 1)
		require.Equal(t, []string{"withdraw a waits", "withdraw b waits"}, o.phone.got())
		require.Len(t, o.box.entries, 1)
	})
}
